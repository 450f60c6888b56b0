"""Attention: the softmax and its Jacobian, and the four scores."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import agree, require
from seqjax import attention


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


def scored(rng, score, formula, Q=5, M=7):
    """The score of 50 random memories by random queries against a formula of one query and one key, in float64."""
    queries, memories = rng.normal(size=(50, Q)), rng.normal(size=(50, 6, M))
    params = score.init(jax.random.key(0), queries[0], memories[0])
    params = jax.tree.map(lambda p: rng.normal(size=p.shape), params)

    def ours(query, memory):
        return score.score(params, score.prepare(params, memory), query)

    want = [[formula(params, query, key) for key in memory] for query, memory in zip(queries, memories, strict=True)]
    return agree(jax.vmap(ours)(queries, memories), np.array(want))


@check("S0", "MLP score: a(q, k) = w_2^T tanh(W_1 [q; k])")
def mlp_score(rng):
    def formula(params, query, key):
        W = np.concatenate([params["query_kernel"], params["memory_kernel"]])
        return params["scale"] @ np.tanh(W.T @ np.concatenate([query, key]))

    return scored(rng, attention.Additive(4, param_dtype="float64"), formula)


@check("S0", "bilinear score: a(q, k) = q^T W k")
def bilinear_score(rng):
    return scored(rng, attention.Bilinear(param_dtype="float64"), lambda params, q, k: q @ params["kernel"] @ k)


@check("S0", "dot product score: a(q, k) = q^T k")
def dot_score(rng):
    return scored(rng, attention.Dot(), lambda params, q, k: q @ k, Q=7)


@check("S0", "scaled dot product score: a(q, k) = q^T k / sqrt(|k|)")
def scaled_dot_score(rng):
    return scored(rng, attention.ScaledDot(), lambda params, q, k: q @ k / np.sqrt(len(k)), Q=7)
