"""Both directions, layers on top of each other, and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    LENGTHS,
    MASK,
    B,
    F,
    H,
    T,
    affine,
    agree,
    by_row,
    gates,
    params_of,
    random_params,
    require,
    run,
    same_bits,
    start,
)


@check("S0 S4", "a bidirectional network is two passes, one of them flipped; ragged sequences too")
def both_directions(rng):
    xs, ahead, behind = rng.normal(size=(T, B, F)), gates(rng, "ifgo"), affine(rng, hidden=5)
    both = sj.Bidirectional(sj.LSTM(H), sj.Elman(5))
    params = {"forward": params_of(*ahead.values()), "backward": params_of(behind)}
    _, ys = run(both, params, xs, mask=MASK)
    want = np.zeros((T, B, H + 5))
    for b, n in enumerate(LENGTHS):
        want[:n, b, :H] = reference.lstm(ahead, xs[:n, b], np.zeros(H), np.zeros(H))[:, 1]
        want[:n, b, H:] = reference.elman(behind, xs[:n, b][::-1], np.zeros(5))[::-1]
    return f"lengths {LENGTHS}: {agree(ys, want)}"


@check("S0 S4", "with two state vectors every output sees the whole sequence, with one direction the past alone")
def sees_the_future(rng):
    def reach(recurrence, xs):
        params = random_params(rng, recurrence)

        def outputs(xs):
            return recurrence.apply(params, start(recurrence, params, xs), xs)[1][:, 0].sum(-1)

        return np.abs(jax.jit(jax.jacobian(outputs))(xs)[:, :, 0]).max(-1)  # [output, input]

    xs = jnp.asarray(rng.normal(size=(T, 1, F)))
    one, two = reach(sj.Elman(H), xs), reach(sj.Bidirectional(sj.Elman(H), sj.Elman(H)), xs)
    past = np.tri(T, dtype=bool)
    require(np.all(two > 0), "an output does not see an input")
    require(np.all(one[past] > 0) and np.all(one[~past] == 0), "one direction sees the future, or not all of the past")
    seen = ", ".join(f"{np.sum(reached[0] > 0)} and {np.sum(reached[-1] > 0)}" for reached in (one, two))
    return f"inputs that the first and the last output see: {seen}, of {T}"


@check("S1 S3 S4", "in a stack the states of the layer below are the inputs of the layer above")
def stacked_layers(rng):
    xs, below, above = rng.normal(size=(T, B, F)), affine(rng), gates(rng, "rzn", width=H, hidden=5)
    stack = sj.Stack(sj.Elman(H), sj.GRU(5))
    carry, ys = run(stack, {"0": params_of(below), "1": params_of(*above.values())}, xs)
    lower = by_row(lambda x: reference.elman(below, x, np.zeros(H)), xs)
    upper = by_row(lambda x: reference.gru(above, x, np.zeros(5), reset_first=False), lower)
    return agree((carry[0].h, carry[1].h, ys), (lower[-1], upper[-1], upper))


RAGGED = {
    "LSTM under GRU": sj.Stack(sj.LSTM(H), sj.GRU(5)),
    "both directions": sj.Bidirectional(sj.Elman(H), sj.MinGRU(5)),
}


@functools.partial(jax.jit, static_argnums=0)
def value_and_gradient(recurrence, params, xs, mask):
    def loss(params, xs):
        carry, ys = recurrence.apply(params, start(recurrence, params, xs), xs, mask=mask)
        return jnp.sum(ys**2) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(carry)), ys

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, xs)


def padding(rng, recurrence):
    """Outputs and gradients with zeros in the padding, and with NaN; one sequence is empty."""
    xs, lengths = rng.normal(size=(T, B, F)), np.array([7, 4, 0])
    mask = np.arange(T)[:, None] < lengths
    params = random_params(rng, recurrence)
    contents = (np.where(mask[..., None], xs, other) for other in (0.0, np.nan))
    return mask, [value_and_gradient(recurrence, params, x, mask) for x in contents]


@check("S0 S4", "what stands in the padding changes no output")
def padding_of_values(rng):
    for name, recurrence in RAGGED.items():
        mask, (((zero, ys), _), ((nan, zs), _)) = padding(rng, recurrence)
        require(same_bits((zero, ys), (nan, zs)), f"{name}: NaN in the padding shows")
        require(np.all(np.asarray(ys)[~mask] == 0) and np.all(np.asarray(ys)[mask] != 0), f"{name}: outputs at padding")
    return f"zeros or NaN in it, the same bits: {', '.join(RAGGED)}"


@check("S0 S4", "what stands in the padding changes no gradient, and no gradient flows to it")
def padding_of_gradients(rng):
    for name, recurrence in RAGGED.items():
        mask, ((_, zero), (_, nan)) = padding(rng, recurrence)
        require(same_bits(zero, nan), f"{name}: NaN in the padding reaches a gradient")
        require(np.all(np.asarray(nan[1])[~mask] == 0) and np.all(np.asarray(nan[1])[mask] != 0), f"{name}: d loss / d xs")
    return f"zeros or NaN in it, the same bits: {', '.join(RAGGED)}"
