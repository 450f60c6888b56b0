"""What recurrences made of recurrences share."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax.recurrence import Recurrence


@dataclasses.dataclass(frozen=True, repr=False)
class Wrapper(Recurrence):
    """A recurrence around another, with its parameters and its carry."""

    recurrence: Recurrence

    def __post_init__(self):
        own(self, self.recurrence)

    @property
    def causal(self):
        return self.recurrence.causal

    @property
    def stochastic(self):
        return self.recurrence.stochastic

    @property
    def item_axes(self):
        return self.recurrence.item_axes

    def init(self, key, xs):
        return self.recurrence.init(key, xs)

    def initial_carry(self, params, batch_shape):
        return self.recurrence.initial_carry(params, batch_shape)

    def restart(self, params, carry, batch_shape):
        return self.recurrence.restart(params, carry, batch_shape)


def own(owner, part):
    if not isinstance(part, Recurrence):
        raise TypeError(f"{type(owner).__name__}: expected a recurrence such as LSTM(128), got {part!r}.")


def only_state(owner, part):
    """Refuses a cell that has more in its carry than a state: what is done to every leaf would be done to a memory."""
    if hasattr(part, "memory_features"):
        raise TypeError(
            f"{type(owner).__name__}: the carry of {part!r} holds a memory beside the state; "
            "it works on cells that read none, such as LSTM(128)."
        )


def outputs_of(layer, params, xs):
    """Shape and dtype of what a layer makes of inputs, without computing it."""
    xs = jax.ShapeDtypeStruct((1, *xs.shape[1:]), jnp.float32)
    return jax.eval_shape(lambda p, x: layer.apply(p, layer.initial_carry(p, layer.batch_shape(x)), x)[1], params, xs)
