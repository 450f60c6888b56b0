"""Gated recurrences whose backward loop has one product and little more.

Autodiff of a plain scan carries the dense weight gradient through its backward loop, adds a thin product to it at every step
and computes the derivative of every gate there. Here the forward loop keeps the results that are dear to compute, as few as
the rest follows from; all factors of the derivative of ``gate`` follow from them in one pass over all steps; the backward
loop applies them, and the weight gradient is one flattened product after it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqjax import masks
from seqjax.engines import factors, pieces
from seqjax.engines.chunks import in_chunks, scan_into
from seqjax.engines.derivative import Derivative, without_integers
from seqjax.engines.scan import masked


def hoisted(recur, gate, params, carry, xs, *, project=None, steps=None, batch_axes=1, mask=None, resets=None, fresh=None):
    """Runs ``gate(params, carry, u, recur(params, carry))`` along the first axis of ``us = project(params, xs)``.

    Equal to :func:`seqjax.engines.scan` of the same step, values and gradients. Reverse mode of any order works;
    forward mode alone (``jax.jvp``, ``jax.jacfwd``) needs the plain scan.

    Args:
      recur: ``(params, carry) -> r``, linear in its parameters, working on any number of leading axes.
      gate: ``(params, carry, u, r) -> (carry, y)``.
      params: what all three read, any tree of arrays.
      project: ``(params, xs) -> us`` for any number of steps; None where xs are what the gate reads.
      steps: how many steps are projected, and on the way back taken apart, at once; all unless said otherwise.
      batch_axes: how many axes lie between time and features.
      carry, xs, mask, resets, fresh: as for the plain scan.

    Returns:
      ``(carry, ys)``.
    """
    steps = len(jax.tree.leaves(xs)[0]) if steps is None else steps
    engine = _Hoisted(recur, gate, project or (lambda _, xs: xs), steps, batch_axes)
    return engine.run(params, carry, xs, fresh, mask, resets)


class _Hoisted:
    """One call of the engine: its functions, and what tracing ``forward`` tells ``backward`` about them."""

    def __init__(self, recur, gate, project, steps, batch_axes):
        self.recur, self.gate, self.project, self.steps, self.batch_axes = recur, gate, project, steps, batch_axes
        self.derivative: Any = None  # of one step
        self.run = jax.custom_vjp(self.primal)
        self.run.defvjp(self.forward, self.backward)

    def one(self, params, xs):
        """Shapes of what a step reads."""
        return jax.eval_shape(lambda p, x: _at(0, self.project(p, x)), params, _at(slice(1), xs))

    def primal(self, params, carry, xs, fresh, mask, resets):
        one, r = self.one(params, xs), jax.eval_shape(self.recur, params, carry)
        where, structure = pieces.cuts(self.gate, params, carry, one, r), jax.tree.structure(one)
        product = _Product(self.recur, params, carry)

        def step(carry, parts):
            return self.gate(params, carry, pieces.whole(parts, structure), product(carry))

        def chunk(state, inputs):
            (carry, ys), (xs, mask, resets, rows) = state, inputs
            parts = pieces.apart(self.project(params, xs), where)
            return scan_into(masked(step, fresh), carry, (parts, mask, resets), ys, rows), None

        y = jax.eval_shape(lambda c, u, r: self.gate(params, c, u, r)[1], carry, one, r)
        length = len(jax.tree.leaves(xs)[0])
        state, _ = in_chunks(chunk, self.steps, (carry, _stacks(length, y)), (xs, mask, resets, jnp.arange(length)))
        return state

    def forward(self, params, carry, xs, fresh, mask, resets):
        one, length = self.one(params, xs), len(jax.tree.leaves(xs)[0])
        self.derivative = derivative = Derivative(self.gate, self.recur, params, carry, one, mask is not None)
        product = _Product(self.recur, params, carry)
        after = derivative.short  # a step: its state is no copy then; that before it is stacked beside the product

        def body(carry, inputs):
            u, valid, reset = inputs
            start = masks.restart(reset, fresh, carry)
            new, y, own = derivative.run(params, start, u, product(start), valid)
            return new, (derivative.kept_of_carry(new if after else carry), derivative.kept_of_output(y), own)

        def chunk(state, inputs):
            (carry, stacks), (xs, mask, resets, rows) = state, inputs
            us = self.project(params, xs)
            return scan_into(body, carry, (us, mask, resets), stacks, rows), derivative.before(us)

        _, (states, ys, own) = jax.eval_shape(body, carry, (one, *_at(0, (mask, resets))))
        stacks = _stacks(length + 1, states), _stacks(length, ys), _stacks(length, own)
        rows = jnp.arange(length)
        inputs = xs, mask, resets, (rows + int(after), rows, rows)
        (final, (states, ys, own)), before = in_chunks(chunk, self.steps, (carry, stacks), inputs)
        row, rest = (0, carry) if after else (length, final)
        states = jax.tree.map(lambda stack, leaf: stack.at[row].set(leaf), states, derivative.kept_of_carry(rest))
        states, ys = derivative.all_outputs(params, length, carry, (states, ys), own, before, (mask, resets, fresh))
        return (final, ys), (params, fresh, xs, states, own, before, mask, resets)

    def backward(self, saved, cotangents):
        params, fresh, xs, states, own, before, mask, resets = saved
        dcarry, dys = cotangents
        derivative, length = self.derivative, len(jax.tree.leaves(xs)[0])

        def chunk(sums, inputs):
            (dcarry, dfresh, dparams), (xs, own, before, mask, resets, dys, rows) = sums, inputs
            around = jax.tree.map(lambda stack: lax.dynamic_slice_in_dim(stack, rows[0], len(rows) + 1), states)
            starts, after = _at(slice(-1), around), _at(slice(1, None), around)
            starts = masks.restart(resets, jax.tree.map(lambda leaf: leaf[None], fresh), starts)
            us, through_inputs = jax.vjp(self.project, params, xs)
            found, work = derivative.factors(params, starts, us, after, own, before)
            fixed, varying = found

            def body(sums, inputs):
                dcarry, dfresh, dread = sums
                factor, valid, reset, dy = inputs
                flowing = jax.tree.leaves((masks.zero_unless(valid, dcarry), masks.zero_unless(valid, dy)))
                dmore, dstart, kept = derivative.pull(work, flowing, (fixed, factor))
                if valid is not None:
                    dstart = _add(dstart, masks.zero_unless(~valid, dcarry))
                if reset is not None:
                    dfresh = _add(dfresh, masks.zero_unless(reset, dstart))
                    dstart = masks.zero_unless(~reset, dstart)
                return (dstart, dfresh, _add(dread, dmore)), kept

            first = dcarry, dfresh, work.nothing()
            inputs = varying, mask, resets, dys
            _, kept = jax.eval_shape(body, first, _at(0, inputs))
            stacks = _stacks(len(rows), kept, _any_number(varying))
            (dcarry, dfresh, dread), stacks = scan_into(body, first, inputs, stacks, jnp.arange(len(rows)), reverse=True)
            dus, drs = derivative.over_time(work, stacks, found)
            dmore, dxs = through_inputs(_complete(dus, us))
            dmore = derivative.add_read(_add(dmore, self._through_products(params, starts, drs)), work.total(dread))
            return (dcarry, dfresh, _add(dparams, dmore)), without_integers(dxs)

        dfresh = None if resets is None else _zeros(dcarry)
        nothing_yet = dcarry, dfresh, _zeros(params)
        inputs = xs, own, before, mask, resets, dys, jnp.arange(length)
        (dcarry, dfresh, dparams), dxs = in_chunks(chunk, self.steps, nothing_yet, inputs, reverse=True)
        return dparams, dcarry, _complete(dxs, xs), dfresh, None, None

    def _through_products(self, params, starts, drs):
        """The gradient of ``params`` through all recurrent products at once, with time and batch as one axis."""

        def flatten(tree):
            return jax.tree.map(lambda x: x.reshape((-1, *x.shape[1 + self.batch_axes :])), tree)

        _, pullback = jax.vjp(lambda p: self.recur(p, flatten(starts)), params)
        return pullback(flatten(drs))[0]


class _Product:
    """``recur`` as it runs in a loop: what is done to its matrices alone is done once, before it."""

    def __init__(self, recur, params, carry):
        closed, shape = jax.make_jaxpr(recur, return_shape=True)(params, carry)
        (self.fixed, self.varying), self.work = factors.split(closed, jax.tree.leaves(params), [])
        self.structure = jax.tree.structure(shape)

    def __call__(self, carry):
        _, results, _ = self.work(jax.tree.leaves(carry), (self.fixed, self.varying))
        return jax.tree.unflatten(self.structure, results)


def _complete(tree, like):
    """What :func:`without_integers` took away, where leaves of ``like`` have no gradient."""
    return jax.tree.map(lambda x, d: np.zeros(x.shape, jax.dtypes.float0) if d is None else d, like, tree)


def _add(tree, other):
    return jax.tree.map(jnp.add, tree, other)


def _zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def _stacks(length, tree, full_of=0):
    """Arrays that so many rows are written into."""
    return jax.tree.map(lambda leaf: jnp.full((length, *leaf.shape), full_of, leaf.dtype), tree)


def _any_number(tree):
    """A number that is not known before these arrays.

    Of all arrays full of zeros XLA makes one, which is kept from before the first of their loops until after the last.
    """
    return lax.stop_gradient(sum(jnp.sum(leaf.reshape(-1)[:1]) for leaf in jax.tree.leaves(tree)[:1]))


def _at(rows, tree):
    return jax.tree.map(lambda leaf: leaf[rows], tree)
