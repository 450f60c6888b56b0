"""Texts in, batches out: vocabularies, contiguous streams, and where files come from."""

import gzip
import hashlib
import itertools
import os
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.datasets import texts
from seqjax.data import Source, Vocabulary, chunks, loader, read_text

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@given(text=TEXTS)
def test_a_text_that_is_encoded_and_decoded_is_the_same(text):
    vocabulary = Vocabulary.of(text)
    codes = vocabulary.encode(text)
    assert codes.dtype == np.int32 and codes.shape == (len(text),)
    assert vocabulary.decode(codes) == text
    assert set(codes.tolist()) == set(range(len(vocabulary))), "every code occurs"
    assert sorted(vocabulary.symbols) == list(vocabulary.symbols)


@given(text=TEXTS, other=TEXTS)
def test_an_unknown_symbol_is_named_with_its_position(text, other):
    vocabulary = Vocabulary.of(text)
    unknown = [i for i, symbol in enumerate(other) if symbol not in text]
    if not unknown:
        assert vocabulary.decode(vocabulary.encode(other)) == other
        return
    with pytest.raises(ValueError) as caught:
        vocabulary.encode(other)
    assert f"{other[unknown[0]]!r} at position {unknown[0]} is not among the {len(vocabulary)} symbols" in str(caught.value)


def test_a_vocabulary_keeps_the_order_it_is_given():
    assert Vocabulary("zab").encode("abz").tolist() == [1, 2, 0]
    assert Vocabulary("zab") == Vocabulary("zab") and hash(Vocabulary("zab")) == hash(Vocabulary("zab"))
    assert Vocabulary("zab") != Vocabulary("abz")
    assert Vocabulary("zab").encode("").tolist() == []


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Vocabulary.of(""), "no symbols"),
    (lambda: Vocabulary(""), "no symbols"),
    (lambda: Vocabulary("aba"), "stands twice"),
])  # fmt: skip
def test_a_vocabulary_that_is_none_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


SIZES = st.tuples(st.integers(2, 40), st.integers(1, 6), st.integers(1, 7)).filter(lambda nbt: nbt[0] >= nbt[1])


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES)
def test_streams_go_on_where_the_chunk_before_left_them(sizes):
    N, B, T = sizes
    codes = np.arange(N)
    batches = iter(loader(codes, batch_size=B, steps=T))
    found = [next(batches) for _ in range(2 * N // T + 2)]  # round the circle at least twice
    for batch in found:
        assert batch["inputs"].shape == batch["targets"].shape == (B, T)
        assert batch["inputs"].dtype == batch["targets"].dtype == np.int32
        assert np.array_equal(batch["targets"][:, :-1], batch["inputs"][:, 1:])
    for one, two in itertools.pairwise(found):
        assert np.array_equal(one["targets"][:, -1], two["inputs"][:, 0])
    inputs = np.concatenate([batch["inputs"] for batch in found], axis=1)
    starts = np.arange(B) * N // B
    assert np.array_equal(inputs, (starts[:, None] + np.arange(inputs.shape[1])) % N)
    assert len(set(inputs[:, 0])) == B, "no two streams are the same"


@pytest.mark.parametrize("taken", [0, 1, 5, 23])
def test_the_position_is_kept_and_set_exactly(taken):
    codes = np.random.default_rng(0).integers(0, 9, 37)
    data = loader(codes, batch_size=3, steps=4)
    batches = iter(data)
    for _ in range(taken):
        next(batches)
    position = batches.get_state()
    expected = [next(batches) for _ in range(20)]
    again = iter(data)
    for _ in range(7):  # it does not matter where it was
        next(again)
    again.set_state(position)
    for batch in expected:
        other = next(again)
        assert all(np.array_equal(batch[name], other[name]) for name in ("inputs", "targets"))
    assert not np.array_equal(expected[0]["inputs"], expected[1]["inputs"])


@pytest.mark.parametrize(("N", "B"), [(1, 1), (0, 1), (3, 4)])
def test_a_text_too_short_for_its_streams_is_refused(N, B):
    with pytest.raises(ValueError, match=f"loader: {B} streams need .* got {N}"):
        loader(np.zeros(N, int), batch_size=B, steps=2)


@settings(max_examples=200)
@given(N=st.integers(2, 60), B=st.integers(1, 9), T=st.integers(1, 12))
def test_every_symbol_but_the_first_is_a_target_once(N, B, T):
    found = list(chunks(np.arange(N), batch_size=B, steps=T))
    for chunk in found:
        assert {name: x.shape for name, x in chunk.items()} == dict.fromkeys(("inputs", "targets", "mask"), (B, T))
        assert np.array_equal(chunk["targets"][chunk["mask"]], chunk["inputs"][chunk["mask"]] + 1)
        assert chunk["mask"].any(), "no chunk is all padding"
        assert not (chunk["mask"][:, 1:] & ~chunk["mask"][:, :-1]).any(), "padding stands at the end"
    targets = [np.concatenate([chunk["targets"][b][chunk["mask"][b]] for chunk in found]) for b in range(B)]
    assert np.concatenate(targets).tolist() == list(range(1, N)), "in order, stream after stream"
    sizes = [len(stream) for stream in targets]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("N", [0, 1])
def test_nothing_can_be_predicted_of_less_than_two_symbols(N):
    with pytest.raises(ValueError, match=f"at least two symbols .* got {N}"):
        next(chunks(np.zeros(N, int), batch_size=1, steps=3))


TEXT = "käse\nand more\n"


def source(text=TEXT, **changes):
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Source(**({"name": "set", "file": "a.txt", "sha256": digest, "advice": "Ask the owner."} | changes))


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty folder as SEQJAX_DATA and an empty cache."""
    folder, cache = tmp_path / "folder", tmp_path / "cache"
    monkeypatch.setenv("SEQJAX_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("LOCALAPPDATA", str(cache))
    for place in (folder / "set", cache / "seqjax" / "set"):
        place.mkdir(parents=True)
    return folder / "set", cache / "seqjax" / "set"


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_found_in_the_folder_or_the_cache(places, place, packed):
    data = TEXT.encode()
    (places[place] / ("a.txt.gz" if packed else "a.txt")).write_bytes(gzip.compress(data) if packed else data)
    assert source().text() == TEXT


def test_the_folder_comes_before_the_cache(places):
    (places[0] / "a.txt").write_text(TEXT, encoding="utf-8")
    (places[1] / "a.txt").write_text("another", encoding="utf-8")
    assert source().text() == TEXT


def test_without_a_folder_the_cache_is_enough(places, monkeypatch):
    monkeypatch.delenv("SEQJAX_DATA")
    (places[1] / "a.txt").write_text(TEXT, encoding="utf-8")
    assert source().text() == TEXT


def test_another_content_is_refused(places):
    (places[0] / "a.txt").write_text("another", encoding="utf-8")
    found = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(ValueError, match=rf"set/a\.txt: SHA-256 is {found}, expected {source().sha256}"):
        source().text()


def test_a_file_that_must_be_fetched_by_hand_comes_with_advice(places):
    with pytest.raises(FileNotFoundError, match=r"set: a\.txt is not at .*folder/set/a\.txt or .*Ask the owner\."):
        source().text()


def test_without_a_network_it_is_said_what_to_do(places):
    with pytest.raises(FileNotFoundError) as caught:
        source(url="http://127.0.0.1:9/a.txt").text()
    message = str(caught.value)
    for part in (str(places[0]), str(places[1]), "127.0.0.1:9/a.txt cannot be reached", "SEQJAX_DATA", "Ask the owner."):
        assert part in message
    assert not list(places[1].iterdir()), "nothing half downloaded"


@pytest.fixture
def server(tmp_path):
    """A web server on this machine, and how often it was asked."""
    import functools
    import http.server
    import threading

    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            asked.append(words)

    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/a.txt", asked
        running.shutdown()


def test_a_download_is_checked_and_kept_in_the_cache(places, server):
    url, asked = server
    assert source(url=url).text() == TEXT
    assert (places[1] / "a.txt").read_text(encoding="utf-8") == TEXT
    assert source(url=url).text() == TEXT
    assert len(asked) == 1, "the second time it is there"


def test_a_download_of_something_else_is_refused_and_not_kept(places, server):
    with pytest.raises(ValueError, match="hash"):
        source("another text", url=server[0]).text()
    assert not list(places[1].iterdir())


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_packed_or_not(tmp_path, packed):
    path = tmp_path / "any.name"
    path.write_bytes(gzip.compress(TEXT.encode()) if packed else TEXT.encode())
    assert read_text(path) == read_text(str(path)) == TEXT


def test_a_file_that_is_missing_is_named(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{path}: no such file"):
            read_text(path)


@pytest.mark.parametrize("data", [b"", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(tmp_path, data):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.txt: the file is empty"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize("packed", [False, True])
def test_the_first_byte_that_is_not_utf8_is_named(tmp_path, packed):
    data = "käse ".encode() + b"caf\xe9 \xff"
    (tmp_path / "a.txt").write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(ValueError, match=r"a\.txt: not UTF-8, byte 0xe9 at offset 9 .*iconv"):
        read_text(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-9], lambda data: data[:2], lambda data: data[:12] + b"!!" + data[14:]]
)
def test_a_damaged_gzip_file_is_named(tmp_path, spoil):
    (tmp_path / "a.gz").write_bytes(spoil(gzip.compress(TEXT.encode() * 9)))
    with pytest.raises(ValueError, match=r"a\.gz: this gzip file is damaged"):
        read_text(tmp_path / "a.gz")


def test_a_text_of_ones_own_is_cut_in_two(tmp_path):
    (tmp_path / "a.txt").write_text("0123456789" * 3)
    text = texts.load(str(tmp_path / "a.txt"))
    assert (text.train, text.validation, text.test) == ("0123456789" * 2 + "0123456", "789", "")
    assert hashlib.sha256(b"0123456789" * 3).hexdigest() in text.origin


@pytest.mark.parametrize("size", [1, 5, 10])
def test_a_text_too_short_to_be_cut_is_refused(tmp_path, size):
    (tmp_path / "a.txt").write_text("x" * size)
    with pytest.raises(ValueError, match=f"{size} symbols are too few"):
        texts.load(tmp_path / "a.txt")


def test_the_standard_library_needs_nothing_and_knows_all_it_holds_out():
    text = texts.load("stdlib")
    assert len(text.train) > 1_000_000 and len(text.validation) > 50_000
    assert set(text.validation) <= set(text.train)
    assert text == texts.load("stdlib")


@pytest.mark.parametrize(("name", "source"), [("shakespeare", texts.SHAKESPEARE), ("linux", texts.LINUX)])
def test_the_parts_of_a_known_text_are_all_of_it(name, source):
    folder = os.environ.get("SEQJAX_DATA")
    if folder is None or not list((pathlib.Path(folder) / source.name).glob(f"{source.file}*")):
        pytest.skip(f"{source.name} is not in SEQJAX_DATA")
    text = texts.load(name)
    whole = source.text()
    assert text.train + text.validation + text.test == whole
    shares = [len(part) / len(whole) for part in (text.train, text.validation, text.test)]
    expected = {"shakespeare": (0.9, 0.1, 0.0), "linux": (0.9, 0.05, 0.05)}[name]
    np.testing.assert_allclose(shares, expected, atol=0.02)
