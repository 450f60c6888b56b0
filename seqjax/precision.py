"""Who computes in which dtype: products of inputs in their dtype, states in at least float32."""

import jax
import jax.numpy as jnp


def cast(tree, dtype):
    """Casts every real floating leaf to ``dtype``; integers, booleans and complex numbers stay."""

    def leaf(x):
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype != dtype else x

    return jax.tree.map(leaf, tree)


def cast_like(tree, target):
    """Casts every leaf to the dtype of its counterpart in ``target``."""
    return jax.tree.map(lambda x, t: x if x.dtype == t.dtype else x.astype(t.dtype), tree, target)


def state_dtype(carry, otherwise):
    """The real dtype in which a step computes: that of the widest inexact leaf of its carry."""
    dtypes = [jnp.finfo(x.dtype).dtype for x in jax.tree.leaves(carry) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits, default=jnp.dtype(otherwise))


def at_least_float32(dtype):
    """``dtype``, or float32 where it is narrower."""
    dtype = jnp.dtype(dtype)
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
