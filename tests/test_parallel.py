"""Corpora of pairs: what is generated is right, what is held out stays apart, and broken files are refused."""

import calendar
import collections
import itertools
import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets import parallel, scan, wording
from experiments.datasets.corpus import lines_of

few = settings(max_examples=60, deadline=None, derandomize=True, database=None)
BELOW_20 = """zero one two three four five six seven eight nine ten eleven twelve
thirteen fourteen fifteen sixteen seventeen eighteen nineteen"""
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL = {word: number for number, word in enumerate(BELOW_20.split())} | {"oh": 0}
SMALL |= {word: 10 * number for number, word in enumerate(TENS.split(), 2)}


def value(words):
    """The number that words say, from left to right."""
    total = current = 0
    for word in re.split("[ -]", words):
        if word == "thousand":
            total, current = 1000 * current, 0
        elif word == "hundred":
            current *= 100
        elif word != "and":
            current += SMALL[word]
    return total + current


@few
@given(number=st.integers(0, 10**6 - 1), conjunction=st.booleans())
def test_numbers_in_words_are_those_numbers(number, conjunction):
    words = wording.cardinal(number, conjunction)
    assert value(words) == number
    assert conjunction or " and " not in words


def test_dates_in_words_are_those_dates():
    draw, months = random.Random(1), [name.lower() for name in calendar.month_name]
    regular = {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}
    regular |= {"twelfth": "twelve", "twentieth": "twenty", "thirtieth": "thirty"}
    for _ in range(300):
        words, date = wording.date(draw)
        y, m, d = map(int, date.split("-"))
        (month,) = set(words.split()) & set(months)
        assert months.index(month) == m
        forms = (rf"the (.*?) of {month} (.*)", rf"{month} the (.*?) , (.*)", rf"(.*?) {month} (.*)")
        day, year = next(found for form in forms if (found := re.fullmatch(form, words))).groups()
        *tens, last = day.split("-")
        assert value(" ".join([*tens, regular.get(last) or last.removesuffix("th")])) == d
        century, *rest = year.split(" ", 1)
        said = value(year) if "hundred" in year or "thousand" in year else 100 * value(century) + value(rest[0])
        assert said == y


def test_answers_that_are_asked_for_were_never_trained_on():
    corpus = wording.wording()
    assert not set(corpus.train.targets) & set(corpus.test.targets)
    assert not set(corpus.train.targets) & set(corpus.validation.targets)
    sources = [source for part in corpus[:3] for source in part.sources]
    assert len(sources) == len(set(sources)) == 31500


def test_letters_are_reversed():
    part = wording.reversal().validation
    assert [source.split()[::-1] for source in part.sources] == [target.split() for target in part.targets]
    assert set(map(len, map(str.split, part.sources))) == set(range(5, 21))


@few
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60))
def test_parts_share_no_sentence_and_have_every_pair(seed, count):
    draw = random.Random(seed)
    sources = [f"{draw.choice(['Wait', 'wait', 'No'])}{draw.randrange(count)}{draw.choice('.!')}" for _ in range(count)]
    targets = [f"等{draw.randrange(count)}" for _ in range(count)]
    parts = parallel.split(sources, targets)
    found = [pair for part in parts for pair in zip(*part, strict=True)]
    assert collections.Counter(found) == collections.Counter(zip(sources, targets, strict=True))
    for one, other in itertools.combinations(parts, 2):
        letters = [["".join(filter(str.isalnum, text.lower())) for text in part.sources] for part in (one, other)]
        assert not set(letters[0]) & set(letters[1])
        assert not set(one.targets) & set(other.targets)


def test_a_tenth_is_held_out_whatever_the_order():
    sources, targets = [f"s{i}" for i in range(6000)], [f"t{i}" for i in range(6000)]
    train, validation, test = parallel.split(sources, targets)
    assert 540 < len(test.sources) < 660 and 140 < len(validation.sources) < 260
    assert set(parallel.split(sources[::-1], targets[::-1])[2].sources) == set(test.sources)
    assert len(train.sources) == 6000 - len(validation.sources) - len(test.sources)


def test_lines_end_at_line_feeds_alone():
    assert lines_of("one\u2028two\x0cthree\r\nfour\n") == ["one\u2028two\x0cthree", "four"]


@pytest.mark.parametrize(("sources", "targets", "message"), [
    (["a"], ["b", "c"], "here: 1 source lines and 2 target lines"),
    (["a", " "], ["b", "c"], "here: line 2 has an empty source"),
    (["a", "d", "e"], ["b", "c", ""], "here: line 3 has an empty target"),
])  # fmt: skip
def test_lines_that_are_no_pairs_are_refused(sources, targets, message):
    with pytest.raises(ValueError, match=message):
        parallel.aligned(sources, targets, where="here")


def test_a_file_of_pairs_is_read_and_a_broken_one_refused(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"hello {i}\thallo {i}\tsomebody\n" for i in range(300)), encoding="utf-8")
    corpus = parallel.load(str(path))
    pairs = [pair for part in corpus[:3] for pair in zip(*part, strict=True)]
    assert sorted(pairs) == sorted((f"hello {i}", f"hallo {i}") for i in range(300))
    path.write_text("a\tb\nno tab here\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2 has no tab"):
        parallel.load(str(path))
    path.write_text("a\tb\n", encoding="utf-8")
    with pytest.raises(ValueError, match="1 pairs are too few"):
        parallel.load(str(path))


def test_unknown_languages_are_refused():
    with pytest.raises(ValueError, match="no language 'xx'; there are de, en and fr"):
        parallel.load("multi30k_xx_en")


def test_scan_has_the_commands_and_actions_of_the_paper():
    commands = scan.commands()
    assert len(commands) == len(set(commands)) == 20910
    # Figure 1 of Lake, Baroni (2018), and the shortest.
    for command, actions in {
        "jump": "JUMP",
        "jump left": "LTURN JUMP",
        "jump around right": "RTURN JUMP RTURN JUMP RTURN JUMP RTURN JUMP",
        "turn left twice": "LTURN LTURN",
        "jump thrice": "JUMP JUMP JUMP",
        "jump opposite left and walk thrice": "LTURN LTURN JUMP WALK WALK WALK",
        "jump opposite left after walk around left": "LTURN WALK LTURN WALK LTURN WALK LTURN WALK LTURN LTURN JUMP",
    }.items():
        named = {"JUMP": "I_JUMP", "WALK": "I_WALK", "LTURN": "I_TURN_LEFT", "RTURN": "I_TURN_RIGHT"}
        assert scan.actions(command) == [named[action] for action in actions.split()]


@pytest.mark.parametrize("split", scan.SPLITS)
def test_published_splits_say_what_the_language_means(split):
    try:
        corpus = scan.load(split)
    except FileNotFoundError:
        pytest.skip("SCAN is not in SEQJAX_DATA, and there is no network")
    for part in corpus[:3]:
        assert [" ".join(scan.actions(source)) for source in part.sources] == part.targets
    everything = {source for part in corpus[:3] for source in part.sources}
    assert everything == set(scan.commands())
    longest = max(len(target.split()) for target in corpus.train.targets)
    assert longest == {"simple": 48, "length": 22, "jump": 48}[split]


@pytest.mark.parametrize(("name", "sizes"), [
    ("multi30k_de_en", (29000, 1014, 1000)), ("multi30k_en_fr", (29000, 1014, 1000)), ("tatoeba_zh_en", (25311, 1024, 2820)),
])  # fmt: skip
def test_published_corpora_are_read_whole(name, sizes):
    try:
        corpus = parallel.load(name)
    except FileNotFoundError:
        pytest.skip(f"{name} is not in SEQJAX_DATA, and there is no network")
    assert tuple(len(part.sources) for part in corpus[:3]) == sizes
    assert all(len(part.sources) == len(part.targets) for part in corpus[:3])
