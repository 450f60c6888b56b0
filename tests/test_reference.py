"""Parity with PyTorch: values, gradients, final states; ragged batches, layers and directions.

Flax and Keras are compared in test_interop.py with the weights that its converters move, loops in NumPy in test_cells.py.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqjax as sj
from seqjax import interop

KINDS = ("tanh", "relu", "lstm", "lstm_projected", "gru")
H, P = 4, 3


def close(actual, expected, tolerance):
    """Compares trees of arrays, each leaf relative to its largest value."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, got), want in zip(jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape, path
        scale = max(1.0, np.max(np.abs(want), initial=0.0))
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path))


def normal(rng, *shape, dtype="float64"):
    return rng.normal(size=shape).astype(dtype)


# ----------------------------------------------------------------------------------------------------------- PyTorch


def torch_module(kind, features, layers, both, dtype, rng):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    projected = functools.partial(torch.nn.LSTM, proj_size=P)
    makes = {"lstm": torch.nn.LSTM, "lstm_projected": projected, "gru": torch.nn.GRU}
    make = makes.get(kind, functools.partial(torch.nn.RNN, nonlinearity=kind))
    module = make(features, H, layers, bidirectional=both).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(0.5 * normal(rng, *parameter.shape, dtype=dtype)))
    return module


def run_torch(module, kind, xs, states, lengths, weights, final_weights):
    """ys, final states, and the gradients of a weighted sum of both."""
    torch = pytest.importorskip("torch")
    xs = torch.tensor(xs, requires_grad=True)
    states = [torch.tensor(state, requires_grad=True) for state in states]
    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
    packed, finals = module(packed, tuple(states) if len(states) > 1 else states[0])
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=len(xs))
    finals = finals if len(states) > 1 else (finals,)
    loss = (ys * torch.tensor(weights)).sum()
    for final, weight in zip(finals, final_weights, strict=True):
        loss = loss + (final * torch.tensor(weight)).sum()
    loss.backward()
    return ys.detach().numpy(), [f.detach().numpy() for f in finals], xs.grad.numpy(), [s.grad.numpy() for s in states]


@functools.partial(jax.jit, static_argnums=0)
def run_seqjax(recurrence, params, carry, xs, mask, weights, final_weights):
    def loss(params, carry, xs):
        final, ys = recurrence.apply(params, carry, xs, mask=mask)
        finals = jax.tree.leaves(final)
        total = sum(jnp.sum(f * w) for f, w in zip(finals, jax.tree.leaves(final_weights), strict=True))
        return jnp.sum(ys * weights) + total, (ys, finals)

    gradients, values = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, carry, xs)
    return *values, *gradients


def check_torch(kind, dtype, tolerance, *, T, B, F=3, layers=1, both=False, seed=0):
    rng = np.random.default_rng(seed)
    draw = functools.partial(normal, rng, dtype=dtype)
    module = torch_module(kind, F, layers, both, dtype, rng)
    rows, shown = layers * (1 + both), P if kind == "lstm_projected" else H
    widths = (shown, H) if kind.startswith("lstm") else (H,)
    states, final_weights = ([draw(rows, B, width) for width in widths] for _ in range(2))
    xs, weights, lengths = draw(T, B, F), draw(T, B, shown * (1 + both)), rng.integers(1, T + 1, size=B)
    lengths[0] = T
    ys, finals, dxs, dstates = run_torch(module, kind, xs, states, lengths, weights, final_weights)

    recurrence, params = interop.torch.load(module)
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    carry_of = functools.partial(interop.torch.load_carry, recurrence)
    expected = (
        jnp.asarray(ys),
        jax.tree.leaves(carry_of(finals)),
        interop.torch.load(gradients, nonlinearity=getattr(module, "nonlinearity", None))[1],
        carry_of(dstates),
        jnp.asarray(dxs),
    )
    mask = sj.length_mask(lengths, T)
    arguments = jax.tree.map(jnp.asarray, (params, carry_of(states), xs, mask, weights, carry_of(final_weights)))
    close(run_seqjax(recurrence, *arguments), expected, tolerance)


@pytest.mark.parametrize("both", [False, True], ids=["one_direction", "both_directions"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_torch_values_and_gradients_in_float64(kind, layers, both):
    with jax.enable_x64(True):
        check_torch(kind, "float64", 1e-12, T=6, B=4, layers=layers, both=both)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_values_and_gradients_in_float32(kind):
    check_torch(kind, "float32", 1e-5, T=6, B=4)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(
    T=st.integers(1, 9), B=st.integers(1, 5), F=st.integers(1, 5), layers=st.integers(1, 2), seed=st.integers(0, 2**32 - 1)
)
def test_torch_values_and_gradients_for_any_shape(kind, T, B, F, layers, seed):
    with jax.enable_x64(True):
        check_torch(kind, "float64", 1e-12, T=T, B=B + (B == T), F=F, layers=layers, seed=seed)


@pytest.mark.parametrize(("two_biases", "one_layer", "two_layers"), [(True, 640, 1480), (False, 620, 1440)])
def test_elman_parameter_counts(two_biases, one_layer, two_layers):
    cell = sj.Elman(20, recurrent_bias=two_biases)
    for recurrence, expected in ((cell, one_layer), (sj.Stack(cell, cell), two_layers)):
        params = recurrence.init(jax.random.key(0), jnp.zeros((1, 1, 10)))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
