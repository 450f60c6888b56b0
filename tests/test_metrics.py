"""Metrics of symbols: against their definitions in NumPy."""

import collections
import functools
import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import metrics

few = functools.partial(settings, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)


def test_exact_match_is_the_share_of_equal_answers():
    assert metrics.exact_match(["a b", "c", ""], ["a b", "C", ""]) == 2 / 3
    assert metrics.exact_match([[1, 2], [1], []], [np.array([1, 2]), [1, 2], []]) == 2 / 3
    assert metrics.exact_match(np.arange(8).reshape(4, 2), np.array([[0, 1], [2, 0], [4, 5], [7, 6]])) == 0.5


@pytest.mark.parametrize(("predicted", "expected", "error", "message"), [
    ("ab", ["a", "b"], TypeError, "predicted must be a sequence of answers, got one string"),
    (["a"], [[0]], TypeError, "got str and list"),
    (["a"], ["a", "b"], ValueError, "1 predicted, 2 expected"),
    ([], [], ValueError, "at least one"),
])  # fmt: skip
def test_exact_match_of_bad_input_is_refused(predicted, expected, error, message):
    with pytest.raises(error, match=f"exact_match: .*{message}"):
        metrics.exact_match(predicted, expected)


@few(max_examples=20)
@given(probabilities=st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6))
def test_perplexity_is_the_geometric_mean_of_inverse_probabilities(probabilities):
    expected = math.prod(probabilities) ** (-1 / len(probabilities))
    np.testing.assert_allclose(metrics.perplexity(-np.log(probabilities)), expected, rtol=1e-9)


def test_perplexity_of_what_was_held_impossible_is_infinite():
    assert metrics.perplexity([0.5, math.inf]) == math.inf == metrics.perplexity(1e4)


@pytest.mark.parametrize(("nats", "message"), [
    ([], "at least one"), ([1.0, math.nan], "1 of 2 values are NaN"), ([-0.7], "Negate log-prob"),
])  # fmt: skip
def test_perplexity_of_bad_input_is_refused(nats, message):
    with pytest.raises(ValueError, match=f"perplexity: .*{message}"):
        metrics.perplexity(nats)


def grams(symbols, n):
    return collections.Counter(tuple(symbols[i : i + n]) for i in range(len(symbols) - n + 1))


def bleu_of(hypotheses, references):
    """BLEU-4 of tokenized sentences with several references each, none of its counts zero."""
    matches, totals, length, closest = np.zeros(4), np.zeros(4), 0, 0
    for hypothesis, group in zip(hypotheses, references, strict=True):
        length += len(hypothesis)
        closest += min((abs(len(r) - len(hypothesis)), len(r)) for r in group)[1]
        for n in range(1, 5):
            most = functools.reduce(lambda a, b: a | b, (grams(r, n) for r in group))
            matches[n - 1] += (grams(hypothesis, n) & most).total()
            totals[n - 1] += grams(hypothesis, n).total()
    assert matches.all()
    return 100 * min(1.0, math.exp(1 - closest / length)) * math.exp(np.log(matches / totals).mean())


@few(max_examples=10)
@given(seed=seeds)
def test_bleu_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    references = [[list(rng.choice(list("abcd"), rng.integers(5, 9))) for _ in range(rng.integers(1, 4))] for _ in range(7)]
    hypotheses = [
        group[-1][: rng.integers(4, 9)] + list(rng.choice(list("abcd"), rng.integers(0, 3))) for group in references
    ]
    texts = [[" ".join(r) for r in group] for group in references]
    score = metrics.bleu([" ".join(h) for h in hypotheses], texts, tokenize="none")
    np.testing.assert_allclose(score.value, bleu_of(hypotheses, references), rtol=1e-9)


def test_hypotheses_may_have_different_numbers_of_references():
    score = metrics.bleu(["a b c d", "e f g h"], ["a b c d", ["a", "e f g h"]], tokenize="none")
    np.testing.assert_allclose(score.value, 100)
    assert "nrefs:var" in score.signature


def test_bleu_says_how_text_was_tokenized_and_case_treated():
    text, other = "The dog, it runs over there.", "the dog , it runs over there ."
    plain, spaces = (metrics.bleu([text], [other], tokenize=t, lowercase=True) for t in ("13a", "none"))
    np.testing.assert_allclose(plain.value, 100)
    assert spaces.value < 50 and metrics.bleu([text], [other]).value < 95
    assert "tok:13a" in plain.signature and "tok:none" in spaces.signature and "case:lc" in plain.signature
    assert "nrefs:1" in plain.signature and "case:mixed" in metrics.bleu([text], [other]).signature


def chrf_of(hypothesis, reference, beta=2):
    """chrF of one pair of texts of at least six characters: precision and recall averaged over orders."""
    h, r = hypothesis.replace(" ", ""), reference.replace(" ", "")
    matches = [(grams(h, n) & grams(r, n)).total() for n in range(1, 7)]
    precision = np.mean([m / grams(h, n).total() for n, m in enumerate(matches, 1)])
    recall = np.mean([m / grams(r, n).total() for n, m in enumerate(matches, 1)])
    return 100 * (1 + beta**2) * precision * recall / (beta**2 * precision + recall)


@few(max_examples=10)
@given(seed=seeds)
def test_chrf_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    hypothesis = "ab c" + "".join(rng.choice(list("abc "), 12)) + "b"
    reference = hypothesis[:7] + "a" + hypothesis[9:]
    np.testing.assert_allclose(metrics.chrf([hypothesis], [reference]).value, chrf_of(hypothesis, reference), rtol=1e-9)


def test_chrf_takes_the_best_of_several_references():
    hypotheses = ["a dog runs", "two men sit"]
    score = metrics.chrf(hypotheses, [["nothing", "a dog runs"], ["two men sit", "no", "none"]], word_order=2)
    np.testing.assert_allclose(score.value, 100)
    assert "nw:2" in score.signature


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
@pytest.mark.parametrize(("hypotheses", "references", "error", "message"), [
    ([], [], ValueError, "at least one"),
    (["a"], ["a", "b"], ValueError, "1 hypotheses, 2 references"),
    ("a", ["a"], TypeError, "hypotheses must be a sequence of answers"),
    ([["a"]], ["a"], TypeError, "hypothesis 0 must be a string, got list"),
    (["a", "b"], ["a", ["b", 3]], TypeError, "reference 1 must be a string, got int"),
    (["a"], [[]], ValueError, "hypothesis 0 has no reference"),
])  # fmt: skip
def test_translations_that_are_no_pairs_of_strings_are_refused(metric, hypotheses, references, error, message):
    with pytest.raises(error, match=f"{metric}: .*{message}"):
        getattr(metrics, metric)(hypotheses, references)


def test_unknown_settings_of_translation_metrics_are_refused():
    with pytest.raises(ValueError, match=r"bleu: tokenize must be one of '13a', .*; got 'words'"):
        metrics.bleu(["a"], ["a"], tokenize="words")
    with pytest.raises(ValueError, match=r"chrf: word_order must be .*; got -1"):
        metrics.chrf(["a"], ["a"], word_order=-1)


@pytest.mark.parametrize("metric", [metrics.bleu, metrics.chrf])
def test_missing_sacrebleu_is_said_with_what_to_install(metric, monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r'pip install "seqjax\[experiments\]"'):
        metric(["a"], ["a"])


@few(max_examples=20)
@given(seed=seeds)
def test_alignment_error_rate_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    A, S, more = (rng.random((3, 4, 5)) < share for share in (0.3, 0.3, 0.4))
    P = S | more
    S[0, 0, 0] = P[0, 0, 0] = True
    expected = 1 - ((A & S).sum() + (A & P).sum()) / (A.sum() + S.sum())
    pairs = [[np.argwhere(sentence).tolist() for sentence in kind] for kind in (A, S, P)]
    np.testing.assert_allclose(metrics.alignment_error_rate(*pairs), expected)
    assert metrics.alignment_error_rate(pairs[1], pairs[1]) == 0


@pytest.mark.parametrize(("alignments", "sure", "message"), [
    ([], [], "at least one"),
    ([[(0, 0)]], [[(0, 0)], []], "1 alignments, 2 sure"),
    ([[]], [[]], "not defined"),
    ([[(0, 0, 0)]], [[(0, 0)]], "pairs of integers"),
    ([[(0.5, 0)]], [[(0, 0)]], "pairs of integers"),
])  # fmt: skip
def test_alignments_that_cannot_be_scored_are_refused(alignments, sure, message):
    with pytest.raises(ValueError, match=f"alignment_error_rate: .*{message}"):
        metrics.alignment_error_rate(alignments, sure)
