"""The minimal gated recurrent unit without a recurrent product (Feng et al. 2024)."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.cells import parts
from seqjax.recurrence import LinearCarry, LinearCell


@dataclasses.dataclass(frozen=True, repr=False)
class MinGRU(parts.Projecting, LinearCell):
    r"""Minimal gated recurrent unit: gate and candidate see the input alone, so that time can be run in parallel.

    .. math::
        z &= \sigma(u_z) \\
        h' &= (1 - z) \odot h + z \odot u_n, \qquad y = h'
        \quad\text{with}\quad u = x W + b

    Args:
      features: H, the width of the hidden state.
      use_bias: whether the input product has a bias.
      kernel_init: initializer of each gate's block of the kernel [F, H], by name.
      param_dtype: dtype of the parameters.
      state_dtype: dtype of the carry; None means that of the parameters, at least float32.
      engine: "auto", "scan" or "associative".

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, 2H], bias [2H], gates in the order update, new.

    Raises:
      ValueError: a setting is not one of those named above.

    The paper's appendix B runs a positive candidate in log space; this is the form of its section 3.1.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.MinGRU(8)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Feng et al., `Were RNNs All We Needed? <https://arxiv.org/abs/2410.01201>`_, 2024, section 3.1.
    """

    def init(self, key, xs):
        return self.input_params(key, xs, gates=2)

    def initial_carry(self, params, batch_shape):
        del params
        return LinearCarry(h=self.zero_state(batch_shape))

    def coefficients(self, params, u):
        del params
        z, n = jnp.split(u, 2, axis=-1)
        z = jax.nn.sigmoid(z)
        return 1 - z, z * n
