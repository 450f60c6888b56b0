"""Ways around a layer."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.combine.wrapper import Wrapper
from seqjax.precision import cast


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(Wrapper):
    """Adds the inputs to the outputs: ``ys = xs + recurrence(xs)``.

    Args:
      recurrence: what is added; its outputs must be as wide as its inputs. Its parameters and carry are those of the whole.

    Raises:
      ValueError: inputs and outputs differ in width.
    """

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        carry, ys = self.recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)
        _same_width(self, xs, ys)
        return carry, masks.zero_unless(mask, xs) + ys


@dataclasses.dataclass(frozen=True, repr=False)
class Highway(Wrapper):
    r"""A gate between the outputs of a recurrence and its inputs.

    .. math::
        t = \sigma(x W_t + b_t), \qquad y = t \odot \mathrm{recurrence}(x) + (1 - t) \odot x

    Args:
      recurrence: what is gated; its outputs must be as wide as its inputs.
      bias: where b_t starts; negative, so that at first most of the inputs pass by.

    Shapes:
      params {"recurrence": ..., "kernel": [F, F], "bias": [F]}; the carry is that of the recurrence.

    Raises:
      ValueError: inputs and outputs differ in width.

    References:
      Srivastava, Greff, Schmidhuber, `Highway Networks <https://arxiv.org/abs/1505.00387>`_, 2015, equation 3.
    """

    bias: float = -1.0

    def init(self, key, xs):
        inner, own = jax.random.split(key)
        F = xs.shape[-1]
        kernel = jax.nn.initializers.lecun_normal()(own, (F, F), jnp.float32)
        return {"recurrence": self.recurrence.init(inner, xs), "kernel": kernel, "bias": jnp.full((F,), self.bias)}

    def initial_carry(self, params, batch_shape):
        return self.recurrence.initial_carry(params["recurrence"], batch_shape)

    def restart(self, params, carry, batch_shape):
        return self.recurrence.restart(params["recurrence"], carry, batch_shape)

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        checks.parameters(self, params, xs)
        carry, ys = self.recurrence.apply(params["recurrence"], carry, xs, mask=mask, resets=resets, key=key)
        _same_width(self, xs, ys)
        xs = masks.zero_unless(mask, xs)
        own = cast({"kernel": params["kernel"], "bias": params["bias"]}, xs.dtype)
        t = jax.nn.sigmoid(xs @ own["kernel"] + own["bias"])
        return carry, xs + t * (ys - xs)


def _same_width(owner, xs, ys):
    if ys.shape != xs.shape:
        raise ValueError(
            f"{owner}: outputs have {ys.shape[-1]} features but the inputs they are added to have {xs.shape[-1]}; "
            "make the recurrence as wide as its inputs."
        )
