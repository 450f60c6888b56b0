"""Long short-term memory (Hochreiter and Schmidhuber 1997), and what a search space odyssey switches in it."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.cells.parts import LSTMCarry
from seqjax.recurrence import GatedCell


class GateRecurrentLSTMCarry(NamedTuple):
    """State of an LSTM whose gates read the gates of the step before."""

    c: jax.Array  # [B, H]
    h: jax.Array  # [B, H], or [B, P] where projected
    gates: jax.Array  # [B, 3H], i, f, o


@dataclasses.dataclass(frozen=True, repr=False)
class LSTM(parts.Dense, GatedCell):
    r"""Long short-term memory, with a switch for each part of it.

    .. math::
        i &= \sigma(u_i + r_i + p_i \odot c) \qquad f = \sigma(u_f + r_f + p_f \odot c) \qquad g = \phi(u_g + r_g) \\
        c' &= f \odot c + i \odot g \qquad o = \sigma(u_o + r_o + p_o \odot c') \\
        h' &= o \odot \psi(c'), \qquad y = h'
        \quad\text{with}\quad u = x W + b,\; r = h R \text{ and, by default, } \phi = \psi = \tanh,\; p = 0

    Args:
      features: H, the width of the memory cell.
      forget_bias: initial value of the forget gate's bias. One by default, after Jozefowicz et al. (2015), and in Keras;
        zero in PyTorch and Flax. Where ``use_bias=False`` nothing holds it.
      chrono: the longest dependency in steps: forget biases start at log(u), u uniform in [1, chrono - 1], input biases at
        the negative (Tallec and Ollivier 2018, arXiv:1804.11188); None for ``forget_bias``.
      input_gate, forget_gate, output_gate: False fixes the gate at one (NIG, NFG, NOG).
      coupled: f = 1 - i, without parameters of its own (CIFG). The biases of i start where f has the bias asked for.
      peepholes: whether gates see the memory cell, through weights p that start at zero.
      gate_recurrence: whether gates see all gates of the step before, through nine more matrices (FGR).
      activation, output_activation: phi and psi, by name or a function, as for :class:`Elman`; "identity" is NIAF and NOAF.
      cell_clip: c' is clipped to [-cell_clip, cell_clip].
      projection: P, the width of h' = (o psi(c')) W_p (LSTMP, Sak et al. 2014, arXiv:1402.1128), a second product.
      layer_norm: normalizes h R and x W, each over all its gates, and c' where psi reads it (Ba et al. 2016, equations 20 to
        22, whose three shifts of the gates are the one bias here).
      use_bias, recurrent_bias (PyTorch's second), kernel_init, recurrent_init, param_dtype, state_dtype, engine: as for all.

    Shapes:
      xs [T, B, F], carry c and h [B, H], ys [T, B, H]; params kernel [F, 4H], recurrent_kernel [H, 4H], bias [4H] and, where
      asked for, recurrent_bias [4H], peephole_i, _f, _o [H], gate_kernel [3H, 3H], projection_kernel [H, P], norm_scale and
      recurrent_norm_scale [4H], cell_norm_scale and cell_norm_bias [H]. Gates in the order i, f, g, o, as in PyTorch and
      cuDNN (Keras writes c for g); a gate that is not there has no block. P takes the place of H in h, ys and the rows of
      recurrent_kernel.

    Raises:
      ValueError: a setting is not one of those named above, or two exclude each other.

    References:
      Hochreiter, Schmidhuber, `Long Short-Term Memory <https://doi.org/10.1162/neco.1997.9.8.1735>`_, 1997.
      Gers, Schmidhuber, Cummins, `Learning to Forget <https://doi.org/10.1162/089976600300015015>`_, 2000.
      Greff et al., `LSTM: A Search Space Odyssey <https://arxiv.org/abs/1503.04069>`_, 2017, sections II and III.
      Ba, Kiros, Hinton, `Layer Normalization <https://arxiv.org/abs/1607.06450>`_, 2016.
    """

    _: dataclasses.KW_ONLY
    forget_bias: float = 1.0
    chrono: int | None = None
    input_gate: bool = True
    forget_gate: bool = True
    output_gate: bool = True
    coupled: bool = False
    peepholes: bool = False
    gate_recurrence: bool = False
    activation: str | Callable = "tanh"
    output_activation: str | Callable = "tanh"
    cell_clip: float | None = None
    projection: int | None = None
    layer_norm: bool = False

    def __post_init__(self):
        super().__post_init__()
        parts.check_activation(self, "activation", "output_activation")
        parts.check_chrono(self)
        checks.positive(self, *(() if self.projection is None else ("projection",)))
        for refused, reason in (
            (self.coupled and not (self.input_gate and self.forget_gate), "coupled needs input_gate and forget_gate"),
            (self.gate_recurrence and self.blocks != "ifgo", "gate_recurrence needs three gates that are not coupled"),
            (self.peepholes and self.blocks == "g", "peepholes need a gate that looks through them"),
            (self.recurrent_bias and self.layer_norm, "layer_norm has its one shift in bias; leave recurrent_bias out"),
            (self.cell_clip is not None and not self.cell_clip > 0, "cell_clip must be positive"),
        ):
            if refused:
                raise ValueError(f"{self}: {reason}.")

    @staticmethod
    def variants(features, **settings):
        """The vanilla LSTM of Greff et al. (2017) and its eight ablations, by the paper's abbreviations.

        >>> LSTM.variants(8)["CIFG"]
        LSTM(features=8, coupled=True, peepholes=True)
        """
        off = {"NIG": "input_gate", "NFG": "forget_gate", "NOG": "output_gate", "NP": "peepholes"}
        changes: dict[str, dict] = {"V": {}} | {name: {field: False} for name, field in off.items()}
        changes |= {"NIAF": {"activation": "identity"}, "NOAF": {"output_activation": "identity"}}
        changes |= {"CIFG": {"coupled": True}, "FGR": {"gate_recurrence": True}}
        return {name: LSTM(features, **{"peepholes": True, **settings, **change}) for name, change in changes.items()}

    @property
    def blocks(self):
        """The gates that have parameters, a letter each, in the order of their blocks."""
        there = zip("ifgo", (self.input_gate, self.forget_gate and not self.coupled, True, self.output_gate), strict=True)
        return "".join(letter for letter, here in there if here)

    def init(self, key, xs):
        H, dtype, keys = self.features, self.param_dtype, jax.random.split(jax.random.fold_in(key, 2))
        params = self.dense_params(key, xs, gates=len(self.blocks), rows=self.projection)
        if self.use_bias:
            remember = parts.forget_start(self, key)
            starts = {"f": remember} | ({"i": -remember} if self.coupled or self.chrono else {})
            params["bias"] = jnp.concatenate([starts.get(letter, jnp.zeros_like(remember)) for letter in self.blocks])
        if self.peepholes:
            params |= {f"peephole_{letter}": jnp.zeros((H,), dtype) for letter in self.blocks if letter != "g"}
        if self.gate_recurrence:
            params["gate_kernel"] = parts.blocks(self.recurrent_init, keys[0], (3 * H, H), 3, dtype)
        if self.projection is not None:
            params["projection_kernel"] = parts.blocks(self.kernel_init, keys[1], (H, self.projection), 1, dtype)
        if self.layer_norm:
            params |= dict.fromkeys(("norm_scale", "recurrent_norm_scale"), jnp.ones((len(self.blocks) * H,), dtype))
            params |= {"cell_norm_scale": jnp.ones((H,), dtype), "cell_norm_bias": jnp.zeros((H,), dtype)}
        return params

    def initial_carry(self, params, batch_shape):
        del params
        state = LSTMCarry(c=self.zero_state(batch_shape), h=self.zero_state(batch_shape, self.projection))
        gates = self.zero_state(batch_shape, 3 * self.features)
        return GateRecurrentLSTMCarry(*state, gates) if self.gate_recurrence else state

    def project(self, params, xs):
        us = xs @ params["kernel"]
        us = parts.layer_norm(us, params["norm_scale"]) if self.layer_norm else us
        return us + params["bias"] if self.use_bias else us

    def recur(self, params, carry):
        r = super().recur(params, carry)
        if not self.gate_recurrence:
            return r
        i, f, o = jnp.split(carry.gates @ params["gate_kernel"], 3, axis=-1)
        return r + jnp.concatenate([i, f, jnp.zeros_like(i), o], axis=-1)

    def gate(self, params, carry, u, r):
        z = u + (parts.layer_norm(r, params["recurrent_norm_scale"]) if self.layer_norm else r)
        early = self.blocks.rstrip("o") if self.peepholes else self.blocks
        z, late = z[..., : len(early) * self.features], z[..., len(early) * self.features :]
        if self.peepholes:
            looks = [params[f"peephole_{x}"] * carry.c if x != "g" else jnp.zeros_like(carry.c) for x in early]
            z = z + jnp.concatenate(looks, axis=-1)
        gates = self._squash(z, early)
        i = gates.get("i", 1.0)
        f = 1 - i if self.coupled else gates.get("f", 1.0)
        c = f * carry.c + i * gates["g"]
        c = c if self.cell_clip is None else jnp.clip(c, -self.cell_clip, self.cell_clip)
        if early != self.blocks:
            gates["o"] = jax.nn.sigmoid(late + params["peephole_o"] * c)
        seen = parts.layer_norm(c, params["cell_norm_scale"]) + params["cell_norm_bias"] if self.layer_norm else c
        h = gates.get("o", 1.0) * parts.activation(self.output_activation)(seen)
        h = h if self.projection is None else h @ params["projection_kernel"]
        if self.gate_recurrence:
            return GateRecurrentLSTMCarry(c, h, jnp.concatenate([gates[x] for x in "ifo"], axis=-1)), h
        return LSTMCarry(c, h), h

    def _squash(self, z, letters):
        """The gates by letter; one pass over all of them where the candidate is a tanh."""
        if self.activation == "tanh":
            kinds = "".join("t" if x == "g" else "s" for x in letters)
            return dict(zip(letters, jnp.split(parts.squash(z, kinds), len(letters), axis=-1), strict=True))
        phi = {"g": parts.activation(self.activation)}
        return {x: phi.get(x, jax.nn.sigmoid)(v) for x, v in zip(letters, jnp.split(z, len(letters), -1), strict=True)}
