"""A function some of whose arguments are known before the others, split in two: its factors, and what is left to do.

The derivative of an elementwise gate is a few products and sums of what flows back, with factors that are known before
anything flows. All factors of all steps are computed in one pass, and a backward loop is left with little more than one
product each. How a function is split is read from its jaxpr: sums are put off until something else needs them, products with
known factors are multiplied into one factor, and any operation that is not understood, or not linear, stays in the loop as
it is.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.engines.jaxprs import CALLS, bind, inner, is_literal
from seqjax.engines.rules import ELEMENTWISE, RULES, WAITING
from seqjax.engines.values import Known, Later, Row, Sum, combine, or_one

_SMALL_BLOCK, _LARGE, _NARROW = 512, 16384, 32  # numbers, numbers, numbers along the last axis; see _one_of_two


@dataclasses.dataclass
class Work:
    """What is left: functions of results so far and of factors, in order; ``outputs`` are numbers of results.

    Outputs of which the sum over all steps is wanted are ``totals``: for each the results to add up, and what to do then.
    Those that are wanted of all steps are made of the results ``kept``: functions of some of them and of factors.
    """

    steps: list[tuple[Callable, list[int], list[tuple[bool, int]]]]
    totals: list[list[tuple[int, Any, tuple[Callable, ...]]]]
    outputs: list[int]
    kept: list[int]
    made: list[tuple[Callable, list[int], list[tuple[bool, int]]]]

    def __call__(self, linear, factors):
        """What to add up, the outputs and what to keep, from linear arguments and the (fixed, varying) factors of a step."""
        results = list(linear)
        for function, numbers, known in self.steps:
            results += function(*[results[n] for n in numbers], *[factors[varying][i] for varying, i in known])
        sums = [results[n] for parts in self.totals for n, *_ in parts]
        return sums, [results[n] for n in self.outputs], [results[n] for n in self.kept]

    def nothing(self):
        """What to begin adding up with."""
        return [jnp.zeros(aval.shape, aval.dtype) for parts in self.totals for _, aval, _ in parts]

    def total(self, sums):
        """The totals from what was added up."""
        rest = iter(sums)
        return [functools.reduce(jnp.add, [_one_by_one(then, next(rest)) for *_, then in parts]) for parts in self.totals]

    def of_all_steps(self, stacks, factors):
        """The outputs wanted of all steps, from what was kept, and the factors, of all steps."""
        stack, outputs = dict(zip(self.kept, stacks, strict=True)), []
        for function, numbers, known in self.made:
            over_time = jax.vmap(function, in_axes=[0] * len(numbers) + [0 if varying else None for varying, _ in known])
            outputs.append(over_time(*[stack[n] for n in numbers], *[factors[varying][i] for varying, i in known]))
        return outputs


def split(closed, fixed, varying, totals=0, every=0):
    """Splits a jaxpr of ``(fixed, varying, linear)`` leaves, given values for all but the last.

    Args:
      closed: the jaxpr.
      fixed, varying: values that are the same at all steps, and those that are not.
      totals: of how many outputs, the first ones, the sum over all steps is wanted and nothing else.
      every: how many, the last ones, are wanted of all steps, and of no step alone.

    Returns:
      ``(fixed factors, varying factors), work`` so that ``work(linear, factors)`` are the outputs of the jaxpr.
    """
    splitter = _Splitter(len(closed.jaxpr.invars) - len(fixed) - len(varying))
    known = [Known(x, False) for x in fixed] + [Known(x, True) for x in varying]
    linear = [Sum({n: None}, v.aval) for n, v in enumerate(closed.jaxpr.invars[len(known) :])]
    outputs = splitter.run(closed.jaxpr, [Known(x, False) for x in closed.consts], [*known, *linear])
    parts = [value.parts if isinstance(value, Later) else [(value, ())] for value in outputs[:totals]]
    summed = [[(splitter.result(value), value.aval, then) for value, then in each] for each in parts]
    last = len(outputs) - every
    numbers = [splitter.result(value) for value in outputs[totals:last]]
    work = Work(splitter.steps, summed, numbers, *splitter.made_afterwards(outputs[last:]))
    return tuple(splitter.factors), work


def _one_by_one(functions, x):
    for function in functions:
        x = function(x)
    return x


class _Splitter:
    """Walks through a jaxpr once, computes what is known and writes down the rest."""

    def __init__(self, results):
        self.results = results
        self.steps = []
        self.factors: tuple[list, list] = [], []  # those that are the same at all steps, and those that are not
        self.kept = {}  # where known values are among the factors
        self.numbers = {}  # of values that are results already
        self.transposes = {}  # of known matrices
        self.parts = {}  # where known values are in a row of factors

    def run(self, jaxpr, consts, arguments):
        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def read(atom):
            if is_literal(atom):
                return Known(atom.val, False, zero=bool(jnp.ndim(atom.val) == 0 and atom.val == 0))
            return env[atom]

        for equation in jaxpr.eqns:
            values = self.apply(equation, [read(atom) for atom in equation.invars])
            env.update(zip(equation.outvars, values, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def apply(self, equation, values):
        name = equation.primitive.name
        if name in CALLS:
            jaxpr, consts = inner(equation)
            return self.run(jaxpr, [Known(x, False) for x in consts], values)
        if all(isinstance(value, Known) for value in values):
            results = bind(equation, *[value.value for value in values])
            zero = name == "broadcast_in_dim" and values[0].zero
            return [Known(x, any(value.varying for value in values), zero) for x in results]
        shape, later = equation.outvars[0].aval.shape, self.later(equation, values)
        if later is not None:
            return [later]
        values = [Sum({self.result(value): None}, value.aval) if isinstance(value, Later) else value for value in values]
        if name in ELEMENTWISE and any(value.aval.shape != shape for value in values if not isinstance(value, Known)):
            return self.leave(equation, values)
        rule: Any = ELEMENTWISE.get(name, RULES.get(name, lambda *_: None))
        return rule(self, equation, *values) or self.leave(equation, values)

    def later(self, equation, values):
        """What a sum and all that comes after it are made into, or None; gradients of parameters sum over the batch."""
        name, aval, (value, *rest) = equation.primitive.name, equation.outvars[0].aval, values
        if name in ("add", "add_any") and all(isinstance(value, Later) for value in values):
            return Later(value.parts + rest[0].parts, aval)
        if name in ("concatenate", "stack") and all(isinstance(v, Later) for v in values):
            zeros = [jnp.zeros(v.aval.shape, v.aval.dtype) for v in values]
            alone = [lambda x, i=i: bind(equation, *zeros[:i], x, *zeros[i + 1 :])[0] for i in range(len(values))]
            return Later([part for v, then in zip(values, alone, strict=True) for part in v.then(then, aval).parts], aval)
        if isinstance(value, Known) or not all(isinstance(other, Known) and other.zero for other in rest):
            return None
        if name == "reduce_sum" and not isinstance(value, Later):
            value = Later([(value, ())], value.aval)
        if not isinstance(value, Later) or name not in WAITING:
            return None
        return value.then(lambda x: bind(equation, x, *[other.value for other in rest])[0], aval)

    def leave(self, equation, values):
        """An operation stays in the loop."""
        places = [isinstance(value, Known) for value in values]

        def function(*inputs):
            linear, known = iter(inputs[: places.count(False)]), iter(inputs[places.count(False) :])
            return bind(equation, *[next(known) if place else next(linear) for place in places])

        linear = [value for value in values if not isinstance(value, Known)]
        first = self.step(function, linear, [value for value in values if isinstance(value, Known)], len(equation.outvars))
        return [Sum({first + i: None}, v.aval) for i, v in enumerate(equation.outvars)]

    def step(self, function, values, known, count=1):
        """Writes down a function; the number of its first result."""
        self.steps.append((function, [self.result(value) for value in values], [self.factor(k) for k in known]))
        self.results += count
        return self.results - count

    def factor(self, known):
        if known not in self.kept:
            self.kept[known] = known.varying, len(self.factors[known.varying])
            self.factors[known.varying].append(known.value)
        return self.kept[known]

    def result(self, value):
        """The number of the result that is this value."""
        if isinstance(value, Sum) and list(value.terms.values()) == [None]:
            return next(iter(value.terms))
        if value not in self.numbers:
            self.numbers[value] = self.compute(value)
        return self.numbers[value]

    def compute(self, value):
        if isinstance(value, Known):
            return self.step(lambda x: [x], [], [value])
        if isinstance(value, Later):
            then = [functions for _, functions in value.parts]
            return self.step(
                lambda *xs: [functools.reduce(jnp.add, map(_one_by_one, then, xs))], [v for v, _ in value.parts], []
            )
        aval = value.aval
        if isinstance(value, Row):
            if _is_scaled(value):
                return self.scaled_row(value)
            return self.step(lambda *blocks: [jnp.concatenate(blocks, -1)], value.blocks, [])
        scaled = [known is not None for known in value.terms.values()]

        def function(*inputs):
            results, factors = inputs[: len(scaled)], iter(inputs[len(scaled) :])
            terms = [x * next(factors) if has else x for x, has in zip(results, scaled, strict=True)]
            return [functools.reduce(jnp.add, terms) if terms else jnp.zeros(aval.shape, aval.dtype)]

        bases = [Sum({n: None}, aval) for n in value.terms]
        return self.step(function, bases, [known for known in value.terms.values() if known is not None])

    def made_afterwards(self, values):
        """What to keep of each step for values that are wanted of all steps, and what each is made of then.

        Where they are fewer numbers, that is what the values are multiples of: a GRU keeps one gradient of its state in the
        place of those of three gates, twice, and its loop is shorter.
        """
        rows = [value for value in dict.fromkeys(values) if isinstance(value, Row) and _is_scaled(value)]
        bases = {number: None for row in rows for block in row.blocks for number in block.terms}
        rows = rows if len(bases) < len(rows) else []
        made: list = []
        for value in values:
            if value in rows:
                numbers, known = zip(*[next(iter(block.terms.items())) for block in value.blocks], strict=True)
                parts = [self.part_of_row(or_one(k, value.aval.dtype)) for k in known]
                made.append((functools.partial(_multiples, [where for _, where in parts]), numbers, [k for k, _ in parts]))
            else:
                made.append((lambda x: x, [self.result(value)], []))
        return list(dict.fromkeys(n for _, numbers, _ in made for n in numbers)), made

    def scaled_row(self, row):
        """Blocks of one term each: their factors lie side by side too, so that all is one product."""
        bases, factors = zip(*[next(iter(block.terms.items())) for block in row.blocks], strict=True)
        avals = [block.aval for block in row.blocks]

        def side_by_side(*values):
            wide = [jnp.broadcast_to(value, aval.shape) for value, aval in zip(values, avals, strict=True)]
            return jnp.concatenate(wide, -1)

        parts = [or_one(known, row.aval.dtype) for known in factors]
        factor = combine(side_by_side, *parts)
        spans = [slice(end - aval.shape[-1], end) for end, aval in zip(row.ends, avals, strict=True)]
        self.parts |= {known: (factor, span) for known, span in zip(parts, spans, strict=True)}
        first, last = bases[0], next((n for n in bases if n != bases[0]), bases[0])
        if len({aval.shape for aval in avals}) == 1 and len(set(bases)) <= 2 and _is_chosen(avals[0], first != last):
            linear = [Sum({n: None}, avals[0]) for n in (first, last)]
            return self.step(functools.partial(_one_of_two, [n == last != first for n in bases]), linear, [factor])
        linear = [Sum({n: None}, aval) for n, aval in zip(bases, avals, strict=True)]
        return self.step(lambda *inputs: [jnp.concatenate(inputs[:-1], -1) * inputs[-1]], linear, [factor])

    def part_of_row(self, known):
        """Where a factor is found: a number among the factors, and a slice of it if it lies side by side with others."""
        row, span = self.parts.get(known, (known, None))
        return self.factor(row), span

    def turned(self, known):
        """The transpose of a known matrix, made once."""
        if known not in self.transposes:
            self.transposes[known] = combine(jnp.transpose, known)
        return self.transposes[known]

    # Values that are linear, put together without any work in the loop where that can be.

    def add(self, one, other):
        if isinstance(one, Row) and isinstance(other, Row):
            rows = one.cut(other.ends), other.cut(one.ends)
            if None not in rows:
                return Row([self.add(a, b) for a, b in zip(*[row.blocks for row in rows], strict=True)], one.aval)
        if isinstance(one, Row) or isinstance(other, Row):
            one, other = (Sum({self.result(value): None}, value.aval) for value in (one, other))
        terms = dict(one.terms)
        for number, known in other.terms.items():
            if number in terms:
                both = [or_one(factor, one.aval.dtype) for factor in (terms[number], known)]
                known = combine(jnp.add, *both)
            terms[number] = known
        return Sum(terms, one.aval)

    def scale(self, value, function, *known):
        """Every factor k of a value becomes ``function(k, *known)``, and so does the value."""
        aval = value.aval
        if isinstance(value, Row):
            blocks = []
            for block, end in zip(value.blocks, value.ends, strict=True):
                part = slice(end - block.aval.shape[-1], end)
                cut = [k if jnp.shape(k.value)[-1:] in ((), (1,)) else Known(k.value[..., part], k.varying) for k in known]
                blocks.append(self.scale(block, function, *cut))
            return Row(blocks, aval)
        if len(value.terms) > 1:
            value = Sum({self.result(value): None}, aval)
        return Sum({n: combine(function, or_one(factor, aval.dtype), *known) for n, factor in value.terms.items()}, aval)


def _is_scaled(row):
    """Whether its blocks are results times a factor each."""
    return all(len(block.terms) == 1 for block in row.blocks)


def _multiples(spans, *inputs):
    """Results times parts of factors, side by side."""
    results, factors = inputs[: len(spans)], inputs[len(spans) :]
    parts = [k if span is None else k[..., span] for k, span in zip(factors, spans, strict=True)]
    return jnp.concatenate([x * k for x, k in zip(results, parts, strict=True)], -1)


def _is_chosen(aval, two):
    """Whether such blocks, one over and over or two of them, are chosen between and not copied side by side."""
    size = math.prod(aval.shape)
    return size <= _SMALL_BLOCK if two else aval.shape[-1] <= _NARROW or size >= _LARGE


def _one_of_two(which, first, last, factor):
    """Blocks side by side, each of them ``last`` where ``which`` says so and otherwise ``first``, times a factor.

    XLA on a CPU fuses a choice with the product, and a concatenation not. One small kernel less in a loop of nine lets XLA
    run them one after the other, without handing them to threads: 0.8 to 0.9 of the time with two devices. What is fused is
    computed for each block again, so that large blocks take longer.
    """
    blocks = jnp.where(np.array(which)[:, None], last[..., None, :], first[..., None, :])
    return [blocks.reshape(*first.shape[:-1], -1) * factor]
