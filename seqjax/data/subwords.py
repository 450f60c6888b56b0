"""Parts of words and their codes: byte-pair encoding by the library tokenizers."""

import collections
import dataclasses
import functools
from typing import Any

import numpy as np
import tokenizers

SPACE = "▁"  # stands for a space in front of what follows, as in SentencePiece


@dataclasses.dataclass(frozen=True)
class Subwords:
    r"""Subwords of a text and their codes 0..V-1, learnt from it by byte-pair encoding.

    The encoding starts from characters, and again and again joins the two neighbours that stand together most often, but
    none across a space. The first codes are four that no text has: ``pad``, ``start``, ``stop`` and ``unknown``, for a
    character that was not in the text.

    Args:
      json: what :meth:`of` has learnt, as the library writes it; keep it beside the model.

    Raises:
      ValueError: the text is none that the library has written, or the four codes are missing.

    Example:
      >>> from seqjax.data import Subwords
      >>> subwords = Subwords.of(["a cat sat", "a fat cat"], 16)
      >>> [subwords.symbol(code) for code in subwords.encode("a cat")]
      ['▁a', '▁cat']
      >>> subwords.decode(subwords.encode("a fast cat"))
      'a fast cat'

    References:
      Sennrich, Haddow, Birch, `Neural Machine Translation of Rare Words with Subword Units
      <https://arxiv.org/abs/1508.07909>`_, 2016.
    """

    json: str = dataclasses.field(repr=False)

    pad, start, stop, unknown = range(4)
    special = ("<pad>", "<start>", "<stop>", "<unknown>")

    def __post_init__(self):
        found = [self._tokenizer.id_to_token(code) for code in range(4)]
        if found != list(self.special):
            raise ValueError(f"Subwords: the first four symbols are {found}, expected {list(self.special)}.")

    @classmethod
    def of(cls, lines, size, *, spaces=True, punctuation=True, rare=0):
        """Learns subwords; the same lines and settings give the same ones.

        Args:
          lines: texts.
          size: V at most, the four codes and all characters among them. Where the characters are as many, they are all.
          spaces: whether words are separated by spaces, so that one is put before the first word too; not so in Chinese.
          punctuation: whether a punctuation mark is never joined with anything, so that "cat" and "cat." share a subword;
            needless in a text that is tokenized.
          rare: a character that stands in the lines no more often is unknown, so that a model learns what that means.

        Raises:
          ValueError: the lines are empty.
        """
        kept = _without_rare(lines, rare)
        if not any(kept):
            raise ValueError("Subwords: there is nothing to learn from, all lines are empty.")
        learner = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=cls.special[cls.unknown]))
        apart: list[Any] = [tokenizers.pre_tokenizers.Metaspace(SPACE, prepend_scheme="always" if spaces else "never")]
        if punctuation:
            apart.append(tokenizers.pre_tokenizers.Punctuation("isolated"))
        learner.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(apart)
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, special_tokens=list(cls.special), show_progress=False)
        learner.train_from_iterator(kept, trainer)
        return cls(learner.to_str())

    @functools.cached_property
    def _tokenizer(self) -> Any:
        try:
            tokenizer = tokenizers.Tokenizer.from_str(self.json)
        except Exception as error:  # the library raises no narrower one
            raise ValueError(f"Subwords: this is not what Subwords.of has learnt ({error}).") from None
        tokenizer.encode_special_tokens = True  # a text that says "<stop>" means these six characters
        return tokenizer

    def __len__(self):
        return self._tokenizer.get_vocab_size()

    def encode(self, text):
        """Codes int32 of a text, without ``start`` and ``stop``."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32)

    def symbol(self, code):
        """The subword of a code, with "▁" for a space."""
        return self._tokenizer.id_to_token(int(code))

    def decode(self, codes):
        """The text of codes up to the first ``stop``. Spaces at its beginning are not kept, and no "▁": it is a space."""
        symbols = []
        for code in np.asarray(codes).tolist():
            if code == self.stop:
                break
            if code not in (self.pad, self.start):
                symbols.append(self.symbol(code))
        return "".join(symbols).replace(SPACE, " ").removeprefix(" ")


def _without_rare(lines, rare):
    """The lines without characters that stand in them ``rare`` times or less often."""
    lines = list(lines)
    if not rare:
        return lines
    counts = collections.Counter(character for line in lines for character in line)
    table = {ord(character): None for character, count in counts.items() if count <= rare and character != " "}
    return [line.translate(table) for line in lines]
