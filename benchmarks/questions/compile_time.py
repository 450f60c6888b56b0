"""Time from a function to a program that runs: tracing and compiling gradients of one layer."""

import functools

import jax

from benchmarks import layers, measure
from benchmarks.measure import Case, Program
from benchmarks.specs import CELLS, FEW

UNIT = "ms"
SIZES = FEW


def cases(options):
    for cell in options.cells:
        for size in options.chosen(SIZES):
            yield Case(
                f"{cell} {size}", {"cell": cell, **size._asdict()}, dict(_programs(CELLS[cell](size.H), size, options))
            )


def measure_case(case, options):
    return measure.times(case, min(options.rounds, 5), warm_up=1)


def _programs(recurrence, size, options):
    for name, function, arguments in layers.jax_functions(recurrence, size, "gradient", options):
        yield name, Program(functools.partial(_compile, function, arguments))


def _compile(function, arguments):
    """Compiles a function that JAX has not seen before."""
    return jax.jit(lambda *arguments: function(*arguments)).lower(*arguments).compile()
