"""Gated recurrent units (Cho et al. 2014): the form all frameworks run, and the form of the paper."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import Cell, GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class GRU(parts.Dense, GatedCell):
    r"""Gated recurrent unit, reset gate after the matrix product.

    .. math::
        s &= \sigma(u_s + r_s) \qquad z = \sigma(u_z + r_z) \\
        n &= \tanh(u_n + s \odot r_n) \\
        h' &= (1 - z) \odot n + z \odot h
        \quad\text{with}\quad u = x W + b,\; r = h R + b_r

    Args:
      features: H, the width of the hidden state.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 3H], recurrent_kernel [H, 3H], bias [3H] and, where
      asked for, recurrent_bias [3H]. Gates in PyTorch's order: reset, update, new (Keras: update, reset, new).

    Raises:
      ValueError: a setting is not one of those named above.

    This is the form of cuDNN, PyTorch and Keras ``reset_after=True``, whose weights interchange with
    ``recurrent_bias=True``: inside the reset gate the second bias is not redundant. Flax Linen has that bias for the new
    gate alone, ``flax.nnx.GRUCell`` has none. Cho et al. (2014) multiply h by the reset gate before R, see
    :class:`ChoGRU`, and call our 1 - z the update gate.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.GRU(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Cho et al., `Learning Phrase Representations using RNN Encoder-Decoder <https://arxiv.org/abs/1406.1078>`_, 2014.
    """

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=3)

    def gate(self, params, carry, u, r):
        del params
        h = interpolate(u, r, carry.h)
        return parts.HiddenCarry(h), h


def interpolate(u, r, h):
    """The new state of a GRU from what the input and the state contribute to its gates, side by side."""
    (u_s, u_z, u_n), (r_s, r_z, r_n) = jnp.split(u, 3, axis=-1), jnp.split(r, 3, axis=-1)
    s, z = jnp.split(parts.squash(parts.side_by_side(u_s + r_s, u_z + r_z), "ss"), 2, axis=-1)
    n = jnp.tanh(u_n + s * r_n)
    return (1 - z) * n + z * h  # h itself where z is one, which n + z * (h - n) is not


@dataclasses.dataclass(frozen=True, repr=False)
class ChoGRU(parts.Dense, Cell):
    r"""Gated recurrent unit as first published, reset gate before the matrix product.

    .. math::
        s &= \sigma(u_s + h R_s) \qquad z = \sigma(u_z + h R_z) \\
        n &= \tanh(u_n + (s \odot h) R_n) \\
        h' &= (1 - z) \odot n + z \odot h
        \quad\text{with}\quad u = x W + b

    Two products in sequence at every step, hence a plain :class:`~seqjax.Cell`; :class:`GRU` needs one.

    Args:
      features: H, the width of the hidden state.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params as for :class:`GRU`, gates in the order reset, update, new.

    Raises:
      ValueError: a setting is not one of those named above.

    Keras ``reset_after=False`` and Chung et al. (2014) up to the name of the update gate: the paper's equation 7 keeps
    h where z is one, as here; Chung et al. keep it where z is zero.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.ChoGRU(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Cho et al., `Learning Phrase Representations using RNN Encoder-Decoder <https://arxiv.org/abs/1406.1078>`_, 2014,
      equations 5 to 8.
    """

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=3)

    def step(self, params, carry, u):
        H, h = self.features, carry.h
        s, z = jnp.split(jax.nn.sigmoid(u[..., : 2 * H] + self.recurrent_product(params, h, 0, 2)), 2, axis=-1)
        n = jnp.tanh(u[..., 2 * H :] + self.recurrent_product(params, s * h, 2))
        h = (1 - z) * n + z * h
        return parts.HiddenCarry(h), h
