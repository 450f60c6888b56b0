"""Gradients of one layer that reads in both directions."""

import seqjax as sj
from benchmarks import layers
from benchmarks.specs import CELLS, FEW

UNIT = "ms"
SIZES = FEW


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            both = sj.Bidirectional(CELLS[cell](size.H), CELLS[cell](size.H))
            yield layers.case(f"{cell}, both directions", both, size, "gradient", options)
