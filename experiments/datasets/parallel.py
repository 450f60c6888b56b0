"""Sentences in two languages, split into training, validation and test parts."""

import functools
import hashlib

from experiments.datasets import wording
from experiments.datasets.corpus import Corpus, Lines, lines_of
from seqjax.data import Source, read_text

MULTI30K = {
    "train.de": "cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505",
    "train.en": "08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119",
    "train.fr": "8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1",
    "val.de": "97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00",
    "val.en": "46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec",
    "val.fr": "b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a",
    "test_2016_flickr.de": "c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4",
    "test_2016_flickr.en": "5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2",
    "test_2016_flickr.fr": "1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836",
}

TATOEBA = Source(
    name="tatoeba_cmn_eng",
    file="cmn.txt",
    sha256="9da1af87e3e61650aa38595e60baef3a4e3a18ed239a7ef4a764c0a87c7ddeff",
    url="https://raw.githubusercontent.com/DaoChaShao/py-st-dl-translater-2.0/25e41c1970e5d38694072bf6039f06607e8cc766/data/cmn.txt",
    advice="It is a cmn-eng.zip of manythings.org/anki; those of other days hold other sentences: --corpus PATH reads them.",
)


def load(name):
    """The corpus called ``name``.

    "wording" and "reversal" are generated; "multi30k_de_en" and "tatoeba_zh_en" are read, or other directions of theirs;
    anything else is the path of a UTF-8 file with a source, a tab and its target on each line.
    """
    kind, *languages = name.split("_")
    if name in wording.GENERATED:
        return wording.GENERATED[name]()
    if kind == "multi30k" and len(languages) == 2:
        return multi30k(*languages)
    if name in ("tatoeba_zh_en", "tatoeba_en_zh"):
        return tatoeba(*languages)
    return from_file(name)


def multi30k(source, target):
    """Multi30k (Elliott et al. 2016), captions of pictures: its 29,000 pairs, validation and test set of 2016.

    The text is as the authors give it, in lower case, normalized, and tokenized by Moses.
    """
    for language in (source, target):
        if f"train.{language}" not in MULTI30K:
            raise ValueError(f"multi30k: no language {language!r}; there are de, en and fr.")
    train, validation, test = (_multi30k_part(part, source, target) for part in ("train", "val", "test_2016_flickr"))
    return Corpus(
        train, validation, test, origin=f"Multi30k {source}-{target}, test_2016_flickr, lc.norm.tok", tokenize="none"
    )


def _multi30k_part(part, *languages):
    sides = []
    for language in languages:
        file = f"{part}.lc.norm.tok.{language}"
        url = f"https://raw.githubusercontent.com/multi30k/dataset/master/data/task1/tok/{file}"
        sides.append(lines_of(Source("multi30k", file, MULTI30K[f"{part}.{language}"], url).text()))
    return aligned(*sides, where=f"multi30k, {part}")


def tatoeba(source, target):
    """Sentences of Tatoeba in Mandarin and English: a tenth is held out for testing, a thirtieth for validation."""
    rows = [line.split("\t")[:2] for line in lines_of(TATOEBA.text())]
    english, chinese = (list(side) for side in zip(*rows, strict=True))
    sides = {"en": english, "zh": chinese}
    tokenize = "zh" if target == "zh" else "13a"
    train, validation, test = split(sides[source], sides[target])
    spaces = (source == "en", target == "en")
    return Corpus(
        train, validation, test, origin=f"Tatoeba {source}-{target}, a tenth held out", tokenize=tokenize, spaces=spaces
    )


def from_file(path):
    """Any pairs: lines of source, tab, target; what stands behind a second tab is left out. Split as Tatoeba is."""
    rows = [line.split("\t")[:2] for line in lines_of(read_text(path))]
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise ValueError(f"{path}: line {number} has no tab; each line must be a source, a tab and its target.")
    lines = aligned(*(list(side) for side in zip(*rows, strict=True)), where=path)
    parts = split(*lines)
    for part, name in zip(parts, ("training", "validation", "testing"), strict=True):
        if not part.sources:
            raise ValueError(f"{path}: {len(rows)} pairs are too few, none is left for {name}.")
    train, validation, test = parts
    return Corpus(train, validation, test, origin=str(path), tokenize="13a")


def aligned(sources, targets, *, where):
    """Lines that belong together, or an error that says which do not."""
    if len(sources) != len(targets):
        raise ValueError(
            f"{where}: {len(sources)} source lines and {len(targets)} target lines; line n must translate line n."
        )
    for number, pair in enumerate(zip(sources, targets, strict=True), 1):
        if not all(line.strip() for line in pair):
            side = "source" if not pair[0].strip() else "target"
            raise ValueError(f"{where}: line {number} has an empty {side}; leave the pair out.")
    return Lines(list(sources), list(targets))


def split(sources, targets):
    """Training, validation and test part: 26, 1 and 3 thirtieths, by a hash.

    Pairs that share a sentence on either side, or are connected through other pairs, stay together. Sentences are the same
    where their letters and digits are, in either case.
    """
    parts: tuple[Lines, ...] = (Lines([], []), Lines([], []), Lines([], []))
    for source, target, group in zip(sources, targets, _groups(sources, targets), strict=True):
        digest = hashlib.sha256(group.encode()).digest()
        number = int.from_bytes(digest[:8]) % 30
        part = parts[2 if number < 3 else 1 if number == 3 else 0]
        part.sources.append(source)
        part.targets.append(target)
    return parts


def _groups(sources, targets):
    """For each pair the name of its group: the first of the sentences that are connected with it."""
    above: dict[str, str] = {}

    def top(name):
        while above.setdefault(name, name) != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    named = [(_same(source, "source"), _same(target, "target")) for source, target in zip(sources, targets, strict=True)]
    for one, other in named:
        first, second = sorted((top(one), top(other)))
        above[second] = first
    return [top(one) for one, _ in named]


@functools.cache
def _same(text, side):
    """What sentences that count as the same have in common."""
    return f"{side} {''.join(filter(str.isalnum, text.casefold())) or text}"
