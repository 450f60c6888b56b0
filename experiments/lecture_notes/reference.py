"""The equations of the notes in NumPy, float64, one sequence and one step at a time. Nothing here is seqjax."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(scores):
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def elman(f, xs, h, activation=np.tanh):
    """h = phi(W x + V h + b): all states [T, H]."""
    hs = []
    for x in xs:
        h = activation(f(x, h))
        hs.append(h)
    return np.array(hs)


def lstm(gates, xs, c, h):
    """The four steps: what to forget, what to write, the new cell, what to show. Cells and states [T, 2, H]."""
    states = []
    for x in xs:
        f = sigmoid(gates["f"](x, h))
        i, g = sigmoid(gates["i"](x, h)), np.tanh(gates["g"](x, h))
        c = f * c + i * g
        h = sigmoid(gates["o"](x, h)) * np.tanh(c)
        states.append((c, h))
    return np.array(states)


def gru(gates, xs, h, *, reset_first):
    """The GRU with the reset gate before the product (Cho et al. 2014) or after it (cuDNN): all states [T, H]."""
    hs = []
    for x in xs:
        reset, update, new = sigmoid(gates["r"](x, h)), sigmoid(gates["z"](x, h)), gates["n"]
        past = new.V @ (reset * h) if reset_first else reset * (new.V @ h)
        h = (1 - update) * np.tanh(new.W @ x + new.b + past) + update * h
        hs.append(h)
    return np.array(hs)


def backpropagate(f, xs, h, weights, chunk=None):
    """Gradient of ``sum(weights * hs ** 2) / 2`` of a tanh network, errors flowing back to the start of their chunk.

    Returns:
      gradients of W, V and b.
    """
    hs = np.concatenate([h[None], elman(f, xs, h)])
    gradients = [np.zeros_like(part) for part in f]
    flowing = np.zeros_like(h)
    for t in reversed(range(len(xs))):
        error = (flowing + weights[t] * hs[t + 1]) * (1 - hs[t + 1] ** 2)
        for gradient, factor in zip(gradients, (np.outer(error, xs[t]), np.outer(error, hs[t]), error), strict=True):
            gradient += factor
        flowing = np.zeros_like(h) if chunk is not None and t % chunk == 0 else f.V.T @ error
    return gradients
