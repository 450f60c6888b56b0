"""Laws of time: chunks, single steps, the loop, both directions, no look into the future."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqjax import masks
from seqjax.combine import Reverse
from seqjax.testing.sample import DEFAULTS, STEPS, differentiate, draw, everything, in_float64, run, values, with_start
from seqjax.testing.verdict import Verdict

CUT = 3  # the steps of a short sequence; twice that and one are STEPS. Laws that share it share compiled functions


@in_float64
def check_split(recurrence, settings=DEFAULTS):
    """``apply`` on a chunk continues from the carry of the chunk before; only where the recurrence is causal."""
    verdict = Verdict("split", recurrence, "The carry must hold all that a later step needs, and apply must start from it.")
    params, carry, xs, *_ = draw(recurrence, settings)
    final, whole = values(recurrence, params, carry, xs)
    for cuts in ((CUT, 2 * CUT), (1, 1 + CUT), (CUT, CUT + 1)):
        between, ys = carry, []
        for chunk in np.split(xs, cuts):
            between, y = values(recurrence, params, between, chunk)
            ys.append(y)
        verdict.equal(f"ys of chunks cut at {cuts}", np.concatenate(ys), whole, settings.tolerance)
        verdict.equal(f"carry after chunks cut at {cuts}", between, final, settings.tolerance)
        _, stranger = values(recurrence, params, carry, chunk)
        verdict.matters("the carry of the chunk before", stranger, ys[-1])


@in_float64
def check_step(recurrence, settings=DEFAULTS):
    """T calls with one step each equal one call with T steps; only where the recurrence is causal."""
    verdict = Verdict(
        "step", recurrence, "A call with T = 1 must be one step of decoding, independent of the steps around it."
    )
    params, carry, xs, *_ = draw(recurrence, settings)
    final, whole = values(recurrence, params, carry, xs)
    ys = []
    for t in range(STEPS):
        carry, y = values(recurrence, params, carry, xs[t : t + 1])
        ys.append(y)
    verdict.equal("ys of single steps", np.concatenate(ys), whole, settings.tolerance)
    verdict.equal("carry after single steps", carry, final, settings.tolerance)
    verdict.matters("the step", ys[-1], ys[0])


@in_float64
def check_loop(recurrence, settings=DEFAULTS):
    """``apply`` equals a Python loop over ``step``, values and gradients of params, xs and carry; only for a cell."""
    verdict = Verdict("loop", recurrence, "apply must be project for all steps, then step after step, and nothing else.")
    sample = draw(recurrence, settings, steps=CUT)
    actual = run(recurrence, sample)
    expected = jax.device_get(jax.jit(functools.partial(differentiate, functools.partial(_loop, recurrence)))(sample))
    verdict.equal("run", actual, expected, settings.tolerance)
    verdict.matters("the loss", with_start(recurrence, settings, sample, expected))


@in_float64
def check_causality(recurrence, settings=DEFAULTS):
    """No output depends on later inputs, and late outputs do depend on early inputs.

    Where a recurrence says that it is not causal, early outputs must depend on late inputs.
    """
    verdict = Verdict(
        "causality", recurrence, "Output t may read inputs 0..t; a recurrence that reads more says causal = False."
    )
    sample = draw(recurrence, settings)
    steps = everything(sample)
    middle = STEPS // 2
    at_middle, at_end = _counting_only(sample, middle), _counting_only(sample, STEPS - 1)
    later = run(recurrence, at_middle, *steps).dxs[middle + 1 :]
    changed = sample._replace(xs=np.concatenate([sample.xs[: middle + 1], sample.xs[middle + 1 :] + 1.0]))
    before, after = run(recurrence, sample, *steps).ys, run(recurrence, changed, *steps).ys
    verdict.matters("a change of late inputs", before[middle + 1 :], after[middle + 1 :])
    if not recurrence.causal:
        verdict.matters("the future of a recurrence that is not causal", later)
        verdict.matters("the future of a recurrence that is not causal", before[: middle + 1], after[: middle + 1])
        return
    verdict.zero(f"the gradient of ys[{middle}] with respect to later inputs", later)
    verdict.equal(f"ys[:{middle + 1}] once later inputs are others", after[: middle + 1], before[: middle + 1], 0)
    verdict.matters("an early input", run(recurrence, at_end, *steps).dxs[: middle + 1])


@in_float64
def check_reverse(recurrence, settings=DEFAULTS):
    """``Reverse`` of it equals flipping every ragged sequence by hand."""
    verdict = Verdict("reverse", recurrence, "Padding in front of a sequence must leave the starting carry as it is.")
    sample = draw(recurrence, settings)
    lengths = np.array([STEPS, CUT, 1, STEPS - 1, 0, 2])
    mask, resets = masks.length_mask(lengths, STEPS), everything(sample)[1]
    backward = np.where(mask, lengths - 1 - np.arange(STEPS)[:, None], np.arange(STEPS)[:, None])

    def flip(values):
        return np.take_along_axis(values, backward.reshape(backward.shape + (1,) * (values.ndim - 2)), 0)

    by_hand = run(recurrence, sample._replace(xs=flip(sample.xs), weights=flip(sample.weights)), mask, resets)
    expected = by_hand._replace(ys=flip(by_hand.ys), dxs=flip(by_hand.dxs))
    verdict.equal("run", run(Reverse(recurrence), sample, mask, resets), expected, settings.tolerance)
    verdict.matters("the direction", run(recurrence, sample, mask, resets).ys, expected.ys)


def _counting_only(sample, t):
    """The same sample with a loss that is the outputs of step t alone."""
    at_t = np.arange(STEPS)[:, None] == t
    return sample._replace(weights=sample.weights * at_t, final_weights=np.zeros_like(sample.final_weights))


def _loop(cell, params, carry, xs, *, mask, resets):
    """The definition of a cell: the inputs projected, then one step after the other."""
    del mask, resets
    us, ys = cell.project(params, xs), []
    for t in range(len(xs)):
        carry, y = cell.step(params, carry, jax.tree.map(lambda u, t=t: u[t], us))
        ys.append(y)
    return carry, jnp.stack(ys)
