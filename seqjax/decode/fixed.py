"""What a step leaves as it is: the part of a carry that needs no copy for each hypothesis, such as what is attended to."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.engines.jaxprs import CALLS, inner


def untouched(step, carry, token):
    """Which leaves of the carry a step hands on without touching them.

    The step is traced, not run. A leaf counts if what comes out is the very variable that went in; a leaf that is computed
    anew does not, were the result equal. A step that is compiled, or loops inside, is looked through as far as JAX does.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before ``token``, arrays or their shapes.
      token: int ``[B]``.

    Returns:
      a tree like ``carry`` of bool, True = untouched.

    Example:
      >>> step = lambda carry, token: ({"h": carry["h"] + 1, "memory": carry["memory"]}, carry["h"])
      >>> untouched(step, {"h": jnp.ones((2, 3)), "memory": jnp.ones((2, 5, 4))}, jnp.zeros(2, int))
      {'h': False, 'memory': True}
    """
    return examine("untouched", step, carry, token).untouched()


class Parts(NamedTuple):
    """What tracing a step says about it."""

    structure: Any
    fixed: tuple[bool, ...]  # a leaf of the carry each
    logits: jax.ShapeDtypeStruct  # [B, V]

    def untouched(self):
        return jax.tree.unflatten(self.structure, self.fixed)

    def moving(self, carry):
        """The leaves that a step changes, as a list."""
        return [leaf for leaf, fixed in zip(jax.tree.leaves(carry), self.fixed, strict=True) if not fixed]

    def whole(self, moving, carry):
        """The carry with other moving leaves."""
        rest, leaves = iter(moving), zip(jax.tree.leaves(carry), self.fixed, strict=True)
        return jax.tree.unflatten(self.structure, [leaf if fixed else next(rest) for leaf, fixed in leaves])


def examine(name, step, carry, token):
    """Traces a step once and refuses what cannot be repeated; ``name`` is the function that was called."""
    closed, (after, logits) = jax.make_jaxpr(step, return_shape=True)(carry, token)
    structure: Any = jax.tree.structure(carry)
    if jax.tree.structure(after) != structure:
        raise ValueError(
            f"{name}: step must return a carry like the one it is given, {structure}; got {jax.tree.structure(after)}."
        )
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(after), strict=True):
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise ValueError(
                f"{name}: step must keep shapes and dtypes of the carry; carry{jax.tree_util.keystr(path)} is "
                f"{old.dtype}{list(old.shape)} before it and {new.dtype}{list(new.shape)} after it."
            )
    if not hasattr(logits, "shape") or len(logits.shape) != 2 or logits.shape[0] != len(token):
        raise ValueError(
            f"{name}: step must return logits [{len(token)}, V], without a time axis, for tokens {list(token.shape)}; "
            f"got {list(getattr(logits, 'shape', ()))}."
        )
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise ValueError(f"{name}: step must return floating logits, got {logits.dtype}.")
    count = structure.num_leaves  # the carry comes first on both sides
    return Parts(structure, tuple(source == i for i, source in enumerate(_sources(closed.jaxpr)[:count])), logits)


def _sources(jaxpr):
    """The number of the input that each output is; None if it is none."""
    numbers = {id(variable): i for i, variable in enumerate(jaxpr.invars)}
    for equation in jaxpr.eqns:
        for out, i in zip(equation.outvars, _handed_on(equation), strict=False):
            if i is not None and id(equation.invars[i]) in numbers:
                numbers[id(out)] = numbers[id(equation.invars[i])]
    return [numbers.get(id(variable)) for variable in jaxpr.outvars]


def _handed_on(equation):
    """The same of one equation, which may hold a program of its own: one that it calls, or the body of a scan."""
    name, (jaxpr, _) = equation.primitive.name, inner(equation)
    if name not in (*CALLS, "scan") or jaxpr is None:
        return []
    sources = _sources(jaxpr)
    if name != "scan":
        return sources
    consts, carried = sizes_of(equation.params)
    return [consts + i if source == consts + i else None for i, source in enumerate(sources[:carried])]


def sizes_of(params):
    """How many constants a scan has, and how many leaves it carries, which stand in this order before what it reads.

    JAX does not document the parameters of a scan and has changed them; ``(0, 0)`` where they are others yet, which says
    that nothing is handed on: that costs a copy and no more.
    """
    if "num_carry" in params:
        return params["num_consts"], params["num_carry"]
    if "ft_in" in params:  # since JAX 0.12
        consts, carried, _ = params["ft_in"].unpack()
        return len(consts), len(carried)
    return 0, 0
