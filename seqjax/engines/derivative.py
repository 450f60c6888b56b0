"""The derivative of one step: what it needs of the forward loop, where that is found, and what it is made into."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import masks
from seqjax.engines import factors, pieces
from seqjax.engines.jaxprs import CHEAP, SAFE, follow, is_literal, path, that_follow

_READ = "read", "start", "u", "r"  # by a step: leaves of the parameters, the carry, the projected inputs, the product
_FEW = 4096  # numbers; see Derivative

_COSTLY = {
    *("cbrt", "cos", "cumsum", "digamma", "div", "erf", "erf_inv", "exp", "exp2", "expm1", "integer_pow", "lgamma", "log"),
    *("log1p", "logistic", "pow", "reduce_max", "reduce_sum", "rsqrt", "sin", "sqrt", "tan", "tanh"),
}


class Derivative:
    """Of ``gate(params, start, u, recur(params, start)) -> (carry, y)``, and of how it is run in a loop that keeps little.

    Args:
      gate, recur: of a cell.
      params, carry, u: of a step.
      masked: whether the loop holds its state where a step does not count.
    """

    def __init__(self, gate, recur, params, carry, u, masked):
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
        variables = iter(_Literal(v.aval) if is_literal(v) else v for v in closed.jaxpr.outvars)
        self.states, self.ys = ([next(variables) for _ in jax.tree.leaves(tree)] for tree in self.outputs)
        self.residuals = list(variables)
        self._find(closed, arguments)
        self._let_wait(closed.jaxpr, masked)

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
        """``places``: where what a step reads is found after the loop, by name and number."""
        names = [(name, i) for name, x in zip(_READ, arguments, strict=True) for i in range(len(jax.tree.leaves(x)))]
        self.places = {v: place for v, place in zip(closed.jaxpr.invars, names, strict=True) if place[0] != "r"}
        constants = list(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        constants = [(v, c) for v, c in constants if not isinstance(c, jax.core.Tracer)]
        self.places |= {v: ("constant", i) for i, (v, _) in enumerate(constants)}
        self.constants = [c for _, c in constants]
        self.reads_inputs = any(self.places.get(v, ("",))[0] == "u" for v in self.residuals)

    def _let_wait(self, jaxpr, masked):
        """Decides what of a step the loop keeps: nothing that follows from the rest without a product, as tanh(c) and h do.

        XLA on a CPU runs a loop of at most eight small programs on one thread, and hands those of a longer one to several.
        An LSTM's has eight so, not thirteen, and takes 0.3 to 0.8 of the time; of large blocks up to 1.3 times. There
        states and outputs do not wait.

        What follows from the inputs alone is found ``before``, for many steps at once, and kept only where something waits
        for it: n of a GRU is tanh of a part of them and of what the loop keeps.
        """
        inputs, outputs = set(self.places), {*self.states, *self.ys}
        results = dict.fromkeys(v for v in [*self.states, *self.ys, *self.residuals] if v not in inputs)
        there = {v for v, (name, _) in self.places.items() if name in ("read", "constant")}
        known = there | {v for v in results if v in self.states or v in self.residuals}
        allowed = SAFE if masked else CHEAP  # a state that is held does not belong to what else is kept of that step
        inputs_read = {v for v, (name, _) in self.places.items() if name == "u"}
        of_inputs = set() if self.reads_inputs else that_follow(jaxpr, inputs_read)
        waiting, before = [], dict.fromkeys(v for v in self.residuals if v in of_inputs)
        for v in reversed(results):
            if v in before or (v.aval.size > _FEW and v in outputs):
                continue
            way, needed = path(jaxpr, known - {v}, [v], allowed), {}
            if way is None and v.aval.size <= _FEW:
                way = path(jaxpr, (known | of_inputs) - {v}, [v], allowed)
                needed = dict.fromkeys(u for one in way or () for u in one.invars if not is_literal(u) and u in of_inputs)
            if way is not None and sum(u.aval.size for u in needed if u not in before) <= v.aval.size:
                waiting.append(v)
                known.discard(v)
                before |= needed
                known |= {*needed}
        unkept = {*self.states, *waiting, *before}
        self.kept_states = [i for i, v in enumerate(self.states) if v not in waiting]
        self.kept_ys = [i for i, v in enumerate(self.ys) if v not in unkept]
        self.own = [self.residuals.index(v) for v in results if v in self.residuals and v not in unkept]
        self.places |= {v: ("state", i) for i, v in enumerate(self.states) if v not in inputs}
        self.places |= {self.residuals[i]: ("own", n) for n, i in enumerate(self.own)}
        self.places |= {v: ("before", i) for i, v in enumerate(before)}
        known |= {*before}
        self.waiting = [v for v in waiting if v in outputs]
        self.short = bool(self.waiting or before)
        self.to_before = path(jaxpr, inputs, before)
        self.to_outputs = path(jaxpr, known, self.waiting)
        self.to_residuals = path(jaxpr, known | {*self.states}, [v for v in waiting if v in self.residuals])

    def run(self, params, start, u, r, valid):
        """One step: the carry and the output, and what has to be stacked of the residuals."""
        (new, y), residuals = self._linearized(self.leaves_read(params), start, u, r)
        new, own = masks.hold(valid, new, start), [residuals[i] for i in self.own]
        if valid is not None and self.waiting:  # from what is held, so that nothing else is needed of the step before
            leaves, structure = jax.tree.flatten(new)
            found = {"state": leaves, "own": own, "before": self._before(u)}
            values = follow(self.to_outputs, self._values(params, found))
            for i, (v, before) in enumerate(zip(self.states, jax.tree.leaves(start), strict=True)):
                leaves[i] = masks.hold(valid, values[v], before) if v in self.waiting else leaves[i]
            new = jax.tree.unflatten(structure, leaves)
        return new, masks.zero_unless(valid, y), own

    def before(self, us):
        """What has to be kept of the inputs of all these steps, found without the loop."""
        return jax.vmap(self._before)(us)

    def _before(self, u):
        leaves = jax.tree.leaves(u)
        values = follow(self.to_before, {v: leaves[i] for v, (name, i) in self.places.items() if name == "u"})
        return [values[v] for v, (name, _) in self.places.items() if name == "before"]

    def kept_of_carry(self, carry):
        """What has to be stacked of a carry."""
        leaves = jax.tree.leaves(carry)
        return [leaves[i] for i in self.kept_states]

    def kept_of_output(self, y):
        """What has to be stacked of an output."""
        leaves = jax.tree.leaves(y)
        return [leaves[i] for i in self.kept_ys]

    def all_outputs(self, params, length, first, kept, own, before, held):
        """All states ``[1 + T, ...]``, the first one among them, and outputs ``[T, ...]``, from what was kept of them.

        ``held`` are the arguments of :func:`seqjax.masks.held` before the states.
        """
        mask, resets, fresh = held
        states, ys = (dict(zip(*pair, strict=True)) for pair in zip((self.kept_states, self.kept_ys), kept, strict=True))
        after = [states[i][1:] if i in states else None for i in range(len(self.states))]

        def of_a_step(after, own, before, _):
            values = follow(self.to_outputs, self._values(params, {"state": after, "own": own, "before": before}))
            return [values[v] for v in self.waiting]

        found = dict(zip(self.waiting, jax.vmap(of_a_step)(after, own, before, jnp.arange(length)), strict=True))
        again = jax.tree.leaves(fresh)
        for i, (v, leaf) in enumerate(zip(self.states, jax.tree.leaves(first), strict=True)):
            if i not in states:
                made = jnp.zeros((length + 1, *leaf.shape), leaf.dtype).at[0].set(leaf).at[1:].set(found[v])
                states[i] = masks.held(mask, resets, again[i] if again else None, made)
            found.setdefault(v, states[i][1:])
        all_states = [states[i] for i in range(len(states))]
        all_ys = [ys[i] if i in ys else masks.zero_unless(mask, found[v]) for i, v in enumerate(self.ys)]
        structures = [jax.tree.structure(tree) for tree in self.outputs]
        return jax.tree.unflatten(structures[0], all_states), jax.tree.unflatten(structures[1], all_ys)

    def _values(self, params, found):
        """Values of variables, by variable, from leaves by name."""
        found = {"read": self.leaves_read(params), "constant": self.constants} | found
        return {v: found[name][i] for v, (name, i) in self.places.items() if name in found}

    def factors(self, params, starts, us, states, own, before):
        """The factors of the derivatives of all steps, ``(fixed, varying)``, and the work that is left for each step."""
        trees = {"start": starts, "state": states, "own": own, "before": before} | ({"u": us} if self.reads_inputs else {})
        varying = {name: jax.tree.leaves(tree) for name, tree in trees.items()}

        def pull(params, varying, flowing):
            values = follow(self.to_residuals, self._values(params, varying))
            pullback = jax.tree.unflatten(self.pullback, [values[v] for v in self.residuals])
            dread, dstart, du, dr = pullback(flowing)
            carry = jax.tree.unflatten(jax.tree.structure(starts), varying["start"])
            _, through_product = jax.vjp(lambda carry: self.recur(params, carry), carry)
            return without_integers((dread, jax.tree.map(jnp.add, dstart, *through_product(dr)), du, dr))

        one = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), varying)
        closed, self.cotangents = jax.make_jaxpr(pull, return_shape=True)(params, one, self.outputs)
        work: Any = None

        def split(fixed, varying, _):
            nonlocal work
            dread, _, *every = map(len, map(jax.tree.leaves, self.cotangents))
            results, work = factors.split(closed, fixed, varying, totals=dread, every=sum(every))
            return results

        every = jnp.arange(len(jax.tree.leaves(states)[0]))  # vmap asks for at least one
        results = jax.vmap(split, in_axes=(None, 0, 0), out_axes=(None, 0))(
            jax.tree.leaves(params), jax.tree.leaves(varying), every
        )
        return lax.optimization_barrier(results), work

    def pull(self, work, flowing, found):
        """What flows back through one step: what to add up for add_read, the carry's, and what to stack for over_time."""
        sums, dstart, kept = work(flowing, found)
        return sums, jax.tree.unflatten(jax.tree.structure(self.cotangents[1]), dstart), kept

    def add_read(self, dparams, totals):
        """Adds to a gradient of all parameters that of those which the gate reads."""
        leaves, structure = jax.tree.flatten(dparams)
        for i, leaf in zip(self.read, jax.tree.unflatten(jax.tree.structure(self.cotangents[0]), totals), strict=True):
            leaves[i] = leaves[i] if leaf is None else leaves[i] + leaf
        return jax.tree.unflatten(structure, leaves)

    def over_time(self, work, stacks, found):
        """The gradients of us and rs from what was stacked."""
        return jax.tree.unflatten(jax.tree.structure(self.cotangents[2:]), work.of_all_steps(stacks, found))


def _is_kept(primitive, *_, **params):
    """What the forward loop keeps for the backward one: results dear to compute, and parts of what it reads.

    Sums and products are computed again.
    """
    return primitive.name in _COSTLY or (primitive.name == "name" and params["name"] == pieces.PART)


@dataclasses.dataclass(eq=False)
class _Literal:
    """In the place of a literal among the results of a step, which can't be looked up."""

    aval: Any


def without_integers(tree):
    """Leaves that have no gradient, such as booleans, become None."""
    return jax.tree.map(lambda d: None if d.dtype == jax.dtypes.float0 else d, tree)


def _leaves_read(function, params, *rest):
    """Indices of the leaves of ``params`` that ``function(params, *rest)`` looks at."""
    jaxpr = jax.make_jaxpr(function)(params, *rest).jaxpr
    seen = {id(v) for equation in jaxpr.eqns for v in equation.invars} | {id(v) for v in jaxpr.outvars}
    return [i for i, v in enumerate(jaxpr.invars[: len(jax.tree.leaves(params))]) if id(v) in seen]
