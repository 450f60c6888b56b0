"""Linear recurrences in logarithmic depth: h[t] = decay[t] * h[t-1] + drive[t] by a parallel prefix scan."""

import jax.numpy as jnp
from jax import lax

from seqjax import masks


def associative(decay, drive, h, *, mask=None, resets=None, fresh=None):
    """States of a linear recurrence at all steps, by an associative scan.

    Two steps compose to one, ``(a1, b1) then (a2, b2) = (a1 a2, a2 b1 + b2)``; the composition is associative
    (Blelloch 1990, section 1.4). An invalid step is the identity ``(1, 0)``; a reset is the constant ``fresh``.

    Args:
      decay: ``[T, B, ...]``, broadcastable against drive.
      drive: ``[T, B, ...]``.
      h: the state ``[B, ...]`` before the first step.
      mask: bool ``[T, B]``, True = valid.
      resets: bool ``[T, B]``, True = the step starts from ``fresh``.
      fresh: the state of a sequence that begins.

    Returns:
      hs ``[T, B, ...]``, the state after each step.
    """
    decay = jnp.broadcast_to(decay, drive.shape)
    if mask is not None:
        valid = masks.over(mask, drive)
        decay = jnp.where(valid, decay, jnp.ones((), decay.dtype))
        drive = jnp.where(valid, drive, jnp.zeros((), drive.dtype))
    if resets is not None:
        starts = masks.over(resets, drive)
        drive = jnp.where(starts, drive + decay * fresh, drive)
        decay = jnp.where(starts, jnp.zeros((), decay.dtype), decay)
    drive = drive.at[:1].add(decay[:1] * h)
    return lax.associative_scan(_compose, (decay, drive))[1]


def _compose(first, second):
    (a1, b1), (a2, b2) = first, second
    return a1 * a2, a2 * b1 + b2
