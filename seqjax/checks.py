"""Bad input meets a clear error, in the caller's frame and before anything is traced."""

import functools
from typing import Any

import jax
import jax.numpy as jnp


def one_of(owner, field, allowed):
    """Refuses a field whose value is none of ``allowed``."""
    value = getattr(owner, field)
    if value not in allowed:
        raise ValueError(f"{type(owner).__name__}: {field} must be one of {', '.join(map(repr, allowed))}; got {value!r}.")


def positive(owner, *fields):
    """Refuses fields that are not positive integers."""
    for field in fields:
        if isinstance(getattr(owner, field), tuple):
            raise ValueError(f"{type(owner).__name__}: {field} must be a positive integer, got {getattr(owner, field)!r}.")
        sizes(owner, field)


def sizes(owner, *fields):
    """Refuses fields that are neither a positive integer nor a tuple of them."""
    for field in fields:
        value = getattr(owner, field)
        for size in value if isinstance(value, tuple) and value else (value,):
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise ValueError(f"{type(owner).__name__}: {field} must be a positive integer, got {value!r}.")


def rate(owner, field):
    """Refuses a dropout rate outside of [0, 1)."""
    in_unit_interval(owner, field, getattr(owner, field))


def in_unit_interval(owner, field, value):
    """Refuses a value of a field that is no share below one."""
    if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise ValueError(f"{type(owner).__name__}: {field} is the share that is dropped, in [0, 1); got {value!r}.")


def floating(owner, *fields):
    """Refuses fields that name no floating dtype, and writes those that do as its name; None stays."""
    for field in fields:
        value = getattr(owner, field)
        if value is None:
            continue
        try:
            dtype = jnp.dtype(value)
        except TypeError:
            dtype = None
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{type(owner).__name__}: {field} must be a floating dtype, got {value!r}.")
        object.__setattr__(owner, field, dtype.name)


def apply(recurrence, params, carry, xs, mask, resets):
    """Checks everything that a recurrence's ``apply`` is given, against what its own ``init`` would make."""
    sequence(recurrence, xs)
    steps(recurrence, "mask", mask, xs)
    steps(recurrence, "resets", resets, xs)
    parameters(recurrence, params, xs)
    state(recurrence, params, carry, xs)


def sequence(recurrence, xs):
    """xs must be floating point, [T, B, F]."""
    if not hasattr(xs, "shape") or not hasattr(xs, "dtype"):
        raise TypeError(f"{recurrence}: xs must be an array [T, B, F], got {type(xs).__name__}.")
    if len(xs.shape) < 1 + recurrence.item_axes:
        axes = {1: "at least two axes, [T, F] or [T, B, F]"}.get(
            recurrence.item_axes, f"a time axis and the {recurrence.item_axes} axes of a step"
        )
        raise ValueError(f"{recurrence}: xs must have {axes}; got shape {xs.shape}.")
    if not jnp.issubdtype(xs.dtype, jnp.inexact):
        raise TypeError(
            f"{recurrence}: xs must be floating point, got {xs.dtype}{list(xs.shape)}; "
            "embed symbols first (flax.nnx.Embed) or cast the values."
        )


def steps(recurrence, name, values, xs):
    """A mask or resets: bool, time-major, one value per step of every sequence."""
    if values is None:
        return
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        raise TypeError(f"{recurrence}: {name} must be a bool array, got {type(values).__name__}.")
    expected = (len(xs), *recurrence.batch_shape(xs))
    if tuple(values.shape) != expected:
        swapped = (expected[1], expected[0], *expected[2:]) if len(expected) > 1 else None
        advice = (
            "transpose it"
            if tuple(values.shape) == swapped
            else f"xs has shape {tuple(xs.shape)}, and {name} has no feature axis"
        )
        raise ValueError(
            f"{recurrence}: {name} has shape {tuple(values.shape)}, expected time-major {expected}; {advice}"
            f"{', or use length_mask(lengths, ' + str(expected[0]) + ')' if name == 'mask' else ''}."
        )
    if values.dtype != jnp.bool_:
        raise TypeError(f"{recurrence}: {name} must be bool, got {values.dtype}; write `{name} != 0`.")


def parameters(recurrence, params, xs):
    """params must have the tree and the shapes that ``init`` gives for these inputs."""
    item = tuple(xs.shape[len(xs.shape) - recurrence.item_axes :])
    expected = _shapes_of_params(recurrence, item)
    _same_names(recurrence, "params", expected, params, "use the params that this recurrence's own init returned")
    for path, want, got in _pairs(expected, params):
        if tuple(want.shape) == tuple(got.shape):
            continue
        if want.ndim == got.ndim and want.shape[1:] == got.shape[1:] and want.shape[0] == xs.shape[-1]:
            raise ValueError(
                f"{recurrence}: xs has {xs.shape[-1]} features but params{path} expects {got.shape[0]}; "
                "init with these inputs or check the layer below."
            )
        raise ValueError(
            f"{recurrence}: params{path} has shape {tuple(got.shape)}, expected {tuple(want.shape)} for inputs of "
            f"{xs.shape[-1]} features; use the params that this recurrence's own init returned."
        )


def state(recurrence, params, carry, xs):
    """carry must have the tree and the shapes of ``initial_carry`` for this batch."""
    batch = recurrence.batch_shape(xs)
    start = jax.eval_shape(lambda p: recurrence.initial_carry(p, batch), params)
    _same_names(recurrence, "carry", start, carry, f"start from initial_carry(params, {batch})")
    expected = jax.eval_shape(lambda p, c: recurrence.restart(p, c, batch), params, carry)
    for path, want, got in _pairs(expected, carry):
        if tuple(want.shape) != tuple(got.shape):
            raise ValueError(
                f"{recurrence}: carry{path} has shape {tuple(got.shape)}, expected {tuple(want.shape)} for a batch of "
                f"{batch}; start from initial_carry(params, {batch}) or keep the batch size of the chunk before."
            )


@functools.lru_cache(maxsize=1024)
def _shapes_of_params(recurrence, item):
    return jax.eval_shape(recurrence.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, *item), jnp.float32))


def _same_names(recurrence, name, expected, given, advice):
    structures: list[Any] = [jax.tree.structure(expected), jax.tree.structure(given)]
    if structures[0] != structures[1]:
        raise ValueError(f"{recurrence}: {name} must be {_names(expected)}, got {_names(given)}; {advice}.")


def _names(tree):
    """A tree in a few words: its type, and the paths of its leaves."""
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return f"{type(tree).__name__}({', '.join(p.lstrip('.') for p in paths)})"


def _pairs(expected, given):
    leaves = jax.tree.leaves(given)
    for (path, want), got in zip(jax.tree_util.tree_leaves_with_path(expected), leaves, strict=True):
        yield jax.tree_util.keystr(path), want, got
