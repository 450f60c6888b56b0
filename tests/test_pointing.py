"""Pointing: logits over a memory, positions that may not come back, words said or copied."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import seqjax as sj
from seqjax.attention import (
    Additive,
    Attend,
    Bilinear,
    LocationAware,
    MultiHead,
    Pointer,
    ScaledDot,
    copy_mixture,
    without_visited,
)
from seqjax.precision import cast
from seqjax.testing.sample import values

T, B, F, S, M, H = 6, 3, 2, 5, 4, 7


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def draw(pointer, seed=0):
    rng = np.random.default_rng(seed)
    xs, memory = rng.normal(size=(T, B, F)), rng.normal(size=(B, S, M))
    shapes = jax.eval_shape(pointer.init, jax.random.key(seed), xs)
    params = jax.tree.map(lambda p: 0.3 * rng.normal(size=p.shape), shapes)
    return params, xs, memory, np.arange(S) < np.array([[S], [3], [1]])


def test_pointer_is_its_equation():
    pointer = Pointer(sj.Elman(H), Additive(3, temperature=0.5), M)
    params, xs, memory, mask = draw(pointer)
    carry = jax.jit(pointer.start)(params, memory, mask, sj.HiddenCarry(np.zeros((B, H))))
    _, logits = values(pointer, params, carry, xs)
    p = jax.device_get(params)
    for b in range(B):
        h = np.zeros(H)
        for t in range(T):
            h = np.tanh(xs[t, b] @ p["cell"]["kernel"] + p["cell"]["bias"] + h @ p["cell"]["recurrent_kernel"])
            hidden = np.tanh(h @ p["score"]["query_kernel"] + memory[b] @ p["score"]["memory_kernel"])
            want = np.where(mask[b], hidden @ p["score"]["scale"] / 0.5, -np.inf)
            np.testing.assert_allclose(logits[t, b], want, atol=1e-12)


@pytest.mark.parametrize("engine", ["scan", "hoisted"])
def test_positions_without_anything_have_no_probability_and_no_gradient(engine):
    pointer = Pointer(Attend(sj.LSTM(H), ScaledDot(), H), Bilinear(), H, engine=engine)
    rng = np.random.default_rng(1)
    xs, memory, mask = rng.normal(size=(T, B, F)), rng.normal(size=(B, S, H)), np.arange(S) < np.array([[S], [3], [1]])
    params = cast(pointer.init(jax.random.key(0), xs), "float64")
    targets = np.minimum(np.arange(T)[:, None] % S, np.array([4, 2, 0]))

    @jax.jit
    def loss(params, memory):
        _, logits = pointer.apply(params, pointer.start(params, memory, mask), xs)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], -1).sum(), logits

    gradient = jax.grad(lambda *a: loss(*a)[0], argnums=(0, 1))
    clean, holed = (gradient(params, m) for m in (memory, np.where(mask[..., None], memory, np.nan)))
    jax.tree.map(np.testing.assert_array_equal, clean, holed)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))
    np.testing.assert_array_equal(clean[1][~mask], 0.0)
    assert np.abs(clean[1][:2][mask[:2]]).min() > 0
    np.testing.assert_array_equal(jax.nn.softmax(loss(params, memory)[1])[:, ~mask], 0.0)


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 6), places=st.integers(1, 6))
def test_visited_positions_are_those_of_earlier_steps(seed, steps, places):
    rng = np.random.default_rng(seed)
    logits, pointers = rng.normal(size=(steps, B, places)), rng.integers(0, places, size=(steps, B))
    got = np.asarray(jax.jit(without_visited)(logits, pointers))
    for t, b, s in np.ndindex(steps, B, places):
        assert got[t, b, s] == (-np.inf if s in pointers[:t, b] else logits[t, b, s])


def mixture(said, copied, gate, source, symbols):
    """The definition, with probabilities."""

    def softmax(logits):
        powers = np.exp(logits - logits.max())
        return powers / powers.sum()

    share = 1 / (1 + np.exp(-gate)) if np.isfinite(copied).any() else 1.0
    total = np.zeros(symbols)
    total[: len(said)] = share * softmax(said)
    if np.isfinite(copied).any():
        np.add.at(total, source, (1 - share) * softmax(copied))
    return total


@settings(max_examples=20, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 10**6), V=st.integers(1, 5), places=st.integers(1, 6), extra=st.integers(0, 3))
def test_copy_mixture_is_the_sum_of_both_ways(seed, V, places, extra):
    rng = np.random.default_rng(seed)
    said, copied, gate = 3 * rng.normal(size=V), 3 * rng.normal(size=places), rng.normal()
    copied[rng.uniform(size=places) < 0.3] = -np.inf
    source = rng.integers(0, V + extra, size=places)
    got = jax.jit(copy_mixture, static_argnames="symbols")(said, copied, gate, source, symbols=V + extra)
    np.testing.assert_allclose(np.exp(got), mixture(said, copied, gate, source, V + extra), atol=1e-12)


def test_copy_mixture_is_exact_where_probabilities_underflow():
    said, copied = jnp.array([0.0, -2000.0, -3000.0]), jnp.array([0.0, -1500.0])
    got = copy_mixture(said, copied, 0.0, jnp.array([0, 2]))
    np.testing.assert_allclose(got, [0.0, -2000.0 + np.log(0.5), -1500.0 + np.log(0.5)], rtol=1e-12)


def test_gradients_of_a_mixture_are_finite_and_those_of_finite_differences():
    rng = np.random.default_rng(0)
    said, copied, source = rng.normal(size=3), rng.normal(size=4), np.array([4, 0, 4, 1])
    holed = np.append(copied, -np.inf)

    @jax.jit
    def total(said, copied, gate, source):
        logs = copy_mixture(said, copied, gate, source, symbols=6)
        return jnp.sum(jnp.where(logs > -jnp.inf, jnp.sin(logs), 0.0))

    check_grads(lambda *a: total(*a, source), (said, copied, 0.3), order=1, modes=["rev"])
    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    got, want = gradient(said, holed, 0.3, np.append(source, 5)), gradient(said, copied, 0.3, source)
    np.testing.assert_allclose(got[1], np.append(want[1], 0.0), atol=1e-12)
    np.testing.assert_allclose(got[0], want[0], atol=1e-12)


@pytest.mark.parametrize("score", [LocationAware(3), MultiHead(ScaledDot(), 2, 4)])
def test_scores_that_cannot_point_are_refused(score):
    with pytest.raises(TypeError, match="points with one score of query and keys alone"):
        Pointer(sj.GRU(3), score, M)


@pytest.mark.parametrize(("copied", "source", "broken"), [
    ([0.0, 0.0], [0, 5], True),
    ([0.0, 0.0], [-1, 1], True),
    ([0.0, -np.inf], [0, 5], False),
    ([np.nan, np.nan], [0, 1], True),
])  # fmt: skip
def test_what_cannot_be_copied_is_not_lost_silently(copied, source, broken):
    logs = copy_mixture(jnp.zeros(3), jnp.array(copied), 0.0, jnp.array(source))
    assert bool(jnp.isnan(logs).all()) == broken
    assert broken or float(jnp.exp(logs).sum()) == pytest.approx(1)


def test_fewer_symbols_than_the_vocabulary_has_are_refused():
    with pytest.raises(ValueError, match="at least the 4 of the vocabulary, got 3"):
        copy_mixture(jnp.zeros(4), jnp.zeros(2), 0.0, jnp.array([0, 1]), symbols=3)
