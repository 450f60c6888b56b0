"""Models that answer with points: an encoder that reads them, and a decoder that points at them or says their numbers.

Position i + 1 is point i; position 0 opens an answer and ends one.
"""

from typing import Any

import flax.nnx
import jax
import jax.numpy as jnp

import seqjax as sj
from seqjax.attention import Additive, Attend, Pointer


class Solver(flax.nnx.Module):
    """What all have: an encoder, and a decoder that starts where the encoder ended.

    Args:
      coordinates: of a point.
      features: of the encoder, each way.
      layers: of the encoder.
      decoder: ``width -> recurrence``, width being that of the state of the encoder.
      bidirectional: whether the encoder reads both ways.
      rngs: stream "params".
    """

    def __init__(self, coordinates, features, decoder, *, layers, bidirectional, rngs):
        one_way = sj.LSTM(features)
        layer: Any = sj.Bidirectional(one_way, one_way) if bidirectional else one_way
        self.features, self.width = features, features * (2 if bidirectional else 1)
        self.embed = flax.nnx.Linear(coordinates, features, rngs=rngs)
        self.encoder = sj.nnx.RNN(sj.Stack(*[layer] * layers), features, rngs=rngs)
        self.decoder = sj.nnx.RNN(decoder(self.width), features, rngs=rngs)
        self.bridge = flax.nnx.Linear(self.width, 2 * self.width, rngs=rngs)

    def start(self, points, counts) -> Any:
        """What the decoder reads once a position has been said, ``[B, S, E]``, and its carry before it reads anything."""
        raise NotImplementedError

    def logits(self, ys, positions):
        """Outputs of the decoder ``[B, T, Y]`` -> logits of so many positions ``[B, T, S]``."""
        raise NotImplementedError

    def read(self, points, counts):
        """points ``[B, N, C]`` -> (embedded ``[B, N, E]``, memory ``[B, N, M]``, state of the decoder)."""
        embedded = self.embed(_filling(points, counts))
        (*_, final), memory = self.encoder(embedded, seq_lengths=counts)
        ends = final.h if hasattr(final, "h") else jnp.concatenate([final.forward.h, final.backward.h], axis=-1)
        c, h = jnp.split(self.bridge(ends), 2, axis=-1)
        return embedded, memory, sj.LSTMCarry(c, jnp.tanh(h))

    def __call__(self, points, counts, inputs):
        """inputs int ``[B, T]``, 0 and then an answer -> what may follow each, logits ``[B, T, S]``."""
        read, carry = self.start(points, counts)
        _, ys = self.decoder(jnp.take_along_axis(read, inputs[..., None], axis=1), initial_carry=carry)
        return self.logits(ys, read.shape[1])

    def step(self, read, carry, position):
        """After one more position ``[B]``: (carry, logits ``[B, S]``)."""
        x = jnp.take_along_axis(read, position[:, None, None], axis=1)
        carry, ys = self.decoder(x, initial_carry=carry)
        return carry, self.logits(ys, read.shape[1])[:, 0]


class Pointing(Solver):
    """A pointer network: the logits are scores of a query and of what the encoder has made of each point.

    With a glimpse the query is what was found in a first reading, as of Bello et al. (2017); else it is the state.
    """

    def __init__(self, coordinates, features, *, layers, bidirectional, score, glimpse, rngs):
        def decoder(width):
            cell = Attend(sj.LSTM(width), Additive(score), width) if glimpse else sj.LSTM(width)
            return Pointer(cell, Additive(score), width)

        super().__init__(coordinates, features, decoder, layers=layers, bidirectional=bidirectional, rngs=rngs)
        self.glimpse = glimpse
        self.opening = flax.nnx.Param(jax.random.normal(rngs.params(), (features,)))
        self.ending = flax.nnx.Param(0.1 * jax.random.normal(rngs.params(), (self.width,)))

    def start(self, points, counts):
        embedded, memory, state = self.read(points, counts)
        read, memory = _behind(self.opening[...], embedded), _behind(self.ending[...], memory)
        there = jnp.arange(memory.shape[1]) <= counts[:, None]
        carry = self.decoder.start(memory, there)
        state = carry.state._replace(state=state) if self.glimpse else state
        return read, carry._replace(state=state)

    def logits(self, ys, positions):
        del positions
        return ys


class Naming(Solver):
    """The control: the numbers of points are words of a fixed vocabulary, 0 to ``names``, read and said as such."""

    def __init__(self, coordinates, features, *, names, layers, bidirectional, score, rngs):
        def decoder(width):
            return sj.LSTM(width) if score is None else Attend(sj.LSTM(width), Additive(score), width)

        super().__init__(coordinates, features, decoder, layers=layers, bidirectional=bidirectional, rngs=rngs)
        self.attends = score is not None
        self.names = flax.nnx.Embed(names + 1, features, rngs=rngs)
        self.head = flax.nnx.Linear(self.width, names + 1, rngs=rngs)

    def start(self, points, counts):
        _, memory, state = self.read(points, counts)
        B, N, _ = points.shape
        read = jnp.broadcast_to(self.names(jnp.arange(N + 1)), (B, N + 1, self.features))
        if not self.attends:
            return read, state
        there = jnp.arange(N) < counts[:, None]
        return read, self.decoder.start(memory, there, state)

    def logits(self, ys, positions):
        return self.head(ys)[..., :positions]


def _filling(points, counts):
    """The points ``[B, N, C]`` moved and scaled, each set by one factor, so that its box is a square's of variance 1.

    Neither changes an answer, so a model need not learn that it does not.
    """
    there = jnp.arange(points.shape[1]) < counts[:, None]
    low = jnp.min(points, 1, keepdims=True, where=there[..., None], initial=jnp.inf)
    high = jnp.max(points, 1, keepdims=True, where=there[..., None], initial=-jnp.inf)
    extent = jnp.max(high - low, -1, keepdims=True)
    return jnp.where(there[..., None], (points - (low + high) / 2) * 12**0.5 / extent, 0.0)


def _behind(first, rows):
    """The same vector ``[E]`` before the rows ``[B, N, E]`` of each example."""
    return jnp.concatenate([jnp.broadcast_to(first, (len(rows), 1, *first.shape)), rows], axis=1)
