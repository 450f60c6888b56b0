"""The multiplicative LSTM (Krause et al. 2016): the input chooses the transition that the state goes through."""

import dataclasses

from seqjax.cells import parts
from seqjax.cells.parts import LSTMCarry, memorize
from seqjax.recurrence import Cell


@dataclasses.dataclass(frozen=True, repr=False)
class MultiplicativeLSTM(parts.Dense, Cell):
    r"""Multiplicative long short-term memory.

    .. math::
        m &= u_m \odot (h R_m) \\
        i &= \sigma(u_i + m R_i) \qquad f = \sigma(u_f + m R_f) \\
        g &= \tanh(u_g + m R_g) \qquad o = \sigma(u_o + m R_o) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c'), \qquad y = h'
        \quad\text{with}\quad u = x W + b

    Two products in sequence at every step, hence a plain :class:`~seqjax.Cell`.

    Args:
      features: H, the width of the memory cell, of the hidden state and of m.
      forget_bias: initial value of the forget gate's bias.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry c and h [B, H], ys [T, B, H]; params kernel [F, 5H], recurrent_kernel [H, 5H], bias [5H] and,
      where asked for, recurrent_bias [5H]; gates in the order i, f, g, o, then m.

    Raises:
      ValueError: a setting is not one of those named above.

    The paper (section 3) has no bias in m and applies no tanh to g before the input gate; its successors (Radford et al.
    2017, and every framework that has the cell) have the tanh, as here. The bias of m starts at zero.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.MultiplicativeLSTM(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Krause et al., `Multiplicative LSTM for sequence modelling <https://arxiv.org/abs/1609.07959>`_, 2016, section 3.
      Radford, Jozefowicz, Sutskever, `Learning to Generate Reviews and Discovering Sentiment
      <https://arxiv.org/abs/1704.01444>`_, 2017.
    """

    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def init(self, key, xs):
        params = self.dense_params(key, xs, gates=5)
        if self.use_bias:
            params["bias"] = params["bias"].at[self.features : 2 * self.features].set(self.forget_bias)
        return params

    def initial_carry(self, params, batch_shape):
        del params
        return LSTMCarry(c=self.zero_state(batch_shape), h=self.zero_state(batch_shape))

    def step(self, params, carry, u):
        H = self.features
        m = u[..., 4 * H :] * self.recurrent_product(params, carry.h, 4)
        carry = memorize(u[..., : 4 * H] + self.recurrent_product(params, m, 0, 4), carry.c)
        return carry, carry.h
