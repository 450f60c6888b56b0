"""Gradients of one layer over sequences of lengths from T/2 to T, and of our own over a dense batch of T."""

from benchmarks import layers
from benchmarks.specs import ALL, CELLS

UNIT = "ms"
SIZES = ALL[:4]


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            recurrence = CELLS[cell](size.H)
            case = layers.case(cell, recurrence, size, "gradient", options, ragged=True)
            params, xs, _ = layers.draw(recurrence, size)
            for name, program in layers.ours(recurrence, params, xs, None, "gradient"):
                case.programs[f"{name}, dense"] = program._replace(read=None)
            yield case
