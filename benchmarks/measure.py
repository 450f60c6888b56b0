"""How a case is measured: the peers must agree, then they run in turn, in one process."""

import random
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

LONG_ENOUGH = 0.1  # seconds; what is shorter is run several times for one measurement, as in training, not after a sleep
PAUSE = 0.02  # seconds; threads of the peer before spin for a while, waiting for more, and would take a core from the next


class Program(NamedTuple):
    """What a peer does: ``run()`` is done when it returns, ``read(result)`` is the array that peers must agree on."""

    run: Callable[[], Any]
    read: Callable[[Any], Any] | None = None


class Case(NamedTuple):
    """One row of a question: what it is, a program for each peer, and the same in words for the record."""

    name: str
    fields: dict[str, Any]
    programs: dict[str, Program]


class Result(NamedTuple):
    """Numbers of one peer in one case, in the unit of the question."""

    median: float
    low: float
    high: float


def agree(case, tolerance=2e-4):
    """Refuses to measure peers whose results differ, relative to the largest value."""
    arrays = {name: np.asarray(p.read(p.run())) for name, p in case.programs.items() if p.read}
    for name, array in arrays.items():
        first, reference = next(iter(arrays.items()))
        if array.shape != reference.shape:
            raise RuntimeError(f"{case.name}: {name} gives {array.shape} and {first} gives {reference.shape}.")
        error = np.abs(array - reference).max() / np.abs(reference).max()
        if not error <= tolerance:
            raise RuntimeError(f"{case.name}: {name} differs from {first} by {error:.1e} of the largest value.")


def times(case, rounds, warm_up=2):
    """Milliseconds of each peer: :class:`Result` by name.

    The order is drawn anew for each round. Back and forth, the first and the last would run twice in a row, and find their
    arrays in the cache: they took up to a tenth less time than those between.
    """
    repeats, seconds = {}, dict[str, list[float]]()
    for name, program in case.programs.items():
        for _ in range(warm_up):
            once = _seconds(program.run, 1)
        repeats[name], seconds[name] = max(1, round(LONG_ENOUGH / once)), []
    names, draw = list(case.programs), random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(names, len(names)):
            seconds[name].append(_seconds(case.programs[name].run, repeats[name]))
    return {name: summary([1000 * s for s in values]) for name, values in seconds.items()}


def summary(values):
    """Median and range."""
    return Result(statistics.median(values), min(values), max(values))


def _seconds(run, repeats):
    time.sleep(PAUSE)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def compiled(function, *arguments):
    """A function of JAX for these arguments, as a program that gives its result when it is there."""
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))
