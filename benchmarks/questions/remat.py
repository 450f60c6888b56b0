"""Gradients of one layer over long sequences with Remat, which computes chunks again, beside those without."""

import seqjax as sj
from benchmarks import layers
from benchmarks.specs import CELLS, Size

UNIT = "ms"
SIZES = tuple(Size(T, 16, 64, 64) for T in (512, 4096))


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            case = layers.case(cell, CELLS[cell](size.H), size, "gradient", options)
            recurrence = sj.Remat(CELLS[cell](size.H))
            params, xs, _ = layers.draw(recurrence, size)
            for name, program in layers.ours(recurrence, params, xs, None, "gradient"):
                case.programs[name.replace(layers.OURS, f"{layers.OURS}, Remat")] = program
            yield case
