"""Layers on top of each other."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.combine.noise import Dropout
from seqjax.combine.wrapper import outputs_of, own
from seqjax.recurrence import Recurrence


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Stack(Recurrence):
    """Layers on top of each other: the outputs of one are the inputs of the next.

    Args:
      *layers: recurrences, the first one reads the inputs.
      dropout: share of the outputs between layers that is dropped, at every step anew; not before the first layer and
        not after the last, as in PyTorch. Use :class:`Dropout` around a layer for anything else.
      skip: whether every layer above the first reads the inputs of the stack beside the outputs below, and the outputs of
        all layers are given side by side (Graves 2013, section 2). For residual connections put :class:`Residual` around
        layers.

    Shapes:
      params {"0": ..., "1": ...}, carry a tuple, both layer by layer; ys [T, B, H] of the last layer, of all where ``skip``.

    Raises:
      TypeError: a layer is not a recurrence.
      ValueError: no layers, or a rate outside of [0, 1).

    Example:
      >>> import seqjax as sj
      >>> sj.Stack(sj.LSTM(8), sj.LSTM(8), dropout=0.2)
      Stack(LSTM(features=8), LSTM(features=8), dropout=0.2)
    """

    layers: tuple[Recurrence, ...]
    dropout: float
    skip: bool

    def __init__(self, *layers, dropout=0.0, skip=False):
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "dropout", dropout)
        object.__setattr__(self, "skip", bool(skip))
        if not layers:
            raise ValueError("Stack: needs at least one layer.")
        for layer in layers:
            own(self, layer)
        checks.rate(self, "dropout")

    def __repr__(self):
        dropout = f", dropout={self.dropout!r}" if self.dropout else ""
        return f"Stack({', '.join(map(repr, self.layers))}{dropout}{', skip=True' if self.skip else ''})"

    def __reduce__(self):
        return _stack, (self.layers, self.dropout, self.skip)

    @property
    def causal(self):
        return all(layer.causal for layer in self.layers)

    @property
    def stochastic(self):
        return any(layer.stochastic for layer in self._dropped())

    @property
    def item_axes(self):
        return self.layers[0].item_axes

    def _dropped(self):
        """The layers, all but the first behind dropout."""
        if not self.dropout:
            return self.layers
        return (self.layers[0], *(Dropout(layer, self.dropout) for layer in self.layers[1:]))

    def init(self, key, xs):
        params, below = {}, xs
        for i, layer in enumerate(self.layers):
            params[str(i)] = layer.init(jax.random.fold_in(key, i), below)
            if i + 1 < len(self.layers):
                ys = outputs_of(layer, params[str(i)], below)
                below = jax.ShapeDtypeStruct((*ys.shape[:-1], xs.shape[-1] + ys.shape[-1]), ys.dtype) if self.skip else ys
        return params

    def initial_carry(self, params, batch_shape):
        return tuple(layer.initial_carry(params[str(i)], batch_shape) for i, layer in enumerate(self.layers))

    def restart(self, params, carry, batch_shape):
        return tuple(layer.restart(params[str(i)], carry[i], batch_shape) for i, layer in enumerate(self.layers))

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        checks.parameters(self, params, xs)
        if not isinstance(carry, tuple) or len(carry) != len(self.layers):
            got = f"one of {len(carry)}" if isinstance(carry, tuple) else type(carry).__name__
            count = len(self.layers)
            raise ValueError(f"{self}: carry must be a tuple with one entry for each of {count} layers, got {got}.")
        carries, outputs, below = [], [], xs
        for i, layer in enumerate(self._dropped()):
            layer_key = None if key is None else jax.random.fold_in(key, i)
            new, ys = layer.apply(params[str(i)], carry[i], below, mask=mask, resets=resets, key=layer_key)
            carries.append(new)
            outputs.append(ys)
            below = jnp.concatenate([masks.zero_unless(mask, xs), ys], axis=-1) if self.skip else ys
        return tuple(carries), jnp.concatenate(outputs, axis=-1) if self.skip else ys


def _stack(layers, dropout, skip):
    return Stack(*layers, dropout=dropout, skip=skip)
