"""What the Flax adapters share: Flax's words for a call, batch-major outside and time-major inside."""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks
from seqjax.combine import Reverse
from seqjax.recurrence import Recurrence


def require_recurrence(value):
    """Refuses what an adapter cannot run, and says what to write instead."""
    if isinstance(value, Recurrence):
        return
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, Recurrence):
        advice = f"make one of it first: {kind.__name__}(...)"
    elif kind.__module__.startswith("flax."):
        advice = "Flax's cells run in Flax's own RNN, here give seqjax's, such as seqjax.LSTM(128)"
    else:
        advice = "give a seqjax.Recurrence, such as seqjax.LSTM(128)"
    what = "the class" if isinstance(value, type) else "an object of"
    raise TypeError(f"RNN: expected a recurrence, got {what} {kind.__module__}.{kind.__qualname__}; {advice}.")


def inputs_like(features):
    """What a recurrence's ``init`` reads: the shape of one step of one sequence, a number of features or a whole shape."""
    return jax.ShapeDtypeStruct((1, 1, *np.atleast_1d(features).tolist()), jnp.float32)


def check_sequence(recurrence, xs, time_major):
    """xs must be an array with a time and a feature axis."""
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"RNN({recurrence}): xs must be an array, got {type(xs).__name__}.")
    if len(xs.shape) < 1 + recurrence.item_axes:
        raise ValueError(f"RNN({recurrence}): xs must be {_axes(time_major)}, or [T, F]; got shape {tuple(xs.shape)}.")


def run(
    recurrence, params, xs, *, initial_carry=None, seq_lengths=None, mask=None, resets=None, reverse, time_major, key=None
):
    """Applies a recurrence to sequences in the caller's layout.

    Args:
      recurrence: what runs.
      params: its parameters.
      xs: ``[B, T, F]``, or ``[T, B, F]`` where ``time_major``; zero or more batch axes.
      initial_carry: the state before the first step, None for that of the recurrence.
      seq_lengths: integers ``[B]``, or None.
      mask, resets: bool, ``[B, T]`` in the layout of ``xs``, or None.
      reverse: whether to read from right to left.
      time_major: whether time is the first axis.
      key: a random key, or None for evaluation.

    Returns:
      ``(carry, ys)``, the outputs in the layout of ``xs``.

    Raises:
      ValueError: both ``seq_lengths`` and ``mask`` are given, or a shape does not fit the layout.
      TypeError: ``xs`` is no array.
    """
    check_sequence(recurrence, xs, time_major)
    _check_steps(recurrence, xs, seq_lengths, mask, resets, time_major)
    time_axis = 0 if time_major else xs.ndim - 1 - recurrence.item_axes
    xs, mask, resets = (None if x is None else jnp.moveaxis(jnp.asarray(x), time_axis, 0) for x in (xs, mask, resets))
    if seq_lengths is not None:
        mask = masks.length_mask(seq_lengths, len(xs))
    if initial_carry is None:
        initial_carry = recurrence.initial_carry(params, recurrence.batch_shape(xs))
    if reverse:
        recurrence = Reverse(recurrence)
    carry, ys = recurrence.apply(params, initial_carry, xs, mask=mask, resets=resets, key=key)
    return carry, jax.tree.map(lambda y: jnp.moveaxis(y, 0, time_axis), ys)


def _check_steps(recurrence, xs, seq_lengths, mask, resets, time_major):
    """Shapes are compared before anything is transposed, so that errors speak of what the caller gave."""
    if seq_lengths is not None and mask is not None:
        raise ValueError(f"RNN({recurrence}): seq_lengths and mask both say which steps count; give only one of them.")
    steps = tuple(xs.shape[: xs.ndim - recurrence.item_axes])
    batch = steps[1:] if time_major else steps[:-1]
    came = f"xs of shape {tuple(xs.shape)} is read as {_axes(time_major)}"
    if seq_lengths is not None and jnp.shape(seq_lengths) != batch:
        raise ValueError(
            f"RNN({recurrence}): seq_lengths has shape {jnp.shape(seq_lengths)}, expected {batch}, one length for each "
            f"sequence; {came}."
        )
    for name, values in (("mask", mask), ("resets", resets)):
        if values is not None and jnp.shape(values) != steps:
            raise ValueError(
                f"RNN({recurrence}): {name} has shape {jnp.shape(values)}, expected {steps}, one value for each step in the "
                f"layout of xs; {came}."
            )


def _axes(time_major):
    return "time-major [T, B, F]" if time_major else "batch-major [B, T, F]"
