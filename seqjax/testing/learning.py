"""Laws of numbers: what ``init`` starts from, which dtypes are computed in, and that a recurrence learns at all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.precision import cast
from seqjax.testing.sample import (
    BATCH,
    DEFAULTS,
    STEPS,
    Sample,
    differentiate,
    move,
    starting_carry,
    starting_params,
    values,
)
from seqjax.testing.verdict import Verdict


def check_init(recurrence, settings=DEFAULTS):
    """``init`` reads shapes alone, depends on its key, and starts a network whose outputs neither vanish nor explode.

    Where ``recurrent_init`` is "orthogonal", each gate's block of ``recurrent_kernel`` is.
    """
    verdict = Verdict(
        "init", recurrence, "Check the scale of every initializer, gate by gate, and that it has a key of its own."
    )
    key, other, data = jax.random.split(jax.random.key(settings.seed), 3)
    xs = jax.random.normal(data, (100, 256, *settings.item))
    params = recurrence.init(key, xs)
    abstract = recurrence.init(key, jax.ShapeDtypeStruct(xs.shape, xs.dtype))
    verdict.equal("params from a ShapeDtypeStruct", abstract, params, 0)
    verdict.matters("the key", _flat(params), _flat(recurrence.init(other, xs)))
    if getattr(recurrence, "recurrent_init", None) == "orthogonal":
        for gate, block in enumerate(_gate_blocks(recurrence, params["recurrent_kernel"])):
            tall = block if block.shape[0] >= block.shape[1] else block.T
            name = f"gate {gate} of recurrent_kernel, times its transpose,"
            verdict.equal(name, tall.T @ tall, np.eye(tall.shape[1]), 1e-5)
    _, ys = values(recurrence, params, starting_carry(recurrence, params, recurrence.batch_shape(xs), settings, None), xs)
    variance, (low, high) = float(np.var(ys[-1])), settings.variance
    verdict.holds(low <= variance <= high, f"outputs have variance {variance:.3g} after 100 steps, expected {low} to {high}")


def check_precision(recurrence, settings=DEFAULTS):
    """bfloat16 in gives bfloat16 out, near the float32 run; states and gradients of float32 params stay in float32.

    Run with strict dtype promotion, so that every cast is one that somebody wrote.
    """
    verdict = Verdict("precision", recurrence, "Cast inputs, never states: seqjax.precision has cast and cast_like.")
    rng = np.random.default_rng(settings.seed)
    params = cast(move(starting_params(recurrence, settings, "float32"), rng), "float32")
    carry = starting_carry(recurrence, params, (BATCH,), settings, None)
    xs = rng.normal(size=(STEPS, BATCH, *settings.item)).astype(jnp.bfloat16)
    weights, final_weights = np.ones((STEPS, BATCH), np.float32), np.ones((BATCH,), np.float32)
    with jax.numpy_dtype_promotion("strict"):
        # Of gradients the dtype alone is asked for, so that nothing need be compiled.
        dtypes = jax.eval_shape(
            functools.partial(differentiate, recurrence.apply), Sample(params, carry, xs, weights, final_weights)
        )
        _, narrow = values(recurrence, params, carry, xs)
        _, wide = values(recurrence, params, carry, xs.astype(np.float32))
    verdict.holds(narrow.dtype == jnp.bfloat16, f"ys are {narrow.dtype} where xs are bfloat16")
    verdict.holds(wide.dtype == jnp.float32, f"ys are {wide.dtype} where xs are float32")
    for name, tree, like in (("the final carry", dtypes.final, carry), ("the gradient of params", dtypes.dparams, params)):
        for got, want in zip(jax.tree.leaves(tree), jax.tree.leaves(like), strict=True):
            verdict.holds(got.dtype == want.dtype, f"{name} has a leaf of {got.dtype}, expected {want.dtype}")
    if getattr(recurrence, "state_dtype", None) is None:
        narrow_leaves = [x for x in jax.tree.leaves(carry) if jnp.issubdtype(x.dtype, jnp.inexact) and x.dtype.itemsize < 4]
        verdict.holds(not narrow_leaves, "a leaf of the carry has fewer than 32 bits, and state_dtype does not ask for it")
    verdict.equal("ys in bfloat16", narrow, wide, 0.05)
    verdict.matters("the precision", narrow, wide)


def check_learns(recurrence, settings=DEFAULTS):
    """It overfits one batch of a copy task, which nothing without a memory can.

    The target is the input of the step before (of the step after, where the recurrence is not causal), read out linearly;
    inputs are independent signs, so that the best guess from anything else has a mean squared error of one.
    """
    verdict = Verdict("learns", recurrence, "Gradients flow but lead nowhere: look for a stop_gradient or a saturated gate.")
    rng = np.random.default_rng(settings.seed)
    signs = rng.choice([-1.0, 1.0], size=(9, 8, *settings.item)).astype(np.float32)
    xs, targets = (signs[1:], signs[:-1]) if recurrence.causal else (signs[:-1], signs[1:])
    params = starting_params(recurrence, settings, None)
    width = jax.eval_shape(functools.partial(_from_the_start, recurrence, settings), params, xs).shape[-1]
    readout = (rng.normal(size=(width, settings.item[-1])) / width).astype(np.float32)
    losses = jax.device_get(_fit(recurrence, settings, (params, readout), xs, targets))
    verdict.holds(
        losses[-1] < settings.learnt,
        f"the loss went from {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps, expected below {settings.learnt}",
    )


def _gate_blocks(recurrence, kernel):
    """The blocks [rows, H] of a recurrent kernel [..., rows, K*H], which may be one for each layer or head."""
    for layer in kernel.reshape((-1, *kernel.shape[-2:])):
        count = layer.shape[-1] // (getattr(recurrence, "features", layer.shape[0]) // getattr(recurrence, "heads", 1))
        yield from np.split(np.asarray(layer), count, axis=-1)


def _fit(recurrence, settings, parameters, xs, targets, steps=300):
    """The mean squared error before each step of Adam."""
    optimizer = optax.flatten(optax.adam(0.03))

    def loss(parameters):
        params, readout = parameters
        return jnp.mean((_from_the_start(recurrence, settings, params, xs) @ readout - targets) ** 2)

    def update(state, _):
        parameters, moments = state
        value, gradients = jax.value_and_grad(loss)(parameters)
        updates, moments = optimizer.update(gradients, moments)
        return (optax.apply_updates(parameters, updates), moments), value

    with jax.numpy_dtype_promotion("standard"):  # optax.adam relies on it
        return jax.jit(lambda start: jax.lax.scan(update, (start, optimizer.init(start)), length=steps)[1])(parameters)


def _from_the_start(recurrence, settings, params, xs):
    """The outputs of sequences that go on from nothing."""
    carry = starting_carry(recurrence, params, recurrence.batch_shape(xs), settings, None)
    return recurrence.apply(params, carry, xs)[1]


def _flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
