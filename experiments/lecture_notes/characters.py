"""The character language model: "hello", which needs a memory."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import require, run, shapes_of
from seqjax import decode

ALPHABET = "helo"
HELLO = np.array([ALPHABET.index(letter) for letter in "hello"])
INPUTS, TARGETS = np.eye(4)[HELLO[:-1]], HELLO[1:]


def nll(logits):
    """Nats per character on "hello"."""
    return float(optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), jnp.asarray(TARGETS)).mean())


def greedy(cell, params, head):
    """The four letters that follow "h", the likeliest one fed back as the next input."""

    def step(carry, token):
        carry, ys = cell.apply(params, carry, jax.nn.one_hot(token, 4, dtype=head.dtype)[None])
        return carry, ys[0] @ head

    carry = sj.HiddenCarry(jnp.zeros((1, cell.features), head.dtype))
    return decode.greedy(step, carry, jnp.zeros((1,), jnp.int32), length=4).tokens[:, 0]


def spell(tokens):
    return "".join(ALPHABET[token] for token in np.asarray(tokens))


@check("S3", '"hello" needs a memory: l is followed by l and by o, so no function of the last letter fits it')
def needs_memory(rng):
    counts = np.zeros((4, 4))
    np.add.at(counts, (HELLO[:-1], HELLO[1:]), 1)
    table = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    best = -np.log(table[HELLO[:-1], HELLO[1:]]).mean()
    require(abs(best - 2 * np.log(2) / 4) < 1e-15, f"{best} nats per character")

    def loss(logits):  # a network without a memory: its state is a function of the last letter
        ys = sj.Elman(4, activation="identity", use_bias=False).apply(
            {"kernel": logits, "recurrent_kernel": jnp.zeros((4, 4))}, sj.HiddenCarry(jnp.zeros((4,))), INPUTS
        )[1]
        return optax.softmax_cross_entropy_with_integer_labels(ys, TARGETS).mean()

    descend = jax.jit(lambda z: jax.lax.fori_loop(0, 5_000, lambda _, z: z - 4.0 * jax.grad(loss)(z), z))
    reached = float(loss(descend(rng.normal(size=(4, 4)))))
    require(best <= reached < best + 1e-3, f"descent reached {reached}")
    return f"at best 2 ln 2 / 4 = {best:.4f} nats per letter; descent reaches {reached:.4f}"


@check("S3", '"hello" is no problem for a recurrent network: one wired by hand, with a unit that says "the last was l"')
def wired_hello(rng):
    cell = sj.Elman(5, activation="relu", use_bias=False)
    kernel, recurrent = np.eye(4, 5), np.zeros((5, 5))
    recurrent[ALPHABET.index("l"), 4] = 1
    head = np.zeros((5, 4))
    h, e, l, o = range(4)  # noqa: E741
    head[h, e] = head[e, l] = head[l, l] = head[4, o] = 20
    head[4, l] = -40
    _, hs = run(cell, {"kernel": kernel, "recurrent_kernel": recurrent}, INPUTS[:, None])
    loss = nll(hs[:, 0] @ head)
    written = spell(greedy(cell, {"kernel": kernel, "recurrent_kernel": recurrent}, jnp.asarray(head)))
    return require(loss < 1e-6 and written == "ello", f"{loss:.0e} nats per letter; writes h{written}")


@check("S3", 'trained on "hello", fed with what it writes, it writes "hello": five trainings from five draws')
def trained_hello(rng):
    cell, optimizer = sj.Elman(16), optax.rmsprop(0.03)

    def loss(weights):
        params, head = weights
        ys = cell.apply(params, sj.HiddenCarry(jnp.zeros((16,))), INPUTS)[1]
        return optax.softmax_cross_entropy_with_integer_labels(ys @ head, TARGETS).mean()

    def train(weights):
        def step(state, _):
            weights, inner = state
            updates, inner = optimizer.update(jax.grad(loss)(weights), inner)
            return (optax.apply_updates(weights, updates), inner), None

        weights, _ = jax.lax.scan(step, (weights, optimizer.init(weights)), None, length=400)[0]
        return loss(weights), greedy(cell, *weights)

    params = jax.tree.map(lambda leaf: 0.3 * rng.normal(size=(5, *leaf.shape)), shapes_of(cell, 4))
    losses, tokens = jax.jit(jax.vmap(train))((params, 0.3 * rng.normal(size=(5, 16, 4))))
    written = ", ".join(f"h{spell(row)}" for row in tokens)
    said = f"at most {max(losses):.0e} nats per letter; {written}"
    return require(max(losses) < 1e-3 and written == ", ".join(["hello"] * 5), said)
