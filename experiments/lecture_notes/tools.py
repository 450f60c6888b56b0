"""What the checks share: sizes, random weights, one compiled function a recurrence, and how a result is judged."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

T, B, F, H = 7, 3, 2, 4  # small, and no two of them equal
LENGTHS = np.array([7, 4, 1])
MASK = np.arange(T)[:, None] < LENGTHS
OPEN = 60.0  # a gate with this bias is one, and with minus this zero, to the last bit


class Affine(NamedTuple):
    """W x + V h + b in the notes' form: matrices stand on the left of column vectors."""

    W: np.ndarray  # [H, F]
    V: np.ndarray  # [H, H]
    b: np.ndarray  # [H]

    def __call__(self, x, h):
        return self.W @ x + self.V @ h + self.b


def affine(rng, width=F, hidden=H, scale=0.5):
    """Random weights, biases too."""
    return Affine(*(scale * rng.normal(size=shape) for shape in ((hidden, width), (hidden, hidden), (hidden,))))


def gates(rng, names, **sizes):
    """Random weights for each gate, by the letter the notes have for it."""
    return {name: affine(rng, **sizes) for name in names}


def params_of(*blocks, bias=True):
    """Weights in the notes' form, gate by gate, as parameters of a cell."""
    params = {
        "kernel": np.concatenate([block.W.T for block in blocks], axis=1),
        "recurrent_kernel": np.concatenate([block.V.T for block in blocks], axis=1),
    }
    return params | ({"bias": np.concatenate([block.b for block in blocks])} if bias else {})


def random_params(rng, recurrence, width=F, scale=0.5):
    """Random parameters of any recurrence, no bias zero."""
    return jax.tree.map(lambda leaf: scale * rng.normal(size=leaf.shape), shapes_of(recurrence, width))


def shapes_of(recurrence, width=F, steps=1):
    """Shapes of the parameters, without making them."""
    return jax.eval_shape(recurrence.init, jax.random.key(0), jax.ShapeDtypeStruct((steps, 1, width), jnp.float32))


def count(recurrence, width=F, steps=1):
    """How many parameters a recurrence has."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(recurrence, width, steps)))


def start(recurrence, params, xs):
    """The state before the first step, in the dtype of the inputs."""
    return jax.tree.map(lambda leaf: leaf.astype(xs.dtype), recurrence.initial_carry(params, xs.shape[1:-1]))


@functools.partial(jax.jit, static_argnums=0)
def _run(recurrence, params, carry, xs, mask):
    carry = start(recurrence, params, xs) if carry is None else carry
    return recurrence.apply(params, carry, xs, mask=mask)


def run(recurrence, params, xs, carry=None, mask=None):
    """``(carry, ys)`` of a recurrence as NumPy arrays; compiled once for each recurrence and shape."""
    return jax.device_get(_run(recurrence, params, carry, xs, mask))


def by_row(function, xs, *others):
    """Runs a function of one sequence ``[T, F]`` for each sequence of a batch ``[T, B, F]``."""
    return np.stack([function(xs[:, b], *(other[b] for other in others)) for b in range(xs.shape[1])], axis=1)


def require(holds, text):
    """What was computed, if it is as claimed; it is the error otherwise."""
    if not holds:
        raise AssertionError(text)
    return text


def gap(got, want):
    """The largest difference between two arrays, or trees of them, of equal shapes."""
    apart = 0.0
    require(jax.tree.map(lambda _: 0, got) == jax.tree.map(lambda _: 0, want), "the trees differ")
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        require(a.shape == b.shape, f"shapes {a.shape} and {b.shape} differ")
        apart = np.maximum(apart, np.max(np.abs(a - b), initial=0.0))  # keeps NaN, which no bound admits
    return float(apart)


def agree(got, want, tolerance=1e-12):
    """Says how far two arrays are apart, and requires it to be no more than the tolerance."""
    apart = gap(got, want)
    return require(apart <= tolerance, f"largest difference {apart:.0e}")


def same_bits(got, want):
    """Whether two trees hold the same values to the last bit."""
    return jax.tree.all(jax.tree.map(lambda a, b: np.array_equal(np.asarray(a), np.asarray(b)), got, want))
