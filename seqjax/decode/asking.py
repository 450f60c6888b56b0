"""Bad input meets a clear error, in the caller's frame and before the loop is traced."""

import operator

import jax
import jax.numpy as jnp
import numpy as np


def whole_number(name, field, value, low, high=None):
    """Refuses what is no whole number from ``low`` to ``high``."""
    bounds = f"at least {low}" if high is None else f"from {low} to {high}"
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"{name}: {field} must be a whole number, {bounds}; got {value!r}.")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name}: {field} must be {bounds}, got {value}.")


def at_least_zero(name, field, value, meaning):
    """Refuses what is no finite number of at least zero."""
    if not 0 <= value < float("inf"):  # not a number is neither
        raise ValueError(f"{name}: {field} must be at least 0 ({meaning}), got {value}.")


def draws(temperature, top_k, top_p, min_p, name="sample"):
    """Refuses settings of draws that are out of their range."""
    at_least_zero(name, "temperature", temperature, "0 takes the likeliest symbol")
    if top_k is not None and top_k < 1:
        raise ValueError(f"{name}: top_k must be at least 1, or None for all symbols; got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"{name}: top_p must be in (0, 1], got {top_p}.")
    if min_p is not None and not 0 <= min_p <= 1:
        raise ValueError(f"{name}: min_p must be in [0, 1], got {min_p}.")


def tokens(name, field, values, axes):
    """Refuses what is not an array of integers with these axes."""
    dtype = getattr(values, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer) or len(values.shape) != len(axes) or 0 in values.shape:
        got = type(values).__name__ if dtype is None else f"{dtype}{list(values.shape)}"
        raise ValueError(f"{name}: {field} must be integers [{', '.join(axes)}], none of these axes empty; got {got}.")


def room(name, dtype, symbols):
    """Refuses integers that are too narrow for the vocabulary: symbols would wrap around."""
    if jnp.iinfo(dtype).max < symbols - 1:
        raise ValueError(f"{name}: tokens of dtype {dtype} cannot hold {symbols} symbols; give them as int32.")


def stops(name, stop):
    """One token or several, as a tuple."""
    values = () if stop is None else tuple(np.atleast_1d(np.asarray(stop)).tolist())
    if not all(isinstance(value, int) for value in values):
        raise ValueError(f"{name}: stop must be a token or several, whole numbers; got {stop!r}.")
    return values


def symbols_of(name, field, values, symbols):
    """Refuses tokens that are outside of the vocabulary."""
    for value in values:
        if not 0 <= operator.index(value) < symbols:
            raise ValueError(
                f"{name}: {field} {value} is outside of the vocabulary, whose {symbols} symbols are 0 to {symbols - 1}."
            )


def prefix(name, values, mask, batch, length, symbols, stop):
    """Refuses forced symbols that do not fit, and a mask of another shape."""
    if values is None:
        if mask is not None:
            raise ValueError(f"{name}: prefix_mask says which symbols of a prefix count, but there is no prefix.")
        return
    tokens(name, "prefix", values, ("P", "B"))
    if values.shape[1] != batch or len(values) > length:
        raise ValueError(
            f"{name}: prefix must be time-major, [P, {batch}], with P at most {length}, the length; "
            f"got {list(values.shape)}."
        )
    if mask is not None and (tuple(getattr(mask, "shape", ())) != tuple(values.shape) or mask.dtype != bool):
        got = f"{mask.dtype}{list(mask.shape)}" if hasattr(mask, "dtype") else type(mask).__name__
        raise ValueError(
            f"{name}: prefix_mask must be bool {list(values.shape)}, True = forced, as length_mask makes it; got {got}."
        )
    if isinstance(values, jax.core.Tracer) or isinstance(mask, jax.core.Tracer):
        return
    used = np.unique(np.asarray(values)[... if mask is None else np.asarray(mask)])
    symbols_of(name, "prefix holds", used.tolist(), symbols)
    if ended := set(used.tolist()) & set(stop):
        raise ValueError(
            f"{name}: prefix holds the stop token {min(ended)}; mark what comes after a prefix as False in prefix_mask."
        )


def batched(name, carry, moving, batch):
    """Refuses leaves that a step changes and that have no batch axis in front."""
    for (path, leaf), moves in zip(jax.tree_util.tree_leaves_with_path(carry), moving, strict=True):
        if moves and leaf.shape[:1] != (batch,):
            raise ValueError(
                f"{name}: carry{jax.tree_util.keystr(path)} changes at every step, so that each sequence needs its own: "
                f"expected [{batch}, ...], got {list(leaf.shape)}; broadcast it over the batch."
            )
