"""The scalar LSTM of xLSTM (Beck et al. 2024): exponential gates, kept finite by a running maximum."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.recurrence import GatedCell


class SLSTMCarry(NamedTuple):
    """State of an sLSTM; c and n are scaled by exp(-m)."""

    c: jax.Array  # [B, H], the memory cell
    n: jax.Array  # [B, H], the normalizer: what c would be if all candidates were one
    m: jax.Array  # [B, H], the stabilizer: the largest exponent so far
    h: jax.Array  # [B, H], what it shows of itself


@dataclasses.dataclass(frozen=True, repr=False)
class SLSTM(parts.Dense, GatedCell):
    r"""Long short-term memory with exponential gates, a normalizer, a stabilizer and heads.

    .. math::
        \tilde f &= \log \sigma(u_f + r_f) \;\text{ or }\; u_f + r_f \qquad \tilde i = u_i + r_i \\
        m' &= \max(\tilde f + m, \tilde i) \qquad f = \exp(\tilde f + m - m') \qquad i = \exp(\tilde i - m') \\
        c' &= f \odot c + i \odot \tanh(u_g + r_g) \qquad n' = f \odot n + i \\
        h' &= \sigma(u_o + r_o) \odot c' / n', \qquad y = h'
        \quad\text{with}\quad u = x W + b,\; r = h R

    Args:
      features: H, the width of the memory cell.
      heads: K, how many groups of H / K units there are; units of different groups do not see each other.
      forget_activation: "sigmoid" or "exp"; the paper allows both.
      forget_bias: initial value of the forget gate's bias.
      use_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry c, n, m and h [B, H], ys [T, B, H]; params kernel [F, 4H], recurrent_kernel [K, H/K, 4H/K], bias
      [4H]; gates in the order i, f, g, o, as in :class:`LSTM` (the paper writes z for g). The kernel of a head has its gates
      side by side.

    Raises:
      ValueError: a setting is not one of those named above, heads do not divide features, or ``recurrent_bias`` is asked
        for.

    All four states start at zero; m' of the first step is i alone, which the equations leave open. The authors' block has a
    convolution in front, a group norm behind and biases that differ from unit to unit; these belong to a model.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.SLSTM(8, heads=2)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Beck et al., `xLSTM: Extended Long Short-Term Memory <https://arxiv.org/abs/2405.04517>`_, 2024, equations 8 to 17.
    """

    heads: int = dataclasses.field(default=1, kw_only=True)
    forget_activation: str = dataclasses.field(default="sigmoid", kw_only=True)
    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "heads")
        checks.one_of(self, "forget_activation", ("sigmoid", "exp"))
        if self.features % self.heads:
            raise ValueError(f"SLSTM: heads={self.heads} must divide features={self.features}.")
        if self.recurrent_bias:
            raise ValueError("SLSTM: has no recurrent_bias; use_bias gives every gate its one bias.")

    def init(self, key, xs):
        input_key, recurrent_key = jax.random.split(key)
        width = self.features // self.heads
        params = self.input_params(input_key, xs, gates=4)
        if self.use_bias:
            params["bias"] = params["bias"].at[self.features : 2 * self.features].set(self.forget_bias)
        blocks = [
            parts.blocks(self.recurrent_init, k, (width, width), 4, self.param_dtype)
            for k in jax.random.split(recurrent_key, self.heads)
        ]
        return params | {"recurrent_kernel": jnp.stack(blocks)}

    def initial_carry(self, params, batch_shape):
        del params
        return SLSTMCarry(*(self.zero_state(batch_shape) for _ in range(4)))

    def recur(self, params, carry):
        K, width = self.heads, self.features // self.heads
        h = carry.h.reshape((*carry.h.shape[:-1], K, width))
        r = jnp.einsum("...kh,khg->...kg", h, params["recurrent_kernel"])
        r = jnp.swapaxes(r.reshape((*r.shape[:-1], 4, width)), -2, -3)
        return r.reshape((*carry.h.shape[:-1], 4 * self.features))

    def gate(self, params, carry, u, r):
        del params
        i, f, g, o = jnp.split(u + r, 4, axis=-1)
        f = jax.nn.log_sigmoid(f) if self.forget_activation == "sigmoid" else f
        # A state that begins has no exponent yet. From there on n is at least one, and c / n and its gradient are finite.
        begins = carry.n == 0
        m = jnp.where(begins, i, jnp.maximum(f + carry.m, i))
        f, i = jnp.where(begins, 0.0, jnp.exp(jnp.where(begins, 0.0, f + carry.m - m))), jnp.exp(i - m)
        c = f * carry.c + i * jnp.tanh(g)
        n = f * carry.n + i
        h = jax.nn.sigmoid(o) * c / n
        return SLSTMCarry(c, n, m, h), h
