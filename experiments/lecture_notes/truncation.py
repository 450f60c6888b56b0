"""Truncated back-propagation through time: the state goes on for ever, errors flow back within a chunk."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import Affine, F, H, affine, agree, gap, params_of, require, run

T = 12


def case(rng):
    """Weights, inputs, a state to start from, and what each output counts."""
    return affine(rng), rng.normal(size=(T, F)), rng.normal(size=H), rng.normal(size=(T, H))


@functools.partial(jax.jit, static_argnums=0)
def truncated(chunk, params, xs, h, weights):
    """The gradient of ``sum(weights * hs ** 2) / 2``, the state cut off from its past before every chunk."""

    def loss(params):
        carry, total = sj.HiddenCarry(h), jnp.zeros(())
        for first in range(0, T, chunk):
            carry = jax.lax.stop_gradient(carry)
            carry, ys = sj.Elman(H).apply(params, carry, xs[first : first + chunk])
            total += jnp.sum(weights[first : first + chunk] * ys**2) / 2
        return total

    return jax.grad(loss)(params)


def by_hand(f, xs, h, weights, chunk=None):
    return params_of(Affine(*reference.backpropagate(f, xs, h, weights, chunk)))


@check("S3", "truncated back-propagation in one chunk as long as the sequence is full back-propagation")
def one_chunk(rng):
    f, *data = case(rng)
    return agree(truncated(T, params_of(f), *data), by_hand(f, *data))


@check("S3", "in chunks of k steps the gradient is the analytic one, errors flowing back to the start of their chunk")
def chunks_of_k(rng):
    f, xs, h, weights = case(rng)
    analytic = {k: by_hand(f, xs, h, weights, k) for k in (1, 3, 4, T)}
    apart = max(gap(truncated(k, params_of(f), xs, h, weights), analytic[k]) for k in (1, 3, 4))
    bias = gap(analytic[3], analytic[T])
    require(bias > 0.01, "truncation changed nothing")
    return require(apart < 1e-12, f"k = 1, 3, 4: largest difference {apart:.0e} (and {bias:.2f} to the full gradient at 3)")


@check("S3", "the hidden state is carried forward for ever: chunk by chunk the outputs are those of the whole")
def values_go_on(rng):
    f, xs, h, _ = case(rng)
    cell, params = sj.Elman(H), params_of(f)
    _, whole = run(cell, params, xs, sj.HiddenCarry(h))
    carry, pieces = sj.HiddenCarry(h), []
    for first in range(0, T, 4):
        carry, ys = run(cell, params, xs[first : first + 4], carry)
        pieces.append(ys)
    return agree(np.concatenate(pieces), whole, 1e-15)


@check("S3", "errors flow back a few steps only: nothing reaches the chunks before")
def nothing_reaches_back(rng):
    f, xs, h, _ = case(rng)
    params = params_of(f)

    @functools.partial(jax.jit, static_argnums=0)
    def reach(cut, xs):
        def last(xs):
            carry, _ = sj.Elman(H).apply(params, sj.HiddenCarry(h), xs[:8])
            carry = jax.lax.stop_gradient(carry) if cut else carry
            return sj.Elman(H).apply(params, carry, xs[8:])[1].sum()

        return jnp.max(jnp.abs(jax.grad(last)(xs)), axis=-1)

    cut, full = reach(True, xs), reach(False, xs)
    require(np.all(cut[:8] == 0) and np.all(full > 0) and np.array_equal(cut[8:], full[8:]), f"{cut}, {full}")
    return f"|d loss / d x[0]|: {float(cut[0]):g} truncated, {float(full[0]):.0e} in full; the same within the chunk"


@check("S3", "the trainer of seqjax truncates: two chunks of training are two steps along the truncated gradient")
def the_trainer(rng):
    f, xs, h, weights = case(rng)
    cell, rate = sj.Elman(H), 0.1

    def loss(params, carry, batch, key):
        carry, ys = cell.apply(params, carry, batch["xs"][0][:, None])
        return jnp.sum(batch["weights"][0][:, None] * ys**2) / 2, (carry, {})

    carry = sj.HiddenCarry(jnp.asarray(h)[None])
    state = sj.train.create(jax.tree.map(jnp.asarray, params_of(f)), optax.sgd(rate), jax.random.key(0), carry=carry)
    step = sj.train.step_function(loss, optax.sgd(rate))
    for first in (0, 6):
        part = slice(first, first + 6)
        state, _ = step(state, {"xs": xs[None, part], "weights": weights[None, part]})
        gradients = reference.backpropagate(f, xs[part], h, weights[part])
        h = reference.elman(f, xs[part], h)[-1]
        f = Affine(*(matrix - rate * gradient for matrix, gradient in zip(f, gradients, strict=True)))
    return f"parameters and state: {agree((state.params, state.carry.h[0]), (params_of(f), h))}"
