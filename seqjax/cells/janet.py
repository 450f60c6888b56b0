"""Just another network (van der Westhuizen and Lasenby 2018): an LSTM of its forget gate alone."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class JANET(parts.Dense, GatedCell):
    r"""LSTM with nothing but a forget gate.

    .. math::
        s &= u_f + r_f \qquad n = \tanh(u_n + r_n) \\
        h' &= \sigma(s) \odot h + (1 - \sigma(s - \beta)) \odot n, \qquad y = h'
        \quad\text{with}\quad u = x W + b,\; r = h R

    Args:
      features: H, the width of the hidden state.
      beta: how much more is let in than room is made for, in the logit of the gate.
      chrono: the longest dependency in steps: forget biases start at log(u), u uniform in [1, chrono - 1], as in the
        paper, which takes the length of its sequences; None for ``forget_bias``.
      forget_bias: initial value of the forget gate's bias without ``chrono``.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [H, 2H], bias [2H] and, where
      asked for, recurrent_bias [2H], gates in the order forget, new.

    Raises:
      ValueError: a setting is not one of those named above.

    The state is not bounded by one where beta is positive, because the two weights of the mean then sum to more.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.JANET(8, chrono=784)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      van der Westhuizen, Lasenby, `The Unreasonable Effectiveness of the Forget Gate <https://arxiv.org/abs/1804.04849>`_,
      2018, section 3.
      Tallec, Ollivier, `Can Recurrent Neural Networks Warp Time? <https://arxiv.org/abs/1804.11188>`_, 2018.
    """

    beta: float = dataclasses.field(default=1.0, kw_only=True)
    chrono: int | None = dataclasses.field(default=None, kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        parts.check_chrono(self)

    def init(self, key, xs):
        params = self.dense_params(key, xs, gates=2)
        if self.use_bias:
            params["bias"] = params["bias"].at[: self.features].set(parts.forget_start(self, key))
        return params

    def gate(self, params, carry, u, r):
        del params
        s, n = jnp.split(u + r, 2, axis=-1)
        h = jax.nn.sigmoid(s) * carry.h + jax.nn.sigmoid(self.beta - s) * jnp.tanh(n)
        return parts.HiddenCarry(h), h
