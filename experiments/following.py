"""Where an instruction may lead: log-probabilities, in nats, of the states in which those who follow it may stop."""

import heapq
import math

import numpy as np

from experiments.datasets.worlds import apart, one_after_the_other

KEPT = 6  # the likeliest states between two pieces, from which the rest is followed


def in_pieces(stops, asked):
    r"""Where those may stop who follow instructions piece by piece, however these are cut.

    A piece is one sentence or several in a row, the whole among them. With p(t | s, piece) for stopping in t after a piece
    that began in s,

    .. math::
        f_0(s) = [s = \mathrm{start}], \qquad
        f_k(t) = \sum_{j < k} \sum_s f_j(s)\, p(t \mid s, \mathrm{sentences}\ j+1, \ldots, k)

    sums over all ways to cut k sentences. It is no distribution: those ways are not weighed against each other. Nor need p
    be one: where a speaker is asked too, it says how well a walk and its words fit.

    Args:
      stops: follows pieces, ``[(words, state), ...] -> [{state: nats}, ...]``.
      asked: ``[(words, state), ...]``, instructions and where they begin.

    Returns:
      ``[{state: nats}, ...]``, :math:`\log f` after the last sentence of each, of the states that were found.
    """
    sentences = [apart(words) for words, _ in asked]
    found: list[list[dict[int, float]]] = [[{} for _ in range(len(each) + 1)] for each in sentences]
    for each, (_, start) in zip(found, asked, strict=True):
        each[0][start] = 0.0
    for begin in range(max(map(len, sentences))):
        rows = [
            (i, end, state)
            for i, each in enumerate(sentences)
            if begin < len(each)
            for state in heapq.nlargest(KEPT, found[i][begin], key=found[i][begin].__getitem__)
            for end in range(begin + 1, len(each) + 1)
        ]
        led = stops([(one_after_the_other(sentences[i][begin:end]), state) for i, end, state in rows])
        for (i, end, before), states in zip(rows, led, strict=True):
            for state, nats in states.items():
                add(found[i][end], state, found[i][begin][before] + nats)
    return [each[-1] for each in found]


def add(found, state, nats):
    """Adds a probability to that of a state."""
    found[state] = float(np.logaddexp(found.get(state, -math.inf), nats))


def likeliest(found, what):
    """The likeliest state among those that have the likeliest of ``what(state)`` in common."""
    groups: dict = {}
    for state, nats in found.items():
        add(groups, what(state), nats)
    best = max(groups, key=groups.__getitem__)
    return max((state for state in found if what(state) == best), key=found.__getitem__)
