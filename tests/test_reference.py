"""Parity with other implementations: PyTorch, Flax, and loops in NumPy written from the equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import seqjax as sj

KINDS = {
    "tanh": sj.Elman(4, recurrent_bias=True),
    "relu": sj.Elman(4, activation="relu", recurrent_bias=True),
    "lstm": sj.LSTM(4, recurrent_bias=True),
    "gru": sj.GRU(4, recurrent_bias=True),
}
LSTM_GATES, GRU_GATES = "ifgo", "rzn"


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


def random_like(tree, rng):
    """The same tree with every leaf drawn anew: no bias is zero."""
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * normal(rng, *leaf.shape)), tree)


# ----------------------------------------------------------------------------------------------------------- PyTorch


def torch_module(kind, features, hidden, layers, both, dtype, rng):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, functools.partial(torch.nn.RNN, nonlinearity=kind))
    module = make(features, hidden, layers, bidirectional=both).to(getattr(torch, dtype))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.tensor(0.5 * normal(rng, *parameter.shape, dtype=dtype)))
    return module


def recurrence_of(kind, layers, both):
    cell = KINDS[kind]
    layer = sj.Bidirectional(cell, cell) if both else cell
    return sj.Stack(*[layer] * layers)


def tree_of(module, layers, both, read):
    """Weights of a module, or with ``read`` their gradients, as params of the recurrence."""

    def cell(suffix):
        names = {"kernel": "weight_ih", "recurrent_kernel": "weight_hh", "bias": "bias_ih", "recurrent_bias": "bias_hh"}
        return {ours: read(getattr(module, f"{theirs}_{suffix}")).T for ours, theirs in names.items()}

    if not both:
        return {str(i): cell(f"l{i}") for i in range(layers)}
    return {str(i): {"forward": cell(f"l{i}"), "backward": cell(f"l{i}_reverse")} for i in range(layers)}


def layered(states, kind, both, pair):
    """torch's states [layers * directions, B, H] as a carry: a tuple with one entry for each layer."""
    make = {"lstm": lambda h, c: sj.LSTMCarry(c, h)}.get(kind, sj.HiddenCarry)
    cells = [make(*rows) for rows in zip(*states, strict=True)]
    return tuple(map(pair, cells[::2], cells[1::2])) if both else tuple(cells)


def run_torch(module, kind, xs, states, lengths, weights, final_weights):
    """ys, final states, and the gradients of a weighted sum of both."""
    torch = pytest.importorskip("torch")
    xs = torch.tensor(xs, requires_grad=True)
    states = [torch.tensor(state, requires_grad=True) for state in states]
    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
    packed, finals = module(packed, tuple(states) if kind == "lstm" else states[0])
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=len(xs))
    finals = finals if kind == "lstm" else (finals,)
    loss = (ys * torch.tensor(weights)).sum()
    for final, weight in zip(finals, final_weights, strict=True):
        loss = loss + (final * torch.tensor(weight)).sum()
    loss.backward()
    return ys.detach().numpy(), [f.detach().numpy() for f in finals], xs.grad.numpy(), [s.grad.numpy() for s in states]


@functools.partial(jax.jit, static_argnums=0)
def run_seqjax(recurrence, params, carry, xs, mask, weights, final_weights):
    def loss(params, carry, xs):
        final, ys = recurrence.apply(params, carry, xs, mask=mask)
        total = sum(jax.tree.leaves(jax.tree.map(lambda f, w: jnp.sum(f * w), final, final_weights)))
        return jnp.sum(ys * weights) + total, (ys, final)

    gradients, values = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, carry, xs)
    return *values, *gradients


def check_torch(kind, dtype, tolerance, *, T, B, F=3, layers=1, both=False, seed=0):
    rng = np.random.default_rng(seed)
    H = KINDS[kind].features
    draw = functools.partial(normal, rng, dtype=dtype)
    module = torch_module(kind, F, H, layers, both, dtype, rng)
    rows, columns = layers * (1 + both), H * (1 + both)
    count = 2 if kind == "lstm" else 1
    states, final_weights = ([draw(rows, B, H) for _ in range(count)] for _ in range(2))
    xs, weights, lengths = draw(T, B, F), draw(T, B, columns), rng.integers(1, T + 1, size=B)
    lengths[0] = T
    ys, finals, dxs, dstates = run_torch(module, kind, xs, states, lengths, weights, final_weights)

    params = tree_of(module, layers, both, lambda p: p.detach().numpy())
    carry = layered(states, kind, both, sj.BidirectionalCarry)
    final_weights = layered(final_weights, kind, both, sj.BidirectionalFinal)
    expected = (
        ys,
        layered(finals, kind, both, sj.BidirectionalFinal),
        tree_of(module, layers, both, lambda p: p.grad.numpy()),
        layered(dstates, kind, both, sj.BidirectionalCarry),
        dxs,
    )
    mask = sj.length_mask(lengths, T)
    recurrence = recurrence_of(kind, layers, both)
    arguments = jax.tree.map(jnp.asarray, (params, carry, xs, mask, weights, final_weights))
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


# -------------------------------------------------------------------------------------------------------------- Flax


def side_by_side(params, prefix, gates, name):
    """One block of a parameter for each gate, zeros where Flax has none."""
    blocks = [params[prefix + gate].get(name) for gate in gates]
    zeros = np.zeros_like(next(block for block in blocks if block is not None))
    return jnp.concatenate([zeros if block is None else block for block in blocks], axis=-1)


def from_gates(params, gates):
    """Flax's params, gate by gate, as ours."""
    ours = {
        "kernel": side_by_side(params, "i", gates, "kernel"),
        "recurrent_kernel": side_by_side(params, "h", gates, "kernel"),
        "recurrent_bias": side_by_side(params, "h", gates, "bias"),
    }
    H = ours["recurrent_kernel"].shape[0]
    bias = side_by_side(params, "i", gates, "bias") if "bias" in params["i" + gates[0]] else np.zeros((len(gates) * H,))
    return ours | {"bias": jnp.asarray(bias)}


def flax_inputs():
    rng = np.random.default_rng(0)
    return rng, jnp.asarray(normal(rng, 5, 3, 2)), jnp.asarray(normal(rng, 3, 4)), jnp.asarray(normal(rng, 3, 4))


def loop_of(step, carry, xs):
    """Flax's cells are called step by step: (carry, x) -> (carry, y)."""
    ys = []
    for x in xs:
        carry, y = step(carry, x)
        ys.append(y)
    return carry, jnp.stack(ys)


def linen_cell(cell, carry, xs, rng):
    params = random_like(cell.init(jax.random.key(0), carry, xs[0]), rng)
    return params["params"], loop_of(functools.partial(cell.apply, params), carry, xs)


@pytest.mark.parametrize("make", [linen.LSTMCell, linen.OptimizedLSTMCell])
def test_linen_lstm(make):
    with jax.enable_x64(True):
        rng, xs, c, h = flax_inputs()
        params, ((c_end, h_end), ys) = linen_cell(make(4, param_dtype=jnp.float64), (c, h), xs, rng)
        got = sj.LSTM(4, recurrent_bias=True).apply(from_gates(params, LSTM_GATES), sj.LSTMCarry(c, h), xs)
        close(got, (sj.LSTMCarry(c_end, h_end), ys), 1e-12)


def test_linen_gru_has_a_second_bias_in_the_new_gate_alone():
    with jax.enable_x64(True):
        rng, xs, _, h = flax_inputs()
        params, (h_end, ys) = linen_cell(linen.GRUCell(4, param_dtype=jnp.float64), h, xs, rng)
        assert {gate: "bias" in params["h" + gate] for gate in GRU_GATES} == {"r": False, "z": False, "n": True}
        got = sj.GRU(4, recurrent_bias=True).apply(from_gates(params, GRU_GATES), sj.HiddenCarry(h), xs)
        close(got, (sj.HiddenCarry(h_end), ys), 1e-12)


def test_linen_simple_cell():
    with jax.enable_x64(True):
        rng, xs, _, h = flax_inputs()
        params, (h_end, ys) = linen_cell(linen.SimpleCell(4, param_dtype=jnp.float64), h, xs, rng)
        ours = params["i"] | {"recurrent_kernel": params["h"]["kernel"]}
        close(sj.Elman(4).apply(ours, sj.HiddenCarry(h), xs), (sj.HiddenCarry(h_end), ys), 1e-12)


def nnx_cell(make, carry, xs, rng):
    """A cell with random parameters, those as a dict, and what it makes of xs."""
    cell = make(2, 4, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(cell, nnx.Param, ...)
    params = random_like(params, rng)
    cell = nnx.merge(graph, params, rest)
    params = {name.rstrip("_"): leaf for name, leaf in nnx.to_pure_dict(params).items()}  # `if` is a keyword
    return params, loop_of(lambda carry, x: cell(carry, x), carry, xs)


def test_nnx_lstm():
    with jax.enable_x64(True):
        rng, xs, c, h = flax_inputs()
        params, ((c_end, h_end), ys) = nnx_cell(nnx.LSTMCell, (c, h), xs, rng)
        got = sj.LSTM(4, recurrent_bias=True).apply(from_gates(params, LSTM_GATES), sj.LSTMCarry(c, h), xs)
        close(got, (sj.LSTMCarry(c_end, h_end), ys), 1e-12)


def dense(params, **more):
    """Ours from Flax's two dense layers, which hold all gates."""
    names = {"kernel": params["dense_i"]["kernel"], "recurrent_kernel": params["dense_h"]["kernel"]}
    return names | {"bias": params["dense_i"]["bias"]} | more


def test_nnx_optimized_lstm():
    with jax.enable_x64(True):
        rng, xs, c, h = flax_inputs()
        params, ((c_end, h_end), ys) = nnx_cell(nnx.OptimizedLSTMCell, (c, h), xs, rng)
        assert "bias" not in params["dense_i"]
        ours = {"kernel": params["dense_i"]["kernel"], "recurrent_kernel": params["dense_h"]["kernel"]}
        ours |= {"bias": params["dense_h"]["bias"]}
        close(sj.LSTM(4).apply(ours, sj.LSTMCarry(c, h), xs), (sj.LSTMCarry(c_end, h_end), ys), 1e-12)


def test_nnx_gru_lacks_the_hidden_bias_of_the_candidate_gate():
    with jax.enable_x64(True):
        rng, xs, _, h = flax_inputs()
        params, (h_end, ys) = nnx_cell(nnx.GRUCell, h, xs, rng)
        assert "bias" not in params["dense_h"]
        close(sj.GRU(4).apply(dense(params), sj.HiddenCarry(h), xs), (sj.HiddenCarry(h_end), ys), 1e-12)
        candidate = dense(params, recurrent_bias=jnp.concatenate([jnp.zeros(8), jnp.ones(4)]))
        _, others = sj.GRU(4, recurrent_bias=True).apply(candidate, sj.HiddenCarry(h), xs)
        assert np.max(np.abs(others - ys)) > 0.01  # no bias of the input product stands in for it


def test_nnx_simple_cell():
    with jax.enable_x64(True):
        rng, xs, _, h = flax_inputs()
        params, (h_end, ys) = nnx_cell(nnx.SimpleCell, h, xs, rng)
        close(sj.Elman(4).apply(dense(params), sj.HiddenCarry(h), xs), (sj.HiddenCarry(h_end), ys), 1e-12)


# ----------------------------------------------------------------------------------------------------- the equations


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def random_case(cell, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(cell.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 1, 2), jnp.float32))
    return (
        {name: 0.5 * normal(rng, *leaf.shape) for name, leaf in shapes.items()},
        normal(rng, 6, 3, 2),
        normal(rng, 2, 3, 4),
    )


def test_lstm_equations():
    cell = sj.LSTM(4)
    params, xs, (c, h) = random_case(cell)
    with jax.enable_x64(True):
        carry = sj.LSTMCarry(jnp.asarray(c), jnp.asarray(h))
        got = cell.apply(jax.tree.map(jnp.asarray, params), carry, jnp.asarray(xs))
    ys = []
    for x in xs:
        i, f, g, o = np.split(x @ params["kernel"] + params["bias"] + h @ params["recurrent_kernel"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        ys.append(h)
    close(got, (sj.LSTMCarry(c, h), np.stack(ys)), 1e-13)


@pytest.mark.parametrize("make", [sj.GRU, sj.ChoGRU])
def test_gru_equations(make):
    cell = make(4, recurrent_bias=True)
    params, xs, (h, _) = random_case(cell)
    with jax.enable_x64(True):
        got = cell.apply(jax.tree.map(jnp.asarray, params), sj.HiddenCarry(jnp.asarray(h)), jnp.asarray(xs))
    Ws, Wz, Wn = np.split(params["kernel"], 3, -1)
    Rs, Rz, Rn = np.split(params["recurrent_kernel"], 3, -1)
    bs, bz, bn = np.split(params["bias"], 3)
    cs, cz, cn = np.split(params["recurrent_bias"], 3)
    ys = []
    for x in xs:
        s, z = sigmoid(x @ Ws + bs + h @ Rs + cs), sigmoid(x @ Wz + bz + h @ Rz + cz)
        through = s * (h @ Rn + cn) if make is sj.GRU else (s * h) @ Rn + cn
        h = (1 - z) * np.tanh(x @ Wn + bn + through) + z * h
        ys.append(h)
    close(got, (sj.HiddenCarry(h), np.stack(ys)), 1e-13)


def test_min_gru_equations():
    cell = sj.MinGRU(4)
    params, xs, (h, _) = random_case(cell)
    with jax.enable_x64(True):
        got = cell.apply(jax.tree.map(jnp.asarray, params), sj.LinearCarry(jnp.asarray(h)), jnp.asarray(xs))
    ys = []
    for x in xs:
        z, n = np.split(x @ params["kernel"] + params["bias"], 2, -1)
        h = (1 - sigmoid(z)) * h + sigmoid(z) * n
        ys.append(h)
    close(got, (sj.LinearCarry(h), np.stack(ys)), 1e-13)


@pytest.mark.parametrize(("two_biases", "one_layer", "two_layers"), [(True, 640, 1480), (False, 620, 1440)])
def test_elman_parameter_counts(two_biases, one_layer, two_layers):
    cell = sj.Elman(20, recurrent_bias=two_biases)
    for recurrence, expected in ((cell, one_layer), (sj.Stack(cell, cell), two_layers)):
        params = recurrence.init(jax.random.key(0), jnp.zeros((1, 1, 10)))
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected
