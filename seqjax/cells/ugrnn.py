"""The update gate network (Collins et al. 2017): a vanilla network with one gate that says how much of it is new."""

import dataclasses

import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class UGRNN(parts.Dense, GatedCell):
    r"""Update gate recurrent neural network.

    .. math::
        z &= \sigma(u_z + r_z) \qquad n = \tanh(u_n + r_n) \\
        h' &= z \odot h + (1 - z) \odot n, \qquad y = h'
        \quad\text{with}\quad u = x W + b,\; r = h R

    Args:
      features: H, the width of the hidden state.
      update_bias: initial value of the gate's bias. One by default, so that the state is kept at first.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [H, 2H], bias [2H] and, where
      asked for, recurrent_bias [2H], gates in the order update, new.

    Raises:
      ValueError: a setting is not one of those named above.

    TensorFlow's ``UGRNNCell`` adds its ``forget_bias`` of one at every step, here it is where the bias starts. Flax Linen
    has this cell as ``MGUCell(reset_gate=False)``.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.UGRNN(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Collins, Sohl-Dickstein, Sussillo, `Capacity and Trainability in Recurrent Neural Networks
      <https://arxiv.org/abs/1611.09913>`_, 2017, equations 2 to 4.
    """

    update_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def init(self, key, xs):
        params = self.dense_params(key, xs, gates=2)
        if self.use_bias:
            params["bias"] = params["bias"].at[: self.features].set(self.update_bias)
        return params

    def gate(self, params, carry, u, r):
        del params
        z, n = jnp.split(parts.squash(parts.side_by_side(*jnp.split(u + r, 2, axis=-1)), "st"), 2, axis=-1)
        h = (1 - z) * n + z * carry.h
        return parts.HiddenCarry(h), h
