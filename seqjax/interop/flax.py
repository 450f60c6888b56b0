"""Flax's cells, of Linen and of NNX.

| Flax | reads the input | reads the state | biases | here |
|---|---|---|---|---|
| `linen.SimpleCell` | i | h | i | `Elman` |
| `nnx.SimpleCell` | dense_i | dense_h | dense_i | `Elman` |
| `linen.LSTMCell`, `linen.OptimizedLSTMCell` | ii, if, ig, io | hi, hf, hg, ho | hi, hf, hg, ho | `LSTM` |
| `nnx.LSTMCell` | ii, if_, ig, io | hi, hf, hg, ho | hi, hf, hg, ho | `LSTM` |
| `nnx.OptimizedLSTMCell` | dense_i | dense_h | dense_h | `LSTM` |
| `linen.GRUCell` | ir, iz, in | hr, hz, hn | ir, iz, in, hn | `GRU(recurrent_bias=True)` |
| `nnx.GRUCell` | dense_i | dense_h | dense_i | `GRU` |
| `linen.MGUCell` | if, in | hf, hn | if, in, hn | `TiedGRU(recurrent_bias=True)` |
| `linen.MGUCell(reset_gate=False)` | if, in | hf, hn | if, in | `UGRNN` |
| `linen.ConvLSTMCell` | ih | hh | ih, hh | `ConvLSTM` |

Kernels are [rows, H] gate by gate, or [rows, K*H] with the gates in our order. In an LSTM the two biases of a gate only add
up, so the one that Flax has is our ``bias``. In a GRU that is so for the gates r and z. In the new gate,
n = tanh(u + b + s (r + c)), the second bias c stands behind the reset gate s: Linen has it, ``nnx.GRUCell`` does not, and a
GRU where it is not zero has no equal there. An ``MGUCell`` has it too, as long as a gate stands before it.

A ``ConvLSTMCell`` has kernels [h, w, rows, 4H], gates in the order i, g, f, o, two biases that only add up, and a one that
it adds to f. All that is added is our ``bias``, also where Linen has none: such a cell comes back with biases. ``strides``
must be one and ``padding`` "SAME", which params do not tell. A carry of Flax is h, of an LSTM (c, h), as here.
"""

import collections.abc

import jax.numpy as jnp
import numpy as np

from seqjax.cells import LSTM, ConvLSTM, Elman
from seqjax.interop import weights
from seqjax.interop.flax_layout import LAYOUTS, infer, name_of, settings_of


def load(source, *, activation=None, image=None, param_dtype=None):
    """A cell and its parameters from a cell of Flax.

    Args:
      source: the ``params`` of a Linen cell, or variables that hold them; an NNX cell, or its state; either inside of
        Flax's ``RNN``.
      activation: of a ``SimpleCell`` ("tanh", "relu", "identity", "sigmoid" or a function) or an LSTM. An NNX module says it
        itself; of a tree, ``SimpleCell`` needs it and an LSTM has tanh.
      image: (height, width) of what a ``ConvLSTMCell`` reads, which its params do not tell; of no other cell.
      param_dtype: dtype of the params; None for that of the weights.

    Returns:
      ``(cell, params)``: :class:`~seqjax.Elman`, :class:`~seqjax.LSTM`, :class:`~seqjax.GRU`, :class:`~seqjax.TiedGRU`,
        :class:`~seqjax.UGRNN` or :class:`~seqjax.ConvLSTM`.

    Raises:
      TypeError: ``source`` is none of the above.
      ValueError: names, shapes or dtypes are not those of such a cell, or a module has a setting that nothing here
        expresses, all that is wrong line by line; ``activation`` or ``image`` is not known; weights are float64 and JAX has
        no float64.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> from flax import linen
      >>> variables = linen.GRUCell(4).init(jax.random.key(0), jnp.ones((2, 4)), jnp.ones((2, 3)))
      >>> cell, params = sj.interop.flax.load(variables)
      >>> cell
      GRU(features=4, recurrent_bias=True)
    """
    owner = f"interop.flax.load({type(source).__name__})"
    tree, module = _tree(owner, source)
    said = {} if module is None else settings_of(owner, module)
    given = {name: weights.to_numpy(leaf) for name, leaf in _flat(tree)}
    layout, sizes = infer(owner, given, said.get("cell"))
    advice = f"Give the params of one Flax cell: {', '.join(dict.fromkeys(name.split('.')[1] for name in LAYOUTS))}."
    dtype = weights.accept(owner, layout.shapes(*sizes), given, param_dtype, advice)
    chosen = weights.activation(owner, layout.kind, activation, said.get("activation"))
    params = {name: jnp.array(array, dtype) for name, array in layout.joined(given).items()}
    settings = {"param_dtype": dtype} | weights.images(owner, layout.kind, image, None, sizes[2])
    if "recurrent_bias" in params:
        settings["recurrent_bias"] = True
    return weights.cell(owner, layout.kind, sizes[1], chosen, **settings), params


def dump(recurrence, params, cell):
    """The parameters of a Flax cell from a cell and its parameters: the inverse of :func:`load`.

    Args:
      recurrence: an Elman, LSTM, GRU, TiedGRU, UGRNN or ConvLSTM cell. The Flax cell must have the same width, activation
        and window, and ``reset_gate=False`` for a UGRNN.
      params: its parameters.
      cell: the class of the Flax cell, such as ``linen.GRUCell`` or ``nnx.OptimizedLSTMCell``.

    Returns:
      A nested dict of arrays in the dtype of the params: ``variables["params"]`` of Linen; ``nnx.update(module, tree)`` puts
        it into an NNX module. Cells of Flax have biases, and one where two only ever add up: what is missing is zero, and
        two are summed, which is exact up to the rounding of that sum. A ``ConvLSTMCell`` must have ``use_bias=True``.

    Raises:
      ValueError: Flax has no such cell, or this one is of another kind, all reasons line by line; the cell is
        ``nnx.GRUCell`` and the new gate has a second bias that is not zero; ``params`` are not those of the recurrence.
    """
    owner = f"interop.flax.dump({recurrence}, {name_of(cell)})"
    advice = f"Dump to one of {', '.join(LAYOUTS)}, cell by cell."
    if name_of(cell) not in LAYOUTS:
        weights.refuse(owner, [f"cell: expected a class of Flax, got {cell!r}"], advice)
    layouts = LAYOUTS[name_of(cell)]
    settings = {Elman: {"activation"}, LSTM: {"activation", "output_activation"}, ConvLSTM: {"image", "window"}}
    kinds = {layout.kind: settings.get(layout.kind, set()) for layout in layouts}
    weights.refuse(owner, weights.unlike(recurrence, kinds), advice)
    layout = next(layout for layout in layouts if layout.kind is type(recurrence))
    weights.check_params(recurrence, params)
    bias, inside = weights.summed_biases(recurrence, params)
    if inside.any() and not layout.holds_both:
        reason = "recurrent_bias: the new gate's is not zero, and nnx.GRUCell has none behind its reset gate"
        weights.refuse(owner, [reason], "Dump to linen.GRUCell, or train with GRU(recurrent_bias=False).")
    kernels = (np.asarray(params["kernel"]), np.asarray(params["recurrent_kernel"]))
    return layout.split(*kernels, bias, inside)


def _tree(owner, source):
    """The nested dict of a cell, and the module where there is one."""
    module = None
    if not isinstance(source, collections.abc.Mapping) or type(source).__module__.startswith("flax.nnx"):
        from flax import nnx  # a tree of arrays needs no Flax

        if isinstance(source, nnx.Module):
            module = getattr(source, "cell", source)
            source = nnx.state(module, nnx.Param)
        if not isinstance(source, collections.abc.Mapping):
            raise TypeError(f"{owner}: expected the params of a Linen cell or an NNX cell, got {type(source).__name__}.")
        source = nnx.to_pure_dict(source)  # type: ignore[arg-type]
    for wrapper in ("params", "cell"):
        source = source[wrapper] if set(source) == {wrapper} else source
    return source, module


def _flat(tree, path=""):
    """Leaves by name, such as ``ii/kernel``."""
    for name, node in tree.items():
        if isinstance(node, collections.abc.Mapping):
            yield from _flat(node, f"{path}{name}/")
        else:
            yield f"{path}{name}", node
