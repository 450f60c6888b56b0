"""What may be said next: the form that an answer has, whatever it says.

Position i + 1 is point i. Position 0 opens an answer and ends one. Models are trained with these rules
and used with them.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Said(NamedTuple):
    """What the rules have to remember of what was said."""

    there: jax.Array  # bool [B, S], the points
    visited: jax.Array  # bool [B, S]
    first: jax.Array  # int32 [B]
    last: jax.Array  # int32 [B]
    number: jax.Array  # int32 [B], points said, -1 before the answer is opened
    over: jax.Array  # bool [B]


def before(counts, width):
    """Before an answer is opened: numbers of points ``[B]``, in arrays that hold ``width`` of them."""
    positions, nothing = jnp.arange(width + 1), jnp.zeros(counts.shape, jnp.int32)
    there = (positions > 0) & (positions <= counts[:, None])
    return Said(there, jnp.zeros_like(there), nothing, nothing, nothing - 1, jnp.zeros(counts.shape, bool))


def say(ending, said, position):
    """After one more position ``[B]``. What is said after the end does not matter."""
    position = position.astype(jnp.int32)
    visited = said.visited | (jnp.arange(said.there.shape[-1]) == position[:, None])
    over = {
        "stop": (position == 0) & (said.number > 0),
        "return": (position == said.first) & (said.number > 0),
        "all": (visited | ~said.there).all(-1),
    }[ending]
    first = jnp.where(said.number == 0, position, said.first)
    return Said(said.there, visited, first, position, said.number + 1, said.over | over)


def allowed(ending, said):
    """Which positions may follow: bool ``[B, S]``, never none, and 0 alone when it is over.

    "return" is a polygon: no point twice, but after three of them the first again, which ends it. "all" is a trip: no point
    twice. "stop" is a list of triangles: indices grow within each, and after each the list may end.
    """
    positions = jnp.arange(said.there.shape[-1])
    if ending == "stop":
        place = said.number[:, None] % 3
        room = said.there.sum(-1, keepdims=True, dtype=jnp.int32) - 2 + place  # two more have to follow the first
        may = said.there & ((place == 0) | (positions > said.last[:, None])) & (positions <= room)
        may = may | ((positions == 0) & (place == 0) & (said.number[:, None] > 0))
    else:
        may = said.there & ~said.visited
        if ending == "return":
            may = may | ((positions == said.first[:, None]) & (said.number[:, None] > 2))
    return jnp.where(said.over[:, None], positions == 0, may)


def along(ending, counts, width, inputs):
    """Which positions may follow each of ``inputs [T, B]``, 0 and then an answer: bool ``[T, B, S]``."""

    def step(said, position):
        said = say(ending, said, position)
        return said, allowed(ending, said)

    return jax.lax.scan(step, before(counts, width), inputs)[1]
