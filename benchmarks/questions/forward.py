"""The outputs of one layer."""

from benchmarks import layers
from benchmarks.specs import ALL, CELLS

UNIT = "ms"
SIZES = ALL


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield layers.case(cell, CELLS[cell](size.H), size, "forward", options)
