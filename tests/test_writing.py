"""Where writing stops, what may be written, what it is worth; and decoders in training."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import decode
from seqjax.masks import length_mask
from tests import writers
from tests.writers import START, B, Writer

V, T, STOP = 7, 9, (6, 2)
PREFIX = np.array([[3, 4, 1], [5, 0, 1]], np.int32)
PREFIX_MASK = np.asarray(length_mask(np.array([2, 0, 1]), 2))
few = functools.partial(settings, deadline=None, derandomize=True, database=None)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def drawn(**wanted):
    """A function of weights, carry and key, compiled once."""

    def run(weights, carry, key):
        return decode.sample(writers.step_of(weights), carry, START, key, length=T, temperature=1.7, **wanted)

    return jax.jit(run)


LIMITED = functools.partial(drawn, stop=STOP, min_length=3)


def column(found, b):
    """The symbols of sequence b, and its padding."""
    tokens = np.asarray(found.tokens)[:, b].tolist()
    return tokens[: found.lengths[b]], tokens[found.lengths[b] :]


@few(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_sequence_ends_with_its_stop_and_scores_its_log_probability(seed):
    """Untempered, in nats, its own symbols and no others; the carry is the one before its last symbol."""
    weights, carry = writers.weights(seed, V), writers.carries(seed)
    found = LIMITED()(weights, carry, jax.random.key(seed))
    for b in range(B):
        tokens, padding = column(found, b)
        assert padding == [STOP[0]] * (T - len(tokens))
        assert len(tokens) == T or tokens[-1] in STOP
        assert len(tokens) >= 3 and not set(tokens[:-1]) & set(STOP)
        writer = Writer(weights, carry, b)
        np.testing.assert_allclose(found.scores[b], writer.log_probability(tokens), rtol=1e-9)
        np.testing.assert_allclose(found.carry["weights"][b], writer(tokens[:-1])[1][-1], rtol=1e-9)
    assert np.array_equal(found.carry["memory"], carry["memory"])


def test_all_lengths_come_from_the_draws():
    """Otherwise the test before would have seen one kind of sequence only."""
    find = LIMITED()
    lengths = [find(writers.weights(s, V), writers.carries(s), jax.random.key(s)).lengths for s in range(12)]
    assert {3, 4, 5, T} <= set(np.ravel(lengths).tolist())


def test_what_follows_the_end_is_the_padding_asked_for():
    weights, carry = writers.weights(1, V), writers.carries(1)
    found = drawn(stop=tuple(range(V)), pad=-1)(weights, carry, jax.random.key(0))
    assert np.array_equal(found.lengths, np.ones(B))
    assert (np.asarray(found.tokens)[1:] == -1).all() and (np.asarray(found.tokens)[0] >= 0).all()


def test_nothing_is_computed_once_all_are_finished():
    calls = []

    def step(carry, token):
        jax.debug.callback(lambda: calls.append(1))
        return carry + 1, jax.nn.one_hot(carry, 4)  # symbols in order

    found = decode.greedy(step, jnp.array([0, 1]), jnp.zeros(2, jnp.int32), length=50, stop=3)
    jax.effects_barrier()
    assert np.array_equal(found.lengths, [4, 3])
    assert len(calls) == 4


def test_gradients_of_scores_are_those_of_what_was_drawn():
    """The derivative that policy gradients need."""
    weights, carry, key = writers.weights(4, V), writers.carries(4), jax.random.key(0)
    found = LIMITED()(weights, carry, key)
    assert len(set(found.lengths.tolist())) > 1, "some end before the others"

    def taught(weights):
        inputs = jnp.concatenate([START[None], found.tokens[:-1]])
        _, logits = decode.force(writers.step_of(weights), carry, inputs)
        each = jnp.take_along_axis(jax.nn.log_softmax(logits), found.tokens[..., None], -1)[..., 0]
        return jnp.sum(jnp.where(length_mask(found.lengths, T), each, 0.0))

    got = jax.jit(jax.grad(lambda weights: LIMITED()(weights, carry, key).scores.sum()))(weights)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10), got, jax.jit(jax.grad(taught))(weights)
    )


def test_padding_is_written_and_never_read():
    """What is outside of the vocabulary would be read as NaN, and a gradient of zero times NaN is one."""

    def score(kernel):
        embedded = jnp.eye(V)
        step = lambda carry, token: (carry + 1, jnp.take(embedded, token, axis=0) @ kernel + 9.0 * jax.nn.one_hot(carry, V))  # noqa: E731
        found = decode.greedy(step, jnp.array([0, 2]), jnp.zeros(2, jnp.int32), length=6, stop=3, pad=V)
        return found.scores.sum(), found

    (value, found), gradient = jax.jit(jax.value_and_grad(score, has_aux=True))(jnp.ones((V, V)) / 3)
    assert found.lengths.tolist() == [4, 2]
    assert (found.tokens[2:, 1] == V).all()
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_prefixes_of_different_lengths_are_forced_and_the_rest_is_drawn():
    weights, carry = writers.weights(2, V), writers.carries(2)

    def run(carry, prefix, mask):
        step = writers.step_of(weights)
        return decode.greedy(step, carry, START, length=T, prefix=prefix, prefix_mask=mask)

    found = jax.jit(run)(carry, PREFIX, PREFIX_MASK)
    for b in range(B):
        writer, tokens = Writer(weights, carry, b), PREFIX[PREFIX_MASK[:, b], b].tolist()
        while len(tokens) < T:
            tokens.append(int(np.argmax(writer(tokens)[0][-1])))
        assert column(found, b)[0] == tokens
        np.testing.assert_allclose(found.scores[b], writer.log_probability(tokens), rtol=1e-9)


def test_constraints_hold_together_and_on_their_own():
    weights, carry = writers.weights(3, V), writers.carries(3)
    mask = np.ones((B, V), bool)
    mask[1, 3:] = False
    visited = np.zeros((B, V), bool)
    visited[2, 4] = True
    limits = decode.chain(decode.forbid(5), decode.within(mask), decode.no_repeat(free=(0,), visited=visited))
    found = drawn(constrain=limits)(weights, carry, jax.random.key(1))
    for b, may in enumerate(({0, 1, 2, 3, 4, 6}, {0, 1, 2}, {0, 1, 2, 3, 6})):
        tokens = column(found, b)[0]
        assert set(tokens) == may, "nine draws, and all but 0 come once"
        assert all(tokens.count(token) == 1 for token in may - {0})
        np.testing.assert_allclose(found.scores[b], Writer(weights, carry, b).log_probability(tokens), rtol=1e-9)


def test_a_tour_visits_every_position_once():
    step = lambda carry, token: (carry, jnp.cos(3.0 * token[:, None].astype(float) + jnp.arange(8.0)))  # noqa: E731
    start = jnp.array([0, 5, 7], jnp.int32)
    found = decode.sample(step, (), start, jax.random.key(0), length=8, constrain=decode.no_repeat())
    assert np.array_equal(np.sort(found.tokens, axis=0), np.tile(np.arange(8)[:, None], 3))
    assert np.isfinite(found.scores).all()
    longer = decode.greedy(step, (), start, length=9, constrain=decode.no_repeat())
    assert np.isneginf(longer.scores).all(), "nothing is left for the ninth"


INPUTS = np.concatenate([START[None], np.random.default_rng(0).integers(0, V, (T - 1, B)).astype(np.int32)])


@pytest.mark.parametrize("rate", [0, 0.0, np.float64(0.0)])
def test_a_rate_of_zero_is_teacher_forcing(rate):
    weights, carry = writers.weights(0, V), writers.carries(0)
    last, logits = decode.force(writers.step_of(weights), carry, INPUTS, rate=rate)
    for b in range(B):
        expected, attention = Writer(weights, carry, b)(INPUTS[1:, b])
        np.testing.assert_allclose(jax.nn.log_softmax(logits)[:, b], expected, rtol=1e-9)
        np.testing.assert_allclose(last["weights"][b], attention[-1], rtol=1e-9)


def test_a_rate_of_one_hears_itself_only_and_gradients_do_not_pass_through_what_it_says():
    weights, carry = writers.weights(6, V), writers.carries(6)

    def run(weights, inputs, rate):
        logits = decode.force(writers.step_of(weights), carry, inputs, jax.random.key(0), rate=rate, temperature=0)[1]
        return jnp.sum(jnp.sin(logits)), logits

    compiled = jax.jit(jax.grad(run, has_aux=True))
    whole = decode.force(writers.step_of(weights), carry, INPUTS, jax.random.key(0), rate=1, temperature=0)[1]
    got, logits = compiled(weights, INPUTS, jnp.float64(1.0))
    own = np.concatenate([START[None], np.argmax(logits, -1)[:-1]]).astype(np.int32)
    assert not np.array_equal(own, INPUTS)
    np.testing.assert_allclose(whole, logits, rtol=1e-12)
    expected, taught = compiled(weights, own, jnp.float64(0.0))
    np.testing.assert_allclose(logits, taught, rtol=1e-12)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), got, expected)


@pytest.mark.parametrize("rate", [0.25, 0.8])
def test_inputs_are_replaced_each_on_its_own_at_the_rate_asked_for(rate):
    """The model always says 7, targets are 1 to 6: the carry collects which of them it reads."""
    step = lambda carry, token: (token, 9.0 * jax.nn.one_hot(jnp.full_like(token, 7), 8) + jax.nn.one_hot(token, 8))  # noqa: E731
    targets = jnp.asarray(np.random.default_rng(1).integers(1, 7, (400, 4)), jnp.int32)
    logits = decode.force(step, targets[0], targets, jax.random.key(3), rate=rate, temperature=0)[1]
    replaced = np.asarray(logits[..., 7]) > 9.5
    assert not replaced[0].any(), "there is nothing to hear before the first"
    deviation = np.sqrt(rate * (1 - rate) / replaced.size)
    assert abs(replaced[1:].mean() - rate) < 5 * deviation
    both = (replaced[1:, 0] & replaced[1:, 1]).mean()
    assert abs(both - rate**2) < 0.12, "sequences are replaced on their own"
    read = np.argmax(np.asarray(logits)[..., :7], axis=-1)
    assert np.array_equal(read[~replaced], np.asarray(targets)[~replaced])


@pytest.mark.parametrize(("wanted", "message"), [
    ({"rate": 1.5}, "rate must be a probability, from 0 to 1; got 1.5"),
    ({"rate": float("nan")}, "rate must be a probability"),
    ({"rate": jnp.ones(2)}, "rate must be a probability"),
    ({"rate": 0.5, "key": None}, "a rate of 0.5 needs a random key"),
    ({"temperature": -1.0}, "temperature must be at least 0"),
    ({"tokens": START}, "tokens must be integers .T, B., .* got int32.3."),
    ({"tokens": INPUTS[:0]}, "none of these axes empty; got int32.0, 3."),
])  # fmt: skip
def test_what_cannot_be_forced_is_refused(wanted, message):
    asked = {"tokens": INPUTS, "key": jax.random.key(0)} | wanted
    with pytest.raises(ValueError, match=message):
        decode.force(writers.step_of(writers.weights(0, V)), writers.carries(0), **asked)
