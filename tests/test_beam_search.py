"""Beam search: the best of all sequences where it is wide enough, and what is done by hand where it is not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import decode
from tests import writers
from tests.writers import START, B, H, S, Writer

few = functools.partial(settings, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**31)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


@functools.cache
def compiled(search, **settings):
    """A search with these settings, as a function of weights and carry, compiled once."""

    def run(weights, carry):
        if "coverage_penalty" in settings:
            return search(writers.step_of(weights), carry, START, weights_of=lambda carry: carry["weights"], **settings)
        return search(writers.step_of(weights), carry, START, **settings)

    return jax.jit(run)


def agree(found, expected, b, length, pad, *, seed):
    """What was found for sequence b is what is expected, ``(score, tokens)``, best first."""
    for n, (score, tokens) in enumerate(expected[: len(found.tokens)]):
        padded = [*tokens, *[pad] * (length - len(tokens))]
        assert found.tokens[n, :, b].tolist() == padded, f"seed {seed}, hypothesis {n}"
        assert found.lengths[n, b] == len(tokens)
        np.testing.assert_allclose(found.scores[n, b], score, rtol=1e-9, atol=1e-9)
    assert np.isneginf(found.scores[len(expected) :, b]).all()


V = 12
EXHAUSTIVE = {  # at most V continuations that may end at every step but the last, so that none is missed
    "two_of_any": (2, (3,), (), {}),
    "four_steps_of_two": (4, (2,), range(3, V), {"length_penalty": 0.7, "coverage_penalty": 0.3}),
    "several_stops": (4, (5, 0, 9), [s for s in range(V) if s not in (0, 4, 5, 9)], {"coverage_penalty": 0.2}),
    "no_stop": (3, (), range(3, V), {}),
}


@pytest.mark.parametrize("case", EXHAUSTIVE.values(), ids=EXHAUSTIVE)
@few(max_examples=5)
@given(seed=seeds)
def test_a_wide_beam_finds_the_best_of_all_sequences(case, seed):
    length, stop, forbidden, penalties = case
    settings = {"width": V, "n_best": 7, "length": length, "stop": stop, "constrain": FORBID[tuple(forbidden)], **penalties}
    weights, carry = writers.weights(seed, V), writers.carries(seed)
    found = compiled(decode.beam_search, **settings)(weights, carry)
    alpha, beta = penalties.get("length_penalty", 0.0), penalties.get("coverage_penalty", 0.0)
    allowed = [token for token in range(V) if token not in forbidden]
    for b in range(B):
        score = functools.partial(Writer.score, alpha=alpha, beta=beta)
        expected = writers.everything(Writer(weights, carry, b), length, stop, lambda tokens: allowed, score)
        agree(found, expected, b, length, stop[0] if stop else 0, seed=seed)


FORBID = {tuple(case[2]): decode.forbid(*case[2]) for case in EXHAUSTIVE.values()}  # the same object compiles once

TOUR = decode.no_repeat(free=(6,))
MANY = 1100  # symbols: so many that the likeliest are looked for in blocks
SEARCHES = {
    "penalties": (
        {"width": 4, "n_best": 2, "stop": (6, 2), "length_penalty": 0.6, "coverage_penalty": 0.2},
        lambda tokens: range(7),
    ),
    "at_least_4": (
        {"width": 3, "n_best": 3, "stop": 6, "min_length": 4},
        lambda tokens: range(7) if len(tokens) > 2 else range(6),
    ),
    "tour": (
        {"width": 5, "n_best": 5, "stop": 6, "constrain": TOUR},
        lambda tokens: [token for token in range(7) if token not in tokens or token == 6],
    ),
    "many_symbols": (
        {"width": 2, "n_best": 2, "stop": 6, "min_length": 3, "length_penalty": 0.3},
        lambda tokens: [token for token in range(MANY) if token != 6 or len(tokens) > 1],
    ),
}


@pytest.mark.parametrize("case", SEARCHES.values(), ids=SEARCHES)
@few(max_examples=6)
@given(seed=seeds)
def test_a_narrow_beam_finds_what_a_search_by_hand_finds(case, seed):
    """Which goes on to the very end: stopping early loses nothing."""
    wanted, allowed = case
    weights, carry = writers.weights(seed, 1 + max(allowed((0, 1, 2)))), writers.carries(seed)
    found = compiled(decode.beam_search, length=6, **wanted)(weights, carry)
    stop = np.atleast_1d(wanted["stop"]).tolist()
    alpha, beta = wanted.get("length_penalty", 0.0), wanted.get("coverage_penalty", 0.0)
    for b in range(B):
        score = functools.partial(Writer.score, alpha=alpha, beta=beta)
        expected = writers.beam(Writer(weights, carry, b), wanted["width"], 6, stop, allowed, score)
        agree(found, expected, b, 6, stop[0], seed=seed)


PREFIX = np.array([[3, 4, 2], [5, 0, 1]], np.int32)
PREFIX_MASK = np.array([[True, True, False], [True, False, False]])
ASKED = {
    "no_stop": {"stop": ()},
    "limits": {"stop": (6, 2), "min_length": 5, "constrain": TOUR},
    "prefix": {"prefix": PREFIX, "prefix_mask": PREFIX_MASK},
}
SEARCH, GREEDY = (
    {name: functools.partial(search, **{"length": 8, "stop": 6, **asked}) for name, asked in ASKED.items()}
    for search in (functools.partial(decode.beam_search, width=1), decode.greedy)
)


@pytest.mark.parametrize("name", ASKED)
@few(max_examples=8)
@given(seed=seeds)
def test_a_beam_of_width_1_is_greedy(name, seed):
    weights, carry = writers.weights(seed, 7), writers.carries(seed)
    found, greedy = (compiled(search[name])(weights, carry) for search in (SEARCH, GREEDY))
    assert np.array_equal(found.tokens[0], greedy.tokens)
    assert np.array_equal(found.lengths[0], greedy.lengths)
    np.testing.assert_allclose(found.log_probabilities[0], greedy.scores, rtol=1e-12)
    np.testing.assert_allclose(found.scores[0], greedy.scores, rtol=1e-12)


@few(max_examples=6)
@given(seed=seeds)
def test_log_probabilities_are_those_of_teacher_forcing_in_float32_too(seed):
    weights, carry = jax.tree.map(np.float32, (writers.weights(seed, 7), writers.carries(seed)))
    found = compiled(decode.beam_search, width=4, n_best=4, length=9, stop=6, length_penalty=0.5)(weights, carry)
    assert found.scores.dtype == np.float32
    for n in range(4):
        for b in range(B):
            tokens = found.tokens[n, : found.lengths[n, b], b]
            expected = Writer(*jax.tree.map(np.float64, (weights, carry)), b).log_probability(tokens.tolist())
            np.testing.assert_allclose(found.log_probabilities[n, b], expected, rtol=1e-6, atol=1e-6)


def test_hypotheses_are_sorted_and_all_different():
    found = compiled(decode.beam_search, width=6, n_best=6, length=9, stop=6, length_penalty=0.5)(
        writers.weights(3, 7), writers.carries(3)
    )
    assert (np.diff(found.scores, axis=0) < 0).all()
    assert all(len({tuple(row) for row in found.tokens[:, :, b].tolist()}) == 6 for b in range(B))


def test_a_prefix_comes_first_and_counts():
    weights, carry = writers.weights(5, 7), writers.carries(5)
    search = functools.partial(decode.beam_search, prefix=PREFIX, prefix_mask=PREFIX_MASK, width=3, n_best=2, length=5)
    found = compiled(search, stop=6)(weights, carry)
    for b, allowed in enumerate(np.where(PREFIX_MASK, PREFIX, -1).T):
        may = lambda tokens, allowed=allowed: (  # noqa: E731
            [allowed[len(tokens)]] if len(tokens) < 2 and allowed[len(tokens)] >= 0 else range(7)
        )
        agree(found, writers.beam(Writer(weights, carry, b), 3, 5, (6,), may, Writer.score), b, 5, 6, seed=5)


def arrays(jaxpr):
    """The shapes of everything that a program and those inside of it compute, or carry through a loop."""
    for variable in (*jaxpr.invars, *jaxpr.constvars):
        yield variable.aval.shape
    for equation in jaxpr.eqns:
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from arrays(getattr(inner, "jaxpr", inner))


def with_memory(copy, wrap):
    weights, carry = writers.weights(0, 7), writers.carries(0) | {"memory": np.ones((B, 50, H)), "weights": np.ones((B, 50))}
    step = wrap(writers.step_of(weights, copy=copy))
    search = functools.partial(decode.beam_search, step, width=6, length=8, stop=6)
    shapes = list(arrays(jax.make_jaxpr(search)(carry, START).jaxpr))
    assert (B, 50, H) in shapes
    return max(np.prod(shape) for shape in shapes)


def looped(step):
    """The step as a loop over a time of one, as a recurrence takes it."""

    def run(carry, token):
        carry, logits = jax.lax.scan(step, carry, token[None])
        return carry, logits[0]

    return run


@pytest.mark.parametrize("wrap", [lambda step: step, jax.jit, looped, lambda step: jax.jit(looped(step))])
def test_a_memory_is_not_copied_for_each_hypothesis(wrap):
    """Nowhere in the program is there an array of its size times the width; there is, if the step computes it anew."""
    assert with_memory(False, wrap) < 6 * B * 50 * H
    assert with_memory(True, wrap) == 6 * B * 50 * H


def test_what_a_step_hands_on_is_seen():
    carry = {"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3)), "c": jnp.ones((2, 3)), "d": jnp.ones((2, 3)), "e": jnp.ones(7)}

    def step(carry, token):
        return carry | {"a": carry["a"] + 1, "b": carry["c"], "c": carry["b"]}, carry["a"]

    expected = {"a": False, "b": False, "c": False, "d": True, "e": True}
    for wrapped in (step, jax.jit(step), jax.checkpoint(step)):
        assert decode.untouched(wrapped, carry, jnp.zeros(2, jnp.int32)) == expected


def test_a_search_stops_when_nothing_better_can_come():
    calls = []

    def step(carry, token):
        jax.debug.callback(lambda token: calls.append(1), token)
        return carry, jnp.log(jnp.array([[0.03, 0.02, 0.95]] * 2))

    start = jnp.zeros(2, jnp.int32)
    found = decode.beam_search(step, (), start, width=2, length=40, stop=2, n_best=2)
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert len(calls) <= 2 * 3, "each of two hypotheses, a few times"
    np.testing.assert_allclose(found.log_probabilities[:, 0], np.log([0.95, 0.03 * 0.95]), rtol=1e-6)


def test_a_search_goes_on_while_a_long_hypothesis_may_catch_up():
    """Stopping at once is likelier than going on, but not by what a length is worth."""
    probabilities = jnp.array([[0.45, 0.0, 0.55], [1.0, 0.0, 0.0]])  # of symbols after 1, what comes first, and after 0
    step = lambda carry, token: (carry, jnp.log(probabilities[1 - token]))  # noqa: E731
    search = functools.partial(decode.beam_search, step, (), jnp.array([1]), width=2, n_best=1, length=8, stop=2)
    assert search().lengths.tolist() == [[1]]
    found = search(length_penalty=2.0)
    assert found.lengths.tolist() == [[8]]
    np.testing.assert_allclose(found.scores, np.log(0.45) / (13 / 6) ** 2, rtol=1e-6)


def test_a_sequence_to_which_nothing_is_left_is_not_found():
    step = lambda carry, token: (carry, jnp.array([[0.3, 0.2, 0.1]]))  # noqa: E731
    found = decode.beam_search(
        step, (), jnp.array([0]), width=3, n_best=3, length=3, constrain=decode.chain(decode.no_repeat(), decode.forbid(1))
    )
    assert np.isneginf(found.scores).all() and not found.lengths.any()


GOOD = {"width": 2, "length": 3, "stop": 6}


@pytest.mark.parametrize(("wanted", "message"), [
    ({"width": 0}, "width must be at least 1, got 0"),
    ({"width": 8}, "width 8 is more than the vocabulary's 7 symbols"),
    ({"n_best": 3}, "n_best 3 is more than the width, 2"),
    ({"n_best": 0}, "n_best must be at least 1"),
    ({"length": 0}, "length must be at least 1, got 0"),
    ({"length": 2.5}, "length must be a whole number"),
    ({"stop": 7}, "stop token 7 is outside of the vocabulary, whose 7 symbols are 0 to 6"),
    ({"stop": (6, -1)}, "stop token -1 is outside"),
    ({"stop": 0.5}, "stop must be a token or several"),
    ({"min_length": 4}, "min_length must be from 0 to 3, got 4"),
    ({"length_penalty": float("nan")}, "length_penalty must be at least 0"),
    ({"length_penalty": -0.1}, "length_penalty must be at least 0"),
    ({"coverage_penalty": float("inf")}, "coverage_penalty must be at least 0"),
    ({"coverage_penalty": 0.2}, "coverage_penalty needs weights_of"),
    ({"coverage_penalty": 0.2, "weights_of": lambda carry: carry["h"][0]}, "weights_of must return .* .3, S., got .4."),
    ({"prefix": np.zeros((0, B), int)}, "prefix must be integers .P, B., none of these axes empty; got int64.0, 3."),
    ({"prefix": np.zeros((1, B))}, "prefix must be integers .* got float64.1, 3."),
    ({"prefix": np.zeros((B + 1, 1), int)}, "prefix must be time-major, .P, 3., with P at most 3"),
    ({"prefix": np.zeros((4, B), int)}, "with P at most 3, the length; got .4, 3."),
    ({"prefix": np.full((1, B), 9)}, "prefix holds 9 is outside of the vocabulary"),
    ({"prefix": np.full((2, B), 6)}, "prefix holds the stop token 6"),
    ({"prefix": PREFIX, "prefix_mask": PREFIX_MASK[:1]}, "prefix_mask must be bool .2, 3., True = forced"),
    ({"prefix": PREFIX, "prefix_mask": PREFIX_MASK * 1}, "prefix_mask must be bool .2, 3.* got int64"),
    ({"prefix_mask": PREFIX_MASK}, "there is no prefix"),
    ({"constrain": decode.forbid(7)}, "forbid: tokens 7 is outside of the vocabulary"),
    ({"constrain": decode.no_repeat(visited=np.ones((2, 7), bool))}, "no_repeat: expected visited bool .3, 7."),
    ({"constrain": decode.within(np.ones((2, 7), bool))}, "within: expected a mask bool .3, 7. or .7."),
])  # fmt: skip
def test_what_makes_no_sense_is_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        decode.beam_search(writers.step_of(writers.weights(0, 7)), writers.carries(0), START, **GOOD | wanted)


@pytest.mark.parametrize(("step", "message"), [
    (lambda carry, token: (carry["h"], carry["h"]), "must return a carry like the one it is given"),
    (lambda carry, token: (carry | {"h": carry["h"][:, 1:]}, carry["h"]), r"carry\['h'\] is float64.3, 4. before it"),
    (lambda carry, token: (carry, carry["h"][:, None]), "must return logits .3, V., without a time axis"),
    (lambda carry, token: (carry, token[:, None]), "must return floating logits, got int32"),
    (lambda carry, token: (carry | {"count": carry["count"] + 1}, carry["h"]), r"carry\['count'\] changes .* broadcast it"),
])  # fmt: skip
def test_a_step_that_cannot_be_repeated_is_refused(step, message):
    carry = writers.carries(0) | {"count": np.zeros((), np.int32)}
    with pytest.raises(ValueError, match=message):
        decode.beam_search(step, carry, START, width=2, length=3)


def test_positions_without_a_memory_cost_no_coverage():
    weights, carry = writers.weights(2, 7), writers.carries(2)
    settings = {"width": 3, "length": 4, "stop": 6, "coverage_penalty": 0.4}
    wide = carry | {"weights": np.zeros((B, S + 2))}

    def step(carry, token):
        inner, logits = writers.step_of(weights)({**carry, "weights": carry["weights"][:, :S]}, token)
        padding = jnp.zeros((B, 2))
        return {**inner, "memory": carry["memory"], "weights": jnp.concatenate([inner["weights"], padding], 1)}, logits

    covered = lambda carry: jnp.where(jnp.arange(S + 2) < S, carry["weights"], 1.0)  # noqa: E731
    found = jax.jit(lambda carry: decode.beam_search(step, carry, START, weights_of=covered, **settings))(wide)
    expected = compiled(decode.beam_search, **settings)(weights, carry)
    assert np.array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-12)
