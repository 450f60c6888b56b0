"""The coupled oscillatory network (Rusch and Mishra 2021): hidden units that swing, and drive each other."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


class CoRNNCarry(NamedTuple):
    """State of coupled oscillators."""

    y: jax.Array  # [B, H], where they are
    z: jax.Array  # [B, H], how fast they move


@dataclasses.dataclass(frozen=True, repr=False)
class CoRNN(parts.Dense, GatedCell):
    r"""Coupled oscillatory recurrent neural network: a second order differential equation, discretized.

    .. math::
        z' &= z + \Delta t\,(\tanh(u + [y, z] R) - \gamma y - \epsilon z) \\
        y' &= y + \Delta t\, z'
        \quad\text{with}\quad u = x W + b

    Args:
      features: H, the number of oscillators.
      dt: the time step; the paper tunes it per task, from 0.01 to 0.1.
      gamma: the squared frequency of all oscillators.
      epsilon: their damping.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry y and z [B, H], ys [T, B, H], the positions; params kernel [F, H], recurrent_kernel [2H, H], bias
      [H] and, where asked for, recurrent_bias [H].

    Raises:
      ValueError: a setting is not one of those named above.

    The damping is explicit, as in the authors' code; equation 3 of the paper allows z' in its place.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.CoRNN(8, dt=0.042, gamma=2.7, epsilon=4.7)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Rusch, Mishra, `Coupled Oscillatory Recurrent Neural Network (coRNN) <https://arxiv.org/abs/2010.00951>`_, 2021,
      equation 3.
    """

    dt: float = dataclasses.field(default=0.1, kw_only=True)
    gamma: float = dataclasses.field(default=1.0, kw_only=True)
    epsilon: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if not (self.dt > 0 and self.gamma > 0 and self.epsilon > 0):
            values = f"dt={self.dt!r}, gamma={self.gamma!r}, epsilon={self.epsilon!r}"
            raise ValueError(f"CoRNN: dt, gamma and epsilon must be positive, got {values}.")

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=1, rows=2 * self.features)

    def initial_carry(self, params, batch_shape):
        del params
        return CoRNNCarry(y=self.zero_state(batch_shape), z=self.zero_state(batch_shape))

    def recur(self, params, carry):
        return self.recurrent_product(params, jnp.concatenate([carry.y, carry.z], axis=-1))

    def gate(self, params, carry, u, r):
        del params
        z = carry.z + self.dt * (jnp.tanh(u + r) - self.gamma * carry.y - self.epsilon * carry.z)
        y = carry.y + self.dt * z
        return CoRNNCarry(y, z), y
