"""Pairs of sequences as batches: every pair is there, nothing of it is lost, and the position is kept exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.data import each_pair, pairs, shapes_for

START, STOP, PAD = 1, 2, 0


def drawn(count, seed, longest=9):
    """Sources and targets of many lengths. The first symbol of a source is the place of its pair."""
    rng = np.random.default_rng(seed)
    sources = [[10 + i, *rng.integers(3, 9, rng.integers(0, longest))] for i in range(count)]
    return sources, [rng.integers(3, 9, rng.integers(0, longest)).tolist() for _ in range(count)]


def rows(batch):
    """The pairs that stand in a batch, and a check of everything that surrounds them."""
    found = []
    for source, there, inputs, targets, mask in zip(*(batch[k] for k in sorted(batch, key=ORDER.index)), strict=True):
        S, T = there.sum(), mask.sum()
        assert there[:S].all() and mask[:T].all(), "padding stands at the end"
        assert (source[S:] == PAD).all() and (inputs[T:] == PAD).all() and (targets[T:] == PAD).all()
        if T:
            assert inputs[0] == START and targets[T - 1] == STOP
            np.testing.assert_array_equal(inputs[1:T], targets[: T - 1])
            found.append((source[:S].tolist(), targets[: T - 1].tolist()))
    return found


ORDER = ["source", "source_mask", "inputs", "targets", "mask"]
SIZES = {"count": st.integers(1, 40), "B": st.integers(1, 7), "shapes": st.integers(1, 4), "seed": st.integers(0, 99)}


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(**SIZES)
def test_an_epoch_has_every_pair_and_fills_up_one_batch_at_most(count, B, shapes, seed):
    sources, targets = drawn(count, seed)
    fitting = shapes_for(sources, targets, shapes)
    batches = iter(pairs(sources, targets, shapes=fitting, batch_size=B, start=START, stop=STOP, seed=seed))
    for _ in range(2):
        epoch = [next(batches) for _ in range(-(-count // B))]
        found = [pair for batch in epoch for pair in rows(batch)]
        assert all(len(rows(batch)) == B for batch in epoch), "no row is empty"
        assert {batch["source"].shape[1] for batch in epoch} <= {S for S, _ in fitting}
        assert all(pair[1] == targets[pair[0][0] - 10] and pair[0] == sources[pair[0][0] - 10] for pair in found)
        assert {pair[0][0] - 10 for pair in found} == set(range(count))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(**SIZES)
def test_evaluation_has_every_pair_once_and_says_where_it_stood(count, B, shapes, seed):
    sources, targets = drawn(count, seed)
    fitting = shapes_for(sources, targets, shapes)
    order = []
    for places, batch in each_pair(sources, targets, shapes=fitting, batch_size=B, start=START, stop=STOP):
        assert batch["source"].shape[0] == B
        assert rows(batch) == [(sources[i], targets[i]) for i in places]
        assert not batch["mask"][len(places) :].any() and not batch["source_mask"][len(places) :].any()
        order += list(places)
    assert sorted(order) == list(range(count))


def test_epochs_differ_and_depend_on_the_seed():
    sources, targets = drawn(30, 0)

    def order(seed, epochs=1):
        shapes = shapes_for(sources, targets, 2)
        batches = iter(pairs(sources, targets, shapes=shapes, batch_size=5, start=START, stop=STOP, seed=seed))
        return [[pair[0][0] for _ in range(6) for pair in rows(next(batches))] for _ in range(epochs)]

    first, second = order(3, epochs=2)
    assert first != second and [first] == order(3) and [first] != order(4)


@pytest.mark.parametrize("taken", [0, 1, 5, 23])
def test_the_position_is_kept_and_set_exactly(taken):
    sources, targets = drawn(17, 1)
    data = pairs(sources, targets, shapes=shapes_for(sources, targets, 3), batch_size=4, start=START, stop=STOP)
    batches = iter(data)
    for _ in range(taken):
        next(batches)
    position = batches.get_state()
    expected = [next(batches) for _ in range(12)]
    again = iter(data)
    for _ in range(7):  # it does not matter where it was
        next(again)
    again.set_state(position)
    for batch in expected:
        other = next(again)
        assert all(np.array_equal(batch[name], other[name]) for name in ORDER)


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(count=st.integers(1, 30), shapes=st.integers(1, 3), seed=st.integers(0, 99))
def test_shapes_pad_as_little_as_any_others(count, shapes, seed):
    sources, targets = drawn(count, seed, longest=6)
    lengths = [(len(s), len(t) + 1) for s, t in zip(sources, targets, strict=True)]
    classes = sorted({max(pair) for pair in lengths})

    def cost(tops):  # each pair in the class of the smallest top that is not below its longer length
        total = 0
        for low, high in itertools.pairwise([0, *tops]):
            shape = [max(side) for side in zip(*(pair for pair in lengths if max(pair) <= high), strict=True)]
            total += sum(shape) * sum(low < max(pair) <= high for pair in lengths)
        return total

    best = min(cost([*cut, classes[-1]]) for n in range(shapes) for cut in itertools.combinations(classes[:-1], n))
    found = shapes_for(sources, targets, shapes)
    assert 1 <= len(found) <= shapes
    assert found == sorted(found) and all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(found))
    padded = sum(min(S + T for S, T in found if s <= S and t <= T) for s, t in lengths)
    assert padded <= best


SHAPES = [(2, 3), (4, 3)]


@pytest.mark.parametrize(("sources", "targets", "message"), [
    ([[5]], [[6], [7]], r"1 sources and 2 targets are no pairs"),
    ([], [], r"there are none"),
    ([[5], [], [6]], [[6], [7], [8]], r"the source of pair 2 is empty"),
    ([[5], [5] * 5], [[6], [7]], r"pair 2 has 5 source and 1 target symbols, the largest shape holds 4 and 2"),
    ([[5], [5]], [[6], [7] * 3], r"pair 2 has 1 source and 3 target symbols, the largest shape holds 4 and 2"),
])  # fmt: skip
def test_what_makes_no_batches_is_refused(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        pairs(sources, targets, shapes=SHAPES, batch_size=2, start=START, stop=STOP)
    with pytest.raises(ValueError, match=message):
        list(each_pair(sources, targets, shapes=SHAPES, batch_size=2, start=START, stop=STOP))
