"""Truncated backpropagation through time: chunk by chunk, with a state that carries values and no gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

T, B, F, H = 12, 3, 2, 4


def case(seed=0):
    """params, the starting state, inputs and what each output counts; no bias is zero."""
    rng = np.random.default_rng(seed)
    shapes = {"kernel": (F, H), "recurrent_kernel": (H, H), "bias": (H,)}
    params = {name: 0.5 * rng.normal(size=shape) for name, shape in shapes.items()}
    return params, rng.normal(size=(B, H)), rng.normal(size=(T, B, F)), rng.normal(size=(T, B, H))


@functools.partial(jax.jit, static_argnums=(0, 1))
def truncated(cell, chunk, params, h, xs, weights):
    """The gradient of ``sum(weights * ys ** 2) / 2`` with the state cut off from its past before every chunk."""

    def loss(params):
        carry, total = sj.HiddenCarry(h), 0.0
        for first in range(0, T, chunk):
            carry, ys = cell.apply(params, jax.lax.stop_gradient(carry), xs[first : first + chunk])
            total += jnp.sum(weights[first : first + chunk] * ys**2) / 2
        return total

    return jax.grad(loss)(params)


def by_hand(derivative, activation, chunk, params, h, xs, weights):
    """The same gradient from the equations: errors flow back to the first step of their chunk and no further."""
    starts, hs = [], []
    for x in xs:
        starts.append(h)
        h = activation(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
        hs.append(h)
    gradient = {name: np.zeros_like(leaf) for name, leaf in params.items()}
    for first in range(0, T, chunk):
        flowing = np.zeros((B, H))
        for t in reversed(range(first, min(first + chunk, T))):
            error = (flowing + weights[t] * hs[t]) * derivative(hs[t])
            gradient["kernel"] += xs[t].T @ error
            gradient["recurrent_kernel"] += starts[t].T @ error
            gradient["bias"] += error.sum(0)
            flowing = error @ params["recurrent_kernel"].T
    return gradient


ELMANS = {
    "identity": (lambda h: np.ones_like(h), lambda z: z),
    "tanh": (lambda h: 1 - h**2, np.tanh),
}


def close(actual, expected):
    for name, want in expected.items():
        np.testing.assert_allclose(actual[name], want, rtol=0, atol=1e-12 * np.max(np.abs(want)), err_msg=name)


@pytest.mark.parametrize("engine", ["scan", "hoisted"])
@pytest.mark.parametrize("chunk", [1, 3, 5, T])
@pytest.mark.parametrize("activation", ELMANS)
def test_truncated_gradient_is_that_of_the_equations(activation, chunk, engine):
    arguments = case()
    cell = sj.Elman(H, activation=activation, engine=engine)
    with jax.enable_x64(True):
        actual = truncated(cell, chunk, *jax.tree.map(jnp.asarray, arguments))
        close(actual, by_hand(*ELMANS[activation], chunk, *arguments))


@pytest.mark.parametrize("cell", [sj.Elman(H), sj.Elman(H, activation="identity")], ids=repr)
def test_one_chunk_as_long_as_the_sequence_is_full_backpropagation(cell):
    with jax.enable_x64(True):
        params, h, xs, weights = jax.tree.map(jnp.asarray, case())

        def loss(params):
            return jnp.sum(weights * cell.apply(params, sj.HiddenCarry(h), xs)[1] ** 2) / 2

        full = jax.grad(loss)(params)
        close(truncated(cell, T, params, h, xs, weights), full)
        shorter = truncated(cell, 3, params, h, xs, weights)
        assert np.max(np.abs(shorter["recurrent_kernel"] - full["recurrent_kernel"])) > 0.01


@pytest.mark.parametrize("make", [sj.LSTM, sj.GRU, sj.MinGRU])
def test_gradient_through_the_carry_of_chunks_is_full_backpropagation(make):
    """Where nobody stops the gradient, cutting a sequence into chunks changes nothing."""
    cell = sj.Stack(make(4), make(5))
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        xs = jnp.asarray(rng.normal(size=(T, B, F)))
        params = cell.init(jax.random.key(0), xs)
        params = jax.tree.map(lambda p: jnp.asarray(np.asarray(p) + 0.3 * rng.normal(size=p.shape)), params)
        carry = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), cell.initial_carry(params, (B,)))

        @functools.partial(jax.jit, static_argnums=0)
        def gradient(chunk):
            def loss(params, state):
                total = 0.0
                for first in range(0, T, chunk):
                    state, ys = cell.apply(params, state, xs[first : first + chunk])
                    total += jnp.sum(jnp.sin(ys))
                return total + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(state))

            return jax.grad(loss, argnums=(0, 1))(params, carry)

        for got, want in zip(jax.tree.leaves(gradient(5)), jax.tree.leaves(gradient(T)), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * np.max(np.abs(want)))
