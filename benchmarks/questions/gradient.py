"""The outputs of one layer, and gradients of the sum of their squares by weights and inputs."""

from benchmarks import layers
from benchmarks.specs import ALL, CELLS

UNIT = "ms"
SIZES = ALL


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield layers.case(cell, CELLS[cell](size.H), size, "gradient", options)
