"""Reading: a memory that has been prepared once, and what a query takes of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import masks
from seqjax.precision import at_least_float32, cast


class Memory(NamedTuple):
    """What can be attended to."""

    keys: Any  # [S, ...]: what the score has prepared
    values: jax.Array  # [S, M]: what is read, zero where there is nothing
    mask: jax.Array  # [S]: True where there is something


def remember(score, params, memory, mask=None):
    """Prepares a memory for any number of queries.

    Args:
      score: a :class:`Score`.
      params: its parameters.
      memory: ``[S, M]``, floating point.
      mask: bool ``[S]``, True = there is something to attend to; None for everywhere. What stands elsewhere never enters a
        result nor a gradient, NaN included.

    Returns:
      a :class:`Memory`.

    Raises:
      TypeError: the memory is not floating point, or the mask is not bool.
      ValueError: a shape is wrong.
    """
    if len(memory.shape) != 2:
        raise ValueError(f"remember: expected one memory [S, M], got shape {list(memory.shape)}; use jax.vmap for several.")
    if not jnp.issubdtype(memory.dtype, jnp.floating):
        raise TypeError(f"remember: expected a floating memory, got {memory.dtype}; embed or cast it first.")
    if mask is None:
        mask = jnp.ones(memory.shape[:1], bool)
    if mask.dtype != bool:
        raise TypeError(f"remember: expected a mask of bool, True where there is something, got {mask.dtype}.")
    if mask.shape != memory.shape[:1]:
        raise ValueError(f"remember: expected a mask of shape {list(memory.shape[:1])}, got {list(mask.shape)}.")
    memory = masks.zero_unless(mask, memory)
    return Memory(score.prepare(cast(params, memory.dtype), memory), memory, mask)


def attend(score, params, memory, query, past=None):
    r"""Reads a memory.

    .. math:: w = \mathrm{softmax}_s(a(q, k_s) / \tau), \qquad c = \sum_s w_s v_s

    The softmax runs in float32 at least. Where there is nothing weights are exactly zero, all of them in a memory that is
    empty or masked as a whole, whose context is zero.

    Args:
      score: a :class:`Score`.
      params: its parameters.
      memory: from :func:`remember`.
      query: ``[Q]``; its product with the keys is computed in their dtype.
      past: what a score that looks at earlier weights has seen, ``score.after(past, weights)`` of the query before; None for
        a first query.

    Returns:
      ``(context, weights)``: ``[M]`` in the dtype of the memory, and ``[S]``, which sum to one; ``[K, S]`` with K heads.

    Raises:
      ValueError: the query has another shape than the score was made for.
    """
    if len(query.shape) != 1:
        raise ValueError(f"attend: expected one query [Q], got shape {list(query.shape)}; use jax.vmap for several.")
    dtype = memory.values.dtype
    params = cast(params, dtype)
    past = score.before(memory.mask, at_least_float32(dtype)) if past is None else past
    weights = score.weigh(params, memory.keys, query.astype(dtype), memory.mask, past)
    return score.read(params, memory.keys, memory.values, weights), weights
