"""A state to start from that is learnt."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from seqjax.combine.wrapper import Wrapper, only_state
from seqjax.recurrence import Restarting


@dataclasses.dataclass(frozen=True, repr=False)
class LearntCarry(Wrapper, Restarting):
    """Makes the initial carry of a recurrence a parameter, one for all sequences. Resets start from it too.

    Args:
      recurrence: a :class:`Cell`, or :class:`Zoneout` of one, whose carry is learnt; it starts where the recurrence itself
        would. Integer fields stay as they are.

    Shapes:
      params {"recurrence": ..., "start": {"c": [H], "h": [H]}}, a leaf for each field of the carry by its path; the carry is
      that of the recurrence.

    Under truncated backpropagation gradients reach it from the first chunk of a sequence, and from resets.

    Raises:
      TypeError: what is inside is neither, or reads a memory.

    References:
      Forcada, Carrasco, `Learning the Initial State of a Second-Order Recurrent Neural Network during Regular-Language
      Inference <https://doi.org/10.1162/neco.1995.7.5.923>`_, 1995.
    """

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.recurrence, Restarting) or isinstance(self.recurrence, LearntCarry):
            raise TypeError(f"LearntCarry: works on a cell, got {self.recurrence!r}; put it around each cell.")
        only_state(self, self.recurrence)

    def init(self, key, xs):
        params = self.recurrence.init(key, xs)
        carry = self.recurrence.initial_carry(params, ())
        leaves = jax.tree_util.tree_leaves_with_path(carry)
        return {"recurrence": params, "start": {_name(path): leaf for path, leaf in leaves if _is_real(leaf)}}

    def initial_carry(self, params, batch_shape):
        carry = self.recurrence.initial_carry(params["recurrence"], batch_shape)

        def start(path, leaf):
            return jnp.broadcast_to(params["start"][_name(path)], leaf.shape) if _is_real(leaf) else leaf

        return jax.tree_util.tree_map_with_path(start, carry)

    def restart(self, params, carry, batch_shape):
        return Restarting.restart(self, params, carry, batch_shape)

    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        cell: Any = self.recurrence
        return cell._apply(params["recurrence"], carry, xs, fresh, mask, resets, key)


def _name(path):
    """A leaf's path in a few letters, such as ``c``."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_real(leaf):
    return jnp.issubdtype(leaf.dtype, jnp.inexact)
