"""What a law runs a recurrence on: random parameters, a state on the way, inputs; and the run itself with its gradients.

Samples and results are NumPy arrays: JAX would compile a program for every slice and sum that a law makes of them.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.precision import cast

STEPS, BATCH = 7, 6  # no two sizes are equal, so that no two axes can be mistaken for each other


@dataclasses.dataclass(frozen=True)
class Settings:
    """On what the laws are tried, and how strictly.

    Args:
      features: F, the width of the inputs; the shape of a step where a step has more axes than one.
      seed: from which parameters, inputs, masks and resets are drawn.
      tolerance: what two float64 computations of the same thing may differ by, relative to the largest value.
      variance: bounds of the variance of the outputs after 100 steps of unit normal inputs.
      learnt: what is left of the loss of a constant guess once one batch of the copy task has been overfitted.
      start: ``(recurrence, params, batch_shape) -> carry``, where a recurrence is told more than ``initial_carry`` knows,
        such as a memory to read; None for ``initial_carry``.
    """

    features: int | tuple[int, ...] = 3
    seed: int = 0
    tolerance: float = 1e-12
    variance: tuple[float, float] = (0.01, 2.0)
    learnt: float = 0.5
    start: Callable | None = None

    @property
    def item(self) -> tuple[int, ...]:
        """The shape of one step of one sequence."""
        return self.features if isinstance(self.features, tuple) else (self.features,)


DEFAULTS = Settings()


class Sample(NamedTuple):
    """Arguments of a recurrence, and how much each output and final state counts in the loss that gradients are of."""

    params: Any
    carry: Any
    xs: np.ndarray  # [T, B, F]
    weights: np.ndarray  # [T, B]
    final_weights: np.ndarray  # [B]


class Run(NamedTuple):
    """What a recurrence made of a sample."""

    final: Any
    ys: np.ndarray  # [T, B, H]
    dparams: Any
    dcarry: Any
    dxs: np.ndarray  # [T, B, F]


def in_float64(law):
    """Runs a law with 64-bit floats switched on."""

    @functools.wraps(law)
    def wrapped(*args, **kwargs):
        with jax.enable_x64(True):
            return law(*args, **kwargs)

    return wrapped


def draw(recurrence, settings, *, steps=STEPS, batch=(BATCH,), change=None):
    """Draws a float64 sample.

    The starting carry is one that the recurrence has reached itself, because not every array is a state: a normalizer
    is positive, a counter is an integer.

    Args:
      recurrence: what will be run.
      settings: a :class:`Settings`.
      steps: T.
      batch: the batch axes.
      change: what to do to the parameters of ``init``; to move all of them by default.
    """
    rng = np.random.default_rng(settings.seed)
    params = (change or move)(starting_params(recurrence, settings), rng)
    carry = jax.device_get(starting_carry(recurrence, params, batch, settings))
    xs, weights, final_weights = (rng.normal(size=s) for s in ((steps, *batch, *settings.item), (steps, *batch), batch))
    if recurrence.causal:
        carry, _ = values(recurrence, params, carry, rng.normal(size=(STEPS, *xs.shape[1:])))
    else:
        carry = _map_inexact(lambda leaf: leaf + rng.normal(size=leaf.shape), carry)
    return Sample(params, carry, xs, weights, np.asarray(final_weights))


def starting_params(recurrence, settings, dtype="float64"):
    """The params of ``init``, in another dtype."""
    xs = jax.ShapeDtypeStruct((1, 1, *settings.item), jnp.float32)
    with jax.enable_x64(False):  # what is compiled of init serves the laws of both precisions
        params = jax.device_get(recurrence.init(jax.random.key(settings.seed), xs))
    return cast(params, dtype)


def starting_carry(recurrence, params, batch, settings, dtype="float64"):
    """The carry that a sequence starts from, in another dtype; None for its own."""
    start = settings.start or type(recurrence).initial_carry
    carry = start(recurrence, params, batch)
    return carry if dtype is None else cast(carry, dtype)


def move(params, rng):
    """Moves every parameter away from where ``init`` put it, so that no bias is zero and no block special."""
    return _map_inexact(lambda leaf: leaf + 0.3 * (_size(leaf) or 1.0) * rng.normal(size=leaf.shape), params)


def move_vectors(params, rng):
    """Moves biases alone: what a matrix does over thousands of steps is up to ``init``."""
    return _map_inexact(lambda leaf: leaf + 0.3 * (_size(leaf) or 1.0) * rng.normal(size=leaf.shape) * _vector(leaf), params)


def push(params, rng):
    """Pushes each entry of every bias far down, far up or nowhere: gates that hardly forget, gates that hardly keep."""
    return _map_inexact(lambda leaf: leaf + 5.0 * rng.integers(-1, 2, size=leaf.shape) * _vector(leaf), move(params, rng))


def _size(leaf):
    return float(np.sqrt(np.mean(np.abs(np.asarray(leaf)) ** 2)))


def _vector(leaf):
    return float(leaf.ndim == 1)


def _map_inexact(function, tree):
    return jax.tree.map(lambda leaf: np.asarray(function(leaf)) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf, tree)


def everything(sample):
    """A mask under which every step is valid, and resets that never happen."""
    return np.ones(sample.weights.shape, bool), np.zeros(sample.weights.shape, bool)


def differentiate(apply, sample, mask=None, resets=None):
    """Runs ``apply`` on a sample: a :class:`Run`, values and the gradients of a loss that all of them enter."""

    def loss(params, carry, xs):
        final, ys = apply(params, carry, xs, mask=mask, resets=resets)
        total = _weigh(ys, sample.weights)
        return total + sum(_weigh(leaf, sample.final_weights) for leaf in jax.tree.leaves(final)), (final, ys)

    arguments = sample.params, sample.carry, sample.xs
    gradients, (final, ys) = jax.grad(loss, argnums=(0, 1, 2), has_aux=True, allow_int=True)(*arguments)
    return Run(final, ys, *jax.tree.map(_or_zero, gradients, arguments))


def pull_back(function, static, arguments, cotangents):
    """Gradients of arguments from those of what ``function(*static, *arguments)`` is; integers and booleans have zeros."""
    return jax.device_get(_pull_back(function, static, arguments, cotangents))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pull_back(function, static, arguments, cotangents):
    def total(*arguments):
        pairs = zip(jax.tree.leaves(function(*static, *arguments)), jax.tree.leaves(cotangents), strict=True)
        return sum(jnp.real(jnp.sum(leaf * d)) for leaf, d in pairs if jnp.issubdtype(leaf.dtype, jnp.inexact))

    gradients = jax.grad(total, argnums=tuple(range(len(arguments))), allow_int=True)(*arguments)
    return jax.tree.map(_or_zero, gradients, arguments)


def with_start(recurrence, settings, sample, run):
    """A run whose gradient of params has what they add as parts of the carry that a sequence starts from."""
    (dparams,) = pull_back(_start, (recurrence, settings, sample.weights.shape[1:]), (sample.params,), run.dcarry)
    return run._replace(dparams=jax.tree.map(np.add, run.dparams, dparams))


def _start(recurrence, settings, batch, params):
    return starting_carry(recurrence, params, batch, settings)


def run(recurrence, sample, mask=None, resets=None):
    """:func:`differentiate` of a recurrence; laws that ask for the same shapes share what was compiled."""
    return jax.device_get(_run(recurrence, sample, mask, resets))


@functools.partial(jax.jit, static_argnums=0)
def _run(recurrence, sample, mask, resets):
    return differentiate(recurrence.apply, sample, mask, resets)


def values(recurrence, params, carry, xs, mask=None, resets=None, key=None):
    """``apply``, compiled."""
    return jax.device_get(_values(recurrence, params, carry, xs, mask, resets, key))


@functools.partial(jax.jit, static_argnums=0)
def _values(recurrence, params, carry, xs, mask, resets, key):
    return recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)


def _weigh(leaf, weights):
    """A number that every entry of ``leaf`` moves differently."""
    if not jnp.issubdtype(leaf.dtype, jnp.inexact):
        return jnp.zeros((), weights.dtype)
    if jnp.iscomplexobj(leaf):
        leaf = jnp.stack([leaf.real, leaf.imag], -1)
    rows = leaf.reshape((*weights.shape, -1)).astype(weights.dtype)
    return jnp.sum(weights[..., None] * rows * np.cos(1 + 1.3 * np.arange(rows.shape[-1])).astype(weights.dtype))


def _or_zero(gradient, argument):
    """Integers have gradients of a type without values."""
    return jnp.zeros_like(argument) if gradient.dtype == jax.dtypes.float0 else gradient
