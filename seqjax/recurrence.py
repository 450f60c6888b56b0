"""The four contracts: what a recurrence is, and what a cell must say to be one.

Axes, here and everywhere: T time, B batch (zero or more axes), F input features, H hidden features, K gates.
Plural names have a time axis (``xs``, ``us``, ``ys``), singular ones are one step.

A recurrence is a frozen dataclass. Its fields are the hyper-parameters, its methods are pure functions; parameters and
state live outside. Equal settings make equal, hashable, picklable values whose ``repr`` is the configuration.

Write a :class:`Cell` with ``step``, and everything else follows: masks, resets, stacking, both directions, streaming.
:class:`GatedCell` and :class:`LinearCell` say more about the step and are run faster for it.
"""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax

from seqjax import checks, engines, masks
from seqjax.engines.choice import ANY, GATED, LINEAR, Choice, Choices, choose, steps_at_once
from seqjax.precision import cast, cast_like, state_dtype


@dataclasses.dataclass(frozen=True, repr=False)
class Recurrence(abc.ABC):
    """Maps whole sequences. What models are composed of.

    One law rules: ``apply`` on a chunk continues from the carry of the chunk before. T = 1 is decoding, T = all is
    training, anything between is truncated backpropagation through time.
    """

    def __repr__(self):
        """The configuration: what differs from the defaults. ``eval`` of it gives an equal value."""
        fields = [(f, getattr(self, f.name)) for f in dataclasses.fields(self)]
        shown = [f"{f.name}={value!r}" for f, value in fields if value != f.default]
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def causal(self) -> bool:
        """Whether output t depends on inputs up to t only, so that chunks can follow one another."""
        return True

    @property
    def stochastic(self) -> bool:
        """Whether ``apply`` makes use of a key."""
        return False

    @property
    def item_axes(self) -> int:
        """How many trailing axes one step of one sequence has: one, its features; three where steps are images."""
        return 1

    def batch_shape(self, xs) -> tuple[int, ...]:
        """The batch axes of xs: what lies between time and the axes of an item."""
        return tuple(xs.shape[1 : len(xs.shape) - self.item_axes])

    @abc.abstractmethod
    def init(self, key, xs):
        """Makes parameters.

        Args:
          key: a JAX random key.
          xs: an array or ``jax.ShapeDtypeStruct`` ``[T, B, F]``; only its shape is read.

        Returns:
          A nested dict of arrays in ``param_dtype``.
        """

    @abc.abstractmethod
    def initial_carry(self, params, batch_shape):
        """The state before the first step, for a batch of shape ``batch_shape``: a NamedTuple, or ``()``."""

    def restart(self, params, carry, batch_shape):
        """What a reset makes of ``carry``: the initial one, but for what comes from outside of the sequence: a memory."""
        del carry
        return self.initial_carry(params, batch_shape)

    @abc.abstractmethod
    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        """Runs along the time axis.

        Args:
          params: from :meth:`init`.
          carry: from :meth:`initial_carry`, or from ``apply`` on the chunk before.
          xs: ``[T, B, F]``, floating point. Zero or more batch axes. What inputs contribute is computed in this dtype.
          mask: bool ``[T, B]``, True = valid. At an invalid step the state is held, the output is zero and every
            gradient is exactly zero, whatever the padding holds, NaN included.
          resets: bool ``[T, B]``, True = the state starts anew before this step, be the step valid or not.
          key: a random key for recurrences that are :attr:`stochastic`; None means evaluation.

        Returns:
          ``(carry, ys)``: the state after the last valid step, and the outputs ``[T, B, H]`` in the dtype of ``xs``.

        Raises:
          TypeError: a dtype is wrong.
          ValueError: a shape is wrong, or ``params`` or ``carry`` belong to another recurrence.
        """


@dataclasses.dataclass(frozen=True, repr=False)
class Restarting(Recurrence):
    """What can be told where resets start from, so that something around it can choose: cells, and zoneout of one."""

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.apply(self, params, carry, xs, mask, resets)
        fresh = None if resets is None else self.restart(params, carry, self.batch_shape(xs))
        return self._apply(params, carry, xs, fresh, mask, resets, key)

    @abc.abstractmethod
    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        """``apply`` of what has been checked, with the carry that resets start from."""


@dataclasses.dataclass(frozen=True, repr=False)
class Cell(Restarting):
    """One step; what researchers write.

    A cell gives ``init``, ``initial_carry``, ``project`` and ``step``. All arithmetic of ``step`` is in the dtype of the
    carry, at least float32; ``project`` computes in the dtype of the inputs.

    Args:
      engine: how it runs: "auto", or one of the contract's engines ("scan" for any cell).
    """

    engines: ClassVar[tuple[str, ...]] = ("scan",)
    choices: ClassVar[Choices] = ANY

    engine: str = dataclasses.field(default="auto", kw_only=True)

    def __post_init__(self):
        checks.one_of(self, "engine", ("auto", *self.engines))

    def project(self, params, xs) -> Any:
        """All that does not depend on the carry, for all steps at once.

        Args:
          params: the parameters, in the dtype of xs.
          xs: ``[N, F]``, time and batch as one axis; write it for ``[..., F]``.

        Returns:
          us: an array ``[N, ...]`` or a tree of them.
        """
        del params
        return xs

    @abc.abstractmethod
    def step(self, params, carry, u):
        """One step: ``(carry, u) -> (carry, y)``, with u ``[B, ...]`` and y ``[B, H]``."""

    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        fresh = None if fresh is None else cast_like(fresh, carry)
        inputs = masks.zero_unless(mask, xs), self._drawn(carry, len(xs), key)
        run = getattr(self, f"_run_{self.choice(len(xs)).engine if len(xs) else 'scan'}")
        carry, ys = run(params, carry, inputs, {"mask": mask, "resets": resets, "fresh": fresh})
        return carry, cast(ys, xs.dtype)

    def choice(self, steps) -> Choice:
        """Which engine runs so many steps on the device in use, and why; made to be printed."""
        if self.engine != "auto":
            return Choice(self.engine, 0, "asked for")
        return choose(self.choices, steps)

    def _drawn(self, carry, steps, key) -> Any:
        """What is drawn for every step: no randomness enters a cell, but it may be put around one."""
        del carry, steps, key

    def _us(self, params, inputs):
        """What the steps read besides the carry, with time and batch as one axis while it is projected: a two-dimensional
        product and gradient run faster than batched ones."""
        xs, _ = inputs
        steps = (len(xs), *self.batch_shape(xs))
        us = self.project(cast(params, xs.dtype), xs.reshape((-1, *xs.shape[len(steps) :])))
        return jax.tree.map(lambda u: u.reshape(steps + u.shape[1:]), us)

    def _run_scan(self, params, carry, inputs, options):
        us, state = self._us(params, inputs), state_dtype(carry, inputs[0].dtype)
        params = cast(params, state)

        def step(carry, u):
            new, y = self.step(params, carry, cast(u, state))
            return cast_like(new, carry), y

        return engines.scan(step, carry, us, **options)


@dataclasses.dataclass(frozen=True, repr=False)
class GatedCell(Cell):
    """One matrix product per step: ``step = gate(params, carry, u, recur(params, carry))``.

    ``recur`` computes in the dtype of the inputs, ``gate`` in the dtype of the carry.

    Args:
      engine: "auto", "hoisted" (its gradients are faster, no forward-mode derivative) or "scan".
    """

    engines: ClassVar[tuple[str, ...]] = ("scan", "hoisted")
    choices: ClassVar[Choices] = GATED

    @abc.abstractmethod
    def recur(self, params, carry):
        """The only sequential product: ``r``, linear in its parameters, for any number of leading axes."""

    @abc.abstractmethod
    def gate(self, params, carry, u, r):
        """``(carry, y)`` from what the input and the carry contribute; elementwise over units, or row-wise norms."""

    def step(self, params, carry, u):
        return self.gate(params, carry, u, self.recur(params, carry))

    def _split_precision(self, params, carry, dtype):
        """``recur`` in the dtype of the inputs, ``gate`` in that of the carry, and params cast to both."""
        state = state_dtype(carry, dtype)

        def recur(casts, carry):
            return cast(self.recur(casts[0], cast(carry, dtype)), state)

        def gate(casts, carry, u, r):
            new, y = self.gate(casts[1], carry, cast(u, state), r)
            return cast_like(new, carry), y

        return recur, gate, (cast(params, dtype), cast(params, state))

    def _run_scan(self, params, carry, inputs, options):
        recur, gate, casts = self._split_precision(params, carry, inputs[0].dtype)
        us = self._us(params, inputs)
        return engines.scan(lambda c, u: gate(casts, c, u, recur(casts, c)), carry, us, **options)

    def _run_hoisted(self, params, carry, inputs, options):
        xs, _ = inputs
        recur, gate, casts = self._split_precision(params, carry, xs.dtype)
        us = jax.eval_shape(self._us, params, inputs)
        sizes = {"steps": steps_at_once(len(xs), _bytes(us), _bytes(params)), "batch_axes": len(self.batch_shape(xs))}
        return engines.hoisted(
            recur, gate, casts, carry, inputs, project=lambda casts, some: self._us(casts[0], some), **sizes, **options
        )


def _bytes(tree):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


class LinearCarry(NamedTuple):
    """State of a linear recurrence."""

    h: jax.Array  # [B, H]


@dataclasses.dataclass(frozen=True, repr=False)
class LinearCell(Cell):
    """``h = decay * h + drive``, elementwise: decay and drive depend on the input alone.

    Args:
      engine: "auto" (the scan on a CPU, the associative scan elsewhere), "scan" or "associative".
    """

    engines: ClassVar[tuple[str, ...]] = ("scan", "associative")
    choices: ClassVar[Choices] = LINEAR

    @abc.abstractmethod
    def coefficients(self, params, u):
        """``(decay, drive)`` of one step, for any number of leading axes."""

    def readout(self, params, h, u):
        """The output y ``[B, H]`` from the new state; the state itself unless a cell says otherwise."""
        del params, u
        return h

    def step(self, params, carry, u):
        decay, drive = self.coefficients(params, u)
        h = decay * carry.h + drive
        return LinearCarry(h), self.readout(params, h, u)

    def _run_associative(self, params, carry, inputs, options):
        state = state_dtype(carry, inputs[0].dtype)
        params, us = cast(params, state), cast(self._us(params, inputs), state)
        if options["fresh"] is not None:
            options = options | {"fresh": options["fresh"].h}
        decay, drive = self.coefficients(params, us)
        hs = engines.associative(decay, drive, carry.h, **options)
        ys = masks.zero_unless(options["mask"], self.readout(params, hs, us))
        return cast_like(LinearCarry(hs[-1]), carry), ys
