"""Gated recurrences whose backward loop has one product and little more.

Autodiff of a plain scan carries the dense weight gradient through its backward loop, adds a thin product to it at every step
and computes the derivative of every gate there. Here the forward loop keeps the results that are dear to compute; all
factors of the derivative of ``gate`` follow from them in one pass over all steps; the backward loop applies them, and the
weight gradient is one flattened product after it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqjax import masks
from seqjax.engines import factors, pieces
from seqjax.engines.chunks import in_chunks, scan_into
from seqjax.engines.scan import masked

_COSTLY = {
    *("cbrt", "cos", "cumsum", "digamma", "div", "erf", "erf_inv", "exp", "exp2", "expm1", "integer_pow", "lgamma", "log"),
    *("log1p", "logistic", "pow", "reduce_max", "reduce_sum", "rsqrt", "sin", "sqrt", "tan", "tanh"),
}


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
        self.derivative = derivative = _Derivative(self.gate, self.recur, params, carry, one)
        y_is_state = derivative.y_is_state and mask is None
        product = _Product(self.recur, params, carry)

        def body(carry, inputs):
            u, valid, reset = inputs
            start = masks.restart(reset, fresh, carry)
            new, y, own = derivative.run(params, start, u, product(start))
            return masks.hold(valid, new, start), (carry, None if y_is_state else masks.zero_unless(valid, y), own)

        def chunk(state, inputs):
            (carry, stacks), (xs, mask, resets, rows) = state, inputs
            return scan_into(body, carry, (self.project(params, xs), mask, resets), stacks, rows), None

        _, (_, y, own) = jax.eval_shape(body, carry, (one, *_at(0, (mask, resets))))
        stacks = _stacks(length + 1, carry), _stacks(length, y), _stacks(length, own)
        inputs = xs, mask, resets, jnp.arange(length)
        (final, (states, ys, own)), _ = in_chunks(chunk, self.steps, (carry, stacks), inputs)
        states = jax.tree.map(lambda stack, leaf: stack.at[length].set(leaf), states, final)
        if y_is_state:
            ys = derivative.output(_at(slice(1, None), states))
        return (final, ys), (params, fresh, xs, states, own, mask, resets)

    def backward(self, saved, cotangents):
        params, fresh, xs, states, own, mask, resets = saved
        dcarry, dys = cotangents
        derivative, length = self.derivative, len(jax.tree.leaves(xs)[0])

        def chunk(sums, inputs):
            (dcarry, dfresh, dparams), (xs, own, mask, resets, dys, rows) = sums, inputs
            around = jax.tree.map(lambda stack: lax.dynamic_slice_in_dim(stack, rows[0], len(rows) + 1), states)
            starts, after = _at(slice(-1), around), _at(slice(1, None), around)
            starts = masks.restart(resets, jax.tree.map(lambda leaf: leaf[None], fresh), starts)
            us, through_inputs = jax.vjp(self.project, params, xs)
            (fixed, varying), work = derivative.factors(params, starts, us, after, own)

            def body(sums, inputs):
                dcarry, dfresh, dread = sums
                factor, valid, reset, dy = inputs
                flowing = jax.tree.leaves((masks.zero_unless(valid, dcarry), masks.zero_unless(valid, dy)))
                dmore, dstart, results = derivative.pull(work, flowing, (fixed, factor))
                if valid is not None:
                    dstart = _add(dstart, masks.zero_unless(~valid, dcarry))
                if reset is not None:
                    dfresh = _add(dfresh, masks.zero_unless(reset, dstart))
                    dstart = masks.zero_unless(~reset, dstart)
                return (dstart, dfresh, _add(dread, dmore)), results

            first = dcarry, dfresh, work.nothing()
            (dcarry, dfresh, dread), results = lax.scan(body, first, (varying, mask, resets, dys), reverse=True)
            dus, drs = derivative.over_time(work, results)
            dmore, dxs = through_inputs(_complete(dus, us))
            dmore = derivative.add_read(_add(dmore, self._through_products(params, starts, drs)), work.total(dread))
            return (dcarry, dfresh, _add(dparams, dmore)), _real(dxs)

        dfresh = None if resets is None else _zeros(dcarry)
        nothing_yet = dcarry, dfresh, _zeros(params)
        inputs = xs, own, mask, resets, dys, jnp.arange(length)
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
        _, results = self.work(jax.tree.leaves(carry), (self.fixed, self.varying))
        return jax.tree.unflatten(self.structure, results)


class _Derivative:
    """The derivative of one step: what it needs of the forward loop, where that is found, and what it is made into."""

    def __init__(self, gate, recur, params, carry, u):
        leaves, structure = jax.tree.flatten(params)
        r = jax.eval_shape(recur, params, carry)
        self.recur, self.read, named = recur, _leaves_read(gate, params, carry, u, r), pieces.named(gate)

        def on_read(read, start, u, r):
            full = list(leaves)
            for i, leaf in zip(self.read, read, strict=True):
                full[i] = leaf
            return named(jax.tree.unflatten(structure, full), start, u, r)

        self.gate = jax.checkpoint(on_read, policy=_is_kept, prevent_cse=False)
        arguments = jax.eval_shape(lambda *a: a, self.leaves_read(params), carry, u, r)
        closed, (self.outputs, _) = jax.make_jaxpr(self._linearized, return_shape=True)(*arguments)
        self._find(closed, {"read": arguments[0], "start": carry, "u": u, "r": r})

    def leaves_read(self, params):
        """The leaves of params that the gate reads; the others have no gradient inside the loop."""
        leaves = jax.tree.leaves(params)
        return [leaves[i] for i in self.read]

    def _linearized(self, read, start, u, r):
        """``(carry, y)`` after a step, and the residuals: what the pullback of the step is made of."""
        outputs, pullback = jax.vjp(self.gate, read, start, u, r)
        residuals, self.pullback = jax.tree.flatten(pullback)
        return outputs, residuals

    def _find(self, closed, arguments):
        """``places``: where each residual is found, by name and number; ``own`` are those that the loop has to stack."""
        names = [(name, i) for name, tree in arguments.items() for i in range(len(jax.tree.leaves(tree)))]
        found = {id(v): place for v, place in zip(closed.jaxpr.invars, names, strict=True) if place[0] != "r"}
        constants = list(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        constants = [(v, c) for v, c in constants if not isinstance(c, jax.core.Tracer)]
        found |= {id(v): ("constant", i) for i, (v, _) in enumerate(constants)}
        self.constants = [c for _, c in constants]
        count, states = (len(jax.tree.leaves(tree)) for tree in (self.outputs, self.outputs[0]))
        variables = [id(v) for v in closed.jaxpr.outvars]
        for i, v in enumerate(variables[:states]):
            found.setdefault(v, ("state", i))
        self.places: list[tuple[str, int]] = []
        self.own: list[int] = []
        for i, v in enumerate(variables[count:]):
            if v not in found:
                found[v] = "own", len(self.own)
                self.own.append(i)
            self.places.append(found[v])
        self.reads_inputs = any(name == "u" for name, _ in self.places)
        self.y_is_state = set(variables[states:count]) <= set(variables[:states])
        self.y_states = [variables.index(v) for v in variables[states:count]]

    def run(self, params, start, u, r):
        """One step: the carry, the output, and what has to be stacked."""
        (new, y), residuals = self._linearized(self.leaves_read(params), start, u, r)
        return new, y, [residuals[i] for i in self.own]

    def output(self, states):
        """The outputs, where they are leaves of the carry."""
        leaves = jax.tree.leaves(states)
        return jax.tree.unflatten(jax.tree.structure(self.outputs[1]), [leaves[i] for i in self.y_states])

    def factors(self, params, starts, us, states, own):
        """The factors of the derivatives of all steps, ``(fixed, varying)``, and the work that is left for each step."""
        fixed = {"params": params, "constant": self.constants}
        varying = {"start": starts, "u": us if self.reads_inputs else (), "state": states, "own": own}

        def pull(fixed, varying, flowing):
            found = {"read": self.leaves_read(fixed["params"])} | fixed | varying
            pullback = jax.tree.unflatten(self.pullback, [jax.tree.leaves(found[name])[i] for name, i in self.places])
            dread, dstart, du, dr = pullback(flowing)
            _, through_product = jax.vjp(lambda carry: self.recur(fixed["params"], carry), varying["start"])
            return _real((dread, _add(dstart, *through_product(dr)), du, dr))

        one = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), varying)
        closed, self.cotangents = jax.make_jaxpr(pull, return_shape=True)(fixed, one, self.outputs)
        work: Any = None

        def split(fixed, varying, _):
            nonlocal work
            results, work = factors.split(closed, fixed, varying, totals=len(jax.tree.leaves(self.cotangents[0])))
            return results

        every = jnp.arange(len(jax.tree.leaves(states)[0]))  # vmap asks for at least one
        results = jax.vmap(split, in_axes=(None, 0, 0), out_axes=(None, 0))(
            jax.tree.leaves(fixed), jax.tree.leaves(varying), every
        )
        return lax.optimization_barrier(results), work

    def pull(self, work, flowing, found):
        """What flows back through one step: what to add up for add_read, the carry's, and numbered results for over_time."""
        sums, results = work(flowing, found)
        numbered = dict(zip(work.outputs, results, strict=True))
        dstart, *_ = jax.tree.unflatten(jax.tree.structure(self.cotangents[1:]), results)
        return sums, dstart, {n: numbered[n] for n in self._through_time(work)}

    def _through_time(self, work):
        """Numbers of the results that are wanted for every step: gradients of u and r, which often are the same."""
        return work.outputs[len(jax.tree.leaves(self.cotangents[1])) :]

    def add_read(self, dparams, totals):
        """Adds to a gradient of all parameters that of those which the gate reads."""
        leaves, structure = jax.tree.flatten(dparams)
        for i, leaf in zip(self.read, jax.tree.unflatten(jax.tree.structure(self.cotangents[0]), totals), strict=True):
            leaves[i] = leaves[i] if leaf is None else leaves[i] + leaf
        return jax.tree.unflatten(structure, leaves)

    def over_time(self, work, results):
        """The gradients of us and rs from the stacked results."""
        leaves = [results[n] for n in self._through_time(work)]
        return jax.tree.unflatten(jax.tree.structure(self.cotangents[2:]), leaves)


def _is_kept(primitive, *_, **params):
    """What the forward loop keeps for the backward one: results dear to compute, and parts of what it reads.

    Sums and products are computed again.
    """
    return primitive.name in _COSTLY or (primitive.name == "name" and params["name"] == pieces.PART)


def _real(tree):
    """Leaves that have no gradient, such as booleans, become None."""
    return jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, tree)


def _complete(tree, like):
    """What :func:`_real` took away, where leaves of ``like`` have no gradient."""
    return jax.tree.map(lambda x, d: np.zeros(x.shape, jax.dtypes.float0) if d is None else d, like, tree)


def _leaves_read(function, params, *rest):
    """Indices of the leaves of ``params`` that ``function(params, *rest)`` looks at."""
    jaxpr = jax.make_jaxpr(function)(params, *rest).jaxpr
    seen = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    return [i for i, v in enumerate(jaxpr.invars[: len(jax.tree.leaves(params))]) if id(v) in seen]


def _add(tree, other):
    return jax.tree.map(jnp.add, tree, other)


def _zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)


def _stacks(length, tree):
    """Arrays that so many rows are written into."""
    return jax.tree.map(lambda leaf: jnp.zeros((length, *leaf.shape), leaf.dtype), tree)


def _at(rows, tree):
    return jax.tree.map(lambda leaf: leaf[rows], tree)
