"""Drawing sequences: greedy, exactly the allowed symbols, with the right shares, and in pieces."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.decode import choose, greedy, sample
from seqjax.decode.largest import FEW, largest

V, B, F = 6, 3, 5


def model(temperature=3.0):
    """A small recurrence over symbols, written out."""
    rng = np.random.default_rng(0)
    embedding, kernel = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((V, F), (F, F)))
    head = jnp.roll(embedding, 1, axis=0).T  # mostly another symbol than the one before

    def step(carry, token):
        carry = jnp.tanh(carry @ kernel + embedding[token])
        return carry, temperature * carry @ head

    return step


STEP = model()
CARRY, TOKEN = jnp.linspace(-1, 1, B * F).reshape(B, F), jnp.array([0, 2, 5], jnp.int32)


@functools.cache
def drawn(length, seed=0, **wanted):
    return sample(STEP, CARRY, TOKEN, jax.random.key(seed), length=length, **wanted)


def test_greedy_is_the_loop_of_likeliest_symbols():
    carry, token, expected = CARRY, TOKEN, []
    for _ in range(12):
        before = carry
        carry, logits = STEP(carry, token)
        token = jnp.argmax(logits, axis=-1)
        expected.append(token)
    last, tokens, *_ = drawn(12, temperature=0)
    assert tokens.shape == (12, B) and tokens.dtype == TOKEN.dtype
    assert np.array_equal(tokens, jnp.stack(expected))
    assert len(set(np.asarray(tokens).ravel().tolist())) > 2, "not one symbol for ever"
    np.testing.assert_allclose(last, carry, rtol=1e-6, atol=1e-6)
    assert not np.allclose(last, before, atol=1e-3)


def test_a_low_temperature_is_nearly_greedy_and_a_high_one_is_not():
    greedy = drawn(40, temperature=0).tokens
    assert np.array_equal(drawn(40, temperature=1e-4).tokens, greedy)
    assert np.array_equal(drawn(40, top_k=1).tokens, greedy)
    assert np.array_equal(drawn(40, top_p=1e-6).tokens, greedy)
    assert not np.array_equal(drawn(40, temperature=2.0).tokens, greedy)


def test_the_same_seed_draws_the_same_and_another_one_does_not():
    again = sample(STEP, CARRY, TOKEN, jax.random.key(0), length=30).tokens
    assert np.array_equal(drawn(30).tokens, again)
    assert not np.array_equal(drawn(30).tokens, drawn(30, seed=1).tokens)


def test_streams_draw_on_their_own():
    _, tokens, *_ = sample(STEP, jnp.zeros((2, F)), jnp.array([1, 1]), jax.random.key(0), length=30, temperature=2.0)
    assert not np.array_equal(tokens[:, 0], tokens[:, 1])


@pytest.mark.parametrize("wanted", [{"temperature": 0}, {}, {"temperature": 0.7, "top_k": 3, "top_p": 0.9}])
def test_pieces_are_the_whole(wanted):
    """With the keys that one long generation would have used, which is what makes pieces comparable."""
    whole_carry, whole, *_ = drawn(10, **wanted)
    keys = jax.random.split(jax.random.key(0), 10)
    carry, token, pieces = CARRY, TOKEN, []
    for key in keys:
        carry, logits = STEP(carry, token)
        token = choose(key, logits, **wanted).astype(jnp.int32)
        pieces.append(token)
    assert np.array_equal(whole, jnp.stack(pieces))
    np.testing.assert_allclose(whole_carry, carry, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cut", [1, 4, 9])
def test_generation_goes_on_from_the_carry_and_the_last_symbol(cut):
    carry, head, *_ = drawn(cut, temperature=0)
    last, tail, *_ = sample(STEP, carry, head[-1], jax.random.key(5), length=10 - cut, temperature=0)
    whole_carry, whole, *_ = drawn(10, temperature=0)
    assert np.array_equal(jnp.concatenate([head, tail]), whole)
    np.testing.assert_allclose(last, whole_carry, rtol=1e-5, atol=1e-6)


def allowed(logits, temperature, top_k, top_p, min_p):
    """The definition, one row at a time, and the probabilities: float64."""
    logits = np.asarray(logits, np.float64) / temperature
    order = np.argsort(-logits, kind="stable")
    if top_k is not None:
        order = order[:top_k]
    probabilities = np.exp(logits[order] - logits.max())
    probabilities /= probabilities.sum()
    margin = np.inf
    if top_p is not None and top_p < 1:
        reached = np.cumsum(probabilities)
        margin = np.abs(reached - top_p).min()
        count = np.searchsorted(reached, top_p) + 1  # the fewest that together have at least top_p
        order, probabilities = order[:count], probabilities[:count]
    if min_p is not None:
        margin = min(margin, np.abs(probabilities - min_p * probabilities.max()).min() if min_p < 1 else np.inf)
        enough = probabilities >= min_p * probabilities.max()
        order, probabilities = order[enough], probabilities[enough]
    full = np.zeros(len(logits))
    full[order] = probabilities / probabilities.sum()
    return full, margin


DRAWS = 512
SETTINGS = st.tuples(
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([None, 1, 2, 4, 6, 9]),
    st.sampled_from([None, 0.05, 0.3, 0.6, 0.9, 1.0]),
    st.sampled_from([None, 0.0, 0.1, 0.4, 1.0]),
)


@functools.partial(jax.jit, static_argnames=("temperature", "top_k", "top_p", "min_p"))
def many(key, logits, temperature, top_k, top_p, min_p):
    logits = jnp.broadcast_to(logits, (DRAWS, V))
    return choose(key, logits, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)


@settings(max_examples=40, deadline=None)
@given(
    order=st.permutations(range(V)),
    gaps=st.lists(st.floats(0.05, 1.0), min_size=V, max_size=V),
    wanted=SETTINGS,
    seed=st.integers(0, 1000),
)
def test_what_is_drawn_is_allowed_and_what_is_allowed_is_drawn(order, gaps, wanted, seed):
    logits = np.zeros(V, np.float32)
    logits[list(order)] = np.cumsum(gaps, dtype=np.float32)  # no two alike
    probabilities, margin = allowed(logits, *wanted)
    if margin < 1e-5:
        return  # the share falls on the edge of a symbol, where float32 may round either way
    found = np.bincount(many(jax.random.key(seed), logits, *wanted), minlength=V) / DRAWS
    assert set(np.flatnonzero(found)) <= set(np.flatnonzero(probabilities)), "only what is allowed"
    likely = set(np.flatnonzero(probabilities > 0.04))  # missed with less than 1e-9
    assert likely <= set(np.flatnonzero(found)), "all of it"
    deviation = np.sqrt(probabilities * (1 - probabilities) / DRAWS)
    assert (np.abs(found - probabilities) <= 6 * deviation + 0.01).all(), "in its share"


@settings(max_examples=30, deadline=None)
@given(
    size=st.sampled_from([FEW - 1, 2 * FEW - 7, 4 * FEW, 5 * FEW + 5]),
    count=st.integers(1, 4),
    spread=st.sampled_from([0.0, 0.5, 1.5, 1e4]),  # the smaller, the more of them are equal
    seed=st.integers(0, 1000),
)
def test_the_largest_are_those_of_a_plain_search(size, count, spread, seed):
    rng = np.random.default_rng(seed)
    x = np.round(spread * rng.exponential(size=(2, 3, size))).astype(np.float32)
    x[rng.random(x.shape) < rng.choice([0.0, 0.5, 0.999])] = -np.inf
    for found, expected in zip(largest(x, count), jax.lax.top_k(x, count), strict=True):
        assert np.array_equal(found, expected)


def test_rows_have_their_own_nuclei():
    logits = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.34, 0.33, 0.33]]))
    keys = jax.random.split(jax.random.key(0), 200)
    found = np.asarray(jax.vmap(lambda key: choose(key, logits, top_p=0.65))(keys))
    assert [sorted(set(column.tolist())) for column in found.T] == [[0, 1], [1, 2], [0, 1]]


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.999}])
def test_draws_from_narrow_logits_are_those_of_wide_ones(settings):
    keys = jax.random.split(jax.random.key(1), 400)
    found = jax.vmap(lambda key: choose(key, jnp.zeros((1, 1000), jnp.bfloat16), **settings))(keys)
    assert 150 < int((found >= 500).sum()) < 250  # five deviations of 10


def test_symbols_that_do_not_fit_into_tokens_are_refused():
    with pytest.raises(ValueError, match="greedy: tokens of dtype uint8 cannot hold 300 symbols; give them as int32"):
        greedy(lambda carry, token: (carry, jnp.zeros((1, 300))), (), jnp.zeros(1, jnp.uint8), length=1)


def test_a_step_that_allows_nothing_has_no_probability():
    found = greedy(lambda carry, token: (carry, jnp.full((1, 3), -jnp.inf)), (), jnp.array([0]), length=1)
    assert found.scores[0] == -jnp.inf


@pytest.mark.parametrize(("wanted", "message"), [
    ({"length": 0}, "length must be at least 1, got 0"),
    ({"temperature": -0.1}, "temperature must be at least 0 .* got -0.1"),
    ({"top_k": 0}, "top_k must be at least 1"),
    ({"top_p": 0.0}, "top_p must be in .0, 1., got 0.0"),
    ({"top_p": 1.5}, "top_p must be in .0, 1., got 1.5"),
    ({"min_p": 1.5}, "min_p must be in .0, 1., got 1.5"),
    ({"min_p": float("nan")}, "min_p must be in .0, 1."),
    ({"stop": V}, "stop token 6 is outside of the vocabulary"),
    ({"min_length": 4}, "min_length must be from 0 to 3"),
    ({"prefix": np.zeros((1, 2), int)}, "prefix must be time-major, .P, 3."),
    ({"temperature": float("nan")}, "temperature must be at least 0"),
    ({"top_p": float("nan")}, "top_p must be in"),
])  # fmt: skip
def test_a_setting_out_of_its_range_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        sample(STEP, CARRY, TOKEN, jax.random.key(0), **({"length": 3} | wanted))
