"""A state is a set of flags: networks wired by hand that keep gender, number and negation, and the order of words."""

import itertools

import numpy as np

import seqjax as sj
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import B, F, affine, params_of, require, run

WORDS = ("Alice", "Tom", "and", "sleeps", ".")


def sentences(words, length):
    """All sequences of a length, as word numbers [T, B]."""
    return np.array(list(itertools.product(range(words), repeat=length))).T


def grammar():
    """An LSTM of two flags: "Alice" sets female, "and" sets plural, a full stop clears both, other words keep them."""
    kernel = np.zeros((len(WORDS), 4, 2))  # [word, gate (i, f, g, o), flag]
    bias = np.zeros((4, 2))
    bias[0], bias[1], bias[2], bias[3] = -60, 60, 60, 60
    for word, flag in (("Alice", 0), ("and", 1)):
        kernel[WORDS.index(word), 0, flag] = 120  # write a one
        kernel[WORDS.index(word), 1, flag] = -120  # over what was there
    kernel[WORDS.index("."), 1] = -120
    zeros = np.zeros((2, 8))
    return {"kernel": kernel.reshape(-1, 8), "recurrent_kernel": zeros, "bias": bias.reshape(8)}


def grammar_loop(words):
    """The flags after each word, by a program."""
    flags, female, plural = [], 0, 0
    for word in words:
        female = 0 if WORDS[word] == "." else int(female or WORDS[word] == "Alice")
        plural = 0 if WORDS[word] == "." else int(plural or WORDS[word] == "and")
        flags.append((female, plural))
    return flags


@check("S4", 'the state holds flags: "Alice" is female, "and Tom" is plural, a full stop ends the sentence')
def gender_and_number(rng):
    words = sentences(len(WORDS), 6)
    _, hs = run(sj.LSTM(2), grammar(), np.eye(len(WORDS), dtype=np.float64)[words])
    flags = hs > 0.5
    want = np.array([grammar_loop(sentence) for sentence in words.T]).swapaxes(0, 1)
    wrong = int(np.sum(flags != want))
    require(0 < want.mean() < 1, "nothing varied")
    return require(wrong == 0, f"{wrong} wrong flags of {want.size:,}, all {words.shape[1]:,} texts of six words")


@check("S4", 'a state can negate when "not" occurs: a ReLU network of two units, exact on all texts of 12 words')
def negation(rng):
    nots = sentences(2, 12)
    params = {
        "kernel": np.array([[1.0, 1.0]]),
        "recurrent_kernel": np.array([[1.0, 1.0], [-2.0, -2.0]]),  # reads the flag a - 2 b
        "bias": np.array([0.0, -1.0]),
    }
    _, hs = run(sj.Elman(2, activation="relu"), params, nots[..., None].astype(np.float64))
    wrong = int(np.sum(hs @ np.array([1.0, -2.0]) != np.cumsum(nots, axis=0) % 2))
    return require(wrong == 0, f"{wrong} wrong of {nots.size:,}, double negation among them")


@check("S2 S4", "a bag of embeddings is the same for two sentences with the names swapped; a recurrent state is not")
def word_order(rng):
    # Zhang San, very angry, hit, Li Si; and with the names swapped
    sentence, swapped = np.array([0, 1, 2, 3]), np.array([3, 1, 2, 0])
    table = rng.integers(-3, 4, size=(4, F)).astype(float)  # sums of small integers are exact in any order
    table[3] = table[0] + 1
    xs = np.stack([table[sentence], table[swapped]], axis=1)
    bags = xs.sum(0)
    require(np.array_equal(bags[0], bags[1]), "the bags differ")
    _, hs = run(sj.Elman(4), params_of(affine(rng)), xs)
    apart = float(np.max(np.abs(hs[-1, 0] - hs[-1, 1])))
    return require(apart > 0.01, f"bags: the same bits; states {apart:.2f} apart")


@check("S3", "step t can use what was seen any number of steps before, in theory: one bit, 10,000 steps back")
def reaches_back(rng):
    params = {"kernel": np.ones((1, 1)), "recurrent_kernel": np.ones((1, 1))}
    xs = np.zeros((10_000, B, 1))
    xs[0] = [[0.0], [1.0], [-1.0]]
    carry, _ = run(sj.Elman(1, activation="identity", use_bias=False), params, xs)
    return require(np.array_equal(carry.h, xs[0]), f"the first inputs {xs[0, :, 0]} come back as {carry.h[:, 0]}")
