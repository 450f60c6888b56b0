"""How PyTorch's recurrent modules lay out their weights: what they are told apart by, and what they cannot hold."""

import dataclasses
import re
from typing import Any

import jax.numpy as jnp

from seqjax.cells import GRU, LSTM, Elman
from seqjax.combine import Bidirectional, Stack
from seqjax.interop import weights

NAMES = {
    "weight_ih": "kernel",
    "weight_hh": "recurrent_kernel",
    "bias_ih": "bias",
    "bias_hh": "recurrent_bias",
    "weight_hr": "projection_kernel",
}
_KEY = re.compile(rf"({'|'.join(NAMES)})_l(\d+)(_reverse)?")
_KINDS = {1: Elman, 3: GRU, 4: LSTM}


@dataclasses.dataclass(frozen=True)
class Network:
    """What the names and shapes of a state_dict depend on."""

    blocks: int  # K, gates that lie side by side
    inputs: int | str  # F, a letter where it is not known
    features: int  # H
    layers: int
    both: bool
    bias: bool
    projection: int | None

    @property
    def kind(self):
        """The class of its cells."""
        return _KINDS[self.blocks]

    @property
    def suffixes(self):
        """The ends of its names, by layer and direction."""
        return [(f"_l{k}", f"_l{k}_reverse")[: 1 + self.both] for k in range(self.layers)]

    def shapes(self):
        """Shapes by name, in PyTorch's order."""
        rows, width = self.blocks * self.features, self.projection or self.features
        shapes: dict[str, tuple[int | str, ...]] = {}
        for k, suffixes in enumerate(self.suffixes):
            below = self.inputs if k == 0 else width * (1 + self.both)
            own: dict[str, Any] = {"weight_ih": (rows, below), "weight_hh": (rows, width)}
            own |= {"bias_ih": (rows,), "bias_hh": (rows,)} if self.bias else {}
            own |= {"weight_hr": (self.projection, self.features)} if self.projection else {}
            shapes |= {name + suffix: shape for suffix in suffixes for name, shape in own.items()}
        return shapes

    def recurrence(self, owner, activation, dropout, dtype):
        """The recurrence that computes the same."""
        settings = {"use_bias": self.bias, "recurrent_bias": self.bias, "param_dtype": dtype}
        settings |= {"projection": self.projection} if self.kind is LSTM else {}
        part = weights.cell(owner, self.kind, self.features, activation, **settings)
        return Stack(*[Bidirectional(part, part) if self.both else part] * self.layers, dropout=dropout)

    def params(self, tensors, dtype):
        """Its parameters, copies: a module's own may change."""

        def cell(suffix):
            there = {ours: tensors[theirs + suffix] for theirs, ours in NAMES.items() if theirs + suffix in tensors}
            return {name: jnp.array(tensor.T, dtype) for name, tensor in there.items()}

        layers = [[cell(suffix) for suffix in suffixes] for suffixes in self.suffixes]
        directions = ("forward", "backward")
        return {str(k): dict(zip(directions, own, strict=True)) if self.both else own[0] for k, own in enumerate(layers)}


def infer(tensors):
    """The network whose names and shapes are nearest to those given; None where nothing tells its width."""
    found = [(match, tensor.shape) for name, tensor in tensors.items() if (match := _KEY.fullmatch(name))]
    flat = [(match, shape) for match, shape in found if len(shape) == 2]
    if not flat:
        return None
    rows = {shape[0] for match, shape in flat if match[1] in ("weight_ih", "weight_hh")}
    shared: dict[str, Any] = {
        "inputs": next((shape[1] for match, shape in flat if match[1] == "weight_ih" and match[2] == "0"), "F"),
        "layers": 1 + max(int(match[2]) for match, _ in found),
        "both": any(match[3] for match, _ in found),
        "bias": any(match[1].startswith("bias") for match, _ in found),
        "projection": next((shape[0] for match, shape in flat if match[1] == "weight_hr"), None),
    }
    possible = (4,) if shared["projection"] else tuple(_KINDS)
    networks = [Network(k, features=r // k, **shared) for r in sorted(rows) for k in possible if r and r % k == 0]
    width = next((shape[1] for match, shape in flat if match[1] == "weight_hh"), 0)

    def distance(network):
        return len(weights.problems(network.shapes(), tensors)), abs((network.projection or network.features) - width)

    return min(networks, key=distance, default=None)


def layers_of(recurrence, params=None):
    """Cells with their params, by layer and direction. Anything but a stack is one layer."""
    if not isinstance(recurrence, Stack):
        return [_directions(recurrence, params)]
    return [_directions(layer, params and params[str(k)]) for k, layer in enumerate(recurrence.layers)]


def _directions(layer, params):
    if not isinstance(layer, Bidirectional):
        return [(layer, params)]
    return [(layer.forward, params and params["forward"]), (layer.backward, params and params["backward"])]


def check(owner, recurrence):
    """Refuses what PyTorch has no module for, with all reasons."""
    kinds = {Elman: {"activation"}, LSTM: {"projection"}, GRU: set[str]()}
    layers = recurrence.layers if isinstance(recurrence, Stack) else (recurrence,)
    parts = [part for layer in layers_of(recurrence) for part, _ in layer]
    lines = [line for part in parts for line in weights.unlike(part, kinds)]
    lines += [f"{p}: expected tanh or relu" for p in parts if isinstance(p, Elman) and p.activation not in ("tanh", "relu")]
    lines += [
        f'{layer}: expected merge="concatenate"'
        for layer in layers
        if isinstance(layer, Bidirectional) and layer.merge != "concatenate"
    ]
    if isinstance(recurrence, Stack) and recurrence.skip:
        lines.append("skip: expected False")
    if len({isinstance(layer, Bidirectional) for layer in layers}) > 1:
        lines.append("expected as many directions in all layers")
    shared = ("features", "activation", "projection")
    if len({(type(part), *(getattr(part, name, None) for name in shared)) for part in parts}) > 1:
        lines.append(f"expected cells of one kind, {', '.join(shared)} in all layers and directions")
    weights.refuse(
        f"{owner}({recurrence})", list(dict.fromkeys(lines)), "PyTorch has no such module; dump layers one by one."
    )
