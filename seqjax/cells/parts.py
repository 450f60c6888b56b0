"""What the cell families share: settings, parameters gate by gate, activations and initializers by name."""

import dataclasses

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

INITIALIZERS = {
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
    "identity": lambda key, shape, dtype: jnp.eye(shape[0], shape[1], dtype=dtype),
    "zeros": jax.nn.initializers.zeros,
}


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

    def zero_state(self, batch_shape):
        """A state of zeros, [B, H]."""
        dtype = self.state_dtype or at_least_float32(self.param_dtype)
        return jnp.zeros((*batch_shape, self.features), dtype)


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
        r = carry.h @ params["recurrent_kernel"]
        return r + params["recurrent_bias"] if self.recurrent_bias else r

    def dense_params(self, key, xs, gates):
        """kernel [F, K*H], recurrent_kernel [H, K*H], bias [K*H], recurrent_bias [K*H]; gates side by side."""
        input_key, recurrent_key = jax.random.split(key)
        H, dtype = self.features, self.param_dtype
        params = self.input_params(input_key, xs, gates)
        params["recurrent_kernel"] = blocks(self.recurrent_init, recurrent_key, (H, H), gates, dtype)
        if self.recurrent_bias:
            params["recurrent_bias"] = jnp.zeros((gates * H,), dtype)
        return params


def blocks(name, key, shape, gates, dtype):
    """One block a gate, each initialized on its own, side by side: ``[rows, gates * columns]``."""
    wide = at_least_float32(dtype)  # orthogonal needs a QR, which has no narrower form
    keys = jax.random.split(key, gates)
    return jnp.concatenate([INITIALIZERS[name](k, shape, wide) for k in keys], axis=-1).astype(dtype)


def activation(name):
    """An activation by name; a function is itself."""
    return name if callable(name) else ACTIVATIONS[name]


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


def _per_gate(kinds, z, **values):
    """A constant vector [K*H] with one value a gate."""
    return np.repeat(np.asarray([values[kind] for kind in kinds], z.dtype), z.shape[-1] // len(kinds))
