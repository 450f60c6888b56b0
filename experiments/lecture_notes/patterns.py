"""The patterns of input and output: one to many, many to one, many to many of equal and of different length."""

import functools
from typing import NamedTuple

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    LENGTHS,
    MASK,
    Affine,
    B,
    F,
    H,
    T,
    affine,
    agree,
    by_row,
    params_of,
    require,
    run,
)
from seqjax.decode import greedy

WIDE = 16  # fewer units write the same symbol again and again


class Writer(NamedTuple):
    """A network of 16 units that reads its own last symbol and writes the next one."""

    table: np.ndarray  # [V, E], the embedding
    f: Affine
    head: np.ndarray  # [V, 16]

    @classmethod
    def random(cls, rng, symbols, width=3):
        return cls(2 * rng.normal(size=(symbols, width)), affine(rng, width, WIDE), rng.normal(size=(symbols, WIDE)))

    def loop(self, h, token, length):
        """What it writes, by a loop over one sequence."""
        written = []
        for _ in range(length):
            h = np.tanh(self.f(self.table[token], h))
            token = int(np.argmax(self.head @ h))
            written.append(token)
        return written


@functools.partial(jax.jit, static_argnames="length")
def write(writer, h, *, length):
    """The same from states [B, 16], by seqjax's cell and decoder: tokens [length, B]. Symbol 0 is what it starts from."""
    f = writer.f
    params = {"kernel": f.W.T, "recurrent_kernel": f.V.T, "bias": f.b}

    def step(carry, token):
        carry, ys = sj.Elman(WIDE).apply(params, carry, writer.table[token][None])
        return carry, ys[0] @ writer.head.T

    start = jnp.zeros((len(h),), jnp.int32)
    return greedy(step, sj.HiddenCarry(h), start, length=length).tokens


@check("S1 S3", "one to many: an output sequence from one vector, each output read as the next input")
def one_to_many(rng):
    writer, into, v = Writer.random(rng, 6), rng.normal(size=(WIDE, 5)), rng.normal(size=(B, 5))
    h = v @ into.T
    tokens = np.asarray(write(writer, h, length=9))
    require(tokens.shape == (9, B), f"shape {tokens.shape}")
    want = np.array([writer.loop(row, 0, 9) for row in h]).T
    require(np.any(np.ptp(tokens, axis=0) > 0), "the same symbol again and again")
    return require(
        np.array_equal(tokens, want), f"{B} vectors in, {tokens.shape} symbols out, equal to a loop's: {tokens[:, 0]}"
    )


@check("S1 S2 S3 S4", "many to one: the last state stands for the sequence, whatever its length")
def many_to_one(rng):
    xs, f = rng.normal(size=(T, B, F)), affine(rng)
    rnn = sj.nnx.RNN(sj.Elman(H), F, rngs=flax.nnx.Rngs(0))
    rnn.params = flax.nnx.data({name: flax.nnx.Param(jnp.asarray(value)) for name, value in params_of(f).items()})
    carry, _ = rnn(
        jnp.asarray(xs.swapaxes(0, 1)), initial_carry=sj.HiddenCarry(jnp.zeros((B, H))), seq_lengths=jnp.asarray(LENGTHS)
    )
    want = [reference.elman(f, xs[:n, b], np.zeros(H))[-1] for b, n in enumerate(LENGTHS)]
    return f"lengths {LENGTHS}: {agree(carry.h, np.array(want))}"


@check("S2", "many to one: the mean of all states can stand for the sequence instead")
def mean_of_states(rng):
    xs, f = rng.normal(size=(T, B, F)), affine(rng)
    _, ys = run(sj.Elman(H), params_of(f), xs, mask=MASK)
    want = [reference.elman(f, xs[:n, b], np.zeros(H)).mean(0) for b, n in enumerate(LENGTHS)]
    return f"lengths {LENGTHS}: {agree(ys.sum(0) / LENGTHS[:, None], np.array(want))}"


@check("S1 S2 S3", "many to many, synchronous: one label for every input")
def many_to_many(rng):
    xs, f, back, head = rng.normal(size=(T, B, F)), affine(rng), affine(rng), rng.normal(size=(5, 2 * H))
    tagger = sj.Bidirectional(sj.Elman(H), sj.Elman(H))
    _, ys = run(tagger, {"forward": params_of(f), "backward": params_of(back)}, xs)
    logits = ys @ head.T

    def loop(xs):
        ahead, behind = (reference.elman(*pair, np.zeros(H)) for pair in ((f, xs), (back, xs[::-1])))
        return np.concatenate([ahead, behind[::-1]], axis=-1) @ head.T

    require(logits.shape == (T, B, 5), f"shape {logits.shape}")
    return f"{T} inputs, {T} labels: {agree(logits, by_row(loop, xs))}"


@check("S0 S1 S2 S3 S4", "many to many, encoder and decoder: the last state of one starts the other, lengths differ")
def encoder_decoder(rng):
    encoder, writer = affine(rng, hidden=WIDE), Writer.random(rng, 6)
    for steps, length in ((T, 9), (4, 2)):
        xs = rng.normal(size=(steps, B, F))
        carry, _ = run(sj.Elman(WIDE), params_of(encoder), xs)
        tokens = np.asarray(write(writer, carry.h, length=length))
        want = [writer.loop(reference.elman(encoder, xs[:, b], np.zeros(WIDE))[-1], 0, length) for b in range(B)]
        require(np.array_equal(tokens, np.array(want).T), f"{tokens} instead of {np.array(want).T}")
    return "7 in and 9 out, 4 in and 2 out: equal to a loop's"


@check("S0 S2", "autoregressive: what the decoder wrote before is what it reads next")
def autoregressive(rng):
    writer, h = Writer.random(rng, 6), rng.normal(size=(B, WIDE))
    tokens = np.asarray(write(writer, h, length=9))
    fed = writer.table[np.concatenate([np.zeros((1, B), int), tokens[:-1]])]
    _, hs = run(sj.Elman(WIDE), params_of(writer.f), fed, sj.HiddenCarry(h))
    agreed = np.mean(np.argmax(hs @ writer.head.T, axis=-1) == tokens)
    return require(agreed == 1, f"fed with its own {tokens.size} symbols at once, it predicts {agreed:.0%} of them")
