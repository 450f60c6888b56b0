"""What each operation makes of known and of linear values: nothing left to do where that can be, None where it has to stay.

A rule is called with the splitter of :mod:`seqjax.engines.factors`, the equation and its values.
"""

import functools
import itertools

import jax
import jax.numpy as jnp

from seqjax.engines import products
from seqjax.engines.values import Known, Row, Sum


def _add(splitter, equation, one, other):
    if isinstance(one, Known) or isinstance(other, Known):
        kept, known = (other, one) if isinstance(one, Known) else (one, other)
        return [kept] if known.zero else None
    return [splitter.add(one, other)]


def _sub(splitter, equation, one, other):
    if isinstance(other, Known) or (isinstance(one, Known) and not one.zero):
        return None
    negative = splitter.scale(other, jnp.negative)
    return [negative if isinstance(one, Known) else splitter.add(one, negative)]


def _mul(splitter, equation, one, other):
    if not isinstance(one, Known) and not isinstance(other, Known):
        return None
    value, known = (other, one) if isinstance(one, Known) else (one, other)
    return [splitter.scale(value, jnp.multiply, known)]


def _div(splitter, equation, one, other):
    if isinstance(one, Known) or not isinstance(other, Known):
        return None
    return [splitter.scale(one, jnp.divide, other)]


def _select(splitter, equation, which, *cases):
    if not isinstance(which, Known) or jnp.ndim(which.value) == 0 or which.value.dtype != bool:
        return None
    off, on = cases
    if isinstance(on, Known) and on.zero:
        return [splitter.scale(off, lambda k, here: jnp.where(here, jnp.zeros_like(k), k), which)]
    if isinstance(off, Known) and off.zero:
        return [splitter.scale(on, lambda k, here: jnp.where(here, k, jnp.zeros_like(k)), which)]
    return None


def _concatenate(splitter, equation, *values):
    aval = equation.outvars[0].aval
    if equation.params["dimension"] != len(aval.shape) - 1:
        return None
    blocks: list[Sum] = []
    for value in values:
        if isinstance(value, Known):
            if not value.zero:
                return None
            value = Sum({}, jax.ShapeDtypeStruct(value.value.shape, value.value.dtype))
        blocks += value.blocks if isinstance(value, Row) else [value]
    return [Row(blocks, aval)]


def _pad(splitter, equation, value, filling):
    *others, (low, high, inner) = equation.params["padding_config"]
    if isinstance(value, Known) or not filling.zero or any(map(any, others)) or min(low, high) < 0 or inner:
        return None
    aval = equation.outvars[0].aval
    nothing = [Sum({}, jax.ShapeDtypeStruct((*aval.shape[:-1], width), aval.dtype)) for width in (low, high)]
    blocks = [nothing[0], *(value.blocks if isinstance(value, Row) else [value]), nothing[1]]
    return [Row([block for block in blocks if block.aval.shape[-1]], aval)]


def _split(splitter, equation, value):
    ends = list(itertools.accumulate(v.aval.shape[-1] for v in equation.outvars))
    aligned = isinstance(value, Row) and value.ends == ends
    return list(value.blocks) if aligned and equation.params["axis"] == len(value.aval.shape) - 1 else None


def _dot_general(splitter, equation, one, other):
    """A product of rows with a fixed matrix stays in the loop, but the matrix is laid out for it before."""
    (left, right), (batch, _) = equation.params["dimension_numbers"]
    if isinstance(one, Known) or other.varying or batch or jnp.ndim(other.value) != 2:
        return None
    if tuple(left) != (len(one.aval.shape) - 1,):
        return None
    settings = {name: equation.params[name] for name in ("precision", "preferred_element_type")}
    left_of_it = products.from_the_left(one.aval, other.value)
    function = functools.partial(products.left if left_of_it else products.right, **settings)
    matrix = other if left_of_it == (right == (1,)) else splitter.turned(other)
    return [Sum({splitter.step(lambda *xs: [function(*xs)], [one], [matrix]): None}, equation.outvars[0].aval)]


WAITING = {"broadcast_in_dim", "convert_element_type", "neg", "pad", "reduce_sum", "reshape", "squeeze", "transpose"}
ELEMENTWISE = {
    "add": _add,
    "add_any": _add,
    "sub": _sub,
    "neg": lambda splitter, equation, value: [splitter.scale(value, jnp.negative)],
    "mul": _mul,
    "div": _div,
    "select_n": _select,
}
RULES = {
    "concatenate": _concatenate,
    "pad": _pad,
    "split": _split,
    "dot_general": _dot_general,
    "optimization_barrier": lambda splitter, equation, *values: list(values),
}
