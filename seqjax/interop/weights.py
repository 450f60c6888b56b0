"""What the converters share: one check that names all that is wrong, cells from what was found, biases."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import checks
from seqjax.cells import GRU, LSTM, ConvLSTM, Elman, TiedGRU

# What every framework can express, or what changes nothing in what a cell computes from its parameters.
_FREE = {"features", "use_bias", "recurrent_bias", "param_dtype", "state_dtype", "engine"}
_STARTS = {"kernel_init", "recurrent_init", "forget_bias", "update_bias", "chrono"}


def to_numpy(tensor):
    """A tensor of any framework in host memory, bfloat16 too, which PyTorch does not give to NumPy."""
    if not hasattr(tensor, "detach"):
        return np.asarray(tensor)
    tensor = tensor.detach().cpu()
    return tensor.float().numpy().astype(jnp.bfloat16) if str(tensor.dtype) == "torch.bfloat16" else tensor.numpy()


def problems(expected, given):
    """A line for each tensor that is missing, unknown or of another shape.

    Args:
      expected: shapes by name; a letter for a size that is not known.
      given: arrays by name.
    """
    lines = [f"{name}: missing, expected shape {_shape(expected[name])}" for name in expected if name not in given]
    for name, tensor in given.items():
        if name not in expected:
            lines.append(f"{name}: unknown, of shape {_shape(tensor.shape)}")
        elif not _fits(expected[name], tensor.shape):
            lines.append(f"{name}: expected shape {_shape(expected[name])}, got {_shape(tensor.shape)}")
    return lines


def accept(owner, expected, given, param_dtype, advice):
    """The dtype that params will have, where nothing is wrong.

    Raises:
      ValueError: with all that is wrong, line by line: names, shapes, dtypes.
    """
    lines = problems(expected, given)
    floating = {name: t.dtype for name, t in given.items() if jnp.issubdtype(t.dtype, jnp.floating)}
    lines += [f"{n}: expected a floating dtype, got {t.dtype}" for n, t in given.items() if n not in floating]
    first = next(iter(floating), None)
    dtype = jnp.dtype(param_dtype or floating.get(first, "float32"))
    if param_dtype is None:
        others = [name for name in floating if floating[name] != dtype]
        lines += [f"{n}: expected {dtype} as in {first}, got {floating[n]}; choose with param_dtype" for n in others]
    if dtype == jnp.float64 and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        lines.append('JAX has no float64 yet: jax.config.update("jax_enable_x64", True), or give param_dtype="float32"')
    refuse(owner, lines, advice)
    return dtype.name


def refuse(owner, lines, advice):
    """Raises one ``ValueError`` with all lines, if there are any."""
    if lines:
        count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise ValueError("\n  ".join([f"{owner}: {count}.", *lines, advice]))


def activation(owner, kind, asked, said, name="activation"):
    """What a cell applies: the caller's word or the module's own; arrays alone do not tell."""
    if None not in (asked, said) and asked != said:
        raise ValueError(f"{owner}: {name} must be {said!r}, as in the module, or be left out; got {asked!r}.")
    found = said if asked is None else asked
    if found is None and kind is Elman:
        raise ValueError(f'{owner}: arrays do not tell one nonlinearity from another; say {name}="tanh" or {name}="relu".')
    return found or "tanh"


def images(owner, kind, asked, said, window):
    """The settings of a convolutional cell, none of another: arrays tell its window, the caller or the layer its images."""
    if kind is not ConvLSTM:
        if asked is not None:
            raise ValueError(f"{owner}: a {kind.__name__} reads no images; leave out image={asked!r}.")
        return {}
    if None not in (asked, said) and asked != said:
        raise ValueError(f"{owner}: image must be {said!r}, as in the layer, or be left out; got {asked!r}.")
    if asked is None and said is None:
        raise ValueError(f"{owner}: arrays do not tell the size of images; say image=(height, width).")
    return {"image": said if asked is None else asked, "window": window}


def cell(owner, kind, features, activation, **settings):
    """A cell, with the activation where its kind has one to choose."""
    if kind is Elman:
        return kind(features, activation=activation, **settings)
    if kind is LSTM:
        return kind(features, activation=activation, output_activation=activation, **settings)
    if activation != "tanh":
        raise ValueError(f"{owner}: the new gate of a {kind.__name__} is a tanh; got activation {activation!r}.")
    return kind(features, **settings)


def unlike(part, kinds):
    """Lines, one or none, that say why a framework has no such cell.

    Args:
      part: a recurrence.
      kinds: by class, the names of the settings that the framework can express besides width and biases.
    """
    if type(part) not in kinds:
        return [f"{part}: expected {', '.join(kind.__name__ for kind in kinds)}"]
    allowed = _FREE | _STARTS | kinds[type(part)]
    wrong = [f.name for f in dataclasses.fields(part) if f.name not in allowed and getattr(part, f.name) != f.default]
    if wrong:
        return [f"{part}: expected the default of {', '.join(wrong)}"]
    if isinstance(part, LSTM) and part.activation != part.output_activation:
        return [f"{part}: expected one activation for both of its tanh"]
    return []


def check_params(recurrence, params):
    """Refuses params that are not those of the recurrence."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf.shape for path, leaf in leaves if path and jax.tree_util.keystr(path[-1:], simple=True) == "kernel"]
    width = next((shape[-2] for shape in kernels if len(shape) > 1), 1)
    image = getattr(getattr(recurrence, "forward", recurrence), "image", ())
    checks.parameters(recurrence, params, jax.ShapeDtypeStruct((1, 1, *image, width), jnp.float32))


def biases(params):
    """``bias`` and ``recurrent_bias`` [K*H] of a cell, zeros where it has none."""
    zeros = np.zeros(params["recurrent_kernel"].shape[-1:], params["recurrent_kernel"].dtype)
    return np.asarray(params.get("bias", zeros)), np.asarray(params.get("recurrent_bias", zeros))


def summed_biases(part, params):
    """The same, with one bias where two only ever add up; what a gate multiplies in the new one, the last, stays apart."""
    bias, recurrent = biases(params)
    if "recurrent_bias" not in params:
        return bias, recurrent
    kept = len(recurrent) - part.features if isinstance(part, GRU | TiedGRU) else len(recurrent)
    inside = np.concatenate([np.zeros_like(recurrent[:kept]), recurrent[kept:]])
    return np.concatenate([bias[:kept] + recurrent[:kept], bias[kept:]]), inside


def _fits(expected, shape):
    return len(expected) == len(shape) and all(isinstance(e, str) or e == s for e, s in zip(expected, shape, strict=True))


def _shape(sizes):
    return f"[{', '.join(map(str, sizes))}]"
