"""Attention: scores against their formulas, and what masks must keep out."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import attention
from seqjax.precision import cast

SCORES = {
    "additive": attention.Additive(4),
    "additive_bias": attention.Additive(3, use_bias=True, temperature=0.7),
    "bilinear": attention.Bilinear(),
    "scaled_bilinear": attention.Bilinear(scaled=True),
    "dot": attention.Dot(temperature=2.0),
    "scaled_dot": attention.ScaledDot(),
}
every_score = pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def draw(score, Q=5, M=7, S=6, seed=0):
    """params without a zero among them, a query [Q], a memory [S, M]; Q is M where the score needs it to be."""
    rng = np.random.default_rng(seed)
    Q = M if isinstance(score, attention.Dot) else Q
    query, memory = rng.normal(size=Q), rng.normal(size=(S, M))
    params = jax.eval_shape(score.init, jax.random.key(seed), query, memory)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), params), jnp.asarray(query), jnp.asarray(memory)


@functools.partial(jax.jit, static_argnums=0)
def read(score, params, query, memory, mask=None):
    return attention.attend(score, params, attention.remember(score, params, memory, mask), query)


@functools.partial(jax.jit, static_argnums=0)
def scores_of(score, params, query, memory):
    return score.score(params, score.prepare(params, memory), query)


def formula(score, params, q, k):
    """a(q, k) of one query and one key, in NumPy."""
    match score:
        case attention.Additive():
            W = np.concatenate([params["query_kernel"], params["memory_kernel"]])
            return params["scale"] @ np.tanh(np.concatenate([q, k]) @ W + params.get("bias", 0.0))
        case attention.Bilinear():
            return q @ params["kernel"] @ k / (len(k) ** 0.5 if score.scaled else 1.0)
        case attention.ScaledDot():
            return q @ k / np.sqrt(len(k))
    return q @ k


@every_score
@settings(max_examples=10, deadline=None, derandomize=True, database=None)
@given(Q=st.integers(1, 6), M=st.integers(1, 6), S=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
def test_score_is_its_formula_and_attention_the_weighted_sum(score, Q, M, S, seed):
    params, query, memory = draw(score, Q, M, S, seed)
    context, weights = read(score, params, query, memory)
    scores = np.array([formula(score, jax.device_get(params), np.asarray(query), k) for k in np.asarray(memory)])
    np.testing.assert_allclose(scores_of(score, params, query, memory), scores, rtol=1e-12, atol=1e-12)
    powers = np.exp((scores - scores.max()) / score.temperature)
    np.testing.assert_allclose(weights, powers / powers.sum(), atol=1e-12)
    np.testing.assert_allclose(context, powers / powers.sum() @ memory, atol=1e-12)


@every_score
def test_gradients_are_those_of_finite_differences(score):
    params, query, memory = draw(score)
    mask = jnp.asarray([True, True, False, True, True, False])
    run = functools.partial(read, score, mask=mask)
    jax.test_util.check_grads(run, (params, query, memory), order=2, atol=1e-6, rtol=1e-6)


@every_score
def test_vmap_is_a_loop(score):
    params, _, _ = draw(score)
    cases = [draw(score, seed=seed)[1:] for seed in range(3)]
    queries, memories = map(jnp.stack, zip(*cases, strict=True))
    masks = jnp.asarray(np.random.default_rng(0).uniform(size=memories.shape[:2]) < 0.6)
    run = functools.partial(read, score, params)
    together = jax.vmap(run)(queries, memories, masks)
    apart = [run(*case, mask) for case, mask in zip(cases, masks, strict=True)]
    for got, want in zip(together, map(jnp.stack, zip(*apart, strict=True)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)


@functools.partial(jax.jit, static_argnums=0)
def gradients(score, params, query, memory, mask):
    """Of a number that context and weights enter, by params, query and memory."""

    def total(params, query, memory):
        context, weights = read(score, params, query, memory, mask)
        return jnp.sum(jnp.sin(context)) + jnp.sum(jnp.cos(weights))

    return jax.grad(total, argnums=(0, 1, 2))(params, query, memory)


@every_score
def test_masked_positions_are_as_if_they_were_not_there(score):
    params, query, memory = draw(score)
    mask = jnp.asarray([True, False, True, True, False, True])
    holed = jnp.where(mask[:, None], memory, jnp.nan)
    context, weights = read(score, params, query, holed, mask)
    np.testing.assert_array_equal(weights[~mask], 0.0)
    for got, want in zip((context, weights[mask]), read(score, params, query, memory[mask]), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-12)
    got, want = gradients(score, params, query, holed, mask), gradients(score, params, query, memory[mask], None)
    np.testing.assert_array_equal(got[2][~mask], 0.0)
    got = (*got[:2], got[2][mask])
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-12), got, want)


@every_score
@pytest.mark.parametrize("S", [0, 6])
def test_memory_of_nothing_is_read_as_zeros(score, S):
    params, query, memory = draw(score, S=S)
    mask = jnp.zeros(S, bool)
    context, weights = read(score, params, query, memory * jnp.nan, mask)
    for leaf in (context, weights, *jax.tree.leaves(gradients(score, params, query, memory * jnp.nan, mask))):
        np.testing.assert_array_equal(leaf, 0.0)


@every_score
def test_bfloat16_in_bfloat16_out_and_weights_in_float32(score):
    params, query, memory = draw(score)
    narrow = memory.astype(jnp.bfloat16)
    context, weights = read(score, params, query.astype(jnp.float32), narrow)
    assert (context.dtype, weights.dtype) == (jnp.bfloat16, jnp.float32)
    np.testing.assert_allclose(weights, read(score, params, query, memory)[1], atol=0.1)


@every_score
def test_score_is_a_value(score):
    again = eval(repr(score), vars(attention))
    assert again == score and hash(again) == hash(score)


def test_scores_of_wide_random_vectors_keep_their_variance_where_scaled():
    rng = np.random.default_rng(0)
    queries, memories = rng.normal(size=(300, 256)), rng.normal(size=(300, 4, 256))
    score = attention.ScaledDot()
    scores = jax.vmap(lambda q, m: score.score({}, score.prepare({}, m), q))(queries, memories)
    assert 0.8 < np.var(scores) < 1.2


@every_score
def test_fresh_parameters_give_scores_of_moderate_size(score):
    rng = np.random.default_rng(0)
    query, memory = rng.normal(size=64), rng.normal(size=(200, 64))
    params = cast(score.init(jax.random.key(1), query, memory), "float64")
    spread = np.std(score.score(params, score.prepare(params, memory), query))
    assert 0.1 < spread < (12.0 if type(score) is attention.Dot else 3.0)  # nothing keeps plain products from growing


REFUSED = {
    "widths that differ": (
        lambda: attention.Dot().init(jax.random.key(0), jnp.ones(3), jnp.ones((5, 4))),
        "queries have 3 features and the memory has 4",
    ),
    "a batch of memories": (
        lambda: attention.Bilinear().init(jax.random.key(0), jnp.ones(3), jnp.ones((2, 5, 4))),
        r"one memory \[S, M\], got shapes \[3\] and \[2, 5, 4\]; use jax.vmap",
    ),
    "a batch to remember": (
        lambda: attention.remember(attention.Dot(), {}, jnp.ones((2, 5, 4))),
        r"one memory \[S, M\], got shape \[2, 5, 4\]",
    ),
    "a mask of another length": (
        lambda: attention.remember(attention.Dot(), {}, jnp.ones((5, 4)), jnp.ones(4, bool)),
        r"mask of shape \[5\], got \[4\]",
    ),
    "a batch of queries": (
        lambda: read(attention.Dot(), {}, jnp.ones((2, 4)), jnp.ones((5, 4))),
        r"one query \[Q\], got shape \[2, 4\]",
    ),
    "a query of another width": (
        lambda: read(attention.Dot(), {}, jnp.ones(3), jnp.ones((5, 4))),
        "the query has 3 features, expected 4",
    ),
    "no temperature": (lambda: attention.Dot(temperature=0.0), "temperature must be positive, got 0.0"),
    "no features": (lambda: attention.Additive(0), "features must be a positive integer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.parametrize(
    ("memory", "mask", "reason"),
    [
        (jnp.ones((5, 4), jnp.int32), None, "floating memory, got int32"),
        (jnp.ones((5, 4)), jnp.ones(5), "mask of bool"),
    ],
)
def test_dtypes_that_are_none_of_a_memory_are_refused(memory, mask, reason):
    with pytest.raises(TypeError, match=reason):
        attention.remember(attention.Dot(), {}, memory, mask)
