"""The list of checks: a claim, the notes that make it, and a function that computes whether it holds."""

import dataclasses
import zlib
from collections.abc import Callable

import jax
import numpy as np

NOTES = {
    "S0": "course notes, chapter 5: recurrent neural networks",
    "S1": "a blog post with PyTorch: RNN, LSTM, GRU",
    "S2": "an introduction to RNNs and their patterns",
    "S3": "notes on CS231n, lecture 14",
    "S4": "AI for Beginners, lesson 16",
}


@dataclasses.dataclass(frozen=True)
class Check:
    """A claim that can be executed.

    Args:
      notes: which notes make the claim, such as "S0 S3".
      claim: what is claimed; where the notes are mistaken, the right form.
      compute: takes a NumPy random generator, returns what was computed as text, raises AssertionError if it is not so.
      mistake: number of the mistake in the notes that this is about.
    """

    notes: str
    claim: str
    compute: Callable[[np.random.Generator], str]
    mistake: int | None = None

    @property
    def name(self):
        """Theme and function, such as "vanilla.detector"."""
        return f"{self.compute.__module__.split('.')[-1]}.{self.compute.__name__}"


CHECKS: list[Check] = []


def check(notes, claim, *, mistake=None):
    """Registers a function as the check of a claim."""

    def register(compute):
        CHECKS.append(Check(notes, claim, compute, mistake))
        return compute

    return register


def execute(check, seed):
    """``(verdict, what was computed)``, in float64 wherever a check does not say float32.

    The verdict is "holds" or "FAILS". Whatever a check raises makes it fail, so that the others still run.
    """
    rng = np.random.default_rng([seed, zlib.crc32(check.name.encode())])
    try:
        with jax.enable_x64(True):
            return "holds", check.compute(rng)
    except AssertionError as error:
        return "FAILS", str(error)
    except Exception as error:
        return "FAILS", f"{type(error).__name__}: {error}"
