"""The GRU: its two forms, and what it saves."""

import functools

import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    OPEN,
    B,
    F,
    H,
    T,
    agree,
    by_row,
    count,
    gap,
    gates,
    params_of,
    require,
    run,
)


@check("S0 S1", "a GRU is simpler: three quarters of an LSTM's parameters")
def parameters(rng):
    pairs = [(count(make(20), 10), count(sj.LSTM(20), 10)) for make in (sj.GRU, sj.ChoGRU)]
    return require(all(4 * gru == 3 * lstm for gru, lstm in pairs), f"{pairs[0][0]:,} of {pairs[0][1]:,}, both forms")


@check("S1", "a GRU merges cell and hidden state: it carries one vector where an LSTM carries two")
def merged_state(rng):
    sizes = {}
    for make in (sj.LSTM, sj.GRU):
        carry = make(H).initial_carry(None, (B,))
        sizes[make.__name__] = sum(leaf.size for leaf in carry) // B
    return require(sizes == {"LSTM": 2 * H, "GRU": H}, f"H = {H}: {sizes['LSTM']} numbers and {sizes['GRU']}")


def both_grus(rng, scale=0.7, **biases):
    """The two forms of the GRU on the same weights, each with its loop: ``{name: (ys, expected)}``."""
    xs, blocks = rng.normal(size=(T, B, F)), gates(rng, "rzn", scale=scale)
    blocks |= {name: blocks[name]._replace(b=np.full(H, bias)) for name, bias in biases.items()}
    found = {}
    for cell in (sj.GRU(H), sj.ChoGRU(H)):
        loop = functools.partial(reference.gru, blocks, reset_first=isinstance(cell, sj.ChoGRU))
        _, ys = run(cell, params_of(*blocks.values()), xs)
        found[type(cell).__name__] = ys, by_row(lambda x, loop=loop: loop(x, np.zeros(H)), xs)
    return found


@check("S0 S1", "a GRU, reset gate after the matrix product (the form of PyTorch and cuDNN)")
def reset_after(rng):
    return agree(*both_grus(rng)["GRU"])


@check("S0 S1", "a GRU, reset gate before the matrix product (the form of the paper)")
def reset_before(rng):
    return agree(*both_grus(rng)["ChoGRU"])


@check("S0 S1", "the two forms of the GRU are two networks, and one where the reset gate is open")
def forms_differ(rng):
    apart, together = both_grus(rng), both_grus(rng, r=OPEN)
    differs, agrees = (gap(pair["GRU"][0], pair["ChoGRU"][0]) for pair in (apart, together))
    return require(differs > 1e-3 and agrees < 1e-12, f"{differs:.1e} apart; with the gate open {agrees:.0e}")
