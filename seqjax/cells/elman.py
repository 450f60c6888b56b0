"""The vanilla recurrent network (Elman 1990)."""

import dataclasses
from collections.abc import Callable

from seqjax.cells import parts
from seqjax.recurrence import GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class Elman(parts.Dense, GatedCell):
    r"""Vanilla recurrent network.

    .. math::
        h' = \phi(x W + b + h R), \qquad y = h'

    with :math:`\phi` = tanh, ReLU or the identity.

    Args:
      features: H, the width of the hidden state.
      activation: "tanh", "relu", "identity" or "sigmoid", or a function of an array (named functions keep ``repr`` and
        pickling exact).
      use_bias, recurrent_bias, kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for every dense cell;
        ``recurrent_init="identity"`` with ReLU is the IRNN of Le et al. (2015).

    Shapes:
      xs [T, B, F], carry h [B, H], ys [T, B, H]; params kernel [F, H], recurrent_kernel [H, H], bias [H] and, where asked
      for, recurrent_bias [H].

    Raises:
      ValueError: a setting is not one of those named above.

    PyTorch's ``nn.RNN`` has two biases: ``recurrent_bias=True``. Keras and Flax have one. Elman (1990) has the logistic
    function for :math:`\phi`.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.Elman(8, activation="relu")
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 8)

    References:
      Elman, `Finding Structure in Time <https://doi.org/10.1207/s15516709cog1402_1>`_, 1990.
      Le, Jaitly, Hinton, `A Simple Way to Initialize Recurrent Networks of Rectified Linear Units
      <https://arxiv.org/abs/1504.00941>`_, 2015.
    """

    activation: str | Callable = dataclasses.field(default="tanh", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        parts.check_activation(self, "activation")

    def init(self, key, xs):
        return self.dense_params(key, xs, gates=1)

    def gate(self, params, carry, u, r):
        del params, carry
        h = parts.activation(self.activation)(u + r)
        return parts.HiddenCarry(h), h
