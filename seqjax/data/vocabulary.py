"""Symbols and their codes."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Characters and their codes 0..V-1.

    Args:
      symbols: the characters, each once; their order is their code.

    Raises:
      ValueError: no symbols, or one that stands twice.

    Example:
      >>> from seqjax.data import Vocabulary
      >>> letters = Vocabulary.of("hello")
      >>> letters.symbols, letters.encode("hole").tolist()
      ('ehlo', [1, 3, 2, 0])
      >>> letters.decode([1, 0])
      'he'
    """

    symbols: str

    def __post_init__(self):
        if not self.symbols:
            raise ValueError("Vocabulary: no symbols; the text it is made from is empty.")
        if len(set(self.symbols)) != len(self.symbols):
            raise ValueError(f"Vocabulary: a symbol stands twice in {self.symbols!r}.")

    @classmethod
    def of(cls, text):
        """The vocabulary of a text: its characters in order of their code points."""
        return cls("".join(sorted(set(text))))

    def __len__(self):
        return len(self.symbols)

    def encode(self, text):
        """Codes int32 ``[len(text)]``; a ValueError names the first character that is not in the vocabulary."""
        codes = {symbol: code for code, symbol in enumerate(self.symbols)}
        try:
            return np.fromiter((codes[symbol] for symbol in text), np.int32, len(text))
        except KeyError as error:
            symbol = error.args[0]
            raise ValueError(
                f"Vocabulary: {symbol!r} at position {text.index(symbol)} is not among the {len(self)} symbols "
                f"{self.symbols!r}; leave it out or train on a text that has it."
            ) from None

    def decode(self, codes):
        """The text of a sequence of codes."""
        return "".join(self.symbols[code] for code in codes)
