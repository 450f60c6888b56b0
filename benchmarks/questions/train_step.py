"""Training steps of the ``shakespeare`` model of ``char_lm``, ten at a time, beside the same in Flax and PyTorch.

The model: embedding, LSTM layers that read the embedding too, a head that reads all of them, dropout; cross-entropy,
clipping by the global norm, AdamW, the state carried. The preset's weight drop is left out: the peers have none. JAX peers
run the same step function, on one device and with the batch split over all.
"""

import dataclasses
from typing import Any

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from benchmarks import layers, torch_peer
from benchmarks.measure import Case, Program
from benchmarks.specs import Size
from experiments import training
from experiments.char_lm import PRESETS, CharLM

UNIT = "ms"
PRESET = PRESETS["shakespeare"]
SIZES = (Size(PRESET.chunk, PRESET.batch_size, PRESET.embedding, PRESET.features),)
SYMBOLS, LENGTH = 65, 10


def cases(options):
    for size in options.chosen(SIZES):
        sizes = {"chunk": size.T, "batch_size": size.B, "embedding": size.D, "features": size.H}
        yield _case(dataclasses.replace(PRESET, weight_drop=0.0, **sizes), size, options)


def _case(config, size, options):
    programs = {}
    models = {layers.OURS: CharLM, "flax.nnx": FlaxLM}
    for name, module in models.items():
        for devices in sorted({1, len(jax.devices())}):
            if name == layers.OURS or options.wants(name):
                programs[layers.on(name, devices)] = Program(
                    jax_steps(module(SYMBOLS, config, rngs=flax.nnx.Rngs(0)), config, devices)
                )
    if options.wants(torch_peer.NAME) and torch_peer.is_installed():
        programs[torch_peer.NAME] = Program(torch_steps(config))
    losses = {name: program.run() for name, program in programs.items()}
    if max(losses.values()) - min(losses.values()) > 0.3:
        raise RuntimeError(f"the peers do not learn the same: losses after {LENGTH} steps are {losses}")
    name = f"{LENGTH} steps, {config.layers} layers, {size}"
    return Case(name, {"cell": "char_lm", "steps": LENGTH, "layers": config.layers, **size._asdict()}, programs)


class FlaxLM(flax.nnx.Module):
    """The model of ``char_lm`` with flax.nnx's recurrent layers."""

    def __init__(self, symbols, config, *, rngs):
        cells = [flax.nnx.OptimizedLSTMCell(width, config.features, rngs=rngs) for width in widths(config)]
        self.embed = flax.nnx.Embed(symbols, config.embedding, rngs=rngs)
        self.layers = flax.nnx.List([flax.nnx.RNN(cell, return_carry=True, rngs=rngs) for cell in cells])
        self.dropout = flax.nnx.Dropout(config.dropout)
        self.head = flax.nnx.Linear(config.features * config.layers, symbols, rngs=rngs)

    def __call__(self, tokens, carry, *, key):
        xs = below = self.embed(tokens)
        carries, outputs = [], list[jax.Array]()
        for i, layer in enumerate(self.layers):
            if i:
                below = jnp.concatenate([xs, outputs[-1]], axis=-1)
                below = self.dropout(below, deterministic=False, rngs=jax.random.fold_in(key, i))
            new, ys = layer(below, initial_carry=carry[i])
            carries.append(new)
            outputs.append(ys)
        ys = jnp.concatenate(outputs, axis=-1)
        return tuple(carries), self.head(self.dropout(ys, deterministic=False, rngs=key))


def widths(config):
    """Of what each layer reads: the embedding, and the layer below."""
    return [config.embedding + (config.features if i else 0) for i in range(config.layers)]


def jax_steps(model, config, devices):
    """A function that takes ``LENGTH`` training steps and waits for them."""
    build = training.Model(model)

    def loss(params, carry, batch, key):
        carry, logits = build(params)(batch["inputs"], carry, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean(), (carry, {})

    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adamw(1e-3))
    zeros = jnp.zeros((config.batch_size, config.features))
    carry: tuple = tuple((zeros, zeros) for _ in range(config.layers))
    if isinstance(model, CharLM):
        carry = model.rnn.initialize_carry((config.batch_size,))
    state = sj.train.create(build.weights, optimizer, jax.random.key(0), carry=carry)
    step = sj.train.step_function(loss, optimizer, devices=devices)
    batch = batches(config)

    def run():
        nonlocal state
        for _ in range(LENGTH):
            state, metrics = step(state, batch)
        return float(metrics["loss"])

    return run


def torch_steps(config):
    """The same in PyTorch."""
    torch = torch_peer.start()
    torch.manual_seed(0)  # as the others start: what is learnt in a few steps depends on it
    embed = torch.nn.Embedding(SYMBOLS, config.embedding)
    layers = [torch.nn.LSTM(width, config.features, batch_first=True) for width in widths(config)]
    head = torch.nn.Linear(config.features * config.layers, SYMBOLS)
    dropout = torch.nn.Dropout(config.dropout)
    params = [p for module in (embed, *layers, head) for p in module.parameters()]
    optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=1e-4)
    batch = {name: torch.tensor(np.asarray(value), dtype=torch.int64) for name, value in batches(config).items()}
    zeros = torch.zeros((1, config.batch_size, config.features))
    carry = [(zeros, zeros)] * config.layers

    def run():
        nonlocal carry
        for _ in range(LENGTH):
            optimizer.zero_grad()
            xs = below = embed(batch["inputs"])
            carries, outputs = [], list[Any]()
            for i, layer in enumerate(layers):
                if i:
                    below = dropout(torch.cat([xs, outputs[-1]], -1))
                ys, new = layer(below, carry[i])
                carries.append((new[0].detach(), new[1].detach()))
                outputs.append(ys)
            logits = head(dropout(torch.cat(outputs, -1)))
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["targets"].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, config.clip)
            optimizer.step()
            carry = carries
        return loss.item()

    return run


def batches(config):
    codes = np.random.default_rng(0).integers(0, SYMBOLS, (config.batch_size, config.chunk + 1)).astype(np.int32)
    return {"inputs": codes[:, :-1], "targets": codes[:, 1:]}
