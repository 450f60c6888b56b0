"""A decoder that attends to a memory, once for JAX and once written out in NumPy for one sequence, and searches by hand."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

B, H, S = 3, 4, 5
START = np.array([1, 0, 2], np.int32)


class Weights(NamedTuple):
    embedding: np.ndarray  # [V, H]
    recurrent: np.ndarray  # [H, H]
    read: np.ndarray  # [H, H]
    head: np.ndarray  # [H, V]
    bias: np.ndarray  # [V]


def weights(seed, symbols):
    rng = np.random.default_rng(seed)
    shapes = ((symbols, H), (H, H), (H, H), (H, symbols), (symbols,))
    return Weights(*(rng.normal(size=shape) for shape in shapes))


def carries(seed):
    """A state, the weights of the last attention, and a memory that no step touches."""
    rng = np.random.default_rng(seed + 1)
    return {"h": rng.normal(size=(B, H)), "memory": rng.normal(size=(B, S, H)), "weights": np.zeros((B, S))}


def step_of(weights, copy=False):
    """``copy`` computes the memory anew at every step, so that it is no longer untouched."""
    weights = jax.tree.map(jnp.asarray, weights)

    def step(carry, token):
        h, memory = carry["h"], carry["memory"]
        read = jax.nn.softmax(jnp.einsum("bh,bsh->bs", h, memory))
        context = jnp.einsum("bs,bsh->bh", read, memory)
        h = jnp.tanh(weights.embedding[token] + h @ weights.recurrent + context @ weights.read)
        return {"h": h, "memory": 1.0 * memory if copy else memory, "weights": read}, h @ weights.head + weights.bias

    return step


class Writer:
    """The same for sequence b, in float64: ``log_probabilities, attention = writer(tokens)``, one row a symbol to come."""

    def __init__(self, weights, carry, b):
        self.weights, self.h, self.memory, self.first = weights, carry["h"][b], carry["memory"][b], START[b]

    def __call__(self, tokens):
        W, h, rows = self.weights, self.h, []
        for token in (self.first, *tokens):
            scores = np.exp(self.memory @ h)
            read = scores / scores.sum()
            h = np.tanh(W.embedding[token] + h @ W.recurrent + read @ self.memory @ W.read)
            logits = h @ W.head + W.bias
            rows.append((logits - np.log(np.exp(logits).sum()), read))
        return [np.array(column) for column in zip(*rows, strict=True)]

    def log_probability(self, tokens):
        return sum(row[token] for row, token in zip(self(tokens)[0], tokens, strict=False))

    def score(self, tokens, alpha=0.0, beta=0.0):
        """Wu et al. (2016), equation 14."""
        attention = self(tokens)[1][: len(tokens)]
        penalty = (5 + len(tokens)) ** alpha / (5 + 1) ** alpha
        return self.log_probability(tokens) / penalty + beta * np.log(np.minimum(attention.sum(0), 1.0)).sum()


def everything(writer, length, stop, allowed, score):
    """All sequences of at most ``length`` symbols, best first: ``(score, tokens)``."""
    found, open_ = [], [()]
    while open_:
        tokens = open_.pop()
        if len(tokens) == length or (tokens and tokens[-1] in stop):
            found.append((score(writer, tokens), tokens))
        else:
            open_ += [(*tokens, token) for token in allowed(tokens)]
    return sorted(found, reverse=True)


def beam(writer, width, length, stop, allowed, score):
    """Beam search over lists, to the very end: ``(score, tokens)``, best first."""
    live, found = [()], []
    for step in range(length):
        grown = [(*tokens, token) for tokens in live for token in allowed(tokens)]
        grown.sort(key=writer.log_probability, reverse=True)
        ended = [tokens[-1] in stop or step + 1 == length for tokens in grown]
        found += [(score(writer, tokens), tokens) for tokens, end in list(zip(grown, ended, strict=True))[:width] if end]
        live = [tokens for tokens, end in zip(grown, ended, strict=True) if not end][:width]
    return sorted(found, reverse=True)
