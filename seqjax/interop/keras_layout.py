"""How Keras' recurrent layers lay out their weights, and which of their settings can be told in ours."""

import dataclasses
from typing import Any

from seqjax.cells import GRU, LSTM, ChoGRU, ConvLSTM, Elman
from seqjax.interop import weights

_BLOCKS = {"SimpleRNN": 1, "GRU": 3, "LSTM": 4, "ConvLSTM2D": 4}
_ACTIVATIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "linear": "identity"}
_MERGES = {"concat": "concatenate", "sum": "sum", "mul": "product"}


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the shapes of a layer's arrays depend on."""

    blocks: int  # K, gates that lie side by side
    inputs: int | str  # F, a letter where it is not known
    features: int  # H
    bias: bool
    reset_after: bool
    both: bool
    window: tuple[int, ...] = ()  # of a convolution

    @property
    def kind(self):
        """The class of its cells."""
        kinds = {1: Elman, 3: GRU if self.reset_after else ChoGRU, 4: ConvLSTM if self.window else LSTM}
        return kinds[self.blocks]

    @property
    def sides(self):
        """What the names of its arrays start with, by direction."""
        return ("forward ", "backward ") if self.both else ("",)

    @property
    def names(self):
        """The names of its arrays, in Keras' order."""
        return ("kernel", "recurrent_kernel", "bias")[: 2 + self.bias]

    @property
    def all_names(self):
        """The names in all directions."""
        return [side + name for side in self.sides for name in self.names]

    def shapes(self):
        """Shapes by name."""
        columns = self.blocks * self.features
        bias = (2, columns) if self.kind is GRU else (columns,)
        kernels = ((*self.window, rows, columns) for rows in (self.inputs, self.features))
        shapes = (*kernels, bias)[: len(self.names)]
        return dict(zip(self.all_names, shapes * len(self.sides), strict=True))


def infer(owner, arrays, said, reset_after):
    """The layout nearest to the arrays of a layer, and the arrays by name."""
    if len(arrays) not in (2, 3, 4, 6):
        lines = [f"expected 2 arrays or 3, with a bias, for each direction; got {len(arrays)}"]
        weights.refuse(owner, lines, "Call the layer once, so that it has weights, and give those of one layer.")
    shared: dict[str, Any] = {"bias": len(arrays) in (3, 6), "both": len(arrays) > 3}
    any_layout = Layout(1, 1, 1, reset_after=False, **shared)
    given = dict(zip(any_layout.all_names, arrays, strict=True))
    kernel, recurrent = arrays[:2]
    shared["window"] = next((array.shape[:2] for array in (kernel, recurrent) if array.ndim == 4), ())
    axes = 4 if shared["window"] else 2
    shared["inputs"] = kernel.shape[-2] if kernel.ndim == axes else "F"
    possible = (said["blocks"],) if "blocks" in said else (4,) if shared["window"] else (4, 3, 1)
    after = _reset_after(owner, arrays, said.get("reset_after"), reset_after)
    columns = sorted({array.shape[-1] for array in (kernel, recurrent) if array.ndim == axes})
    layouts = [
        Layout(k, features=c // k, reset_after=bool(after), **shared) for c in columns for k in possible if c and c % k == 0
    ]
    if not layouts:
        lines = [f"{name}: of shape {list(array.shape)}" for name, array in given.items()]
        advice = "Expected a kernel [F, K*H] and a recurrent_kernel [H, K*H], K gates side by side; of images [h, w, ...]."
        weights.refuse(owner, lines, advice)
    layout = min(layouts, key=lambda layout: len(weights.problems(layout.shapes(), given)))
    if layout.blocks == 3 and after is None:
        raise ValueError(f"{owner}: arrays without biases do not tell where a GRU resets; say reset_after=True or False.")
    return layout, given


def settings_of(owner, layer):
    """What a layer says of itself: blocks, activation, reset_after, image, merge.

    Raises:
      ValueError: nothing here expresses what it says.
    """
    if not hasattr(layer, "merge_mode"):
        said, lines = _settings_of_one(layer, go_backwards=False)
    else:
        parts = ((layer.forward_layer, False), (layer.backward_layer, True))
        (said, lines), (other, more) = (_settings_of_one(part, way) for part, way in parts)
        lines = [f"forward {line}" for line in lines] + [f"backward {line}" for line in more]
        if not lines and said != other:
            lines = [f"expected the same layer in both directions, got {said} and {other}"]
        if layer.merge_mode not in _MERGES:
            lines.append(f"merge_mode: expected {', '.join(map(repr, _MERGES))}, got {layer.merge_mode!r}")
        said["merge"] = _MERGES.get(layer.merge_mode)
    weights.refuse(
        owner, lines, "Nothing here computes the same. A list, layer.get_weights(), is read as if it said nothing."
    )
    return said


def _settings_of_one(layer, go_backwards):
    """What one direction says, and lines about what cannot be told in ours."""
    name, config = type(layer).__name__, layer.get_config()
    blocks = _BLOCKS.get(name.removesuffix("Cell"))
    if blocks is None:
        return {}, [f"layer: expected {', '.join(_BLOCKS)} or Bidirectional, got {name}"]
    said = {"blocks": blocks, "activation": _ACTIVATIONS.get(config["activation"])}
    if "reset_after" in config:
        said["reset_after"] = config["reset_after"]
    expected = {
        "activation": ("tanh",) if blocks == 3 or name == "ConvLSTM2D" else tuple(_ACTIVATIONS),
        "recurrent_activation": ("sigmoid",),
        "go_backwards": (go_backwards,),
    }
    if name == "ConvLSTM2D":
        said["image"] = getattr(layer.cell, "spatial_dims", None)
        expected |= {
            "padding": ("same",),
            "strides": ((1, 1),),
            "dilation_rate": ((1, 1),),
            "data_format": ("channels_last",),
        }
    told = {setting: config[setting] for setting in expected if setting in config}
    lines = [
        f"{s}: expected {' or '.join(map(repr, expected[s]))}, got {v!r}" for s, v in told.items() if v not in expected[s]
    ]
    return said, lines


def _reset_after(owner, arrays, said, asked):
    """Where a GRU resets, from the layer, the caller or its bias; None where nothing tells."""
    if None not in (said, asked) and said != asked:
        raise ValueError(f"{owner}: reset_after must be {said}, as in the layer, or be left out; got {asked}.")
    known = said if asked is None else asked
    if known is None and len(arrays) in (3, 6):
        return arrays[2].ndim == 2
    return known
