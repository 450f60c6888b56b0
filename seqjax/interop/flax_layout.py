"""How Flax's cells lay out their weights, gate by gate or side by side, and which of their settings can be told in ours."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.cells import GRU, LSTM, UGRNN, ConvLSTM, Elman, TiedGRU
from seqjax.interop import weights

_BLOCKS: dict[type, int] = {Elman: 1, UGRNN: 2, TiedGRU: 2, GRU: 3, LSTM: 4, ConvLSTM: 4}


@dataclasses.dataclass(frozen=True)
class Layout:
    """The layers of a cell: those that read the input, those that read the state, and which of them have a bias."""

    kind: type
    inputs: tuple[str, ...]  # one for each gate, or one for all
    states: tuple[str, ...]
    biased: frozenset[str]

    @property
    def holds_both(self):
        """Whether the input and the state have a bias each."""
        return not self.biased.isdisjoint(self.inputs) and not self.biased.isdisjoint(self.states)

    def sizes(self, given):
        """F, H and the window of a convolution, a letter for what is not known; None where no kernel tells H."""
        rows = [self._rows(given, names) for names in (self.inputs, self.states)]
        if rows[1] is None:
            return None
        return "F" if rows[0] is None else rows[0], rows[1], self._window(given)

    def shapes(self, inputs, features, window=()):
        """Shapes by name."""
        columns = _BLOCKS[self.kind] * features // len(self.inputs)
        rows = dict.fromkeys(self.inputs, inputs) | dict.fromkeys(self.states, features)
        shapes = {f"{name}/kernel": (*window, count, columns) for name, count in rows.items()}
        return shapes | {f"{name}/bias": (columns,) for name in rows if name in self.biased}

    def joined(self, given):
        """Our params: gates side by side, zeros where Flax has no bias and another gate has one."""
        params = {"kernel": self._kernels(given, self.inputs), "recurrent_kernel": self._kernels(given, self.states)}
        biases = [self._biases(given, names) for names in (self.inputs, self.states) if not self.biased.isdisjoint(names)]
        return params | dict(zip(("bias", "recurrent_bias"), biases, strict=False))

    def split(self, kernel, recurrent_kernel, bias, inside):
        """Flax's params: the tree of a cell."""
        tree = {}
        only_states = self.biased.isdisjoint(self.inputs)
        for names, array, own in (
            (self.inputs, kernel, bias),
            (self.states, recurrent_kernel, bias if only_states else inside),
        ):
            parts = zip(names, np.split(array, len(names), -1), np.split(own, len(names), -1), strict=True)
            for name, block, shift in parts:
                tree[name] = {"kernel": np.array(block)} | ({"bias": np.array(shift)} if name in self.biased else {})
        return tree

    def _rows(self, given, names):
        """The rows of the first of some kernels that is there."""
        kernels = (given.get(f"{name}/kernel") for name in names)
        return next((kernel.shape[-2] for kernel in kernels if kernel is not None and kernel.ndim >= 2), None)

    def _window(self, given):
        return ()

    @staticmethod
    def _kernels(given, names):
        return np.concatenate([given[f"{name}/kernel"] for name in names], axis=-1)

    def _biases(self, given, names):
        kernels = [given[f"{name}/kernel"] for name in names]
        zeros = {name: np.zeros(kernel.shape[-1:], kernel.dtype) for name, kernel in zip(names, kernels, strict=True)}
        return np.concatenate([given.get(f"{name}/bias", zeros[name]) for name in names])


class ConvolutionLayout(Layout):
    """Linen's ``ConvLSTMCell``: kernels of a window, gates in the order i, g, f, o, and a one that is added to f.

    The one belongs to our bias. On the way out it is taken from the bias that reads the state, not from ours, so that ours
    comes back bit by bit.
    """

    def joined(self, given):
        """Our params, with one bias, where Flax has none too."""
        params = {name: _reordered(array) for name, array in super().joined(given).items()}
        zeros = np.zeros(params["kernel"].shape[-1:], params["kernel"].dtype)
        bias, recurrent_bias = params.pop("bias", zeros), params.pop("recurrent_bias", zeros)
        return params | {"bias": bias + (recurrent_bias + _added(zeros))}

    def split(self, kernel, recurrent_kernel, bias, inside):
        """Flax's params: the tree of a cell."""
        return super().split(*map(_reordered, (kernel, recurrent_kernel, bias, inside - _added(inside))))

    def _window(self, given):
        kernels = [given.get(f"{name}/kernel") for name in (*self.states, *self.inputs)]
        return next((kernel.shape[:2] for kernel in kernels if kernel is not None and kernel.ndim == 4), ("height", "width"))


def _reordered(array):
    """Four gates with the two in the middle in each other's place."""
    first, second, third, last = np.split(array, 4, axis=-1)
    return np.concatenate([first, third, second, last], axis=-1)


def _added(bias):
    """What Linen adds to our gates i, f, g, o."""
    return np.repeat(np.array([0, 1, 0, 0], bias.dtype), len(bias) // 4)


def _layout(kind, inputs, states, biased, make=Layout):
    return make(kind, tuple(inputs.split()), tuple(states.split()), frozenset(biased.split()))


_LINEN_LSTM = _layout(LSTM, "ii if ig io", "hi hf hg ho", "hi hf hg ho")
# By class; where one has several, they are told apart by what the parameters are, and by the kind of our cell.
LAYOUTS = {
    "linen.SimpleCell": [_layout(Elman, "i", "h", "i")],
    "linen.LSTMCell": [_LINEN_LSTM],
    "linen.OptimizedLSTMCell": [_LINEN_LSTM],
    "linen.GRUCell": [_layout(GRU, "ir iz in", "hr hz hn", "ir iz in hn")],
    "linen.MGUCell": [_layout(TiedGRU, "if in", "hf hn", "if in hn"), _layout(UGRNN, "if in", "hf hn", "if in")],
    "linen.ConvLSTMCell": [_layout(ConvLSTM, "ih", "hh", biased, ConvolutionLayout) for biased in ("ih hh", "")],
    "nnx.SimpleCell": [_layout(Elman, "dense_i", "dense_h", "dense_i")],
    "nnx.LSTMCell": [_layout(LSTM, "ii if_ ig io", "hi hf hg ho", "hi hf hg ho")],  # `if` is a word of Python
    "nnx.OptimizedLSTMCell": [_layout(LSTM, "dense_i", "dense_h", "dense_h")],
    "nnx.GRUCell": [_layout(GRU, "dense_i", "dense_h", "dense_i")],
}
_ACTIVATIONS = {jnp.tanh: "tanh", jax.nn.relu: "relu", jax.nn.sigmoid: "sigmoid"}


def name_of(cell):
    """The name of a Flax class by which its layout is found."""
    home = "nnx" if ".nnx." in getattr(cell, "__module__", "") else "linen"
    return f"{home}.{getattr(cell, '__name__', cell)}"


def infer(owner, given, said):
    """The layout whose names and shapes are nearest to those given, and its sizes."""
    layouts = LAYOUTS[said] if said else [layout for several in LAYOUTS.values() for layout in several]
    fits = [(layout, sizes) for layout in layouts if (sizes := layout.sizes(given))]
    if not fits:
        advice = f"Expected the params of one of {', '.join(LAYOUTS)}."
        weights.refuse(owner, [f"{name}: unknown" for name in given] or ["no params"], advice)
    return min(fits, key=lambda fit: len(weights.problems(fit[0].shapes(*fit[1]), given)))


def settings_of(owner, module):
    """What an NNX cell says of itself: its class and its activation.

    Raises:
      ValueError: nothing here expresses what it says.
    """
    name = name_of(type(module))
    lines = []
    if name not in LAYOUTS:
        lines.append(f"module: expected one of {', '.join(key for key in LAYOUTS if 'nnx' in key)}, got {name}")
    if getattr(module, "gate_fn", jax.nn.sigmoid) is not jax.nn.sigmoid:
        lines.append(f"gate_fn: expected the logistic function, got {module.gate_fn}")
    if getattr(module, "residual", False):
        lines.append("residual: expected False, got True: it adds the state before the activation")
    weights.refuse(owner, lines, "Nothing here computes the same; load its nnx.state to leave the settings aside.")
    return {"cell": name, "activation": _ACTIVATIONS.get(module.activation_fn, module.activation_fn)}
