"""Convolutional LSTM and GRU (Shi et al. 2015): states that are images, and products that are convolutions."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.cells.gru import interpolate
from seqjax.cells.parts import LSTMCarry, memorize
from seqjax.precision import at_least_float32
from seqjax.recurrence import GatedCell


@dataclasses.dataclass(frozen=True, repr=False)
class _Convolutional(parts.Projecting, GatedCell):
    """What both share: a kernel over the input image, and one over the image of the state."""

    image: tuple[int, int] = dataclasses.field(kw_only=True)
    window: tuple[int, int] = dataclasses.field(default=(3, 3), kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        for field in ("image", "window"):
            if not isinstance(getattr(self, field), tuple) or len(getattr(self, field)) != 2:
                raise ValueError(f"{type(self).__name__}: {field} must be (height, width), got {getattr(self, field)!r}.")
        checks.sizes(self, "image", "window")

    @property
    def item_axes(self):
        return 3

    def project(self, params, xs):
        us = convolve(xs, params["kernel"])
        return us + params["bias"] if self.use_bias else us

    def recur(self, params, carry):
        return convolve(carry.h, params["recurrent_kernel"])

    def convolution_params(self, key, xs, gates):
        """kernel [h, w, C, K*H], recurrent_kernel [h, w, H, K*H], bias [K*H]; gates side by side."""
        if tuple(xs.shape[-3:-1]) != self.image:
            raise ValueError(f"{self}: steps of xs are images of {tuple(xs.shape[-3:-1])}, expected image={self.image}.")
        start, wide = parts.INITIALIZERS[self.kernel_init], at_least_float32(self.param_dtype)
        params = {}
        for name, channels, own in zip(
            ("kernel", "recurrent_kernel"), (xs.shape[-1], self.features), jax.random.split(key), strict=True
        ):
            shape = (*self.window, channels, self.features)
            kernels = [start(k, shape, wide) for k in jax.random.split(own, gates)]
            params[name] = jnp.concatenate(kernels, axis=-1).astype(self.param_dtype)
        if self.use_bias:
            params["bias"] = jnp.zeros((gates * self.features,), self.param_dtype)
        return params

    def zero_image(self, batch_shape):
        """A state of zeros, [B, height, width, H]."""
        return self.zero_state((*batch_shape, *self.image))


@dataclasses.dataclass(frozen=True, repr=False)
class ConvLSTM(_Convolutional):
    r"""Convolutional long short-term memory: an :class:`LSTM` at every pixel, which sees its neighbourhood.

    .. math::
        i &= \sigma(u_i + r_i) \qquad f = \sigma(u_f + r_f) \qquad g = \tanh(u_g + r_g) \qquad o = \sigma(u_o + r_o) \\
        c' &= f \odot c + i \odot g \\
        h' &= o \odot \tanh(c'), \qquad y = h'
        \quad\text{with}\quad u = x * W + b,\; r = h * R

    Args:
      features: H, the channels of the state.
      image: (height, width) of inputs and states.
      window: (height, width) of both kernels; borders are padded with zeros.
      forget_bias: initial value of the forget gate's bias.
      use_bias, kernel_init, param_dtype, state_dtype, engine: as for every cell; ``kernel_init`` holds for both kernels.

    Shapes:
      xs [T, B, height, width, C], carry c and h [B, height, width, H], ys [T, B, height, width, H]; params kernel
      [h, w, C, 4H], recurrent_kernel [h, w, H, 4H], bias [4H]; gates in the order i, f, g, o.

    Raises:
      ValueError: a setting is not one of those named above, or the steps of xs are images of another size.

    The paper has peepholes with a weight for every pixel; Keras ``ConvLSTM2D`` and most others leave them out, as here.
    Keras starts its recurrent kernel orthogonal over its flattened rows, and pads inputs only with ``padding="same"``. Flax
    Linen's ``ConvLSTMCell`` has the gates in the order i, g, f, o, and adds the one to f at every step.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.ConvLSTM(8, image=(6, 5))
      >>> xs = jnp.zeros((5, 2, 6, 5, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> ys.shape
      (5, 2, 6, 5, 8)

    References:
      Shi et al., `Convolutional LSTM Network <https://arxiv.org/abs/1506.04214>`_, 2015, equation 3.
    """

    forget_bias: float = dataclasses.field(default=1.0, kw_only=True)

    def init(self, key, xs):
        params = self.convolution_params(key, xs, gates=4)
        if self.use_bias:
            params["bias"] = params["bias"].at[self.features : 2 * self.features].set(self.forget_bias)
        return params

    def initial_carry(self, params, batch_shape):
        del params
        return LSTMCarry(c=self.zero_image(batch_shape), h=self.zero_image(batch_shape))

    def gate(self, params, carry, u, r):
        del params
        carry = memorize(u + r, carry.c)
        return carry, carry.h


@dataclasses.dataclass(frozen=True, repr=False)
class ConvGRU(_Convolutional):
    r"""Convolutional gated recurrent unit: a :class:`GRU` at every pixel, which sees its neighbourhood.

    .. math::
        s &= \sigma(u_s + r_s) \qquad z = \sigma(u_z + r_z) \qquad n = \tanh(u_n + s \odot r_n) \\
        h' &= (1 - z) \odot n + z \odot h, \qquad y = h'
        \quad\text{with}\quad u = x * W + b,\; r = h * R

    Args:
      features, image, window, use_bias, kernel_init, param_dtype, state_dtype, engine: as for :class:`ConvLSTM`.

    Shapes:
      As for :class:`ConvLSTM`, with three gates in the order reset, update, new, and a carry of h alone.

    Raises:
      ValueError: as :class:`ConvLSTM`.

    Ballas et al. multiply h by the reset gate before the convolution; here it comes after, as in :class:`GRU`, so that a
    step is one convolution.

    Example:
      >>> import seqjax as sj
      >>> sj.ConvGRU(8, image=(6, 5), window=(5, 5))
      ConvGRU(features=8, image=(6, 5), window=(5, 5))

    References:
      Ballas et al., `Delving Deeper into Convolutional Networks for Learning Video Representations
      <https://arxiv.org/abs/1511.06432>`_, 2016, section 3.1.
    """

    def init(self, key, xs):
        return self.convolution_params(key, xs, gates=3)

    def initial_carry(self, params, batch_shape):
        del params
        return parts.HiddenCarry(h=self.zero_image(batch_shape))

    def gate(self, params, carry, u, r):
        del params
        h = interpolate(u, r, carry.h)
        return parts.HiddenCarry(h), h


def convolve(images, kernel):
    """Cross-correlation [..., height, width, C] with [h, w, C, N], borders padded with zeros."""
    flat = images.reshape((-1, *images.shape[-3:]))
    out = jax.lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return out.reshape((*images.shape[:-1], kernel.shape[-1]))
