"""Gated recurrences with the gradient of the recurrent weights taken out of the backward loop.

Autodiff of a plain scan carries the dense weight gradient through its backward loop and adds a thin product to it at
every step. Here the backward loop only stacks what flows into the recurrent product; the weight gradient is then one
flattened product over all steps. The forward loop keeps what the derivative of ``gate`` needs, so that the backward
loop computes no activation again.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqjax import masks
from seqjax.engines.scan import scan

_COSTLY = {
    *("cbrt", "cos", "cumsum", "digamma", "div", "erf", "erf_inv", "exp", "exp2", "expm1", "integer_pow", "lgamma", "log"),
    *("log1p", "logistic", "pow", "reduce_max", "reduce_sum", "rsqrt", "sin", "sqrt", "tan", "tanh"),
}


def hoisted(recur, gate, params, carry, us, *, batch_axes=1, mask=None, resets=None, fresh=None):
    """Runs ``gate(params, carry, u, recur(params, carry))`` along the first axis of ``us``.

    Equal to :func:`seqjax.engines.scan` of the same step, values and gradients. Reverse mode of any order works;
    forward mode (``jax.jvp``, ``jax.jacfwd``) needs the plain scan.

    Args:
      recur: ``(params, carry) -> r``, linear in its parameters, working on any number of leading axes.
      gate: ``(params, carry, u, r) -> (carry, y)``.
      params: what both read, any tree of arrays.
      batch_axes: how many axes lie between time and features.
      carry, us, mask, resets, fresh: as for the plain scan.

    Returns:
      ``(carry, ys)``.
    """
    return _Hoisted(recur, gate, batch_axes).run(params, carry, us, fresh, mask, resets)


class _Hoisted:
    """One call of the engine: its two functions, and what tracing ``forward`` tells ``backward`` about them."""

    def __init__(self, recur, gate, batch_axes):
        self.recur, self.gate, self.batch_axes = recur, gate, batch_axes
        self.read = []  # which leaves of params the gate reads; the others have no gradient inside the loop
        self.structure: Any = None  # how the residuals of one step make its pullback
        self.us: Any = None  # shapes of the inputs, of which those that are not real have no gradient
        self.run = jax.custom_vjp(self.primal)
        self.run.defvjp(self.forward, self.backward)

    def primal(self, params, carry, us, fresh, mask, resets):
        def step(carry, u):
            return self.gate(params, carry, u, self.recur(params, carry))

        return scan(step, carry, us, mask=mask, resets=resets, fresh=fresh)

    def forward(self, params, carry, us, fresh, mask, resets):
        leaves, structure = jax.tree.flatten(params)
        self.us = jax.eval_shape(lambda us: us, us)

        def gate(small, start, u, r):
            full = list(leaves)
            for i, leaf in zip(self.read, small, strict=True):
                full[i] = leaf
            return self.gate(jax.tree.unflatten(structure, full), start, u, r)

        gate = jax.checkpoint(gate, policy=_is_costly, prevent_cse=False)

        def body(carry, inputs):
            u, valid, reset = inputs
            start = masks.restart(reset, fresh, carry)
            r = self.recur(params, start)
            self.read = _leaves_read(lambda p: self.gate(p, start, u, r), params)
            (new, y), pullback = jax.vjp(gate, [leaves[i] for i in self.read], start, u, r)
            residuals, self.structure = jax.tree.flatten(pullback)
            return masks.hold(valid, new, start), (masks.zero_unless(valid, y), start, residuals)

        carry, (ys, starts, residuals) = lax.scan(body, carry, (us, mask, resets))
        return (carry, ys), (params, starts, residuals, mask, resets)

    def backward(self, saved, cotangents):
        params, starts, residuals, mask, resets = saved
        dcarry, dys = cotangents
        leaves, structure = jax.tree.flatten(params)

        def body(sums, inputs):
            dcarry, dfresh, dsmall = sums
            start, residual, valid, reset, dy = inputs
            pullback = jax.tree.unflatten(self.structure, residual)
            dread, dstart, du, dr = pullback((masks.zero_unless(valid, dcarry), masks.zero_unless(valid, dy)))
            _, through_product = jax.vjp(lambda c: self.recur(params, c), start)
            dstart = _add(dstart, *through_product(dr))
            if valid is not None:
                dstart = _add(dstart, masks.zero_unless(~valid, dcarry))
            if reset is not None:
                dfresh = _add(dfresh, masks.zero_unless(reset, dstart))
                dstart = masks.zero_unless(~reset, dstart)
            du = jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, du)
            return (dstart, dfresh, _add(dsmall, dread)), (du, dr)

        nothing_yet = (
            dcarry,
            None if resets is None else _zeros(dcarry),
            _zeros([leaves[i] for i in self.read]),
        )
        (dcarry, dfresh, dread), (dus, drs) = lax.scan(
            body, nothing_yet, (starts, residuals, mask, resets, dys), reverse=True
        )
        dleaves = jax.tree.leaves(self._through_products(params, starts, drs))
        for i, leaf in zip(self.read, dread, strict=True):
            dleaves[i] = dleaves[i] + leaf
        dus = jax.tree.map(lambda u, d: np.zeros(u.shape, jax.dtypes.float0) if d is None else d, self.us, dus)
        return jax.tree.unflatten(structure, dleaves), dcarry, dus, dfresh, None, None

    def _through_products(self, params, starts, drs):
        """The gradient of ``params`` through all recurrent products at once, with time and batch as one axis."""

        def flatten(tree):
            return jax.tree.map(lambda x: x.reshape((-1, *x.shape[1 + self.batch_axes :])), tree)

        _, pullback = jax.vjp(lambda p: self.recur(p, flatten(starts)), params)
        return pullback(flatten(drs))[0]


def _is_costly(primitive, *_, **__):
    """What the forward loop keeps for the backward one: results dear to compute; sums and products are computed again."""
    return primitive.name in _COSTLY


def _leaves_read(function, params):
    """Indices of the leaves of ``params`` that ``function(params)`` looks at."""
    jaxpr = jax.make_jaxpr(function)(params).jaxpr
    seen = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    return [i for i, v in enumerate(jaxpr.invars) if id(v) in seen]


def _add(tree, other):
    return jax.tree.map(jnp.add, tree, other)


def _zeros(tree):
    return jax.tree.map(jnp.zeros_like, tree)
