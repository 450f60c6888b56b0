"""Which steps count: lengths, masks, resets, and how a state is held where nothing happens."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def length_mask(lengths, steps):
    """Marks the first ``lengths[b]`` of ``steps`` steps as valid.

    Args:
      lengths: integers ``[B]`` (any number of batch axes), each in ``0..steps``.
      steps: T, the padded number of steps.

    Returns:
      bool ``[T, B]``, True where the step is valid.

    Raises:
      TypeError: lengths are not integers.
      ValueError: a length is negative or beyond ``steps`` (checked when the values are known, that is outside of ``jit``).
    """
    known = None if isinstance(lengths, jax.core.Tracer) else np.asarray(lengths)
    dtype = lengths.dtype if known is None else known.dtype
    if not jnp.issubdtype(dtype, jnp.integer):
        raise TypeError(f"length_mask: lengths must be integers, got dtype {dtype}.")
    if known is not None and known.size and (known.min() < 0 or known.max() > steps):
        raise ValueError(
            f"length_mask: lengths must lie in 0..{steps} (the number of steps), got {known.min()}..{known.max()}; "
            "clip the lengths or pad the sequences further."
        )
    lengths = jnp.asarray(lengths)
    positions = jnp.arange(steps).reshape((steps,) + (1,) * lengths.ndim)
    return positions < lengths.astype(positions.dtype)


def over(mask, leaf):
    """Appends axes to ``mask [...]`` until it broadcasts over ``leaf [..., features]``."""
    return mask.reshape(mask.shape + (1,) * (leaf.ndim - mask.ndim))


def hold(valid, new, old):
    """Takes ``new`` where ``valid``, keeps ``old`` elsewhere, leaf by leaf.

    A leaf that the step passed through untouched stays the very same object, so that JAX can see it as loop-invariant.
    ``valid=None`` means that every step counts.
    """
    if valid is None:
        return new
    return jax.tree.map(lambda n, o: o if n is o else jnp.where(over(valid, n), n, o), new, old)


def restart(reset, fresh, carry):
    """The carry from which a step starts: ``fresh`` where ``reset``, else ``carry``. ``reset=None`` means nowhere."""
    return carry if reset is None else hold(reset, fresh, carry)


def held(valid, reset, fresh, made):
    """``[1 + T, ...]``: a state in a loop that holds and restarts it, from the first one and what each step made of it.

    Steps that do not count may have made anything finite.
    """
    if valid is None:
        return made
    steps = over(jnp.arange(1, len(made)), valid)

    def last(here):
        latest = lax.cummax(jnp.where(here, steps, 0), axis=0)
        return jnp.concatenate([jnp.zeros_like(latest[:1]), latest])

    done = last(valid)
    state = jnp.take_along_axis(made, over(done, made), axis=0)
    return state if reset is None else jnp.where(over(last(reset) > done, made), fresh[None], state)


def zero_unless(valid, tree):
    """Zeros where a step is invalid; the gradient there is exactly zero too, whatever the values are, NaN included."""
    if valid is None:
        return tree
    return jax.tree.map(lambda x: jnp.where(over(valid, x), x, jnp.zeros((), x.dtype)), tree)


def reverse_resets(resets):
    """The resets of the sequence read from right to left: before step t where step t + 1 began a new sequence."""
    if resets is None:
        return None
    later = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
    return jnp.flip(later, 0)
