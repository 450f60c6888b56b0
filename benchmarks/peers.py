"""JAX frameworks, each with the weights of ours: how it runs one cell, in one direction, over a batch.

A peer is asked for ``(weights, run)`` with ``run(weights, xs, lengths) -> ys``, in the layout of axes that it prefers, so
that it pays for no transposition that its users would not. ``lengths`` is None for a dense batch. What is not installed is
named and left out, and so is a cell that a peer has not.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen
import flax.nnx
import jax
import jax.numpy as jnp

import seqjax as sj


class Peer(NamedTuple):
    """A framework by its name, its packages, and its way to run a cell."""

    name: str
    packages: tuple[str, ...]
    time_major: bool
    ragged: bool
    build: Callable[[Any, dict], tuple[Any, Callable]]  # raises KeyError for a cell that it has not

    def is_installed(self):
        return all(importlib.util.find_spec(package) for package in self.packages)

    def versions(self):
        names = {"haiku": "dm-haiku"}
        return {name: importlib.metadata.version(names.get(name, name)) for name in self.packages}


def model(peer, recurrence, params):
    """``(weights, run)`` of a whole recurrence: stacks and both directions are put together from a peer's single runs."""
    time = 0 if peer.time_major else 1
    if isinstance(recurrence, sj.Stack):
        layers = [model(peer, layer, params[str(i)]) for i, layer in enumerate(recurrence.layers)]

        def run(weights, xs, lengths):
            for own, (_, layer) in zip(weights, layers, strict=True):
                xs = layer(own, xs, lengths)
            return xs

        return [weights for weights, _ in layers], run
    if isinstance(recurrence, sj.Bidirectional):
        sides = [model(peer, getattr(recurrence, side), params[side]) for side in ("forward", "backward")]

        def run(weights, xs, lengths):
            (_, forward), (_, backward) = sides
            back = jnp.flip(backward(weights[1], jnp.flip(xs, time), lengths), time)
            return jnp.concatenate([forward(weights[0], xs, lengths), back], -1)

        return [weights for weights, _ in sides], run
    return peer.build(recurrence, params)


def _linen(cell, params):
    nn = flax.linen
    kinds: dict = {sj.LSTM: nn.OptimizedLSTMCell, sj.GRU: nn.GRUCell, sj.Elman: nn.SimpleCell}
    kind = kinds[type(cell)]
    module = nn.RNN(kind(cell.features))

    def run(weights, xs, lengths):
        return module.apply({"params": {"cell": weights}}, xs, seq_lengths=lengths)

    return sj.interop.flax.dump(cell, params, kind), run


def _nnx(cell, params):
    nnx = flax.nnx
    kinds: dict = {sj.LSTM: nnx.OptimizedLSTMCell, sj.GRU: nnx.GRUCell, sj.Elman: nnx.SimpleCell}
    kind = kinds[type(cell)]
    module = nnx.RNN(kind(params["kernel"].shape[0], cell.features, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    nnx.update(module.cell, sj.interop.flax.dump(cell, params, kind))
    graph, weights, rest = nnx.split(module, nnx.Param, ...)  # type: ignore[misc]

    def run(weights, xs, lengths):
        return nnx.merge(graph, weights, rest, copy=True)(xs, seq_lengths=lengths)

    return weights, run


def _haiku(cell, params):
    """Haiku's GRU resets before the product, and its vanilla RNN has a ReLU: other cells than those of the other peers."""
    import haiku

    name = {sj.LSTM: "lstm/linear"}[type(cell)]
    i, f, g, o = jnp.split(jnp.concatenate([params["kernel"], params["recurrent_kernel"]]), 4, -1)
    bi, bf, bg, bo = jnp.split(params["bias"], 4)
    weights = {name: {"w": jnp.concatenate([i, g, f, o], -1), "b": jnp.concatenate([bi, bg, bf - 1, bo])}}

    def unroll(xs):
        core = haiku.LSTM(cell.features)
        return haiku.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    transformed: Any = haiku.without_apply_rng(haiku.transform(unroll))
    return weights, lambda weights, xs, lengths: transformed.apply(weights, xs)


def _equinox(cell, params):
    import equinox

    kinds: dict = {sj.LSTM: equinox.nn.LSTMCell, sj.GRU: equinox.nn.GRUCell}
    module = kinds[type(cell)](len(params["kernel"]), cell.features, key=jax.random.key(0))
    own = [params["kernel"].T, params["recurrent_kernel"].T, params["bias"]]
    module = equinox.tree_at(lambda m: [m.weight_ih, m.weight_hh, m.bias], module, own)
    if hasattr(module, "bias_n"):  # the second bias of the new gate, which ours has only with recurrent_bias
        module = equinox.tree_at(lambda m: m.bias_n, module, jnp.zeros(cell.features))
    weights, rest = equinox.partition(module, equinox.is_array)
    zeros = jnp.zeros(cell.features)

    def run(weights, xs, lengths):
        del lengths
        one = jax.vmap(equinox.combine(weights, rest))

        def step(state, x):
            state = one(x, state)
            return state, state[0] if isinstance(state, tuple) else state

        start = jnp.broadcast_to(zeros, (xs.shape[1], cell.features))
        return jax.lax.scan(step, (start, start) if type(cell) is sj.LSTM else start, xs)[1]

    return weights, run


def _keras(cell, params):
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras

    kinds: dict = {sj.LSTM: keras.layers.LSTM, sj.GRU: keras.layers.GRU, sj.Elman: keras.layers.SimpleRNN}
    layer = kinds[type(cell)](cell.features, return_sequences=True)
    layer.build((None, None, len(params["kernel"])))
    layer.set_weights(sj.interop.keras.dump(cell, params))
    rest = [v.value for v in layer.non_trainable_variables]

    def run(weights, xs, lengths):
        mask = None if lengths is None else jnp.arange(xs.shape[1]) < lengths[:, None]
        return layer.stateless_call(weights, rest, xs, mask=mask)[0]

    return [v.value for v in layer.trainable_variables], run


PEERS = (
    Peer("flax.linen", ("flax",), False, True, _linen),
    Peer("flax.nnx", ("flax",), False, True, _nnx),
    Peer("haiku", ("haiku",), True, False, _haiku),
    Peer("equinox", ("equinox",), True, False, _equinox),
    Peer("keras", ("keras",), False, True, _keras),
)
