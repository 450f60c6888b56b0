"""The minimal gated unit (Zhou et al. 2016), a GRU whose two gates are one: the form of the paper, and that of Flax."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import Cell, GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class MGU(parts.Dense, Cell):
    r"""Minimal gated unit, the gate before the matrix product.

    .. math::
        f &= \sigma(u_f + h R_f) \\
        n &= \tanh(u_n + (f \odot h) R_n) \\
        h' &= (1 - f) \odot h + f \odot n, \qquad y = h'
        \quad\text{with}\quad u = x W + b

    Two products in sequence at every step, hence a plain :class:`~seqjax.Cell`, as :class:`ChoGRU`.

    Args:
      features: H, the width of the hidden state.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [H, 2H], bias [2H] and, where
      asked for, recurrent_bias [2H], gates in the order forget, new.

    Raises:
      ValueError: a setting is not one of those named above.

    f is where :class:`GRU` and :class:`ChoGRU` have 1 - z. Flax Linen's ``MGUCell`` applies the gate after the product and
    keeps h where f is one: that is :class:`TiedGRU`. PyTorch and Keras have neither. This form with the gate after the
    product is the example of the guide to writing a cell.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.MGU(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Zhou et al., `Minimal Gated Unit for Recurrent Neural Networks <https://arxiv.org/abs/1603.09420>`_, 2016, section 3.
    """

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=2)

    def step(self, params, carry, u):
        H, h = self.features, carry.h
        f = jax.nn.sigmoid(u[..., :H] + self.recurrent_product(params, h, 0, 1))
        n = jnp.tanh(u[..., H:] + self.recurrent_product(params, f * h, 1))
        h = h + f * (n - h)
        return parts.HiddenCarry(h), h


@dataclasses.dataclass(frozen=True, repr=False)
class TiedGRU(parts.Dense, GatedCell):
    r"""Minimal gated unit as Flax has it: a :class:`GRU` whose reset and update gates are one.

    .. math::
        f &= \sigma(u_f + r_f) \\
        n &= \tanh(u_n + f \odot r_n) \\
        h' &= (1 - f) \odot n + f \odot h, \qquad y = h'
        \quad\text{with}\quad u = x W + b,\; r = h R + b_r

    Args:
      features: H, the width of the hidden state.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [H, 2H], bias [2H] and, where
      asked for, recurrent_bias [2H], gates in the order forget, new.

    Raises:
      ValueError: a setting is not one of those named above.

    This is Flax Linen's ``MGUCell``, whose weights interchange with ``recurrent_bias=True``: behind the gate the second bias
    is not redundant. Linen starts the bias of f at one, here it is zero. Another model than the paper's: in :class:`MGU` the
    state is new where f is one, and f is applied before R. Without f in n, Linen's ``reset_gate=False``, it is
    :class:`UGRNN`. PyTorch and Keras have none of them.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.TiedGRU(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Zhou et al., `Minimal Gated Unit for Recurrent Neural Networks <https://arxiv.org/abs/1603.09420>`_, 2016, with the
      gate where Flax has it.
    """

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=2)

    def gate(self, params, carry, u, r):
        del params
        (u_f, u_n), (r_f, r_n) = jnp.split(u, 2, axis=-1), jnp.split(r, 2, axis=-1)
        f = jax.nn.sigmoid(u_f + r_f)
        h = (1 - f) * jnp.tanh(u_n + f * r_n) + f * carry.h
        return parts.HiddenCarry(h), h
