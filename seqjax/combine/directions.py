"""From right to left, and both ways."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, masks
from seqjax.combine.wrapper import Wrapper, own
from seqjax.recurrence import Recurrence


@dataclasses.dataclass(frozen=True, repr=False)
class Reverse(Wrapper):
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
    """Two recurrences, one from left to right and one from right to left; outputs side by side, or merged.

    On ragged sequences the backward one starts at each sequence's last valid step, on packed ones anew for each sequence.
    It needs whole sequences: the final states come as :class:`BidirectionalFinal`, which is no carry to go on from.

    Args:
      forward: reads from left to right.
      backward: reads from right to left.
      merge: "concatenate", "sum" or "product" of the outputs of both.

    Shapes:
      params {"forward": ..., "backward": ...}, carry :class:`BidirectionalCarry`, ys [T, B, H_forward + H_backward], or
      [T, B, H] where merged.

    Raises:
      TypeError: a part is not a recurrence.
      ValueError: the final states of a chunk before are given as carry; ``merge`` is none of the above; or outputs to be
        summed or multiplied differ in width.

    References:
      Schuster, Paliwal, `Bidirectional Recurrent Neural Networks <https://doi.org/10.1109/78.650093>`_, 1997.
    """

    forward: Recurrence
    backward: Recurrence
    merge: str = dataclasses.field(default="concatenate", kw_only=True)

    def __post_init__(self):
        checks.one_of(self, "merge", ("concatenate", "sum", "product"))
        own(self, self.forward)
        own(self, self.backward)

    @property
    def causal(self):
        return False

    @property
    def stochastic(self):
        return self.forward.stochastic or self.backward.stochastic

    @property
    def item_axes(self):
        return self.forward.item_axes

    def init(self, key, xs):
        forward_key, backward_key = jax.random.split(key)
        return {"forward": self.forward.init(forward_key, xs), "backward": self.backward.init(backward_key, xs)}

    def initial_carry(self, params, batch_shape):
        return BidirectionalCarry(
            self.forward.initial_carry(params["forward"], batch_shape),
            self.backward.initial_carry(params["backward"], batch_shape),
        )

    def restart(self, params, carry, batch_shape):
        return BidirectionalCarry(
            self.forward.restart(params["forward"], carry.forward, batch_shape),
            self.backward.restart(params["backward"], carry.backward, batch_shape),
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
        return BidirectionalFinal(ahead, back), self._merged(ys, zs)

    def _merged(self, ys, zs):
        if self.merge == "concatenate":
            return jnp.concatenate([ys, zs], axis=-1)
        if ys.shape != zs.shape:
            raise ValueError(f"{self}: outputs of widths {ys.shape[-1]} and {zs.shape[-1]} have no {self.merge}.")
        return ys + zs if self.merge == "sum" else ys * zs
