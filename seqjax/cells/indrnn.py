"""The independently recurrent network (Li et al. 2018): every unit remembers itself alone."""

import dataclasses
from collections.abc import Callable

import jax

from seqjax import checks
from seqjax.cells import parts
from seqjax.precision import at_least_float32
from seqjax.recurrence import GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class IndRNN(parts.Projecting, GatedCell):
    r"""Independently recurrent neural network.

    .. math::
        h' = \phi(x W + b + v \odot h), \qquad y = h'

    Units meet in the layer above only, hence stacks of two and more.

    Args:
      features: H, the width of the hidden state.
      activation: phi, "relu" as in the paper, or another as for :class:`Elman`.
      longest: a number of steps T: v starts uniform in [0, 2^(1/T)], so that ReLU units grow at most twofold over them
        (the paper's bound, section 4.1); None for uniform in [0, 1]. Training may move v beyond: clip it after a step to
        hold the bound.
      use_bias: whether the input product has a bias.
      kernel_init: initializer of the kernel [F, H], by name.
      param_dtype: dtype of the parameters.
      state_dtype: dtype of the carry; None means that of the parameters, at least float32.
      engine: "auto", "hoisted" or "scan".

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, H], recurrent_scale [H], bias [H].

    Raises:
      ValueError: a setting is not one of those named above.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.IndRNN(8, longest=784)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Li et al., `Independently Recurrent Neural Network (IndRNN) <https://arxiv.org/abs/1803.04831>`_, 2018, equation 2.
    """

    activation: str | Callable = dataclasses.field(default="relu", kw_only=True)
    longest: int | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        parts.check_activation(self, "activation")
        if self.longest is not None:
            checks.positive(self, "longest")

    def init(self, key, xs):
        input_key, recurrent_key = jax.random.split(key)
        most = 1.0 if self.longest is None else 2.0 ** (1.0 / self.longest)
        wide = at_least_float32(self.param_dtype)
        scale = jax.random.uniform(recurrent_key, (self.features,), wide, 0.0, most)
        return self.input_params(input_key, xs, gates=1) | {"recurrent_scale": scale.astype(self.param_dtype)}

    def recur(self, params, carry):
        return carry.h * params["recurrent_scale"]

    def gate(self, params, carry, u, r):
        del params, carry
        h = parts.activation(self.activation)(u + r)
        return parts.HiddenCarry(h), h
