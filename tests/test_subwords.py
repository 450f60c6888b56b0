"""Subwords: a text that is encoded and decoded is the same, and what is learnt is always the same."""

import collections
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax.data import Subwords

WORDS = st.text("abcdefghijß.,-'你好吗", min_size=1, max_size=6)
LINES = st.lists(st.lists(WORDS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=8)
few = settings(max_examples=40, deadline=None, derandomize=True, database=None)


@few
@given(lines=LINES, size=st.integers(4, 60), punctuation=st.booleans(), spaces=st.booleans())
def test_a_text_of_known_characters_is_encoded_and_decoded_to_itself(lines, size, punctuation, spaces):
    subwords = Subwords.of(lines, size, punctuation=punctuation, spaces=spaces)
    alphabet = set("".join(lines)) - {" "}
    assert len(subwords) <= max(size, len(alphabet) + 5)
    for line in lines:
        codes = subwords.encode(line)
        assert codes.dtype == np.int32 and codes.min() > subwords.unknown and codes.max() < len(subwords)
        assert subwords.decode(codes) == line


@few
@given(lines=LINES, size=st.integers(4, 60))
def test_the_same_lines_give_the_same_subwords(lines, size):
    one, other = (Subwords.of(lines, size) for _ in range(2))
    assert one == other and hash(one) == hash(other)
    again = pickle.loads(pickle.dumps(Subwords(one.json)))
    assert again == one and [again.symbol(i) for i in range(len(again))] == [one.symbol(i) for i in range(len(one))]


def test_neighbours_that_stand_together_most_often_are_joined_first():
    lines = ["abab cdab"] * 3
    pairs = collections.Counter(zip("▁abab▁cdab", "abab▁cdab", strict=False))
    assert pairs.most_common(1)[0][0] == ("a", "b")
    smallest = len(set("abcd▁")) + 4
    codes = Subwords.of(lines, smallest + 1)
    assert codes.symbol(smallest) == "ab"
    assert [codes.symbol(code) for code in codes.encode("abab cd")] == ["▁", "ab", "ab", "▁", "c", "d"]


def test_punctuation_is_joined_with_nothing_unless_asked_for():
    lines = ["cat. cat. cat."] * 9
    apart, together = (Subwords.of(lines, 30, punctuation=punctuation) for punctuation in (True, False))
    assert [apart.symbol(code) for code in apart.encode("cat.")] == ["▁cat", "."]
    assert [together.symbol(code) for code in together.encode("cat.")] == ["▁cat."]


def test_unknown_characters_are_unknown_and_rare_ones_too_if_asked_for():
    subwords = Subwords.of(["abc", "aab"], 30)
    assert subwords.encode("xa").tolist()[1:2] == [subwords.unknown]
    assert "<unknown>" in subwords.decode(subwords.encode("xa"))
    rare = Subwords.of(["abc", "aab"], 30, rare=1)
    assert subwords.unknown in rare.encode("c") and subwords.unknown not in rare.encode("b")


def test_special_symbols_are_never_read_from_a_text_and_end_one_when_decoded():
    subwords = Subwords.of(["the <stop> sign"], 90)
    codes = subwords.encode("the <stop> sign")
    assert codes.min() > subwords.unknown
    assert subwords.decode([subwords.start, *codes, subwords.stop, subwords.pad, *codes]) == "the <stop> sign"
    assert [subwords.symbol(code) for code in range(4)] == list(Subwords.special)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Subwords.of([], 10), "nothing to learn from"),
    (lambda: Subwords.of(["", ""], 10), "nothing to learn from"),
    (lambda: Subwords("{"), "not what Subwords.of has learnt"),
    (lambda: Subwords(Subwords.of(["ab"], 10).json.replace("<stop>", "<end>")), "first four symbols are .*<end>"),
])  # fmt: skip
def test_subwords_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
