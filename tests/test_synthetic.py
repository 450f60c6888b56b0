"""Tasks with known answers: the answers are right, and batches are drawn from their number alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqjax.data import Addition, Parity, examples


def number(digits):
    return int("".join(map(str, digits)))


@given(digits=st.integers(1, 18), seed=st.integers(0, 99))
def test_sums_are_right(digits, seed):
    batch = Addition(digits)(np.random.default_rng(seed), 5)
    assert batch["inputs"].shape == (5, 3 * digits + 4)
    for inputs, targets, mask in zip(batch["inputs"], batch["targets"], batch["mask"], strict=True):
        _, first, _, second, blank = np.split(inputs, [1, digits + 1, digits + 2, 2 * digits + 2])
        assert (blank == 10).all()
        assert mask.sum() == digits + 1
        assert mask[-digits - 1 :].all()
        assert number(targets[mask]) == number(first) + number(second)


@given(digits=st.integers(1, 18), seed=st.integers(0, 99))
def test_lowest_first_is_the_same_digits_backwards(digits, seed):
    one, other = (Addition(digits, lowest_first=first)(np.random.default_rng(seed), 5) for first in (True, False))
    n = digits + 1
    for part in (slice(1, n), slice(n + 1, 2 * n)):
        np.testing.assert_array_equal(one["inputs"][:, part], other["inputs"][:, part][:, ::-1])
    np.testing.assert_array_equal(one["targets"][:, -n:], other["targets"][:, -n:][:, ::-1])
    np.testing.assert_array_equal(one["mask"], other["mask"])


@given(digits=st.integers(2, 9), seed=st.integers(0, 99))
def test_numbers_of_exactly_so_many_digits(digits, seed):
    inputs = Addition(9)(np.random.default_rng(seed), 4, exactly=digits)["inputs"]
    for row in inputs:
        for digits_of_one in (row[1:10], row[11:20]):
            assert len(str(number(digits_of_one))) == digits


def test_numbers_are_short_and_long():
    inputs = Addition(6)(np.random.default_rng(0), 6000)["inputs"]
    lengths = np.array([len(str(number(row[1:7]))) for row in inputs])
    # The larger of two draws of 1..6 is 6 with 11/36 and 1 with 1/36; a tenth of all numbers has a zero in front.
    assert 0.25 < np.mean(lengths == 6) < 0.30
    assert 0.02 < np.mean(lengths == 1) < 0.06


@given(bits=st.integers(1, 40), seed=st.integers(0, 99))
def test_parities_are_right(bits, seed):
    batch = Parity(bits)(np.random.default_rng(seed), 7)
    assert batch["mask"].sum(1).tolist() == [1] * 7
    assert batch["mask"][:, -1].all()
    np.testing.assert_array_equal(batch["targets"][:, -1], (batch["inputs"] == 1).sum(1) % 2)
    ahead = np.diff((batch["inputs"] != 2).astype(int), axis=1)
    assert (ahead >= 0).all(), "nothing comes before the bits and never between them"


def test_strings_of_exactly_so_many_bits():
    inputs = Parity(9)(np.random.default_rng(0), 50, exactly=4)["inputs"]
    assert ((inputs != 2).sum(1) == 4).all()


def test_a_batch_depends_on_its_number_and_the_seed_alone():
    batches = iter(examples(Addition(3), batch_size=4, seed=1))
    first, position = next(batches), batches.get_state()
    second = next(batches)
    batches.set_state(position)
    np.testing.assert_array_equal(next(batches)["inputs"], second["inputs"])
    assert (first["inputs"] != second["inputs"]).any()
    other = next(iter(examples(Addition(3), batch_size=4, seed=2)))
    assert (first["inputs"] != other["inputs"]).any()


def test_examples_grow_where_they_are_told_to():
    batches = iter(examples(Addition(6), batch_size=300, seed=1, longest=lambda i: i + 1))
    for digits in (1, 2, 3):
        inputs = next(batches)["inputs"]
        assert max(len(str(number(row[1:7]))) for row in inputs) == digits
    bits = next(iter(examples(Parity(6), batch_size=300, longest=lambda i: 2)))["inputs"]
    assert (bits != 2).sum(1).max() == 2


def test_sizes_that_make_no_task_are_refused():
    with pytest.raises(ValueError, match=r"digits must be 1 to 18"):
        Addition(19)
    with pytest.raises(ValueError, match=r"bits must be positive"):
        Parity(0)
