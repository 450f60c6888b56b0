"""Laws of steps that do not count: padding, and resets between sequences that share a row."""

import jax
import numpy as np

from seqjax import masks
from seqjax.precision import cast
from seqjax.testing.order import CUT
from seqjax.testing.sample import (
    BATCH,
    DEFAULTS,
    STEPS,
    draw,
    everything,
    in_float64,
    pull_back,
    run,
    starting_carry,
    with_start,
)
from seqjax.testing.verdict import Verdict


@in_float64
def check_padding(recurrence, settings=DEFAULTS):
    """Masked steps change nothing, whatever they hold: a run equals that of the valid steps alone.

    Their own outputs and gradients are exactly zero, and a sequence without a valid step returns the carry it was given.
    """
    verdict = Verdict(
        "padding", recurrence, "Where mask is False: hold the state, give zeros, and let no input through, NaN included."
    )
    sample = draw(recurrence, settings)
    rows = _three_steps(settings.seed)
    mask = np.zeros((STEPS, BATCH), bool)
    mask[rows, np.arange(BATCH)] = True
    mask[:, 0] = False  # a sequence of length 0
    never = everything(sample)[1]
    clean = run(recurrence, sample, mask, never)
    dirty = run(recurrence, sample._replace(xs=np.where(masks.over(mask, sample.xs), sample.xs, np.nan)), mask, never)
    verdict.equal("run with NaN in the padding:", dirty, clean, 0)
    verdict.zero("an output at a masked step", np.asarray(clean.ys)[~mask])
    verdict.zero("the gradient of a masked input", np.asarray(clean.dxs)[~mask])
    nothing = [leaf[0] for leaf in jax.tree.leaves(sample.carry)]
    verdict.equal("carry after a sequence of length 0", [leaf[0] for leaf in jax.tree.leaves(clean.final)], nothing, 0)
    moving = _moving(sample.carry, run(recurrence, sample, *everything(sample)).final, clean.final)
    verdict.holds(moving, "the carry stays as it was at every step")
    verdict.matters("the mask", *zip(*moving, strict=True))
    _compare_with_valid_steps(verdict, recurrence, sample, mask, rows, settings)


def _moving(start, whole, other):
    """Pairs of leaves of two carries, but those that the first has as they were at the start, such as a memory."""
    leaves = zip(*map(jax.tree.leaves, (start, whole, other)), strict=True)
    return [(after, others) for before, after, others in leaves if not np.array_equal(before, after)]


def _three_steps(seed):
    """Which steps of each sequence are valid: the first ones, the last ones, any ones."""
    rng = np.random.default_rng(seed)
    anywhere = [np.sort(rng.permutation(STEPS)[:CUT]) for _ in range(BATCH - 3)]
    return np.stack([np.arange(CUT), np.arange(CUT), np.arange(STEPS - CUT, STEPS), *anywhere], axis=1)


def _compare_with_valid_steps(verdict, recurrence, sample, mask, rows, settings):
    """The masked run against the run of the valid steps alone, without any mask; the sequence of length 0 left out."""
    columns = np.arange(BATCH)
    sample = sample._replace(weights=sample.weights * (columns > 0), final_weights=sample.final_weights * (columns > 0))
    short = sample._replace(xs=sample.xs[rows, columns], weights=sample.weights[rows, columns])
    actual, expected = run(recurrence, sample, mask, np.zeros_like(mask)), run(recurrence, short)
    actual = actual._replace(ys=actual.ys[rows, columns], dxs=actual.dxs[rows, columns])
    actual, expected = (
        r._replace(ys=r.ys[:, 1:], final=jax.tree.map(lambda leaf: leaf[1:], r.final)) for r in (actual, expected)
    )
    verdict.equal("run against that of the valid steps alone:", actual, expected, settings.tolerance)
    verdict.matters("the loss", with_start(recurrence, settings, sample, expected))


@in_float64
def check_reset(recurrence, settings=DEFAULTS):
    """Sequences packed into one row, with a reset where each begins, equal the same sequences apart."""
    verdict = Verdict(
        "reset", recurrence, "Where resets is True the step starts from initial_carry, and nothing older enters."
    )
    sample = draw(recurrence, settings)
    if not recurrence.causal:  # which sequence its starting carry belongs to is its own affair, so all start afresh
        fresh = starting_carry(recurrence, sample.params, (BATCH,), settings)
        sample = sample._replace(carry=fresh, final_weights=np.zeros_like(sample.final_weights))
    resets = np.zeros((STEPS, BATCH), bool)
    resets[[0, 2, 3, 5, 4, 4, 5, 6], [1, 1, 2, 2, 3, 4, 4, 5]] = True  # the first sequence goes on unbroken
    always = everything(sample)[0]
    packed = run(recurrence, sample, always, resets)
    apart = _apart(recurrence, sample, resets)
    if recurrence.causal:
        verdict.equal("carry", packed.final, apart.final, settings.tolerance)
        verdict.equal("gradient of carry", packed.dcarry, apart.dcarry, settings.tolerance)
    else:
        dparams, _ = _through_restart(recurrence, sample, packed.dcarry)
        packed = packed._replace(dparams=jax.tree.map(np.add, packed.dparams, dparams))
    for name in ("ys", "dparams", "dxs"):
        verdict.equal(name, getattr(packed, name), getattr(apart, name), settings.tolerance)
    verdict.matters("the reset", run(recurrence, sample, always, ~always).ys, packed.ys)
    verdict.matters("the loss", with_start(recurrence, settings, sample, packed).dparams)
    _compare_at_invalid_step(verdict, recurrence, sample, settings)


def _apart(recurrence, sample, resets):
    """Runs each sequence of packed rows on its own and puts the results together."""
    order = np.cumsum(resets, 0)
    fresh = _restarted(recurrence, sample.params, sample.carry)
    total = None
    for i in range(order.max() + 1):
        last = order[-1] == i
        own = sample._replace(carry=fresh if i else sample.carry, final_weights=np.where(last, sample.final_weights, 0.0))
        part = run(recurrence, own, order == i, np.zeros_like(resets))
        if i or not recurrence.causal:
            dparams, dcarry = _through_restart(recurrence, sample, part.dcarry)
            part = part._replace(dparams=jax.tree.map(np.add, part.dparams, dparams))
        if i:
            part = part._replace(dcarry=dcarry)
        part = part._replace(final=jax.tree.map(lambda leaf, last=last: leaf * masks.over(last, leaf), part.final))
        total = part if total is None else jax.tree.map(np.add, total, part)
    return total


def _through_restart(recurrence, sample, dcarry):
    """What the gradient of a carry that a sequence began with adds to those of params and of the carry before."""
    return pull_back(_restarted, (recurrence,), (sample.params, sample.carry), dcarry)


def _restarted(recurrence, params, carry):
    return cast(recurrence.restart(params, carry, (BATCH,)), "float64")


def _compare_at_invalid_step(verdict, recurrence, sample, settings):
    """A reset at an invalid step is one before the next valid step."""
    mask = np.ones((STEPS, BATCH), bool)
    mask[CUT] = False
    early, late = np.zeros((2, STEPS, BATCH), bool)
    early[CUT], late[CUT + 1] = True, True
    runs = [run(recurrence, sample, mask, resets) for resets in (early, late)]
    verdict.equal("run with a reset at an invalid step:", *runs, settings.tolerance)
    verdict.matters("a reset at an invalid step", run(recurrence, sample, mask, np.zeros_like(mask)).ys, runs[0].ys)
