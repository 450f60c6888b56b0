"""Gradients of one layer as sequences and layers grow: T from 512 to 4096 at H = 64, H from 32 to 512 at T = 128."""

from benchmarks import layers
from benchmarks.specs import CELLS, Size

UNIT = "ms"
LONGER = [Size(T, 16, 64, 64) for T in (512, 1024, 2048, 4096)]
WIDER = [Size(128, 32, H, H) for H in (32, 64, 128, 256, 512)]
SIZES = (*LONGER, *WIDER)


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield layers.case(cell, CELLS[cell](size.H), size, "gradient", options)
