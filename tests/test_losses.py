"""Losses of sequences: against their definitions in NumPy, and what masks must keep out."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.losses import coverage_loss, ctc, sequence_cross_entropy

few = functools.partial(settings, deadline=None, derandomize=True, database=None)
sizes = st.sampled_from([((5,), 4), ((4, 3), 5), ((2, 1, 3), 1), ((0, 3), 2)])  # few, for JAX compiles for each
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


compiled_cross_entropy = jax.jit(sequence_cross_entropy, static_argnames=("label_smoothing", "reduce"))
gradient_of = jax.jit(jax.grad(sequence_cross_entropy), static_argnames="label_smoothing")


def drawn(shape, V, seed):
    """logits with forbidden symbols among them, targets that are allowed, a mask; NaN and no symbols where it is False."""
    rng = np.random.default_rng(seed)
    logits, targets = 3 * rng.normal(size=(*shape, V)), rng.integers(0, V, shape)
    forbidden = rng.random(logits.shape) < 0.3
    np.put_along_axis(forbidden, targets[..., None], False, axis=-1)
    logits[forbidden] = -np.inf
    mask = rng.random(shape) < 0.7
    logits[~mask], targets[~mask] = np.nan, -100
    return logits, targets, mask


def distribution(logits, target, smoothing):
    """What is wanted at one step, and what is predicted."""
    allowed = np.isfinite(logits)
    wanted = np.where(allowed, smoothing / allowed.sum(), 0.0)
    wanted[target] += 1 - smoothing
    exponentials = np.exp(logits - logits[allowed].max())
    return wanted, exponentials / exponentials.sum()


def defined(logits, targets, mask, smoothing):
    """The cross-entropy of every step, in a loop."""
    nats = np.zeros(mask.shape)
    for step in zip(*np.nonzero(mask), strict=True):
        wanted, p = distribution(logits[step], targets[step], smoothing)
        nats[step] = -sum(w * np.log(q) for w, q in zip(wanted, p, strict=True) if w)
    return nats


def reduced(each, mask, reduce):
    if reduce == "token":
        return each.sum() / max(mask.sum(), 1)
    return each.sum() / max(mask.any(0).sum(), 1) if reduce == "sequence" else each


@few(max_examples=12)
@given(sizes=sizes, smoothing=st.sampled_from([0.0, 0.1, 0.6]), seed=seeds)
@pytest.mark.parametrize("reduce", ["token", "sequence", None])
def test_cross_entropy_is_its_definition(reduce, sizes, smoothing, seed):
    logits, targets, mask = drawn(*sizes, seed)
    got = compiled_cross_entropy(logits, targets, mask=mask, label_smoothing=smoothing, reduce=reduce)
    expected = reduced(defined(logits, targets, mask, smoothing), mask, reduce)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@few(max_examples=10)
@given(sizes=sizes, smoothing=st.sampled_from([0.0, 0.2]), seed=seeds)
def test_gradient_of_cross_entropy_is_predicted_less_wanted(sizes, smoothing, seed):
    logits, targets, mask = drawn(*sizes, seed)
    got = gradient_of(logits, targets, mask=mask, label_smoothing=smoothing)
    expected = np.zeros(logits.shape)
    for step in zip(*np.nonzero(mask), strict=True):
        wanted, p = distribution(logits[step], targets[step], smoothing)
        expected[step] = (p - wanted) / mask.sum()
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-12)
    assert not np.asarray(got)[~mask].any() and not np.asarray(got)[np.isneginf(logits)].any(), "exactly zero"


@pytest.mark.parametrize("reduce", ["token", "sequence"])
def test_cross_entropy_of_nothing_is_zero(reduce):
    logits, targets, mask = jnp.full((4, 3, 5), jnp.nan), jnp.full((4, 3), 9), jnp.zeros((4, 3), bool)
    value, gradient = jax.value_and_grad(lambda x: sequence_cross_entropy(x, targets, mask=mask, reduce=reduce))(logits)
    assert value == 0 and not gradient.any()


def test_sequences_without_a_valid_step_do_not_count():
    logits, targets = jnp.zeros((4, 3, 5)), jnp.ones((4, 3), int)
    mask = jnp.arange(4)[:, None] < jnp.array([4, 0, 2])
    np.testing.assert_allclose(sequence_cross_entropy(logits, targets, mask=mask, reduce="sequence"), 3 * np.log(5))


def test_cross_entropy_of_a_forbidden_target_is_infinite():
    logits = jnp.zeros((2, 3, 5)).at[0, 1, 4].set(-jnp.inf)
    each = sequence_cross_entropy(logits, jnp.full((2, 3), 4), reduce=None)
    assert np.array_equal(np.isposinf(each), [[False, True, False], [False, False, False]])


def test_a_pointer_into_a_padded_memory_is_one_into_the_memory():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(6, 2, 4)), rng.integers(0, 4, (6, 2))
    padded = np.concatenate([logits, np.full((6, 2, 3), -np.inf)], axis=-1)
    loss = jax.jit(jax.value_and_grad(functools.partial(sequence_cross_entropy, label_smoothing=0.3)))
    (value, gradient), (expected, expected_gradient) = loss(padded, targets), loss(logits, targets)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(gradient[..., :4], expected_gradient, rtol=1e-10)
    assert not gradient[..., 4:].any()


def test_cross_entropy_is_computed_in_float32_at_least():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3, 7)), jnp.bfloat16)
    targets = np.ones((40, 3), np.uint8)
    value, gradient = jax.value_and_grad(sequence_cross_entropy)(logits, targets)
    expected = defined(np.asarray(logits, np.float64), targets, np.ones((40, 3), bool), 0.0).mean()
    assert value.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_a_target_that_is_no_symbol_is_nan_where_it_cannot_be_seen(wrong):
    targets = jnp.array([[0, 1], [2, wrong], [4, 3]])
    each = jax.jit(functools.partial(sequence_cross_entropy, reduce=None))(jnp.zeros((3, 2, 5)), targets)
    assert np.array_equal(np.isnan(each), np.asarray(targets) == wrong)


X, Y, M = np.zeros((4, 3, 5), np.float32), np.zeros((4, 3), int), np.ones((4, 3), bool)


@pytest.mark.parametrize(("changed", "error", "message"), [
    ({"logits": Y}, TypeError, "logits must be floating point"),
    ({"logits": [[0.0]]}, TypeError, "logits must be an array, got list"),
    ({"logits": X[..., :0]}, ValueError, "not empty"),
    ({"targets": X}, TypeError, "targets must be integers"),
    ({"targets": Y.T}, ValueError, r"shape \[3, 4\], expected \[4, 3\]"),
    ({"targets": Y + 5}, ValueError, r"0..4, .* got 5..5"),
    ({"targets": Y - 1}, ValueError, r"0..4, .* got -1..-1"),
    ({"mask": M.T}, ValueError, r"shape \[3, 4\], expected \[4, 3\].*transpose it, or use length_mask\(lengths, 4\)"),
    ({"mask": M * 1.0}, TypeError, "mask must be bool"),
    ({"label_smoothing": 1.0}, ValueError, r"share in \[0, 1\)"),
    ({"label_smoothing": float("nan")}, ValueError, "share in"),
    ({"reduce": "mean"}, ValueError, "'token', 'sequence', None; got 'mean'"),
])  # fmt: skip
def test_cross_entropy_of_bad_input_is_refused(changed, error, message):
    given = {"logits": X, "targets": Y, "mask": M} | changed
    with pytest.raises(error, match=f"sequence_cross_entropy: .*{message}"):
        sequence_cross_entropy(given.pop("logits"), given.pop("targets"), **given)


@few(max_examples=8)
@given(sizes=sizes, seed=seeds)
@pytest.mark.parametrize("reduce", ["token", "sequence", None])
def test_coverage_is_its_definition(reduce, sizes, seed):
    (shape, S), rng = sizes, np.random.default_rng(seed)
    weights, mask = rng.dirichlet(np.ones(S), shape), rng.random(shape) < 0.7
    each, covered = np.zeros(shape), np.zeros((*shape[1:], S))
    for t in range(shape[0]):
        each[t] = np.where(mask[t], np.minimum(weights[t], covered).sum(-1), 0)
        covered = covered + np.where(mask[t][..., None], weights[t], 0)
    weights[~mask] = np.nan
    got = coverage_loss(weights, mask=mask, reduce=reduce)
    np.testing.assert_allclose(got, reduced(each, mask, reduce), rtol=1e-10, atol=1e-12)


def test_coverage_costs_what_is_read_again():
    once, again = jnp.eye(4)[:, None], jnp.eye(4)[jnp.array([1, 1, 2, 1])][:, None]
    assert np.array_equal(coverage_loss(once, reduce=None)[:, 0], [0, 0, 0, 0])
    assert np.array_equal(coverage_loss(again, reduce=None)[:, 0], [0, 1, 0, 1])


def test_gradient_of_coverage_is_zero_where_masked():
    weights, mask = np.random.default_rng(0).dirichlet(np.ones(4), (5, 3)), np.ones((5, 3), bool)
    mask[2:, 1], mask[1, 2] = False, False
    weights[~mask] = np.nan
    gradient = np.asarray(jax.grad(coverage_loss)(weights, mask=mask))
    assert not gradient[~mask].any() and gradient[mask].any(-1).all()


@pytest.mark.parametrize(("weights", "wanted", "error", "message"), [
    (Y, {}, TypeError, "weights must be floating point"),
    (X[0, 0], {}, ValueError, r"weights must be \[T, B, S\]"),
    (X, {"mask": M[:2]}, ValueError, "that of the weights without their last axis"),
    (X, {"reduce": "sum"}, ValueError, "reduce must be one of"),
])  # fmt: skip
def test_coverage_of_bad_input_is_refused(weights, wanted, error, message):
    with pytest.raises(error, match=f"coverage_loss: .*{message}"):
        coverage_loss(weights, **wanted)


def merged(path, blank):
    return [symbol for symbol, _ in itertools.groupby(path) if symbol != blank]


def summed(logits, target, blank):
    """CTC of one sequence [T, V]: minus the logarithm of the sum over all paths that mean the target."""
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    paths = itertools.product(range(p.shape[1]), repeat=len(p))
    likelihood = sum(np.prod(p[range(len(p)), path]) for path in paths if merged(path, blank) == list(target))
    return -np.log(likelihood) if likelihood else np.inf


@functools.partial(jax.jit, static_argnames=("blank", "reduce"))
def compiled(logits, targets, mask, lengths, blank=0, reduce=None):
    return ctc(logits, targets, mask=mask, target_lengths=lengths, blank=blank, reduce=reduce)


@few(max_examples=25)
@given(blank=st.sampled_from([0, 2]), forbids=st.booleans(), seed=seeds)
def test_ctc_is_the_sum_over_all_paths(blank, forbids, seed):
    rng = np.random.default_rng(seed)
    logits, mask = rng.normal(size=(5, 4, 3)), rng.random((5, 4)) < 0.7
    targets, lengths = rng.choice([s for s in range(3) if s != blank], (4, 3)), rng.integers(0, 4, 4)
    if forbids:
        logits[2:4, :, blank] = -np.inf
    expected = [summed(logits[mask[:, b], b], targets[b, : lengths[b]], blank) for b in range(4)]
    logits[~mask] = np.nan
    if forbids:  # else what stands beyond the length is a symbol, maybe the last one again
        targets[np.arange(3) >= lengths[:, None]] = -1
    got = np.asarray(compiled(logits, targets, mask, lengths, blank))
    np.testing.assert_allclose(np.where(got > 5e4, np.inf, got) if forbids else got, expected, rtol=1e-9, atol=1e-9)


def test_gradient_of_ctc_is_finite_and_zero_where_masked():
    rng = np.random.default_rng(0)
    logits, mask = rng.normal(size=(5, 4, 3)), np.arange(5)[:, None] < np.array([5, 3, 1, 0])
    logits[~mask], logits[1, 0, 2] = np.nan, -np.inf
    targets, lengths = np.array([[1, 1, 2], [2, 1, -1], [1, 1, -1], [-1, -1, -1]]), np.array([3, 2, 2, 0])
    gradient = np.asarray(jax.grad(lambda x: compiled(x, targets, mask, lengths)[:2].sum())(logits))
    assert np.isfinite(gradient).all() and not gradient[~mask].any() and gradient[mask[:, 0], 0].any(-1).all()
    impossible = np.asarray(jax.grad(lambda x: compiled(x, targets, mask, lengths)[2])(logits))
    assert not impossible.any()


def test_ctc_takes_any_batch_axes_and_averages_sequences():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(4, 3, 2, 3)), np.array([[[1, 2], [2, 1]], [[1, 1], [2, 2]], [[1, 2], [2, 2]]])
    expected = [[summed(logits[:, i, j], targets[i, j], 0) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(compiled(logits, targets, None, None, reduce="sequence"), np.mean(expected), rtol=1e-9)
    np.testing.assert_allclose(compiled(logits[:, 0, 0], targets[0, 0], None, None), expected[0][0], rtol=1e-9)


def test_ctc_does_not_count_sequences_of_nothing():
    logits, mask, lengths = np.zeros((2, 3, 3)), np.ones((2, 3), bool), np.array([1, 0, 0])
    mask[:, 2] = False  # the second says nothing in two steps, the third has none
    expected = -(np.log(3 / 9) + np.log(1 / 9)) / 2
    np.testing.assert_allclose(ctc(logits, np.full((3, 1), 2), mask=mask, target_lengths=lengths), expected, rtol=1e-9)


def test_ctc_of_no_target_is_blanks_throughout():
    logits = np.random.default_rng(2).normal(size=(4, 2, 3))
    expected = -jax.nn.log_softmax(logits)[..., 0].sum(0)
    np.testing.assert_allclose(compiled(logits, np.zeros((2, 0), int), None, None), expected, rtol=1e-9)


@pytest.mark.parametrize("wrong", [-1, 3, 0])
def test_ctc_of_a_target_that_is_no_symbol_is_nan_where_it_cannot_be_seen(wrong):
    targets = np.array([[1, 2, -1], [1, wrong, 2], [2, 1, 1], [1, 2, 1]])
    got = compiled(np.zeros((5, 4, 3)), targets, np.ones((5, 4), bool), np.array([2, 3, 3, 3]))
    assert np.array_equal(np.isnan(got), [False, True, False, False])


@pytest.mark.parametrize(("changed", "error", "message"), [
    ({"logits": Y}, TypeError, "logits must be floating point"),
    ({"logits": X[:0]}, ValueError, "at least one step"),
    ({"targets": X[0]}, TypeError, "targets must be integers"),
    ({"targets": Y}, ValueError, r"targets have shape \[4, 3\], expected batch first, \[3, 'L'\]"),
    ({"targets": np.full((3, 2), 5)}, ValueError, r"0..4, .* got 5..5"),
    ({"targets": np.full((3, 2), 0)}, ValueError, "targets have no blanks"),
    ({"targets": np.array([[1, 2, 3], [1, 1, 2], [1, 1, 1]])}, ValueError,
     r"no alignment: sequence \(2,\) has 4 valid steps, but its 3 targets need 5"),
    ({"mask": np.arange(4)[:, None] < np.array([4, 1, 4])}, ValueError,
     r"sequence \(1,\) has 1 valid steps, but its 2 targets need 2"),
    ({"mask": M.T}, ValueError, "mask has shape"),
    ({"target_lengths": np.ones(2, int)}, ValueError, r"target_lengths have shape \[2\], expected \[3\]"),
    ({"target_lengths": np.ones(3)}, TypeError, "target_lengths must be integers"),
    ({"target_lengths": np.array([1, 3, 0])}, ValueError, r"target_lengths must lie in 0..2, got 0..3"),
    ({"blank": 5}, ValueError, "blank must be the index of a symbol, in 0..4; got 5"),
    ({"reduce": "token"}, ValueError, "reduce must be one of 'sequence', None"),
])  # fmt: skip
def test_ctc_of_bad_input_is_refused(changed, error, message):
    given = {"logits": X, "targets": np.array([[1, 2]] * 3)} | changed
    with pytest.raises(error, match=f"ctc: .*{message}"):
        ctc(given.pop("logits"), given.pop("targets"), **given)
