"""Recurrences made of recurrences: stacks, both directions, residual connections, dropout.

They work layer by layer on whole sequences, so that every projection stays one product, and pass masks and resets on.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.recurrence import Recurrence


@dataclasses.dataclass(frozen=True, repr=False, init=False)
class Stack(Recurrence):
    """Layers on top of each other: the outputs of one are the inputs of the next.

    Args:
      *layers: recurrences, the first one reads the inputs.
      dropout: share of the outputs between layers that is dropped, at every step anew; not before the first layer and
        not after the last, as in PyTorch. Use :class:`Dropout` around a layer for anything else.

    Shapes:
      params {"0": ..., "1": ...}, carry a tuple, both layer by layer; ys [T, B, H] of the last layer.

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

    def __init__(self, *layers, dropout=0.0):
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "dropout", dropout)
        if not layers:
            raise ValueError("Stack: needs at least one layer.")
        for layer in layers:
            _own(self, layer)
        checks.rate(self, "dropout")

    def __repr__(self):
        dropout = f", dropout={self.dropout!r}" if self.dropout else ""
        return f"Stack({', '.join(map(repr, self.layers))}{dropout})"

    def __reduce__(self):
        return _stack, (self.layers, self.dropout)

    @property
    def causal(self):
        return all(layer.causal for layer in self.layers)

    @property
    def stochastic(self):
        return any(layer.stochastic for layer in self._dropped())

    def _dropped(self):
        """The layers, all but the first behind dropout."""
        if not self.dropout:
            return self.layers
        return (self.layers[0], *(Dropout(layer, self.dropout) for layer in self.layers[1:]))

    def init(self, key, xs):
        params = {}
        for i, layer in enumerate(self.layers):
            params[str(i)] = layer.init(jax.random.fold_in(key, i), xs)
            if i + 1 < len(self.layers):
                xs = _outputs(layer, params[str(i)], xs)
        return params

    def initial_carry(self, params, batch_shape):
        return tuple(layer.initial_carry(params[str(i)], batch_shape) for i, layer in enumerate(self.layers))

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        checks.parameters(self, params, xs)
        if not isinstance(carry, tuple) or len(carry) != len(self.layers):
            got = f"one of {len(carry)}" if isinstance(carry, tuple) else type(carry).__name__
            count = len(self.layers)
            raise ValueError(f"{self}: carry must be a tuple with one entry for each of {count} layers, got {got}.")
        carries = []
        for i, layer in enumerate(self._dropped()):
            layer_key = None if key is None else jax.random.fold_in(key, i)
            new, xs = layer.apply(params[str(i)], carry[i], xs, mask=mask, resets=resets, key=layer_key)
            carries.append(new)
        return tuple(carries), xs


def _stack(layers, dropout):
    return Stack(*layers, dropout=dropout)


class BidirectionalCarry(NamedTuple):
    """States from which the two directions start."""

    forward: Any
    backward: Any


class BidirectionalFinal(NamedTuple):
    """States in which the two directions ended: forward after the last step, backward after the first."""

    forward: Any
    backward: Any


@dataclasses.dataclass(frozen=True, repr=False)
class Bidirectional(Recurrence):
    """Two recurrences, one from left to right and one from right to left; outputs side by side.

    On ragged sequences the backward one starts at each sequence's last valid step, on packed ones anew for each sequence.
    It needs whole sequences: the final states come as :class:`BidirectionalFinal`, which is no carry to go on from.

    Args:
      forward: reads from left to right.
      backward: reads from right to left.

    Shapes:
      params {"forward": ..., "backward": ...}, carry :class:`BidirectionalCarry`, ys [T, B, H_forward + H_backward].

    Raises:
      TypeError: a part is not a recurrence.
      ValueError: the final states of a chunk before are given as carry.

    References:
      Schuster, Paliwal, `Bidirectional Recurrent Neural Networks <https://doi.org/10.1109/78.650093>`_, 1997.
    """

    forward: Recurrence
    backward: Recurrence

    def __post_init__(self):
        _own(self, self.forward)
        _own(self, self.backward)

    @property
    def causal(self):
        return False

    @property
    def stochastic(self):
        return self.forward.stochastic or self.backward.stochastic

    def init(self, key, xs):
        forward_key, backward_key = jax.random.split(key)
        return {"forward": self.forward.init(forward_key, xs), "backward": self.backward.init(backward_key, xs)}

    def initial_carry(self, params, batch_shape):
        return BidirectionalCarry(
            self.forward.initial_carry(params["forward"], batch_shape),
            self.backward.initial_carry(params["backward"], batch_shape),
        )

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        if isinstance(carry, BidirectionalFinal):
            raise ValueError(
                f"{self}: needs whole sequences; the final states of another chunk were given as carry. "
                "Start from initial_carry, or use causal recurrences only where chunks follow one another."
            )
        checks.apply(self, params, carry, xs, mask, resets)
        keys = (None, None) if key is None else jax.random.split(key)
        ahead, ys = self.forward.apply(params["forward"], carry.forward, xs, mask=mask, resets=resets, key=keys[0])
        back, zs = Reverse(self.backward).apply(
            params["backward"], carry.backward, xs, mask=mask, resets=resets, key=keys[1]
        )
        return BidirectionalFinal(ahead, back), jnp.concatenate([ys, zs], axis=-1)


@dataclasses.dataclass(frozen=True, repr=False)
class _Wrapper(Recurrence):
    """A recurrence around another, with its parameters and its carry."""

    recurrence: Recurrence

    def __post_init__(self):
        _own(self, self.recurrence)

    @property
    def causal(self):
        return self.recurrence.causal

    @property
    def stochastic(self):
        return self.recurrence.stochastic

    def init(self, key, xs):
        return self.recurrence.init(key, xs)

    def initial_carry(self, params, batch_shape):
        return self.recurrence.initial_carry(params, batch_shape)


@dataclasses.dataclass(frozen=True, repr=False)
class Reverse(_Wrapper):
    """Reads from right to left; output t is the output at step t.

    The state ends after the first step. Padding holds the state, so a ragged sequence starts at its last valid step.

    Args:
      recurrence: what reads. Its parameters and carry are those of the whole.
    """

    @property
    def causal(self):
        return False

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        mask = None if mask is None else jnp.flip(mask, 0)
        resets = masks.reverse_resets(resets)
        carry, ys = self.recurrence.apply(params, carry, jnp.flip(xs, 0), mask=mask, resets=resets, key=key)
        return carry, jax.tree.map(lambda y: jnp.flip(y, 0), ys)


@dataclasses.dataclass(frozen=True, repr=False)
class Residual(_Wrapper):
    """Adds the inputs to the outputs: ``ys = xs + recurrence(xs)``.

    Args:
      recurrence: what is added; its outputs must be as wide as its inputs. Its parameters and carry are those of the whole.

    Raises:
      ValueError: inputs and outputs differ in width.
    """

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        carry, ys = self.recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)
        if ys.shape != xs.shape:
            raise ValueError(
                f"{self}: outputs have {ys.shape[-1]} features but the inputs they are added to have {xs.shape[-1]}; "
                "make the recurrence as wide as its inputs."
            )
        return carry, masks.zero_unless(mask, xs) + ys


@dataclasses.dataclass(frozen=True, repr=False)
class Dropout(_Wrapper):
    """Drops inputs of a recurrence at random, and scales those that stay by 1 / (1 - rate).

    Args:
      recurrence: what reads the inputs. Its parameters and carry are those of the whole.
      rate: share of the inputs that is dropped.
      locked: one draw for all steps of a sequence (Gal and Ghahramani 2016), instead of one for each step. Under truncated
        backpropagation a draw holds for one chunk.

    ``key=None`` means evaluation: nothing is dropped.

    Raises:
      ValueError: a rate outside of [0, 1).

    References:
      Gal, Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural Networks
      <https://arxiv.org/abs/1512.05287>`_, 2016.
    """

    rate: float = 0.5
    locked: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.rate(self, "rate")

    @property
    def stochastic(self):
        return self.rate > 0 or self.recurrence.stochastic

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        if key is not None:
            key, own = jax.random.split(key)
            shape = xs.shape[1:] if self.locked else xs.shape
            # Without the barrier XLA on a CPU draws again wherever the mask is used.
            kept = jax.lax.optimization_barrier(jax.random.bernoulli(own, 1 - self.rate, shape))
            xs = jnp.where(kept, xs / (1 - self.rate), jnp.zeros((), xs.dtype))
        return self.recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)


def _own(owner, part):
    if not isinstance(part, Recurrence):
        raise TypeError(f"{type(owner).__name__}: expected a recurrence such as LSTM(128), got {part!r}.")


def _outputs(layer, params, xs):
    """Shape and dtype of what a layer makes of inputs, without computing it."""
    xs = jax.ShapeDtypeStruct((1, *xs.shape[1:]), jnp.float32)
    return jax.eval_shape(lambda p, x: layer.apply(p, layer.initial_carry(p, x.shape[1:-1]), x)[1], params, xs)
