"""What "auto" is: an engine for a device and a number of steps.

``python -m benchmarks engines`` measures every engine beside the one that is chosen here; a test holds this table to what is
recorded in ``benchmarks/results/``. On two cores of an AMD EPYC, gradients from 16 steps on: the scan takes 1.2 to 1.5 times
as long as the hoisted engine, and for grids 1.1 to 15 times as long as the wavefront; the associative scan takes 1.0 to 2.0
times as long as the scan, on an Intel Xeon 0.8 to 0.9 for one sequence of 1,024 steps and 1.0 to 1.4 otherwise. With 4 steps
the wavefront takes 1.03 of the time of the scan on the EPYC, and 0.73 on the Xeon.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from seqjax.engines.chunks import largest_divisor


class Choice(NamedTuple):
    """An engine, from how many steps on it is chosen, and why."""

    engine: str
    steps: int
    why: str

    def __str__(self):
        return f"{self.engine}: {self.why}"


Choices = Mapping[str, tuple[Choice, ...]]

# By device, "" for every other one; the last choice whose steps are reached.
ANY: Choices = {"": (Choice("scan", 0, "the only engine of a cell that is nothing but a step"),)}
GATED: Choices = {
    "": (
        Choice("scan", 0, "a single step has no loop to take work out of"),
        Choice("hoisted", 2, "a backward loop of one product and little more"),
    )
}
LINEAR: Choices = {
    "": (Choice("associative", 0, "log T passes in parallel"),),
    "cpu": (Choice("scan", 0, "one pass over memory, where nothing would run in parallel"),),
}
GRID: Choices = {
    "": (
        Choice("scan", 0, "few steps have hardly a diagonal"),
        Choice("wavefront", 4, "T + L - 1 rounds instead of T L"),
    )
}


def choose(choices, steps):
    """The choice for so many steps on the device in use."""
    rows = choices.get(jax.default_backend(), choices[""])
    return [row for row in rows if row.steps <= steps][-1]


# Bytes, by device, that inputs of the steps may have, with several arrays as large: those of a core's own cache.
_AT_ONCE = {"cpu": 1 << 20}
_FEWEST = 4  # steps that are worth a loop of their own


def steps_at_once(steps, inputs, params):
    """How many of so many steps the hoisted engine takes at once: all, where the cache holds less than a few.

    What it computes for many steps in one pass should still be in the cache at the next pass. But each part adds to the
    gradient of params: they have to be smaller than what its steps are made of.

    Args:
      steps: T.
      inputs: bytes of the projected inputs of all steps.
      params: bytes.
    """
    most = _AT_ONCE.get(jax.default_backend(), inputs)
    at_once = steps if inputs <= most else min(steps, steps * max(most, 2 * params) // inputs)
    if at_once < _FEWEST:
        return steps
    divisor = largest_divisor(steps, at_once)
    return divisor if 2 * divisor > at_once else at_once  # a shorter last part is a program of its own
