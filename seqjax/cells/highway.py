"""The recurrent highway network (Zilly et al. 2017): several layers deep between one step and the next."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.recurrence import Cell


@dataclasses.dataclass(frozen=True, repr=False)
class RHN(parts.Dense, Cell):
    r"""Recurrent highway network.

    .. math::
        n_l &= \tanh(u_n [l = 1] + s_{l-1} R_{n,l} + b_{n,l}) \qquad t_l = \sigma(u_t [l = 1] + s_{l-1} R_{t,l} + b_{t,l}) \\
        s_l &= t_l \odot n_l + (1 - t_l) \odot s_{l-1}, \quad l = 1 \ldots L, \quad s_0 = h \\
        h' &= s_L, \qquad y = h'
        \quad\text{with}\quad u = x W

    The carry gate is coupled, 1 - t, as in all experiments of the paper. L products in sequence at every step, hence a plain
    :class:`~seqjax.Cell`.

    Args:
      features: H, the width of the state.
      depth: L, the number of layers between two steps.
      transform_bias: initial value of the bias of t; negative, so that layers pass on at first what they are given.
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell.

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], recurrent_kernel [L, H, 2H], bias [2H] (of the first
      layer) and depth_bias [L - 1, 2H], where asked for recurrent_bias [2H]; gates in the order new, transform.

    Raises:
      ValueError: a setting is not one of those named above.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.RHN(8, depth=3)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Zilly et al., `Recurrent Highway Networks <https://arxiv.org/abs/1607.03474>`_, 2017, equations 6 to 9.
    """

    depth: int = dataclasses.field(default=2, kw_only=True)
    transform_bias: float = dataclasses.field(default=-1.0, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "depth")

    def init(self, key, xs):
        H, keys = self.features, jax.random.split(jax.random.fold_in(key, 1), self.depth)
        params = self.dense_params(key, xs, gates=2)
        shape = (H, H)
        params["recurrent_kernel"] = jnp.stack(
            [parts.blocks(self.recurrent_init, k, shape, 2, self.param_dtype) for k in keys]
        )
        if self.use_bias:
            start = params["bias"].at[H:].set(self.transform_bias)
            params |= {"bias": start, "depth_bias": jnp.tile(start, (self.depth - 1, 1))}
        return params

    def step(self, params, carry, u):
        s = carry.h
        for layer in range(self.depth):
            z = s @ params["recurrent_kernel"][layer]
            if layer == 0:
                z = z + u + (params["recurrent_bias"] if self.recurrent_bias else 0.0)
            elif self.use_bias:
                z = z + params["depth_bias"][layer - 1]
            n, t = jnp.split(parts.squash(z, "ts"), 2, axis=-1)
            s = s + t * (n - s)
        return parts.HiddenCarry(s), s
