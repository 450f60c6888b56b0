"""What is measured: sizes, cells, and the options of a run."""

import dataclasses
from typing import NamedTuple

import seqjax as sj


class Size(NamedTuple):
    """T steps, B sequences, D inputs, H units."""

    T: int
    B: int
    D: int
    H: int

    def __str__(self):
        return ",".join(map(str, self))


ALL = (
    Size(128, 32, 128, 128),
    Size(128, 64, 256, 256),
    Size(64, 32, 512, 512),
    Size(512, 16, 64, 64),
    Size(64, 64, 1024, 1024),
    Size(64, 32, 384, 320),  # a layer of a character language model
    Size(1024, 8, 32, 32),
    Size(512, 1, 128, 128),
)
FEW = (ALL[0], ALL[2], ALL[3])

CELLS = {"lstm": sj.LSTM, "gru": sj.GRU, "elman": sj.Elman}


@dataclasses.dataclass(frozen=True)
class Options:
    """How a question is asked."""

    sizes: tuple[str, ...] = ()
    """Sizes T,B,D,H instead of the question's own."""
    cells: tuple[str, ...] = ("lstm", "gru", "elman")
    """Which of lstm, gru, elman."""
    peers: tuple[str, ...] = ()
    """Only these peers, beside seqjax."""
    rounds: int = 15
    """How often each peer is measured."""
    record: bool = False
    """Append the results to benchmarks/results/."""

    def __post_init__(self):
        if unknown := [cell for cell in self.cells if cell not in CELLS]:
            raise ValueError(f"benchmarks: unknown cells {unknown}; there are {', '.join(CELLS)}.")
        if self.rounds < 1:
            raise ValueError(f"benchmarks: rounds must be positive, got {self.rounds}.")
        self.chosen(())

    def wants(self, peer):
        """Whether a peer is to be measured."""
        return not self.peers or peer in self.peers

    def chosen(self, sizes):
        """The sizes asked for, or those of the question."""
        return tuple(map(parse, self.sizes)) or sizes


def parse(text):
    """A size from ``T,B,D,H``."""
    try:
        size = Size(*[int(word) for word in text.split(",")])
    except (TypeError, ValueError):
        size = Size(0, 0, 0, 0)
    if min(size) < 1:
        raise ValueError(f"benchmarks: a size is T,B,D,H, four positive numbers such as 128,32,128,128, got {text!r}.")
    return size
