"""A part of the steps at a time, so that what is computed for many steps at once stays small."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def largest_divisor(number, most):
    """The largest divisor of ``number`` that is no larger than ``most``, or one."""
    return max(n for n in range(1, max(1, most) + 1) if number % n == 0)


def in_chunks(run, steps, carry, inputs):
    """Equal to ``run(carry, inputs) -> (carry, ys)``, done for so many steps after another.

    Args:
      run: continues from the carry that it is given; traced once for whole chunks and once for a shorter last one.
      steps: of a chunk.
      carry: the state before the first step.
      inputs: ``[T, ...]``, any tree of arrays; None where there is nothing.

    Returns:
      ``(carry, ys)``.
    """
    length = len(jax.tree.leaves(inputs)[0])
    count, rest = divmod(length, steps)
    parts: list[Any] = []
    for start, many, size in ((0, count, steps), (length - rest, 1, rest)):
        if many * size or (length == 0 and not parts):
            chunks = jax.tree.map(lambda x, a=start, m=many, n=size: x[a : a + m * n].reshape(m, n, *x.shape[1:]), inputs)
            carry, ys = lax.scan(run, carry, chunks)
            parts.append(jax.tree.map(lambda y, n=many * size: y.reshape(n, *y.shape[2:]), ys))
    return carry, parts[0] if len(parts) == 1 else jax.tree.map(lambda *y: jnp.concatenate(y), *parts)
