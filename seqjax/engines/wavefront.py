"""Layers of a grid side by side: while the first reads step d, layer l reads step d - l, so that none waits for another."""

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import masks


def wavefront(layers, carry, us, *, depth, mask=None, resets=None, fresh=None):
    """Runs layers that read each other at every step along the diagonals of time and depth.

    Equal to the layers one after the other at each step, values and gradients, in T + L - 1 rounds instead of T L.

    Args:
      layers: ``(through, carry) -> (through, carry)``, all layers at once, with ``[L, B, ...]`` everywhere: what passes
        through layer l must not depend on another layer.
      carry: the states before the first step, a tree of ``[L, B, ...]``.
      us: what enters the first layer, a tree of ``[T, B, ...]``, shaped and typed as what passes from layer to layer.
      depth: L.
      mask, resets: as for the plain scan.
      fresh: the carry of a sequence that begins, ``[L, B, ...]``; needed with ``resets``.

    Returns:
      ``(carry, through)``: the states after the last step, and what leaves the last layer, a tree of ``[T, B, ...]``.
    """
    steps = len(jax.tree.leaves(us)[0])
    time = jnp.arange(steps + depth - 1)[:, None] - jnp.arange(depth)  # [D, L]: the step at which a layer is
    inside = (time >= 0) & (time < steps)

    def diagonals(flags):
        chosen = flags[jnp.clip(time, 0, steps - 1)]
        return chosen & inside.reshape(inside.shape + (1,) * (flags.ndim - 1))

    valid = inside if mask is None else diagonals(mask)
    reset = None if resets is None else diagonals(resets)
    us = jax.tree.map(lambda u: jnp.concatenate([u, jnp.zeros((depth - 1, *u.shape[1:]), u.dtype)]), us)

    def body(state, inputs):
        through, carry = state
        u, valid, reset = inputs
        through = jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest[:-1]]), u, through)
        start = masks.restart(reset, fresh, carry)
        through, new = layers(through, start)
        return (through, masks.hold(valid, new, start)), jax.tree.map(lambda leaf: leaf[-1], through)

    nothing = jax.tree.map(lambda u: jnp.zeros((depth, *u.shape[1:]), u.dtype), us)
    (_, carry), through = lax.scan(body, (nothing, carry), (us, valid, reset))
    through = jax.tree.map(lambda leaf: leaf[depth - 1 :], through)
    return carry, masks.zero_unless(mask, through)
