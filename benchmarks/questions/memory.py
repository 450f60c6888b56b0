"""Memory that XLA takes for gradients of one layer, beside arguments and results; with and without Remat."""

import functools
from typing import Any

import jax

import seqjax as sj
from benchmarks import layers
from benchmarks.measure import Case, Program, summary
from benchmarks.specs import ALL, CELLS, Size

UNIT = "MiB"
SIZES = (*ALL[:4], Size(4096, 16, 64, 64))


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            recurrence = CELLS[cell](size.H)
            asked = {
                name: (f, arguments) for name, f, arguments in layers.jax_functions(recurrence, size, "gradient", options)
            }
            _, arguments = asked[layers.OURS]
            asked[f"{layers.OURS}, Remat"] = layers.function(layers.apply_of(sj.Remat(recurrence)), "gradient"), arguments
            programs = {name: Program(functools.partial(_mebibytes, *pair)) for name, pair in asked.items()}
            yield Case(f"{cell} {size}", {"cell": cell, **size._asdict()}, programs)


def measure_case(case, options):
    del options
    return {name: summary([program.run()]) for name, program in case.programs.items()}


def _mebibytes(function, arguments):
    analysis: Any = jax.jit(function).lower(*arguments).compile().memory_analysis()
    return analysis.temp_size_in_bytes / 2**20
