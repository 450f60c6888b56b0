"""What a corpus of pairs is."""

from typing import NamedTuple


class Lines(NamedTuple):
    """Texts and what they are to become."""

    sources: list[str]
    targets: list[str]


class Corpus(NamedTuple):
    """Pairs of texts in three parts."""

    train: Lines
    validation: Lines
    test: Lines
    origin: str  # what it is, in words
    tokenize: str  # how sacrebleu tokenizes the targets: "none" where they are tokenized already
    spaces: tuple[bool, bool] = (True, True)  # whether words are separated by spaces, of sources and of targets


def lines_of(text):
    """The lines of a text. Python's own ``splitlines`` breaks at nine more characters, which stand inside of sentences."""
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")
