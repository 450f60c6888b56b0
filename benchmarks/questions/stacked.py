"""Gradients of four layers on top of each other."""

import seqjax as sj
from benchmarks import layers
from benchmarks.specs import CELLS, FEW

UNIT = "ms"
SIZES = FEW


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield layers.case(f"{cell} x 4", sj.Stack(*[CELLS[cell](size.H)] * 4), size, "gradient", options)
