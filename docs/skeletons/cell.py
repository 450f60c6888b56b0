"""The minimal gated unit (Zhou et al. 2016), with its gate after the product."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


class MGUCarry(NamedTuple):
    """State of a minimal gated unit."""

    h: jax.Array  # [B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class LateMGU(parts.Dense, GatedCell):
    """Minimal gated unit: f = sigmoid(u_f + r_f), n = tanh(u_n + f * r_n), h' = (1 - f) * h + f * n; u = x W + b, r = h R.

    Shapes: xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [H, 2H], bias [2H].
    :class:`seqjax.MGU` multiplies h by f before R, as the paper; here f comes after, so that a step is one product.
    """

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=2)

    def initial_carry(self, params, batch_shape):
        return MGUCarry(self.zero_state(batch_shape))

    def gate(self, params, carry, u, r):
        (u_f, u_n), (r_f, r_n) = jnp.split(u, 2, axis=-1), jnp.split(r, 2, axis=-1)
        f = jax.nn.sigmoid(u_f + r_f)
        h = carry.h + f * (jnp.tanh(u_n + f * r_n) - carry.h)
        return MGUCarry(h), h


# The line in tests/registry.py:    "late_mgu": (LateMGU(5), {}),
