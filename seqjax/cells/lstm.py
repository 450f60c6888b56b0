"""Long short-term memory (Hochreiter and Schmidhuber 1997), with the forget gate of Gers et al. (2000)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


class LSTMCarry(NamedTuple):
    """State of an LSTM: the memory cell, and what it shows of itself."""

    c: jax.Array  # [B, H]
    h: jax.Array  # [B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class LSTM(parts.Dense, GatedCell):
    r"""Long short-term memory.

    .. math::
        i &= \sigma(u_i + r_i) \qquad f = \sigma(u_f + r_f) \\
        g &= \tanh(u_g + r_g) \qquad o = \sigma(u_o + r_o) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c')
        \quad\text{with}\quad u = x W + b,\; r = h R

    Args:
      features: H, the width of the hidden state.
      forget_bias: initial value of the forget gate's bias. One by default, after Jozefowicz et al. (2015); frameworks
        disagree: Keras starts at one too, PyTorch and Flax do not. Where ``use_bias=False`` nothing holds it.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry c and h [B, H], ys [T, B, H]; params kernel [F, 4H], recurrent_kernel [H, 4H], bias [4H] and,
      where asked for, recurrent_bias [4H]. Gates in the order i, f, g, o, as in PyTorch and cuDNN (Keras writes c for g).

    Raises:
      ValueError: a setting is not one of those named above.

    PyTorch has two biases: ``recurrent_bias=True``. No peepholes, as in every framework's default.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.LSTM(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> carry.c.shape, ys.shape
      ((2, 8), (5, 2, 8))

    References:
      Hochreiter, Schmidhuber, `Long Short-Term Memory <https://doi.org/10.1162/neco.1997.9.8.1735>`_, 1997.
      Gers, Schmidhuber, Cummins, `Learning to Forget <https://doi.org/10.1162/089976600300015015>`_, 2000.
      Jozefowicz, Zaremba, Sutskever, `An Empirical Exploration of Recurrent Network Architectures
      <https://proceedings.mlr.press/v37/jozefowicz15.html>`_, 2015.
    """

    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def init(self, key, xs):
        params = self.dense_params(key, xs, gates=4)
        if self.use_bias:
            forget = slice(self.features, 2 * self.features)
            params["bias"] = params["bias"].at[forget].set(self.forget_bias)
        return params

    def initial_carry(self, params, batch_shape):
        del params
        return LSTMCarry(c=self.zero_state(batch_shape), h=self.zero_state(batch_shape))

    def gate(self, params, carry, u, r):
        del params
        i, f, g, o = jnp.split(parts.squash(u + r, "ssts"), 4, axis=-1)
        c = f * carry.c + i * g
        h = o * jnp.tanh(c)
        return LSTMCarry(c, h), h
