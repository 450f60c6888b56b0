"""A part of the steps at a time, so that what is computed for many steps at once stays small."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def largest_divisor(number, most):
    """The largest divisor of ``number`` that is no larger than ``most``, or one."""
    return max(n for n in range(1, max(1, most) + 1) if number % n == 0)


def in_chunks(run, steps, carry, inputs, *, reverse=False):
    """Equal to ``run(carry, inputs) -> (carry, ys)``, done for so many steps after another.

    Args:
      run: continues from the carry that it is given; traced once for whole chunks and once for a shorter last one.
      steps: of a chunk.
      carry: the state before the first chunk.
      inputs: ``[T, ...]``, any tree of arrays; None where there is nothing.
      reverse: whether the last chunk comes first.

    Returns:
      ``(carry, ys)``.
    """
    length = len(jax.tree.leaves(inputs)[0])
    if steps >= length:
        return run(carry, inputs)
    count, rest = divmod(length, steps)
    parts = [(0, count, steps)] + [(length - rest, 1, rest)] * (rest > 0)
    results: list[Any] = []
    for start, many, size in reversed(parts) if reverse else parts:
        chunks = jax.tree.map(lambda x, a=start, m=many, n=size: x[a : a + m * n].reshape(m, n, *x.shape[1:]), inputs)
        carry, ys = lax.scan(run, carry, chunks, reverse=reverse)
        results.append(jax.tree.map(lambda y, n=many * size: y.reshape(n, *y.shape[2:]), ys))
    if reverse:
        results.reverse()
    return carry, results[0] if len(results) == 1 else jax.tree.map(lambda *y: jnp.concatenate(y), *results)


def scan_into(step, carry, inputs, stacks, rows, *, reverse=False):
    """``lax.scan(step, carry, inputs)`` whose results are written into ``rows`` of ``stacks``, which are returned.

    A scan of scans would stack the results of each chunk, and then copy them into those of all. Rows are the same for all
    stacks, or a tree of which each leaf is for a part of them.
    """

    def write(state, now):
        (carry, stacks), (inputs, rows) = state, now
        carry, results = step(carry, inputs)

        def put(row, stacks, results):
            def put_one(stack, result):
                return lax.dynamic_update_index_in_dim(stack, result, row, 0, allow_negative_indices=False)

            return jax.tree.map(put_one, stacks, results)

        return (carry, jax.tree.map(put, rows, stacks, results)), None

    return lax.scan(write, (carry, stacks), (inputs, rows), reverse=reverse)[0]
