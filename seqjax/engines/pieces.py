"""Inputs that a step takes apart, such as those of gates side by side, as an array for each part before the loop.

XLA on a CPU does not vectorize the loop that it makes of a step which slices its inputs. Where the parts lie apart, a
forward pass takes 0.4 (16 x 64) to 0.9 (32 x 512) of the time.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from seqjax.engines.jaxprs import bind, is_literal

PART = "a part of what a gate reads"

_BEFORE = {"add", "sub", "mul", "convert_element_type"}  # what may be done to all of an input before it is cut


def cuts(gate, params, carry, u, r):
    """Indices at which ``gate(params, carry, u, r)`` cuts the last axis of each leaf of u; none where it reads it whole."""
    jaxpr = jax.make_jaxpr(gate)(params, carry, u, r).jaxpr
    before, count = len(jax.tree.leaves((params, carry))), len(jax.tree.leaves(u))
    return [_cuts(jaxpr, leaf) for leaf in jaxpr.invars[before : before + count]]


def _cuts(jaxpr, leaf):
    shape, same, found = leaf.aval.shape, {id(leaf)}, set()
    for equation in jaxpr.eqns:
        if same.isdisjoint(map(id, equation.invars)):
            continue
        name, params, after = equation.primitive.name, equation.params, equation.outvars[0].aval.shape
        if name in _BEFORE and after == shape:
            same.add(id(equation.outvars[0]))
        elif name == "split" and params["axis"] == len(shape) - 1:
            found |= set(itertools.accumulate(map(int, params["sizes"])))
        elif name == "slice" and params["strides"] is None and after[:-1] == shape[:-1]:
            found |= {params["start_indices"][-1], params["limit_indices"][-1]}
        else:
            return []
    return sorted(found - {0, shape[-1]}) if same.isdisjoint(map(id, jaxpr.outvars)) else []


def apart(us, where):
    """The parts of each leaf, cut where :func:`cuts` says."""
    return [jnp.split(leaf, cut, axis=-1) for leaf, cut in zip(jax.tree.leaves(us), where, strict=True)]


def whole(parts, structure):
    """The inputs of a step from their parts; what is sliced from them XLA takes from the parts themselves."""
    leaves = [part[0] if len(part) == 1 else jnp.concatenate(part, axis=-1) for part in parts]
    return jax.tree.unflatten(structure, leaves)


def named(gate):
    """The same gate, in which parts of u and r, or of their sum, are called PART.

    A derivative that needs one of them again, such as r_n of a GRU, can then keep that part alone in the place of all.
    Parts that lie side by side in u and r, and are put side by side again, are taken from them as one: a loop that keeps
    what it computes is vectorized anyway, and has fewer small programs.
    """

    def function(*arguments):
        closed, shape = jax.make_jaxpr(gate, return_shape=True)(*arguments)
        leaves, jaxpr = jax.tree.leaves(arguments), closed.jaxpr
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*closed.consts, *leaves], strict=True))
        linear = set(jaxpr.invars[len(jax.tree.leaves(arguments[:2])) :])
        slices: dict = {}  # variables that are slices of others, or sums of them: the others, and where in them they lie

        def read(atom):
            return atom.val if is_literal(atom) else values[atom]

        for equation in jaxpr.eqns:
            joined = _joined(equation, slices)
            results = bind(equation, *map(read, equation.invars)) if joined is None else [_sum_of_slices(joined, values)]
            name, touched = equation.primitive.name, any(v in linear for v in equation.invars if not is_literal(v))
            if touched and name in ("split", "slice"):
                results = [checkpoint_name(x, PART) for x in results]
                slices |= {v: ([equation.invars[0]], span) for v, span in _spans(equation)}
            elif touched and name in _BEFORE:
                linear.add(equation.outvars[0])
            if name == "add" and (both := _same_slices(equation, slices)):
                slices[equation.outvars[0]] = both
            values.update(zip(equation.outvars, results, strict=True))
        return jax.tree.unflatten(jax.tree.structure(shape), list(map(read, jaxpr.outvars)))

    return function


def _spans(equation):
    """Where along the last axis the results of a split or slice start and end in what it cuts; none along other axes."""
    cut, params = equation.invars[0].aval.shape, equation.params
    if equation.primitive.name == "split":
        ends = list(itertools.accumulate(map(int, params["sizes"]), initial=0))
        return zip(equation.outvars, itertools.pairwise(ends), strict=True) if params["axis"] == len(cut) - 1 else []
    (result,) = equation.outvars
    whole = params["strides"] is None and result.aval.shape[:-1] == cut[:-1]
    return [(result, (params["start_indices"][-1], params["limit_indices"][-1]))] if whole else []


def _same_slices(equation, slices):
    """The sum of two slices that start and end at the same places, as an entry of ``slices``."""
    one, other = (None if is_literal(v) else slices.get(v) for v in equation.invars)
    return (one[0] + other[0], one[1]) if one and other and one[1] == other[1] and len(other[0]) == 1 else None


def _joined(equation, slices):
    """For a concatenation of neighbouring slices of the same values, an entry of ``slices`` for all of it."""
    found = [slices.get(v) for v in equation.invars if not is_literal(v)]
    if equation.primitive.name != "concatenate" or None in found:
        return None
    values, (start, end) = found[0]
    for more, (begin, last) in found[1:]:
        if begin != end or len(more) != len(values) or any(a is not b for a, b in zip(more, values, strict=True)):
            return None
        end = last
    return (values, (start, end)) if equation.params["dimension"] == len(values[0].aval.shape) - 1 else None


def _sum_of_slices(entry, values):
    variables, (start, end) = entry
    return functools.reduce(jnp.add, [jax.lax.slice_in_dim(values[v], start, end, axis=-1) for v in variables])
