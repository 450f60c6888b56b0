"""What cells with a memory share: where it is kept, how it is prepared, and reading of all steps at once."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import checks, engines, masks
from seqjax.attention.read import remember
from seqjax.attention.scores import Score
from seqjax.combine.wrapper import outputs_of
from seqjax.engines.choice import Choice, Choices
from seqjax.precision import at_least_float32, cast, cast_like, state_dtype
from seqjax.recurrence import Cell

APART: Choices = {"": (Choice("hoisted", 0, "no step waits for what was read, so all steps read at once, after the loop"),)}


@dataclasses.dataclass(frozen=True, repr=False)
class Reading(Cell):
    """What cells with a memory share: where it is kept, and how it is prepared.

    The memory rides in the carry and is never changed. A reset starts the state anew and leaves the memory.
    """

    cell: Cell
    score: Score
    memory_features: int

    def __post_init__(self):
        if not isinstance(self.cell, Cell):
            raise TypeError(f"{type(self).__name__}: expected a cell such as LSTM(128), got {self.cell!r}.")
        if not isinstance(self.score, Score):
            raise TypeError(f"{type(self).__name__}: expected a score such as Additive(128), got {self.score!r}.")
        super().__post_init__()
        checks.positive(self, "memory_features")

    def _init(self, cell_key, score_key, xs):
        """Parameters of the cell and of the score, and how wide the queries are."""
        params = self.cell.init(cell_key, xs)
        (*_, width) = outputs_of(self.cell, params, xs).shape
        query = jax.ShapeDtypeStruct((width,), jnp.float32)
        memory = jax.ShapeDtypeStruct((1, self.memory_features), jnp.float32)
        return {"cell": params, "score": self.score.init(score_key, query, memory)}, width

    def start(self, params, memory, mask=None, state=None):
        """The carry from which a sequence reads a memory.

        Args:
          params: from ``init``.
          memory: ``[B, S, M]``, floating point; zero or more batch axes.
          mask: bool ``[B, S]``, True = there is something; None for everywhere.
          state: the carry from which the cell inside starts, such as the final one of an encoder; None for its initial one.

        Raises:
          TypeError: a dtype is wrong.
          ValueError: a shape is wrong.
        """
        if len(memory.shape) < 2 or memory.shape[-1] != self.memory_features:
            raise ValueError(
                f"{self}: expected a memory [B, S, {self.memory_features}], batch first, got shape {list(memory.shape)}."
            )
        batch, S = memory.shape[:-2], memory.shape[-2]
        mask = jnp.ones((*batch, S), bool) if mask is None else mask
        if mask.shape != memory.shape[:-1]:
            raise ValueError(f"{self}: expected a mask of shape {list(memory.shape[:-1])}, got {list(mask.shape)}.")

        def prepare(memory, mask):
            return remember(self.score, params["score"], memory, mask)

        state = self._start_inside(params, memory, mask, batch) if state is None else state
        return self._carry(params, state, batched(prepare, len(batch))(memory, mask))

    def _start_inside(self, params, memory, mask, batch):
        if isinstance(self.cell, Reading):
            return self.cell.start(params["cell"], memory, mask)
        return self.cell.initial_carry(params["cell"], batch)

    def initial_carry(self, params, batch_shape):
        """The state before the first step, with a memory of nothing; :meth:`start` gives one with something to read."""
        nothing = jnp.zeros((*batch_shape, 0, self.memory_features), at_least_float32(self.score.param_dtype))
        return self.start(params, nothing)

    def restart(self, params, carry, batch_shape):
        memory = carry.memory
        if memory.mask.shape[:-1] != tuple(batch_shape):
            raise ValueError(
                f"{self}: the memory has batch axes {list(memory.mask.shape[:-1])}, expected {list(batch_shape)}; "
                "make the carry with start(params, memory [B, S, M])."
            )
        return self._carry(params, self.cell.restart(params["cell"], carry.state, batch_shape), memory)

    @abc.abstractmethod
    def _carry(self, params, state, memory) -> Any:
        """The carry from a state of the cell inside, with nothing read yet."""

    def project(self, params, xs):
        return self.cell.project(params["cell"], xs)

    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        if not len(xs) or self.choice(len(xs)).engine == "scan":
            return super()._apply(params, carry, xs, fresh, mask, resets, key)
        inside: Any = self.cell
        begin = None if fresh is None else fresh.state
        state, hs = inside._apply(params["cell"], carry.state, xs, begin, mask, resets, None)
        params = cast(params, xs.dtype)
        ys = jax.vmap(lambda h: self._look(params, carry.memory, h))(hs)
        return carry._replace(state=state), masks.zero_unless(mask, cast(ys, xs.dtype))

    @abc.abstractmethod
    def _look(self, params, memory, h):
        """The outputs [B, ...] from those of the cell inside, where no step waits for what was read."""

    def _run_scan(self, params, carry, inputs, options):
        """The memory stays outside of the loop, so that no step copies it, nor keeps it for gradients."""
        state, memory = state_dtype(innermost(carry), inputs[0].dtype), carry.memory
        us = self._us(params, inputs)
        params = cast(params, state)

        def step(moving, u):
            new, y = self.step(params, moving._replace(memory=memory), cast(u, state))
            return cast_like(new._replace(memory=()), moving), y

        fresh = options["fresh"]
        options = options | {"fresh": None if fresh is None else fresh._replace(memory=())}
        carry, ys = engines.scan(step, carry._replace(memory=()), us, **options)
        return carry._replace(memory=memory), ys


def innermost(carry):
    """The state of the cell that steps, in the carry of one that reads, which may be inside of another."""
    while hasattr(carry, "memory"):
        carry = carry.state
    return carry


def batched(function, axes):
    """A function of one query and one memory as one of many."""
    for _ in range(axes):
        function = jax.vmap(function)
    return function
