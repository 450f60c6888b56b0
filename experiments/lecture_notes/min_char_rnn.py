"""The 112-line program min-char-rnn (Karpathy 2015), in NumPy from its equations and again in seqjax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import require

TEXT = """Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd;
But thy eternal summer shall not fade,
Nor lose possession of that fair thou ow'st;
"""
CODES = np.unique(list(TEXT), return_inverse=True)[1]
# The program has 100 units. Its training is chaotic then: from weights that differ by 1e-15 its own losses differ by 1e-6
# after ten updates. With 16 units rounding stays rounding, and all the rest is the program's.
SYMBOLS, HIDDEN, CHUNK, UPDATES = CODES.max() + 1, 16, 25, 200


def positions():
    """Where each chunk starts: the program goes on until the text ends, then begins anew with an empty state."""
    place, places = 0, []
    for _ in range(UPDATES):
        place = 0 if place + CHUNK + 1 >= len(CODES) else place
        places.append(place)
        place += CHUNK
    return np.array(places)


def program(weights):
    """Losses of min-char-rnn: tanh network, one-hot inputs, loss summed over a chunk, clipped elements, Adagrad."""
    U, W, V, b, d = (weight.copy() for weight in weights)  # x to h, h to h, h to y, and the two biases
    memory, losses, h = [np.zeros_like(weight) for weight in weights], [], np.zeros(HIDDEN)
    for place in positions():
        h = np.zeros(HIDDEN) if place == 0 else h
        inputs, targets = CODES[place : place + CHUNK], CODES[place + 1 : place + CHUNK + 1]
        hs = [h]
        for symbol in inputs:
            hs.append(np.tanh(U[:, symbol] + W @ hs[-1] + b))
        probabilities = reference.softmax(np.array(hs[1:]) @ V.T + d)
        losses.append(-np.log(probabilities[np.arange(CHUNK), targets]).sum())
        gradients = [np.zeros_like(weight) for weight in weights]
        flowing = np.zeros(HIDDEN)
        for t in reversed(range(CHUNK)):
            wrong = probabilities[t] - np.eye(SYMBOLS)[targets[t]]
            error = (V.T @ wrong + flowing) * (1 - hs[t + 1] ** 2)
            gradients[0][:, inputs[t]] += error
            gradients[1] += np.outer(error, hs[t])
            gradients[2] += np.outer(wrong, hs[t + 1])
            gradients[3] += error
            gradients[4] += wrong
            flowing = W.T @ error
        for weight, gradient, squares in zip((U, W, V, b, d), gradients, memory, strict=True):
            gradient = np.clip(gradient, -5, 5)
            squares += gradient**2
            weight -= 0.1 * gradient / np.sqrt(squares + 1e-8)
        h = hs[-1]
    return np.array(losses)


def same_in_seqjax(weights):
    """The same losses by a cell, Optax and a scan over the chunks."""
    U, W, V, b, d = map(jnp.asarray, weights)
    params = {"rnn": {"kernel": U.T, "recurrent_kernel": W.T, "bias": b}, "head": V.T, "head_bias": d}
    # optax.adagrad(0.1) starts its accumulator at 0.1 and has another epsilon; the program starts at nothing.
    optimizer = optax.chain(optax.clip(5.0), optax.scale_by_rss(0.0, 1e-8), optax.scale(-0.1))
    inputs, targets = (np.stack([CODES[p + k : p + k + CHUNK] for p in positions()]) for k in (0, 1))

    def loss(params, carry, inputs, targets):
        carry, ys = sj.Elman(HIDDEN).apply(params["rnn"], carry, jax.nn.one_hot(inputs, SYMBOLS, dtype=U.dtype))
        logits = ys @ params["head"] + params["head_bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).sum(), carry

    def update(state, chunk):
        params, inner, carry = state
        inputs, targets, anew = chunk
        carry = jax.tree.map(lambda leaf: jnp.where(anew, 0.0, leaf), carry)
        (value, carry), gradients = jax.value_and_grad(loss, has_aux=True)(params, carry, inputs, targets)
        updates, inner = optimizer.update(gradients, inner)
        return (optax.apply_updates(params, updates), inner, carry), value

    state = params, optimizer.init(params), sj.HiddenCarry(jnp.zeros((HIDDEN,)))
    return np.asarray(jax.jit(lambda s, c: jax.lax.scan(update, s, c))(state, (inputs, targets, positions() == 0))[1])


def smooth(losses):
    """The program's own average of its losses, which starts at that of a uniform guess."""
    value = np.log(SYMBOLS) * CHUNK
    for loss in losses:
        value = 0.999 * value + 0.001 * loss
    return value


@check("S3", "the 112-line program min-char-rnn (Karpathy): its losses, update by update, from the same initial weights")
def loss_trace(rng):
    shapes = (HIDDEN, SYMBOLS), (HIDDEN, HIDDEN), (SYMBOLS, HIDDEN), (HIDDEN,), (SYMBOLS,)
    weights = [0.01 * rng.normal(size=shape) if len(shape) == 2 else np.zeros(shape) for shape in shapes]
    want, got = program(weights), same_in_seqjax(weights)
    apart = np.max(np.abs(got / want - 1))
    require(
        np.sum(positions() == 0) > 5 and np.mean(want[-9:]) < 0.9 * want[0], f"the loss went from {want[0]} to {want[-1]}"
    )
    require(abs(smooth(got) / smooth(want) - 1) < 1e-9, "the smooth losses differ")
    return require(
        apart < 1e-8,
        f"{HIDDEN} units, {UPDATES} updates, loss {want[0]:.1f} to {want[-1]:.1f}: largest relative difference {apart:.0e}",
    )
