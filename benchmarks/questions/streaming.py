"""One step, as of a sequence that comes bit by bit."""

from benchmarks import layers
from benchmarks.specs import CELLS, Size

UNIT = "ms"
SIZES = (Size(1, 1, 128, 128), Size(1, 1, 512, 512), Size(1, 32, 256, 256))


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield layers.case(cell, CELLS[cell](size.H), size, "forward", options)
