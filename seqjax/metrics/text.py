"""Measures of sequences of symbols: answers, likelihoods, translations, alignments."""

from typing import NamedTuple

import numpy as np


class Score(NamedTuple):
    """A score, and how it was computed: without the second, the first cannot be compared with others."""

    value: float  # from 0 to 100
    signature: str  # sacrebleu's: number of references, case, tokenization, smoothing, version


def exact_match(predicted, expected):
    """The share of answers that are right as a whole.

    Args:
      predicted: strings, or sequences or arrays of symbols, one per answer, without padding.
      expected: as many.

    Returns:
      a share in [0, 1].

    Raises:
      TypeError: one of both is a single string, or a string is compared with something else.
      ValueError: there is none, or they are not as many.

    Example:
      >>> from seqjax.metrics import exact_match
      >>> exact_match(["run", "walk walk"], ["run", "walk"])
      0.5
    """
    _paired("exact_match", predicted=predicted, expected=expected)
    return sum(_equal(*pair) for pair in zip(predicted, expected, strict=True)) / len(predicted)


def _equal(predicted, expected):
    texts = isinstance(predicted, str), isinstance(expected, str)
    if any(texts) and not all(texts):
        kinds = type(predicted).__name__, type(expected).__name__
        raise TypeError(f"exact_match: expected two strings or two sequences of symbols, got {kinds[0]} and {kinds[1]}.")
    return predicted == expected if all(texts) else np.array_equal(np.asarray(predicted), np.asarray(expected))


def perplexity(nats):
    """The exponential of the mean: among how many equally likely symbols the model was in doubt.

    Args:
      nats: ``-log p`` of each symbol that counts, natural logarithm, any shape; or their mean. Not those of padding.

    Raises:
      ValueError: there is none, one is NaN, or their mean is negative, as that of log-probabilities is.

    Example:
      >>> import math
      >>> from seqjax.metrics import perplexity
      >>> round(perplexity([math.log(2), math.log(8)]), 6)
      4.0
    """
    nats = np.asarray(nats, np.float64)
    if not nats.size:
        raise ValueError("perplexity: expected at least one value, got none.")
    mean = nats.mean()
    if np.isnan(mean):
        raise ValueError(f"perplexity: {np.isnan(nats).sum()} of {nats.size} values are NaN; leave out what does not count.")
    if mean < -1e-6:  # what rounding leaves of certainty may be below zero, a likelihood of symbols not
        raise ValueError(
            f"perplexity: expected nats, -log p, which are positive; their mean is {mean}. Negate log-probabilities."
        )
    with np.errstate(over="ignore"):
        return float(np.exp(mean))


def bleu(hypotheses, references, *, tokenize="13a", lowercase=False):
    """BLEU of a corpus, by sacrebleu: its defaults but for what is named here.

    Args:
      hypotheses: strings.
      references: for each hypothesis a string, or a sequence of strings (not sacrebleu's own order, where each of several
        streams has one for every hypothesis).
      tokenize: how sacrebleu cuts strings into words. "13a", its default, is for text as people write it. "none" cuts at
        spaces only, for text that was tokenized before; then a BLEU depends on that tokenization, and compares with those
        of the same alone. "char" and "zh" are for Chinese, "intl" for other scripts; some others need packages or models,
        which sacrebleu asks for.
      lowercase: whether case does not matter.

    Returns:
      :class:`Score`, from 0 to 100.

    Raises:
      ImportError: sacrebleu is missing.
      TypeError: something is not a string.
      ValueError: there is no hypothesis, not as many references, or no such tokenization.

    Example:
      >>> from seqjax.metrics import bleu
      >>> score = bleu(["A dog runs over the grass."], ["A dog runs across the grass."])
      >>> f"{score.value:.1f}", "tok:13a" in score.signature
      ('41.1', True)

    References:
      Papineni et al., `BLEU <https://aclanthology.org/P02-1040>`_, 2002;
      Post, `A Call for Clarity in Reporting BLEU Scores <https://arxiv.org/abs/1804.08771>`_, 2018
    """
    sacrebleu = _sacrebleu("bleu")
    known = sorted(sacrebleu.BLEU.TOKENIZERS)
    if tokenize not in known:
        raise ValueError(f"bleu: tokenize must be one of {', '.join(map(repr, known))}; got {tokenize!r}.")
    streams = _streams("bleu", hypotheses, references)
    # force: do not warn of text that looks tokenized where that is what was said.
    metric = sacrebleu.BLEU(tokenize=tokenize, lowercase=lowercase, force=tokenize == "none")
    return _scored(metric, hypotheses, streams)


def chrf(hypotheses, references, *, word_order=0, lowercase=False):
    """chrF of a corpus, by sacrebleu: F score (beta 2) of n-grams of up to 6 characters, spaces aside; no tokenization.

    Args:
      hypotheses: strings.
      references: for each hypothesis a string, or a sequence of strings.
      word_order: up to which order n-grams of words count too; 2 is chrF++.
      lowercase: whether case does not matter.

    Returns:
      :class:`Score`, from 0 to 100.

    Raises:
      ImportError: sacrebleu is missing.
      TypeError: something is not a string.
      ValueError: there is no hypothesis, or not as many references.

    Example:
      >>> from seqjax.metrics import chrf
      >>> f'{chrf(["A dog runs."], ["A dog runs."]).value:.1f}'
      '100.0'

    References:
      Popović, `chrF: character n-gram F-score for automatic MT evaluation <https://aclanthology.org/W15-3049>`_, 2015
    """
    sacrebleu = _sacrebleu("chrf")
    if not isinstance(word_order, int) or word_order < 0:
        raise ValueError(f"chrf: word_order must be 0 (chrF), 2 (chrF++) or another order; got {word_order!r}.")
    streams = _streams("chrf", hypotheses, references)
    return _scored(sacrebleu.CHRF(word_order=word_order, lowercase=lowercase), hypotheses, streams)


def alignment_error_rate(alignments, sure, possible=None):
    r"""How far alignments of a corpus are from those that people made.

    .. math::
       \mathrm{AER} = 1 - \frac{|A \cap S| + |A \cap P|}{|A| + |S|}, \qquad S \subseteq P

    Args:
      alignments: for each sentence the pairs (position, position) that were found, in any order.
      sure: for each sentence the pairs that must be found.
      possible: for each sentence the pairs that may be found; those that must be are always among them. None for no others.

    Returns:
      a share in [0, 1]; counts are summed over sentences.

    Raises:
      ValueError: there is no sentence, they are not as many, there is no pair at all, or something is no pair of integers.

    Example:
      >>> from seqjax.metrics import alignment_error_rate
      >>> alignment_error_rate([[(0, 0), (1, 2)]], sure=[[(0, 0), (1, 1)]])
      0.5

    References:
      Och and Ney, `A Systematic Comparison of Various Statistical Alignment Models
      <https://aclanthology.org/J03-1002>`_, 2003
    """
    possible = [()] * len(sure) if possible is None else possible
    _paired("alignment_error_rate", alignments=alignments, sure=sure, possible=possible)
    agreeing = total = 0
    for found, must, may in zip(alignments, sure, possible, strict=True):
        A, S = _pairs(found), _pairs(must)
        P = S | _pairs(may)
        agreeing, total = agreeing + len(A & S) + len(A & P), total + len(A) + len(S)
    if not total:
        raise ValueError("alignment_error_rate: nothing was found and nothing had to be; the rate is not defined.")
    return 1 - agreeing / total


def _pairs(values):
    """A set of pairs of integers."""
    array = np.asarray(list(values))
    if not array.size:
        return set()
    if array.ndim != 2 or array.shape[1] != 2 or not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"alignment_error_rate: expected pairs of integers, got {array.dtype}{list(array.shape)} per sentence."
        )
    return set(map(tuple, array.tolist()))


def _paired(name, **sequences):
    """Sequences of the same length, which is not zero, and none of which is a single string."""
    for what, values in sequences.items():
        if isinstance(values, str):
            raise TypeError(f"{name}: {what} must be a sequence of answers, got one string; put it in a list.")
    counts = {what: len(values) for what, values in sequences.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{name}: expected as many of each, got {', '.join(f'{n} {what}' for what, n in counts.items())}.")
    if not all(counts.values()):
        raise ValueError(f"{name}: expected at least one of each, got none.")


def _streams(name, hypotheses, references):
    """References in sacrebleu's order: streams, each with one for every hypothesis, None where it has fewer."""
    _paired(name, hypotheses=hypotheses, references=references)
    several = [[r] if isinstance(r, str) else list(r) for r in references]
    for what, texts in (("hypothesis", [[h] for h in hypotheses]), ("reference", several)):
        for i, group in enumerate(texts):
            if not group:
                raise ValueError(f"{name}: hypothesis {i} has no {what}.")
            wrong = [text for text in group if not isinstance(text, str)]
            if wrong:
                raise TypeError(
                    f"{name}: {what} {i} must be a string, got {type(wrong[0]).__name__}; join the symbols first."
                )
    most = max(map(len, several))
    return [[group[k] if k < len(group) else None for group in several] for k in range(most)]


def _scored(metric, hypotheses, streams):
    value = metric.corpus_score(list(hypotheses), streams).score
    return Score(float(value), str(metric.get_signature()))


def _sacrebleu(name):
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError(f'{name} needs sacrebleu: pip install "seqjax[experiments]".') from error
    return sacrebleu
