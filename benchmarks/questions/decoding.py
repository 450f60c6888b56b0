"""Writing T symbols greedily and with a beam of 5: an LSTM that attends to a memory, compiled, and in a loop of PyTorch's.

A size T,B,D,H has a memory of T positions, and is asked with few symbols and with many, V. No sequence stops before T
symbols, so that all write as much: T * B a batch. On several devices each writes for a part of the batch. "seqjax, a copy
each" is a beam whose step computes the memory anew, so that each hypothesis has its own. PyTorch's loop is the plain one,
eager; it repeats the memory once, before the first step.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import seqjax as sj
from benchmarks import torch_peer
from benchmarks.layers import OURS, on, spread
from benchmarks.measure import Case, Program
from benchmarks.specs import Size

UNIT = "ms"
SIZES = (Size(50, 1, 128, 128), Size(50, 16, 128, 128), Size(50, 1, 256, 256), Size(50, 16, 256, 256))
VOCABULARIES = (100, 4000)  # letters, subwords
WIDTH = 5


def cases(options):
    for size, symbols in itertools.product(options.chosen(SIZES), VOCABULARIES):
        cell, weights, carry = draw(size, symbols)
        for name, ours, theirs in (("greedy", _greedy, _torch_greedy), ("beam", _beam, _torch_beam)):
            programs = dict(ours(cell, weights, carry, size.T))
            if torch_peer.is_installed() and options.wants(torch_peer.NAME):
                programs[torch_peer.NAME] = _torch(theirs, cell, weights, carry, size.T)
            title = f"{name} {size}, V {symbols}"
            same_symbols(title, programs)
            fields = {"search": name, "tokens": size.T * size.B, "symbols": symbols, **size._asdict()}
            yield Case(title, fields, programs)


def draw(size, symbols):
    """A cell, weights, and the state before the first symbol, with logits far enough apart to agree on the largest."""
    T, B, D, H = size
    rng = np.random.default_rng(0)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
    cell = sj.LSTM(H)
    params = cell.init(jax.random.key(0), jnp.zeros((1, 1, D)))
    weights = {
        "cell": params | {"bias": params["bias"] + 0.1 * normal(4 * H)},
        "embedding": normal(symbols, D),
        "mix": normal(2 * H, H) / np.float32(np.sqrt(H)),
        "head": normal(H, symbols),
        "bias": normal(symbols),
    }
    return cell, weights, (sj.LSTMCarry(normal(B, H), jnp.tanh(normal(B, H))), normal(B, T, H))


def same_symbols(name, programs):
    """Refuses to go on where two wrote different symbols."""
    written = {peer: np.asarray(program.run()[0]) for peer, program in programs.items()}
    first, reference = next(iter(written.items()))
    for peer, symbols in written.items():
        if not np.array_equal(symbols, reference):
            raise RuntimeError(f"{name}: {peer} writes other symbols than {first}.")


def _step(cell, weights, carry, token, *, copy=False):
    state, memory = carry
    state, h = cell.step(weights["cell"], state, cell.project(weights["cell"], weights["embedding"][token]))
    attention = jax.nn.softmax(jnp.einsum("bh,bsh->bs", h, memory))
    context = jnp.einsum("bs,bsh->bh", attention, memory)
    mixed = jnp.tanh(jnp.concatenate([h, context], axis=-1) @ weights["mix"])
    return (state, 1.0 * memory if copy else memory), mixed @ weights["head"] + weights["bias"]


def _program(run, *arguments):
    compiled = jax.jit(run).lower(*arguments).compile()
    return Program(lambda: jax.block_until_ready(compiled(*arguments)), lambda result: result[1])


def _on_all_devices(run, weights, carry):
    """The program of ``run(weights, carry)`` with the batch split over all devices, by its name; none where it can't be."""
    devices, batch = len(jax.devices()), len(carry[1])
    if devices == 1 or batch % devices:
        return
    axes = [len(leaf.shape) - 1 for leaf in jax.eval_shape(run, weights, carry)]  # the batch comes last in what is written
    inputs = PartitionSpec(), PartitionSpec("batch")
    outputs = tuple(PartitionSpec(*[None] * axis, "batch") for axis in axes)
    split, places = spread(run, inputs, outputs, devices)
    yield on(OURS, devices), _program(split, *map(jax.device_put, (weights, carry), places))


def _start(carry):
    return jnp.zeros(len(carry[1]), jnp.int32)


def _greedy(cell, weights, carry, length):
    """The whole loop compiled, and a compiled step called from Python."""

    def whole(weights, carry):
        written = sj.decode.greedy(functools.partial(_step, cell, weights), carry, _start(carry), length=length)
        return written.tokens, written.scores

    @jax.jit
    def one(weights, carry, token, score):
        carry, logits = _step(cell, weights, carry, token)
        return carry, jnp.argmax(logits, -1).astype(token.dtype), score + jnp.max(jax.nn.log_softmax(logits), -1)

    def stepwise():
        state, token, score, tokens = carry, _start(carry), jnp.zeros(len(carry[1])), []
        for _ in range(length):
            state, token, score = one(weights, state, token, score)
            tokens.append(token)
        return np.stack(tokens), score

    yield OURS, _program(whole, weights, carry)
    yield from _on_all_devices(whole, weights, carry)
    yield f"{OURS}, step by step", Program(lambda: jax.block_until_ready(stepwise()), lambda result: result[1])


def _beam(cell, weights, carry, length):
    """A beam of one memory, and one of a memory for each hypothesis."""

    def search(copy, weights, carry):
        step = functools.partial(_step, cell, weights, copy=copy)
        found = sj.decode.beam_search(step, carry, _start(carry), width=WIDTH, n_best=WIDTH, length=length)
        return found.tokens, found.log_probabilities

    own = functools.partial(search, False)
    yield OURS, _program(own, weights, carry)
    yield from _on_all_devices(own, weights, carry)
    yield f"{OURS}, a copy each", _program(functools.partial(search, True), weights, carry)


def _torch(search, cell, weights, carry, length):
    """A loop of PyTorch's with the same weights."""
    torch = torch_peer.start()
    tensor = lambda array: torch.tensor(np.asarray(array), device=torch_peer.device())  # noqa: E731
    own = {name: tensor(array) for name, array in weights.items() if name != "cell"}
    kernels = {name: tensor(array) for name, array in sj.interop.torch.dump(cell, weights["cell"]).items()}
    input_kernel, kernel, bias = (kernels[f"{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih"))
    (c, h), memory = jax.tree.map(tensor, tuple(carry))

    def step(state, memory, token):
        h, c = torch.lstm_cell(own["embedding"][token], state, input_kernel, kernel, bias, torch.zeros_like(bias))
        attention = torch.softmax(torch.bmm(memory, h[:, :, None])[:, :, 0], dim=-1)
        context = torch.bmm(attention[:, None], memory)[:, 0]
        mixed = torch.tanh(torch.cat([h, context], dim=-1) @ own["mix"])
        return (h, c), torch.log_softmax(torch.addmm(own["bias"], mixed, own["head"]), dim=-1)

    def run():
        with torch.inference_mode():
            tokens, scores = search(torch, step, (h, c), memory, length)
            torch_peer.finished(scores)
            return tokens.cpu(), scores.cpu()

    return Program(run, lambda result: result[1].numpy())


def _torch_greedy(torch, step, state, memory, length):
    token, score, tokens = torch.zeros(len(memory), dtype=torch.long, device=memory.device), 0.0, []
    for _ in range(length):
        state, log_probabilities = step(state, memory, token)
        best, token = log_probabilities.max(dim=-1)
        score = score + best
        tokens.append(token)
    return torch.stack(tokens), score


def _torch_beam(torch, step, state, memory, length):
    """Hypotheses as more rows of the batch, ``B * W`` of them, as plain loops have them."""
    B = len(memory)
    memory = memory.repeat_interleave(WIDTH, dim=0)
    state = tuple(leaf.repeat_interleave(WIDTH, dim=0) for leaf in state)
    token = torch.zeros(B * WIDTH, dtype=torch.long, device=memory.device)
    scores = torch.full((B, WIDTH), -torch.inf, device=memory.device)
    scores[:, 0] = 0.0
    tokens = torch.zeros((B * WIDTH, 0), dtype=torch.long, device=memory.device)
    first = WIDTH * torch.arange(B, device=memory.device)[:, None]
    for _ in range(length):
        state, log_probabilities = step(state, memory, token)
        V = log_probabilities.shape[-1]
        grown = scores[:, :, None] + log_probabilities.view(B, WIDTH, V)
        scores, index = grown.view(B, -1).topk(WIDTH, dim=-1)
        rows, token = (first + index // V).flatten(), (index % V).flatten()
        state = tuple(leaf[rows] for leaf in state)
        tokens = torch.cat([tokens[rows], token[:, None]], dim=-1)
    return tokens.view(B, WIDTH, length).permute(1, 2, 0), scores.T
