"""Characters per second of a training step: seqjax, the same model in flax.nnx's own RNN, and in torch.nn.LSTM.

python -m benchmarks.train_step

One process, the peers in turn, medians. The model is that of the ``shakespeare`` preset of ``char_lm``: embedding, LSTM
layers that read the embedding too, a head that reads all of them, dropout; cross-entropy, clipping by the global norm,
AdamW, the state carried. The preset's weight drop is left out: the peers have none. JAX peers run the same step function,
on one CPU device and with the batch split over two; torch runs with as many threads as there are cores. Memory that is freed
is kept, for all of them (``sj.train.keep_memory``).
"""

import dataclasses
import os
import statistics
import time

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import rich.table

import seqjax as sj
from experiments.char_lm import PRESETS, CharLM

SYMBOLS, LENGTH, ROUNDS = 65, 10, 7


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


def jax_peer(model, config, devices):
    """A function that takes ``LENGTH`` training steps and waits for them."""
    graph, params, rest = flax.nnx.split(model, flax.nnx.Param, ...)  # type: ignore[misc]

    def loss(params, carry, batch, key):
        carry, logits = flax.nnx.merge(graph, params, rest, copy=True)(batch["inputs"], carry, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean(), (carry, {})

    optimizer = optax.chain(optax.clip_by_global_norm(config.clip), optax.adamw(1e-3))
    zeros = jnp.zeros((config.batch_size, config.features))
    carry: tuple = tuple((zeros, zeros) for _ in range(config.layers))
    if isinstance(model, CharLM):
        carry = model.rnn.initialize_carry((config.batch_size,))
    state = sj.train.create(params, optimizer, jax.random.key(0), carry=carry)
    step = sj.train.step_function(loss, optimizer, devices=devices)
    batch = batches(config)

    def run():
        nonlocal state
        for _ in range(LENGTH):
            state, metrics = step(state, batch)
        return float(metrics["loss"])

    return run


def torch_peer(config):
    """The same in PyTorch, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_flush_denormal(True)
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
            carries, outputs = [], list[torch.Tensor]()
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


def main():
    jax.config.update("jax_num_cpu_devices", 2)
    sj.train.keep_memory()
    config = dataclasses.replace(PRESETS["shakespeare"], weight_drop=0.0)
    peers = {}
    for devices in (1, 2):
        peers[f"seqjax, {devices} device(s)"] = jax_peer(CharLM(SYMBOLS, config, rngs=flax.nnx.Rngs(0)), config, devices)
        peers[f"flax.nnx, {devices} device(s)"] = jax_peer(FlaxLM(SYMBOLS, config, rngs=flax.nnx.Rngs(0)), config, devices)
    torch_run = torch_peer(config)
    if torch_run is None:
        print("torch is not installed and left out")
    else:
        peers["torch"] = torch_run
    losses = {name: run() for name, run in peers.items()}
    spread = max(losses.values()) - min(losses.values())
    if spread > 0.3:
        raise RuntimeError(f"the peers do not learn the same: losses after {LENGTH} steps are {losses}")
    report(config, measure(peers))


def measure(peers):
    """Seconds of each round of each peer, the peers in alternating order."""
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for i in range(ROUNDS):
        for name, run in list(peers.items())[:: 1 if i % 2 else -1]:
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(config, seconds):
    """Prints the table."""
    characters = config.batch_size * config.chunk * LENGTH
    best = statistics.median(seconds["seqjax, 2 device(s)"])
    sizes = f"{config.layers} LSTM layers of {config.features} with skips, batch {config.batch_size} x {config.chunk}"
    table = rich.table.Table(
        title=f"training step, {sizes}; jax {jax.__version__}, flax {flax.__version__}, {os.cpu_count()} cores"
    )
    for column in ("peer", "characters per second", "spread", "time over seqjax, 2 devices"):
        table.add_column(column)
    for name, times in seconds.items():
        middle = statistics.median(times)
        spread = f"{characters / max(times):,.0f} to {characters / min(times):,.0f}"
        table.add_row(name, f"{characters / middle:,.0f}", spread, f"{middle / best:.2f}")
    rich.console.Console().print(table)


if __name__ == "__main__":
    main()
