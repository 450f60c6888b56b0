"""PyTorch's ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``: any number of layers, one or two directions. PyTorch is not imported.

| PyTorch, layer k | here, in `params[str(k)]` | its shape here |
|---|---|---|
| `weight_ih_lk` [K*H, F] | `kernel`, transposed | [F, K*H] |
| `weight_hh_lk` [K*H, H or P] | `recurrent_kernel`, transposed | [H or P, K*H] |
| `bias_ih_lk` [K*H] | `bias` | [K*H] |
| `bias_hh_lk` [K*H] | `recurrent_bias` | [K*H] |
| `weight_hr_lk` [P, H] | `projection_kernel`, transposed | [H, P] |

Gates have the same order: i, f, g, o and r, z, n. With two directions the names of the second end in ``_reverse``, and below
a layer params have "forward" and "backward". ``batch_first`` is about the layout of inputs alone.
"""

import collections.abc
import os

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.cells import LSTM, Elman, HiddenCarry, LSTMCarry
from seqjax.combine import BidirectionalCarry, Stack
from seqjax.interop import files, weights
from seqjax.interop.torch_layout import NAMES, check, infer, layers_of


def load(source, *, prefix="", nonlinearity=None, dropout=None, param_dtype=None):
    """A recurrence and its parameters from weights of PyTorch.

    Args:
      source: a module, a state_dict whose values are tensors or arrays, or the path of a ``.safetensors`` file.
      prefix: what stands before the names, such as "encoder.rnn."; tensors without it are not read.
      nonlinearity: "tanh" or "relu", of an ``nn.RNN``. A module says it itself, tensors do not.
      dropout: between layers; None for the module's own, and for none where there is no module.
      param_dtype: dtype of the params; None for that of the weights.

    Returns:
      ``(recurrence, params)``: a :class:`~seqjax.Stack`, of one layer too, of :class:`~seqjax.Elman`, :class:`~seqjax.LSTM`
        or :class:`~seqjax.GRU` with PyTorch's two biases or none; two directions are a :class:`~seqjax.Bidirectional`.

    Raises:
      TypeError: ``source`` is none of the above.
      FileNotFoundError: there is no such file.
      ImportError: it is a file, and safetensors is not installed.
      ValueError: names, shapes or dtypes are not those of one such module, all that is wrong line by line; a file is cut off
        or of another format; ``nonlinearity`` is not known; weights are float64 and JAX has no float64.

    Example:
      >>> import numpy as np, seqjax as sj
      >>> tensors = {"weight_ih_l0": np.ones((12, 3), "float32"), "weight_hh_l0": np.ones((12, 4), "float32")}
      >>> recurrence, params = sj.interop.torch.load(tensors)
      >>> recurrence
      Stack(GRU(features=4, use_bias=False))
      >>> params["0"]["kernel"].shape
      (3, 12)
    """
    owner = f"interop.torch.load({_words(source)}{f', prefix={prefix!r}' if prefix else ''})"
    tensors, names, module = _read(source, prefix)
    advice = _advice(names, prefix)
    network = infer(tensors)
    if network is None:
        weights.refuse(owner, [f"{name}: unknown" for name in tensors] or ["no tensors"], advice)
    owner += f", read as {network.kind.__name__}({network.features})"
    dtype = weights.accept(owner, network.shapes(), tensors, param_dtype, advice)
    asked, said = (nonlinearity, getattr(module, "nonlinearity", None)) if network.kind is Elman else (None, None)
    activation = weights.activation(owner, network.kind, asked, said, "nonlinearity")
    rate = getattr(module, "dropout", 0.0) if dropout is None else dropout
    return network.recurrence(owner, activation, rate, dtype), network.params(tensors, dtype)


def dump(recurrence, params, *, prefix=""):
    """A state_dict of arrays from a recurrence and its parameters: the inverse of :func:`load`, bit by bit.

    Args:
      recurrence: what PyTorch has too: Elman (tanh or ReLU), LSTM (projected or not) or GRU cells of one width; alone, in
        both directions, or in a :class:`~seqjax.Stack` of such layers.
      params: its parameters.
      prefix: what to put before the names.

    Returns:
      Arrays by PyTorch's names, in PyTorch's order, in the dtype of the params. PyTorch has two biases or none: where the
        recurrence has one, the other is zero. With ``torch.from_numpy`` of each, ``module.load_state_dict`` takes them.

    Raises:
      ValueError: PyTorch has no such module, all reasons line by line; or ``params`` are not those of the recurrence.
    """
    check("interop.torch.dump", recurrence)
    weights.check_params(recurrence, params)
    layers = layers_of(recurrence, params)
    bias = any(part.use_bias or part.recurrent_bias for layer in layers for part, _ in layer)
    state: dict[str, np.ndarray] = {}
    for k, layer in enumerate(layers):
        for (_, own), suffix in zip(layer, (f"_l{k}", f"_l{k}_reverse"), strict=False):
            if bias:
                own = own | dict(zip(("bias", "recurrent_bias"), weights.biases(own), strict=True))
            state |= {f"{prefix}{theirs}{suffix}": _transposed(own[ours]) for theirs, ours in NAMES.items() if ours in own}
    return state


def save(path, recurrence, params, *, prefix=""):
    """Writes what :func:`dump` makes as a ``.safetensors`` file, as a whole or not at all.

    Raises:
      ImportError: safetensors is not installed.
      ValueError: as for :func:`dump`.
    """
    files.write(path, dump(recurrence, params, prefix=prefix))


def load_carry(recurrence, states):
    """A carry from PyTorch's states.

    Args:
      recurrence: what :func:`load` made.
      states: ``(h_0, c_0)`` of an LSTM, PyTorch's h comes first, or ``h_0`` of any other; tensors or arrays
        [layers * directions, B, H], the two directions of a layer side by side.

    Returns:
      The carry: a tuple with an entry for each layer, with two directions a :class:`~seqjax.BidirectionalCarry`.

    Raises:
      ValueError: there are not as many states as the recurrence has.
    """
    layers = layers_of(recurrence)
    count, fields = sum(map(len, layers)), 2 if isinstance(layers[0][0][0], LSTM) else 1
    arrays = [weights.to_numpy(state) for state in (states if isinstance(states, tuple | list) else (states,))]
    if [array.shape[:1] for array in arrays] != [(count,)] * fields:
        expected = f"{'h_0 and c_0' if fields == 2 else 'h_0 alone'}, [{count}, B, H]"
        raise ValueError(
            f"interop.torch.load_carry({recurrence}): expected {expected}; got shapes {[array.shape for array in arrays]}."
        )
    rows = iter(zip(*arrays, strict=True))
    cells = [[_carry(*map(jnp.array, next(rows))) for _ in layer] for layer in layers]
    carries = tuple(BidirectionalCarry(*own) if len(own) == 2 else own[0] for own in cells)
    return carries if isinstance(recurrence, Stack) else carries[0]


def dump_carry(carry):
    """PyTorch's states from a carry, or from the final states of both directions: the inverse of :func:`load_carry`.

    Returns:
      ``(h, c)`` of an LSTM, ``h`` of any other; arrays [layers * directions, B, H].

    Raises:
      ValueError: the carry is not one of Elman, LSTM or GRU cells, or of more than one of them.
    """
    cells = jax.tree.leaves(carry, is_leaf=lambda node: isinstance(node, LSTMCarry | HiddenCarry))
    if {type(part) for part in cells} not in ({LSTMCarry}, {HiddenCarry}):
        got = sorted({type(part).__name__ for part in cells})
        raise ValueError(f"interop.torch.dump_carry: expected LSTMCarry or HiddenCarry in all layers, got {', '.join(got)}.")
    h, *c = (np.stack([np.asarray(getattr(part, name)) for part in cells]) for name in ("h", "c")[: len(cells[0])])
    return (h, *c) if c else h


def _read(source, prefix):
    """Arrays by name without the prefix, all names, and the module where there is one."""
    module = None
    if isinstance(source, str | os.PathLike):
        state, names = files.read(source, prefix)
    else:
        state = source.state_dict() if hasattr(source, "state_dict") else source
        if not isinstance(state, collections.abc.Mapping):
            raise TypeError(
                f"interop.torch.load: expected a module, a state_dict or the path of a file, got {type(source).__name__}."
            )
        names, there = list(state), state is not source and any(name.startswith(prefix) for name in state)
        module = source.get_submodule(prefix.rstrip(".")) if there else None
    kept = {name.removeprefix(prefix): weights.to_numpy(t) for name, t in state.items() if name.startswith(prefix)}
    return kept, names, module


def _words(source):
    """A source in a few words."""
    return repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else type(source).__name__


def _advice(names, prefix):
    """What to do about a state_dict that cannot be read."""
    found = sorted({name.removesuffix("weight_ih_l0") for name in names if name.endswith("weight_ih_l0")} - {prefix})
    other = f"such tensors are behind prefix={' or '.join(map(repr, found))}" if found else "prefix leaves others out"
    return f"Give all tensors of one torch.nn.RNN, LSTM or GRU and nothing else; {other}."


def _carry(h, c=None):
    return HiddenCarry(h) if c is None else LSTMCarry(c, h)


def _transposed(array):
    return np.array(np.asarray(array).T, order="C")
