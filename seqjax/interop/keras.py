"""Keras 3's ``SimpleRNN``, ``LSTM``, ``GRU``, ``ConvLSTM2D`` and ``Bidirectional``, and their weights as lists.

| Keras | here |
|---|---|
| `SimpleRNN` | `Elman` |
| `LSTM`, gates i, f, c, o | `LSTM`, i, f, g, o: the same order |
| `GRU(reset_after=True)`, gates z, r, h | `GRU(recurrent_bias=True)`, r, z, n: two blocks change places |
| `GRU(reset_after=False)`, gates z, r, h | `ChoGRU`, r, z, n |
| `ConvLSTM2D(padding="same")`, gates i, f, c, o | `ConvLSTM`, i, f, g, o: the same order |
| `Bidirectional`, merge_mode "concat", "sum" or "mul" | `Bidirectional`, merge "concatenate", "sum" or "product" |

Weights are ``kernel [F, K*H], recurrent_kernel [H, K*H], bias [K*H]``, as here; the bias of a GRU with ``reset_after`` is
[2, 3H], the input's above the state's, and kernels of a ``ConvLSTM2D`` have its window in front, [h, w, F, 4H]. Without
biases there are two arrays. Both directions have the forward one's arrays, then the backward one's. Keras gives the states
of an LSTM as h, c. What its layers drop while they train (``dropout``, ``recurrent_dropout``) is not in their weights: put
:class:`~seqjax.Dropout` around the recurrence. ``ConvLSTM1D`` and ``ConvLSTM3D`` have no counterpart here. Keras is not
imported.
"""

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.cells import GRU, LSTM, ChoGRU, ConvLSTM, Elman
from seqjax.combine import Bidirectional
from seqjax.interop import weights
from seqjax.interop.keras_layout import infer, settings_of

_KINDS = {
    Elman: {"activation"},
    LSTM: {"activation", "output_activation"},
    GRU: set[str](),
    ChoGRU: set[str](),
    ConvLSTM: {"image", "window"},
}


def load(source, *, activation=None, reset_after=None, image=None, param_dtype=None):
    """A recurrence and its parameters from a layer of Keras, or from the arrays that its ``get_weights()`` gives.

    Args:
      source: a ``SimpleRNN``, ``LSTM`` or ``GRU`` layer or cell, a ``ConvLSTM2D`` layer, a ``Bidirectional`` of them, or a
        list of arrays.
      activation: "tanh", "relu", "sigmoid" or "identity" of a ``SimpleRNN`` or ``LSTM``. A layer says it itself; of a list,
        ``SimpleRNN`` needs it and ``LSTM`` has tanh.
      reset_after: of a ``GRU``. A layer says it itself, and so do biases.
      image: (height, width) of what a ``ConvLSTM2D`` reads. A layer that has been called says it itself, a list does not.
      param_dtype: dtype of the params; None for that of the weights.

    Returns:
      ``(recurrence, params)``: a cell, or :class:`~seqjax.Bidirectional` of two.

    Raises:
      ValueError: the arrays are not those of such a layer, or the layer has a setting that nothing here expresses, all that
        is wrong line by line; ``activation``, ``reset_after`` or ``image`` is not known; weights are float64 and JAX has
        no float64.

    Example:
      >>> import numpy as np, seqjax as sj
      >>> arrays = [np.ones((3, 12), "float32"), np.ones((4, 12), "float32"), np.ones((2, 12), "float32")]
      >>> cell, params = sj.interop.keras.load(arrays)
      >>> cell
      GRU(features=4, recurrent_bias=True)
    """
    owner = f"interop.keras.load({type(source).__name__})"
    is_layer = hasattr(source, "get_weights")
    arrays = [np.asarray(array) for array in (source.get_weights() if is_layer else source)]
    said = settings_of(owner, source) if is_layer else {}
    layout, given = infer(owner, arrays, said, reset_after)
    advice = "Give a layer that has been called once, or all arrays of its get_weights()."
    dtype = weights.accept(owner, layout.shapes(), given, param_dtype, advice)
    chosen = weights.activation(owner, layout.kind, activation, said.get("activation"))
    settings = {"use_bias": layout.bias, "param_dtype": dtype}
    settings |= weights.images(owner, layout.kind, image, said.get("image"), layout.window)
    if layout.kind is GRU:
        settings["recurrent_bias"] = layout.bias
    cell = weights.cell(owner, layout.kind, layout.features, chosen, **settings)
    params = [_params(cell, {name: given[side + name] for name in layout.names}, dtype) for side in layout.sides]
    if len(params) == 1:
        return cell, params[0]
    merge = said.get("merge", "concatenate")
    return Bidirectional(cell, cell, merge=merge), dict(zip(("forward", "backward"), params, strict=True))


def dump(recurrence, params):
    """A list of arrays for ``set_weights()`` of a layer: the inverse of :func:`load`.

    Args:
      recurrence: an Elman, LSTM, GRU, ChoGRU or ConvLSTM cell, or :class:`~seqjax.Bidirectional` of two. The layer must have
        the same settings: units, activation, use_bias, reset_after, kernel_size, padding="same", merge_mode.
      params: its parameters.

    Returns:
      Arrays in Keras' order and in the dtype of the params. Keras has one bias where two only ever add up: those of Elman,
        LSTM and ChoGRU are summed, which is exact up to the rounding of that sum. A GRU with one has zeros for the other.

    Raises:
      ValueError: Keras has no such layer, all reasons line by line; or ``params`` are not those of the recurrence.
    """
    both = isinstance(recurrence, Bidirectional)
    parts = [recurrence.forward, recurrence.backward] if both else [recurrence]
    lines = [line for part in parts for line in weights.unlike(part, _KINDS)]
    weights.refuse(
        f"interop.keras.dump({recurrence})", lines, "Keras has no such layer; dump the layers of a stack one by one."
    )
    weights.check_params(recurrence, params)
    owned = [params["forward"], params["backward"]] if both else [params]
    return [array for part, own in zip(parts, owned, strict=True) for array in _arrays(part, own)]


def _params(cell, arrays, dtype):
    """Parameters of one cell from Keras' arrays by name."""
    swap = _swapped if isinstance(cell, GRU | ChoGRU) else np.array
    params = {name: swap(array) for name, array in arrays.items()}
    if isinstance(cell, GRU) and cell.recurrent_bias:
        params["bias"], params["recurrent_bias"] = params["bias"]
    return jax.tree.map(lambda array: jnp.array(array, dtype), params)


def _arrays(cell, params):
    """Keras' arrays of one cell."""
    arrays = [np.asarray(params["kernel"]), np.asarray(params["recurrent_kernel"])]
    if "bias" in params or "recurrent_bias" in params:
        apart = isinstance(cell, GRU)
        arrays.append(np.stack(weights.biases(params)) if apart else weights.summed_biases(cell, params)[0])
    swap = _swapped if isinstance(cell, GRU | ChoGRU) else np.array
    return [swap(array) for array in arrays]


def _swapped(array):
    """Three gates with the first two in each other's place."""
    first, second, third = np.split(array, 3, axis=-1)
    return np.concatenate([second, first, third], axis=-1)
