"""What a function is split into: values that are known, and sums of results to come, each times a known factor."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(eq=False)  # these are told apart by identity, not by what they hold
class Known:
    """A value that does not depend on the linear arguments; ``varying`` where it differs from step to step."""

    value: Any
    varying: bool
    zero: bool = False

    @property
    def aval(self):
        return jax.ShapeDtypeStruct(jnp.shape(self.value), jnp.result_type(self.value))


@dataclasses.dataclass(eq=False)
class Sum:
    """A sum of results so far, each times a known factor, or as it is where that is None; no terms are zero."""

    terms: dict[int, Known | None]
    aval: Any


@dataclasses.dataclass(eq=False)
class Row:
    """Sums side by side along the last axis."""

    blocks: list[Sum]
    aval: Any

    @property
    def ends(self):
        """Where the blocks end."""
        return list(itertools.accumulate(block.aval.shape[-1] for block in self.blocks))

    def cut(self, ends):
        """The same row with ends at all of these too; None where a block other than zeros would have to be cut."""
        blocks, start = [], 0
        for block, end in zip(self.blocks, self.ends, strict=True):
            inside = [e for e in ends if start < e < end]
            if inside and block.terms:
                return None
            for left, right in itertools.pairwise([start, *inside, end]):
                aval = jax.ShapeDtypeStruct((*block.aval.shape[:-1], right - left), block.aval.dtype)
                blocks.append(Sum(block.terms, aval) if inside else block)
            start = end
        return Row(blocks, self.aval)


@dataclasses.dataclass(eq=False)
class Later:
    """A sum of linear values, each after operations that may wait: a sum over steps may come before them."""

    parts: list[tuple[Any, tuple[Callable, ...]]]
    aval: Any

    def then(self, function, aval):
        return Later([(value, (*functions, function)) for value, functions in self.parts], aval)


def or_one(factor, dtype):
    """A factor of a sum as a known value; None stands for one."""
    return Known(jnp.ones((), dtype), False) if factor is None else factor


def combine(function, *known):
    """What a function makes of known values is known."""
    return Known(function(*[k.value for k in known]), any(k.varying for k in known))
