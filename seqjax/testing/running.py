"""Laws of how a recurrence is run: engines, batch axes, vmap, jit."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.recurrence import Cell, GatedCell, LinearCell
from seqjax.testing.sample import (
    BATCH,
    DEFAULTS,
    STEPS,
    differentiate,
    draw,
    everything,
    in_float64,
    move_vectors,
    push,
    run,
    values,
    with_start,
)
from seqjax.testing.verdict import Verdict

LONG = 4096


@in_float64
def check_engines(recurrence, settings=DEFAULTS):
    """Every engine agrees with the plain scan, values and gradients; only for a cell that has more than one.

    With a mask, resets and a starting carry; one batch axis and two; gates in the middle and pushed to their ends, where a
    state hardly decays; an odd number of steps, and thousands.
    """
    verdict = Verdict(
        "engines", recurrence, "What the engine is told of the cell, such as recur and gate, must be its step."
    )
    trials = [
        draw(recurrence, settings),
        draw(recurrence, settings, change=push),
        draw(recurrence, settings, steps=LONG, batch=(1, 2), change=move_vectors),
    ]
    rng = np.random.default_rng(settings.seed)
    for sample, where in zip(trials, ("", " with gates pushed to their ends", f" over {LONG} steps"), strict=True):
        mask = rng.uniform(size=sample.weights.shape) < 0.8
        resets = rng.uniform(size=sample.weights.shape) < min(0.2, 8 / len(sample.xs))
        steps = len(sample.xs)
        expected = run(_on(recurrence, "scan", steps), sample, mask, resets)
        if not where:
            verdict.matters("the loss", with_start(recurrence, settings, sample, expected).dparams)
            counting = run(_on(recurrence, "scan", steps), sample, *everything(sample))
            verdict.matters("the mask and the resets", counting.ys, expected.ys)
        for engine in recurrence.engines:
            if engine != "scan":
                actual = run(_on(recurrence, engine, steps), sample, mask, resets)
                verdict.equal(f'run of engine "{engine}"{where}:', actual, expected, settings.tolerance)


@in_float64
def check_axes(recurrence, settings=DEFAULTS):
    """Any number of batch axes: none and two equal one.

    The parts of a cell that engines call for many steps at once keep this too: ``project``, ``recur``, ``coefficients`` and
    ``readout`` on further leading axes.
    """
    verdict = Verdict(
        "axes", recurrence, "Index axes from the right, `[..., features]`, and never mix sequences of a batch."
    )
    sample = draw(recurrence, settings)
    final, ys = values(recurrence, *sample[:3])

    def split(leaf, axis):
        return leaf.reshape((*leaf.shape[:axis], 2, BATCH // 2, *leaf.shape[axis + 1 :]))

    two = values(recurrence, sample.params, jax.tree.map(lambda leaf: split(leaf, 0), sample.carry), split(sample.xs, 1))
    expected = jax.tree.map(lambda leaf: split(leaf, 0), final), split(ys, 1)
    verdict.equal("(carry, ys) with two batch axes", two, expected, settings.tolerance)
    last = values(recurrence, sample.params, jax.tree.map(lambda leaf: leaf[-1], sample.carry), sample.xs[:, -1])
    expected = jax.tree.map(lambda leaf: leaf[-1], final), ys[:, -1]
    verdict.equal("(carry, ys) without a batch axis", last, expected, settings.tolerance)
    verdict.matters("the place in the batch", ys[:, 0], ys[:, -1])
    if isinstance(recurrence, Cell):
        _check_parts(verdict, recurrence, sample, settings)


def _check_parts(verdict, cell, sample, settings):
    """The parts of a cell on [T, B, ...] against the same parts step by step."""
    params, carry, xs = sample[:3]
    us = jax.device_get(jax.jit(cell.project)(params, xs))
    parts = {"project": (lambda x: cell.project(params, x), xs)}
    if isinstance(cell, GatedCell):
        carries = jax.tree.map(lambda leaf: np.stack([leaf, 1 - leaf]), carry)
        parts["recur"] = (lambda carry: cell.recur(params, carry), carries)
    if isinstance(cell, LinearCell):
        hs = np.broadcast_to(carry.h, (STEPS, *carry.h.shape))
        parts["coefficients"] = (lambda u: cell.coefficients(params, u), us)
        parts["readout"] = (lambda hu: cell.readout(params, *hu), (hs, us))
    for name, (part, arguments) in parts.items():
        part = jax.jit(part)
        count = len(jax.tree.leaves(arguments)[0])
        each = [part(jax.tree.map(lambda leaf, i=i: leaf[i], arguments)) for i in range(count)]
        verdict.equal(f"{name} on further leading axes", part(arguments), jax.tree.map(_stack, *each), settings.tolerance)


@in_float64
def check_recur(recurrence, settings=DEFAULTS):
    """``recur`` is linear in its parameters, so that their gradient is one product; only for a gated cell."""
    verdict = Verdict(
        "recur", recurrence, "What is not linear in the parameters belongs in gate, or in a plain Cell's step."
    )
    sample = draw(recurrence, settings)
    some = sample.params
    others = draw(recurrence, dataclasses.replace(settings, seed=settings.seed + 1)).params
    both = jax.tree.map(lambda a, b: 2 * a + b, some, others)
    parts = [recurrence.recur(params, sample.carry) for params in (some, others, both)]
    expected = jax.tree.map(lambda a, b: 2 * a + b, parts[0], parts[1])
    verdict.equal("recur of the sum of two sets of parameters", parts[2], expected, settings.tolerance)
    verdict.matters("the choice of parameters", parts[0], parts[1])


@in_float64
def check_vmap(recurrence, settings=DEFAULTS):
    """``jax.vmap`` over models and their data equals a loop over them, values and gradients."""
    verdict = Verdict("vmap", recurrence, "apply must be made of operations that JAX can batch.")
    samples = [draw(recurrence, dataclasses.replace(settings, seed=settings.seed + i)) for i in range(2)]
    rng = np.random.default_rng(settings.seed)
    shape = (2, STEPS, BATCH)
    steps = rng.uniform(size=shape) < 0.8, rng.uniform(size=shape) < 0.2
    together = jax.jit(jax.vmap(functools.partial(differentiate, recurrence.apply)))
    actual = together(jax.tree.map(_stack, *samples), *steps)
    apart = [run(recurrence, sample, steps[0][i], steps[1][i]) for i, sample in enumerate(samples)]
    verdict.equal("run", actual, jax.tree.map(_stack, *apart), settings.tolerance)
    verdict.matters("the model", apart[0].ys, apart[1].ys)


@in_float64
def check_jit(recurrence, settings=DEFAULTS):
    """Under ``jax.jit`` an equal recurrence is never traced again, no tracer leaks, and the values are those without it."""
    verdict = Verdict(
        "jit", recurrence, "Fields must be comparable values, and a method must not keep what it was called with."
    )
    params, carry, xs = jax.tree.map(jnp.asarray, draw(recurrence, settings)[:3])
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def apply(recurrence, params, xs):
        traces.append(recurrence)
        return recurrence.apply(params, recurrence.initial_carry(params, (BATCH,)), xs)

    def trace(recurrence):
        jax.eval_shape(functools.partial(apply, recurrence), params, xs)

    try:
        with jax.checking_leaks():
            trace(recurrence)
    except Exception as error:
        verdict.holds("Leaked" not in str(error), f"a tracer leaks: {error}")
        raise
    trace(recurrence)
    traces.clear()
    trace(copy.deepcopy(recurrence))
    verdict.holds(not traces, "an equal recurrence was traced again")
    compiled = values(recurrence, params, carry, xs)
    verdict.equal("(carry, ys) without jit", recurrence.apply(params, carry, xs), compiled, settings.tolerance)
    verdict.matters("the input", compiled[1][0], compiled[1][-1])


@in_float64
def check_key(recurrence, settings=DEFAULTS):
    """A key matters where the recurrence says that it is stochastic and nowhere else; without one nothing is random."""
    verdict = Verdict(
        "key", recurrence, "All randomness comes from the key; key=None means evaluation; say stochastic = True."
    )
    params, carry, xs, *_ = draw(recurrence, settings)
    ys = [values(recurrence, params, carry, xs, key=jax.random.key(seed))[1] for seed in (1, 1, 2)]
    evaluated = values(recurrence, params, carry, xs)[1]
    verdict.equal("ys with the same key", ys[1], ys[0], 0)
    if recurrence.stochastic:
        verdict.matters("the key", ys[0], ys[2])
        verdict.matters("evaluation", ys[0], evaluated)
    else:
        verdict.equal("ys with another key", ys[2], ys[0], 0)
        verdict.equal("ys without a key", evaluated, ys[0], settings.tolerance)
    verdict.matters("the input", evaluated[0], evaluated[-1])


def _on(cell, engine, steps):
    """The cell on an engine; as it is where that is its own choice, so that other laws have compiled it already."""
    return cell if cell.choice(steps).engine == engine else dataclasses.replace(cell, engine=engine)


def _stack(*leaves):
    return np.stack(leaves)
