"""The largest of many numbers, such as the likeliest of all symbols."""

import jax.numpy as jnp
from jax import lax

FEW = 256  # numbers for each that is wanted; of fewer a plain search takes no longer
_BLOCK = 16  # numbers; 32 and more take 1.3 to 10 times as long


def largest(x, count):
    """``lax.top_k(x, count)``: the largest numbers along the last axis, and where they are; of equal ones the first.

    All lie in the ``count`` blocks of the largest maxima, as each of these blocks holds one of them. XLA on a CPU vectorizes
    maxima but no search: to write with 4,000 symbols takes 0.74 to 0.98 of the time that it takes with a search for each.
    """
    size = x.shape[-1]
    if size < FEW * count:
        return lax.top_k(x, count)
    padding = [(0, 0)] * (x.ndim - 1) + [(0, -size % _BLOCK)]
    blocks = jnp.pad(x, padding, constant_values=-jnp.inf).reshape(*x.shape[:-1], -1, _BLOCK)
    _, which = lax.top_k(blocks.max(axis=-1), count)
    which = jnp.sort(which, axis=-1)  # so that of equal numbers the first still comes first
    inside = jnp.take_along_axis(blocks, which[..., None], axis=-2).reshape(*x.shape[:-1], -1)
    values, place = lax.top_k(inside, count)
    return values, _BLOCK * jnp.take_along_axis(which, place // _BLOCK, axis=-1) + place % _BLOCK
