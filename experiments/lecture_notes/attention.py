"""Attention: the softmax and its Jacobian, and the four scores, which wait for seqjax's own."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check, pending
from experiments.lecture_notes.tools import agree, require


@jax.jit
@jax.vmap
def softmax_jacobian(scores):
    return jax.jacobian(jax.nn.softmax)(scores)


def jacobian_norm(rng, width, scaled):
    """Mean norm of the Jacobian of the softmax over 16 keys, for random queries and keys of a width."""
    query, keys = rng.normal(size=(200, 1, width)), rng.normal(size=(200, 16, width))
    scores = np.sum(query * keys, axis=-1) / (np.sqrt(width) if scaled else 1)
    return float(jnp.mean(jnp.linalg.norm(softmax_jacobian(scores), axis=(1, 2))))


@check("S0", "weights are a softmax of scores; its Jacobian is diag(p) - p p^T")
def softmax_derivative(rng):
    scores = 3 * rng.normal(size=(200, 16))
    p = reference.softmax(scores)
    want = p[:, :, None] * np.eye(16) - p[:, :, None] * p[:, None, :]
    return agree(softmax_jacobian(scores), want)


@check("S0", "without the division by sqrt(|k|) scores grow with the width and the softmax's gradient vanishes")
def scaling(rng):
    widths = (16, 256, 4096)
    plain, scaled = ([jacobian_norm(rng, width, on) for width in widths] for on in (False, True))
    require(plain[0] > 2 * plain[1] and plain[1] > 2 * plain[2], f"unscaled {plain}")
    require(max(scaled) < 1.15 * min(scaled), f"scaled {scaled}")
    return f"|k| = 16, 256, 4096: {_list(plain)} without, {_list(scaled)} with"


def _list(numbers):
    return ", ".join(f"{number:.3f}" for number in numbers)


pending("S0", "MLP score: a(q, k) = w_2^T tanh(W_1 [q; k])", waits_for="seqjax.attention")
pending("S0", "bilinear score: a(q, k) = q^T W k", waits_for="seqjax.attention")
pending("S0", "dot product score: a(q, k) = q^T k", waits_for="seqjax.attention")
pending("S0", "scaled dot product score: a(q, k) = q^T k / sqrt(|k|)", waits_for="seqjax.attention")
