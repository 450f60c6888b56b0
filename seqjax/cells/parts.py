"""What the cell families share: settings, parameters gate by gate, activations and initializers by name."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.precision import at_least_float32

ACTIVATIONS = {
    "identity": lambda x: x,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
}


def _orthogonal(key, shape, dtype):
    """Orthonormal rows or columns [m, n], one after the other where several are drawn with ``vmap``.

    LAPACK's wrapper in jaxlib 0.10.1 waits for workers of the pool it runs in: several batched QR at once wait for ever.
    """
    draw = jax.custom_batching.sequential_vmap(lambda key: jax.nn.initializers.orthogonal()(key, shape, dtype))
    return draw(key)


INITIALIZERS = {
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "orthogonal": _orthogonal,
    "identity": lambda key, shape, dtype: jnp.eye(shape[0], shape[1], dtype=dtype),
    "zeros": jax.nn.initializers.zeros,
}


class HiddenCarry(NamedTuple):
    """State of a cell that has nothing but what it shows."""

    h: jax.Array  # [B, H]


class LSTMCarry(NamedTuple):
    """State of an LSTM: the memory cell, and what it shows of itself."""

    c: jax.Array  # [B, H]
    h: jax.Array  # [B, H], or [B, P] where projected


@dataclasses.dataclass(frozen=True, repr=False)
class Projecting:
    """Settings of every cell that reads its input through a kernel; mixed into the cell's own dataclass.

    Args:
      features: H, the width of the hidden state.
      use_bias: whether the input product has a bias.
      kernel_init: initializer of each gate's block [F, H] of the kernel, by name.
      param_dtype: dtype of the parameters.
      state_dtype: dtype of the carry; None means that of the parameters, at least float32.
    """

    features: int
    use_bias: bool = dataclasses.field(default=True, kw_only=True)
    kernel_init: str = dataclasses.field(default="lecun_normal", kw_only=True)
    param_dtype: str = dataclasses.field(default="float32", kw_only=True)
    state_dtype: str | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        checks.positive(self, "features")
        checks.one_of(self, "kernel_init", INITIALIZERS)
        checks.floating(self, "param_dtype", "state_dtype")
        super().__post_init__()  # type: ignore[misc]  # that of the contract it is mixed into

    def project(self, params, xs):
        """x W + b."""
        us = xs @ params["kernel"]
        return us + params["bias"] if self.use_bias else us

    def input_params(self, key, xs, gates):
        """kernel [F, K*H], bias [K*H]; gates side by side."""
        params = {"kernel": blocks(self.kernel_init, key, (xs.shape[-1], self.features), gates, self.param_dtype)}
        if self.use_bias:
            params["bias"] = jnp.zeros((gates * self.features,), self.param_dtype)
        return params

    def initial_carry(self, params, batch_shape):
        """A hidden state of zeros, which is all that most cells have."""
        del params
        return HiddenCarry(h=self.zero_state(batch_shape))

    def zero_state(self, batch_shape, width=None):
        """A state of zeros, [B, H] or as wide as asked for."""
        dtype = self.state_dtype or at_least_float32(self.param_dtype)
        return jnp.zeros((*batch_shape, width or self.features), dtype)


@dataclasses.dataclass(frozen=True, repr=False)
class Dense(Projecting):
    """Settings of every cell with a dense recurrent kernel, besides those of :class:`Projecting`.

    Args:
      recurrent_bias: whether the recurrent product has a bias of its own, as in PyTorch and cuDNN.
      recurrent_init: initializer of each gate's block [H, H] of the recurrent kernel, by name.
    """

    recurrent_bias: bool = dataclasses.field(default=False, kw_only=True)
    recurrent_init: str = dataclasses.field(default="orthogonal", kw_only=True)

    def __post_init__(self):
        checks.one_of(self, "recurrent_init", INITIALIZERS)
        super().__post_init__()

    def recur(self, params, carry):
        """h R + b_r."""
        return self.recurrent_product(params, carry.h)

    def recurrent_product(self, params, h, first=0, last=None):
        """h R + b_r, of gates ``first`` to ``last`` alone."""
        columns = slice(first * self.features, None if last is None else last * self.features)
        r = h @ params["recurrent_kernel"][:, columns]
        return r + params["recurrent_bias"][columns] if self.recurrent_bias else r

    def dense_params(self, key, xs, gates, rows=None):
        """kernel [F, K*H], recurrent_kernel [H, K*H], bias [K*H], recurrent_bias [K*H]; gates side by side.

        ``rows`` is the width of what the recurrent kernel reads, where that is not H.
        """
        input_key, recurrent_key = jax.random.split(key)
        H, dtype = self.features, self.param_dtype
        params = self.input_params(input_key, xs, gates)
        params["recurrent_kernel"] = blocks(self.recurrent_init, recurrent_key, (rows or H, H), gates, dtype)
        if self.recurrent_bias:
            params["recurrent_bias"] = jnp.zeros((gates * H,), dtype)
        return params


def blocks(name, key, shape, gates, dtype):
    """One block a gate, each initialized on its own, side by side: ``[rows, gates * columns]``."""
    wide = at_least_float32(dtype)  # orthogonal needs a QR, which has no narrower form
    keys = jax.random.split(key, gates)
    return jnp.concatenate([INITIALIZERS[name](k, shape, wide) for k in keys], axis=-1).astype(dtype)


def check_activation(owner, *fields):
    """Refuses fields that are neither a function nor the name of an activation."""
    for field in fields:
        if not callable(getattr(owner, field)):
            checks.one_of(owner, field, ACTIVATIONS)


def activation(name):
    """An activation by name; a function is itself."""
    return name if callable(name) else ACTIVATIONS[name]


def layer_norm(x, scale, epsilon=1e-5):
    """Layer normalization over the last axis: ``(x - mean) / sqrt(variance + epsilon) * scale`` (Ba et al. 2016, eq. 4)."""
    wide = x.astype(at_least_float32(x.dtype))
    return jax.nn.standardize(wide, epsilon=epsilon).astype(x.dtype) * scale


def check_chrono(owner):
    """Refuses a field ``chrono`` that is no length, or that has no bias to start."""
    if owner.chrono is None:
        return
    if not getattr(owner, "forget_gate", True):
        raise ValueError(f"{type(owner).__name__}: chrono starts the biases of a forget gate, and forget_gate is False.")
    if not isinstance(owner.chrono, int) or owner.chrono < 3 or not owner.use_bias:
        raise ValueError(
            f"{type(owner).__name__}: chrono is a number of steps above 2, for biases to start from; got {owner.chrono!r} "
            f"and use_bias={owner.use_bias}."
        )


def forget_start(owner, key):
    """Biases [H] that a forget gate starts from: ``forget_bias``, or log(u), u uniform in [1, chrono - 1]."""
    if owner.chrono is None:
        return jnp.full((owner.features,), owner.forget_bias, owner.param_dtype)
    wide = at_least_float32(owner.param_dtype)
    steps = jax.random.uniform(jax.random.fold_in(key, 1), (owner.features,), wide, 1.0, owner.chrono - 1.0)
    return jnp.log(steps).astype(owner.param_dtype)


def memorize(z, c):
    """The new state of a plain LSTM from its four gates before they are squashed, side by side."""
    i, f, g, o = jnp.split(squash(z, "ssts"), 4, axis=-1)
    c = f * c + i * g
    return LSTMCarry(c, o * jnp.tanh(c))


def squash(z, kinds):
    """Logistic functions and hyperbolic tangents of gates that lie side by side, as one tanh over all of them.

    With sigma(z) = tanh(z / 2) / 2 + 1 / 2 all gates are one elementwise pass. XLA on a CPU computes separate activations
    once for each of their uses; the barrier makes it keep the results.

    Args:
      z: ``[..., K*H]``.
      kinds: a letter a gate: "s" for the logistic function, "t" for tanh.

    Returns:
      ``[..., K*H]``.
    """
    half = _per_gate(kinds, z, s=0.5, t=1.0)
    return jax.lax.optimization_barrier(jnp.tanh(z * half)) * half + _per_gate(kinds, z, s=0.5, t=0.0)


def side_by_side(*gates):
    """Gates ``[..., H]`` as one array ``[..., K*H]``, for :func:`squash` where a step has a single output.

    XLA on a CPU then makes one loop of the whole step, which slices what it slices from the inputs, and does not vectorize
    the activations in it. What is concatenated is computed first. A forward GRU takes 0.47 (16 x 64) to 0.87 (32 x 512) of
    the time so, an UGRNN 0.54 to 0.76; gradients keep their activations anyway. An LSTM, with two outputs, loses a tenth.
    """
    return jnp.concatenate(gates, axis=-1)


def _per_gate(kinds, z, **values):
    """A constant vector [K*H] with one value a gate."""
    return np.repeat(np.asarray([values[kind] for kind in kinds], z.dtype), z.shape[-1] // len(kinds))
