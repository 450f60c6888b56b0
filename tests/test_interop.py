"""Weights in and out: bit by bit there and back, the same outputs on both sides, and refusals that say all that is wrong."""

import functools
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import seqjax as sj
from seqjax import interop

T, B, F, H, P = 7, 4, 3, 5, 2
LENGTHS = np.array([7, 3, 1, 6])
KINDS = ("tanh", "relu", "lstm", "lstm_projected", "gru")


def same(actual, expected):
    """Trees of equal structure, dtypes and bits."""
    chex.assert_trees_all_equal_shapes_and_dtypes(actual, expected)
    for got, want in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert np.asarray(got).tobytes() == np.asarray(want).tobytes()


def close(actual, expected, tolerance):
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        got, want = np.asarray(got), np.asarray(want)
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * max(1.0, np.max(np.abs(want), initial=0.0)))


def drawn(shape, seed, dtype="float64"):
    return (0.5 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def redrawn(tree, seed=0):
    """The same tree with every leaf drawn anew: no bias is zero."""
    leaves, structure = jax.tree.flatten(tree)
    values = [jnp.asarray(drawn(leaf.shape, (seed, i)), leaf.dtype) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, values)


@functools.partial(jax.jit, static_argnums=0)
def run(recurrence, params, carry, xs, mask=None):
    return recurrence.apply(params, carry, xs, mask=mask)


def run_from_zero(recurrence, params, xs, mask=None):
    return run(recurrence, params, recurrence.initial_carry(params, recurrence.batch_shape(xs)), xs, mask)


# ----------------------------------------------------------------------------------------------------------- PyTorch


def torch_module(kind, dtype="float64", seed=0, inputs=F, hidden=H, layers=2, both=True, bias=True):
    """A module whose weights and biases are all random."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    make = {
        "lstm": torch.nn.LSTM,
        "lstm_projected": functools.partial(torch.nn.LSTM, proj_size=P),
        "gru": torch.nn.GRU,
    }.get(kind, functools.partial(torch.nn.RNN, nonlinearity=kind))
    module = make(inputs, hidden, layers, bidirectional=both, bias=bias).to(getattr(torch, dtype))
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(torch.tensor(drawn(tuple(parameter.shape), (seed, i), dtype)))
    return module


def run_torch(module, xs, states):
    """Outputs and final states of packed sequences."""
    import torch

    packed = torch.nn.utils.rnn.pack_padded_sequence(xs, torch.tensor(LENGTHS), enforce_sorted=False)
    packed, finals = module(packed, states if len(states) == 2 else states[0])
    ys, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, total_length=T)
    return ys, finals if isinstance(finals, tuple) else (finals,)


def torch_case(kind, dtype, **settings):
    """A module, inputs and states."""
    import torch

    module = torch_module(kind, dtype, **settings)
    rows = module.num_layers * (1 + module.bidirectional)
    widths = (module.proj_size or H, H) if isinstance(module, torch.nn.LSTM) else (H,)
    states = tuple(torch.tensor(drawn((rows, B, width), (8, width), dtype)) for width in widths)
    return module, torch.tensor(drawn((T, B, F), 9, dtype)), states


def check_torch(kind, dtype, tolerance, **settings):
    pytest.importorskip("torch")
    module, xs, states = torch_case(kind, dtype, **settings)
    expected, finals = run_torch(module, xs, states)
    recurrence, params = interop.torch.load(module)
    carry = interop.torch.load_carry(recurrence, states)
    final, ys = run(recurrence, params, carry, jnp.asarray(xs.numpy()), sj.length_mask(LENGTHS, T))
    final = interop.torch.dump_carry(final)
    got = (ys, *(final if isinstance(final, tuple) else (final,)))
    close(got, [x.detach().numpy() for x in (expected, *finals)], tolerance)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_module_gives_the_same_in_float64(kind):
    with jax.enable_x64(True):
        check_torch(kind, "float64", 1e-12, bias=kind != "gru")


@pytest.mark.parametrize("kind", KINDS)
def test_torch_module_gives_the_same_in_float32(kind):
    check_torch(kind, "float32", 1e-6, layers=1, both=False)


def test_torch_gradients_load_as_params_and_are_the_same():
    pytest.importorskip("torch")
    with jax.enable_x64(True):
        module, xs, states = torch_case("lstm_projected", "float64")
        run_torch(module, xs, states)[0].square().sum().backward()
        expected = interop.torch.load({name: p.grad for name, p in module.named_parameters()})[1]
        recurrence, params = interop.torch.load(module)
        carry, mask = interop.torch.load_carry(recurrence, states), sj.length_mask(LENGTHS, T)
        xs = jnp.asarray(xs.numpy())
        gradients = jax.jit(jax.grad(lambda p: jnp.sum(recurrence.apply(p, carry, xs, mask=mask)[1] ** 2)))(params)
        close(jax.tree.leaves(gradients), jax.tree.leaves(expected), 1e-12)


def test_torch_there_and_back_is_bitwise_for_fifty_modules():
    rng = np.random.default_rng(0)
    for seed in range(50):
        kind, dtype = rng.choice(KINDS), rng.choice(["float16", "float32", "float64"])
        settings = {"inputs": int(rng.integers(1, 5)), "hidden": int(rng.integers(3, 6)), "layers": int(rng.integers(1, 5))}
        settings |= {"both": bool(rng.integers(2)), "bias": bool(rng.integers(2))}
        module = torch_module(kind, dtype, seed=seed, **settings)
        state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
        with jax.enable_x64(True):
            recurrence, params = interop.torch.load(module)
            back = interop.torch.dump(recurrence, params)
            assert list(back) == list(state), (kind, settings)
            same(back, state)
            assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(params))


def test_torch_takes_back_what_was_dumped():
    torch = pytest.importorskip("torch")
    module, other = torch_module("lstm", "float32"), torch_module("lstm", "float32", seed=1)
    state = interop.torch.dump(*interop.torch.load(module))
    other.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    same({n: p.numpy() for n, p in other.state_dict().items()}, {n: p.numpy() for n, p in module.state_dict().items()})


def test_torch_module_says_its_settings():
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Linear(2, F), torch.nn.RNN(F, H, 2, nonlinearity="relu", dropout=0.25))
    recurrence, _ = interop.torch.load(module, prefix="1.")
    cell = sj.Elman(H, activation="relu", recurrent_bias=True)
    assert recurrence == sj.Stack(cell, cell, dropout=0.25)
    with pytest.raises(ValueError, match="nonlinearity must be 'relu', as in the module, or be left out; got 'tanh'"):
        interop.torch.load(module[1], nonlinearity="tanh")


def test_torch_bfloat16_keeps_its_bits():
    torch = pytest.importorskip("torch")
    module = torch_module("gru", "float32").to(torch.bfloat16)
    recurrence, params = interop.torch.load(module)
    assert recurrence.layers[0].forward.param_dtype == "bfloat16"
    back = interop.torch.dump(recurrence, params)
    assert all(np.array_equal(a.astype("float32"), module.state_dict()[n].float().numpy()) for n, a in back.items())


def test_params_do_not_change_with_the_module():
    torch = pytest.importorskip("torch")
    module = torch_module("gru", "float32")
    _, params = interop.torch.load(module)
    before = jax.tree.map(np.array, params)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    same(params, before)


def tensors(blocks=4, layers=1, dtype="float32", prefix=""):
    """A state_dict of arrays, one direction."""
    state = {}
    for k in range(layers):
        shapes = {"weight_ih": (blocks * H, H if k else F), "weight_hh": (blocks * H, H)}
        shapes |= {"bias_ih": (blocks * H,), "bias_hh": (blocks * H,)}
        state |= {f"{prefix}{n}_l{k}": drawn(s, (k, i), dtype) for i, (n, s) in enumerate(shapes.items())}
    return state


@pytest.mark.parametrize(
    ("blocks", "cell"),
    [(1, sj.Elman(H, recurrent_bias=True)), (3, sj.GRU(H, recurrent_bias=True)), (4, sj.LSTM(H, recurrent_bias=True))],
)
def test_kind_is_told_by_the_number_of_gates(blocks, cell):
    assert interop.torch.load(tensors(blocks, 2), nonlinearity="tanh")[0] == sj.Stack(cell, cell)


def test_nonlinearity_is_not_guessed():
    with pytest.raises(ValueError, match='say nonlinearity="tanh" or nonlinearity="relu"'):
        interop.torch.load(tensors(1))


def test_error_names_all_that_is_wrong():
    state = tensors(4, 2) | {"weight_hh_l0_g": np.ones(3, "float32"), "bias_hh_l1": np.ones(4 * H, "int32")}
    state |= {"weight_hh_l0": np.ones((4 * H, H + 1), "float32"), "bias_ih_l1": np.ones(4 * H, "float16")}
    del state["weight_ih_l1"]
    with pytest.raises(ValueError) as info:
        interop.torch.load(state)
    assert str(info.value).splitlines() == [
        "interop.torch.load(dict), read as LSTM(5): 5 problems.",
        "  weight_ih_l1: missing, expected shape [20, 5]",
        "  weight_hh_l0: expected shape [20, 5], got [20, 6]",
        "  weight_hh_l0_g: unknown, of shape [3]",
        "  bias_hh_l1: expected a floating dtype, got int32",
        "  bias_ih_l1: expected float32 as in weight_ih_l0, got float16; choose with param_dtype",
        "  Give all tensors of one torch.nn.RNN, LSTM or GRU and nothing else; prefix leaves others out.",
    ]


@pytest.mark.parametrize("prefix", ["", "encoder.rnn", "decoder."])
def test_error_names_the_prefixes_that_are_there(prefix):
    state = tensors(prefix="encoder.rnn.") | {"head.weight": np.ones((2, 2), "float32")}
    with pytest.raises(ValueError, match=r"such tensors are behind prefix='encoder\.rnn\.'"):
        interop.torch.load(state, prefix=prefix)
    assert interop.torch.load(state, prefix="encoder.rnn.")[0] == sj.Stack(sj.LSTM(H, recurrent_bias=True))


def test_float64_weights_are_not_narrowed_in_silence():
    with pytest.raises(ValueError, match="JAX has no float64 yet"):
        interop.torch.load(tensors(dtype="float64"))
    recurrence, params = interop.torch.load(tensors(dtype="float64"), param_dtype="float32")
    assert recurrence.layers[0].param_dtype == params["0"]["kernel"].dtype == "float32"


def test_source_that_is_nothing_of_the_kind_is_refused():
    with pytest.raises(TypeError, match="expected a module, a state_dict or the path of a file, got list"):
        interop.torch.load([])


@pytest.mark.parametrize(
    ("recurrence", "reason"),
    [
        (sj.LSTM(H, peepholes=True), "expected the default of peepholes"),
        (sj.ChoGRU(H), "expected Elman, LSTM, GRU"),
        (sj.Elman(H, activation="sigmoid"), "expected tanh or relu"),
        (sj.Stack(sj.GRU(H), sj.GRU(H + 1)), "expected cells of one kind, features, activation, projection in all layers"),
        (sj.Stack(sj.GRU(H), sj.GRU(H), skip=True), "skip: expected False"),
        (sj.Stack(sj.GRU(H), sj.Bidirectional(sj.GRU(H), sj.GRU(H))), "expected as many directions in all layers"),
        (sj.Bidirectional(sj.GRU(H), sj.GRU(H), merge="sum"), 'expected merge="concatenate"'),
    ],
)
def test_torch_refuses_what_it_has_no_module_for(recurrence, reason):
    params = recurrence.init(jax.random.key(0), jnp.zeros((1, 1, F)))
    with pytest.raises(ValueError) as info:
        interop.torch.dump(recurrence, params)
    assert reason in str(info.value)


def test_dump_refuses_params_of_another_recurrence():
    _, params = interop.torch.load(tensors(3, 2))
    with pytest.raises(ValueError, match=r"params\['0'\]\['bias'\] has shape \(15,\), expected \(18,\)"):
        interop.torch.dump(sj.Stack(*[sj.GRU(H + 1, recurrent_bias=True)] * 2), params)


def test_one_bias_is_dumped_beside_zeros():
    cell = sj.LSTM(H)
    params = cell.init(jax.random.key(0), jnp.zeros((1, 1, F)))
    state = interop.torch.dump(cell, params)
    assert not state["bias_hh_l0"].any()
    same(state["bias_ih_l0"], params["bias"])


def test_carries_go_there_and_back():
    recurrence, _ = interop.torch.load(tensors(4, 3))
    states = tuple(drawn((3, B, H), seed, "float32") for seed in range(2))
    carry = interop.torch.load_carry(recurrence, states)
    same(carry[1].h, states[0][1])
    same(carry[1].c, states[1][1])
    same(interop.torch.dump_carry(carry), states)
    with pytest.raises(ValueError, match=r"expected h_0 and c_0, \[3, B, H\]; got shapes \[\(3, 4, 5\)\]"):
        interop.torch.load_carry(recurrence, states[0])


# ------------------------------------------------------------------------------------------------------------- files


def test_file_goes_there_and_back(tmp_path):
    pytest.importorskip("safetensors")
    state, path = tensors(3, 2), tmp_path / "gru.safetensors"
    recurrence, params = interop.torch.load(state)
    interop.torch.save(path, recurrence, params, prefix="rnn.")
    assert list(tmp_path.iterdir()) == [path]
    again, same_params = interop.torch.load(path, prefix="rnn.")
    assert again == recurrence
    same(same_params, params)


def test_torch_reads_the_file(tmp_path):
    pytest.importorskip("torch")
    read = pytest.importorskip("safetensors.torch").load_file
    state = tensors(4, 2)
    interop.torch.save(tmp_path / "lstm.safetensors", *interop.torch.load(state))
    same({name: t.numpy() for name, t in read(tmp_path / "lstm.safetensors").items()}, dict(sorted(state.items())))


def test_interrupted_save_leaves_the_file_of_before(tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    path = tmp_path / "gru.safetensors"
    interop.torch.save(path, *interop.torch.load(tensors(3)))
    before = path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        interop.torch.save(path, *interop.torch.load(tensors(4)))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip of pickles, as torch.save makes it", None])
def test_file_that_is_cut_off_or_foreign_is_refused_by_name(tmp_path, content):
    pytest.importorskip("safetensors")
    path = tmp_path / "weights.safetensors"
    interop.torch.save(path, *interop.torch.load(tensors(3)))
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    with pytest.raises(ValueError, match=r"weights\.safetensors: expected a whole \.safetensors file.*Pickled files"):
        interop.torch.load(path)


def test_file_that_is_not_there_is_said_so(tmp_path):
    pytest.importorskip("safetensors")
    with pytest.raises(FileNotFoundError, match=r"nothing\.safetensors"):
        interop.torch.load(tmp_path / "nothing.safetensors")


def test_neither_torch_nor_keras_is_imported(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "gru.safetensors"
    interop.torch.save(path, *interop.torch.load(tensors(3)))
    code = """
import sys
sys.modules.update(dict.fromkeys(("torch", "keras", "tensorflow"), None))  # importing them fails
import seqjax as sj
print(sj.interop.torch.load(sys.argv[1])[0], "flax" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, cwd=pathlib.Path(sj.__file__).parent.parent
    )
    assert (done.stdout, done.stderr) == ("Stack(GRU(features=5, recurrent_bias=True)) False\n", "")


# -------------------------------------------------------------------------------------------------------------- Flax


def flax_inputs(carry):
    """Inputs, and a random carry like the one given."""
    return jnp.asarray(drawn((T, B, F), 1)), redrawn(jax.tree.map(lambda leaf: leaf.astype("float64"), carry), 2)


def check_flax(step, tree, carry, xs, cell, params):
    """What a Flax cell makes of inputs one by one is what ours makes of all, gradients too; those of params and of tree."""

    def ours(params, carry, xs):
        final, ys = cell.apply(params, sj.LSTMCarry(*carry) if isinstance(carry, tuple) else sj.HiddenCarry(carry), xs)
        return ys, *final

    def theirs(tree, carry, xs):
        expected = []
        for x in xs:
            carry, y = step(tree, carry, x)
            expected.append(y)
        return jnp.stack(expected), *jax.tree.leaves(carry)

    gradient = jax.jit(jax.grad(squares, argnums=(1, 2, 3), has_aux=True), static_argnums=0)
    ((of_params, *slopes), got), ((of_tree, *expected), want) = (
        gradient(ours, params, carry, xs),
        gradient(theirs, tree, carry, xs),
    )
    close(got, want, 1e-12)
    close(jax.tree.leaves(slopes), jax.tree.leaves(expected), 1e-12)
    return of_params, of_tree


def same_slopes(of_params, of_tree):
    """Flax has no second bias but that of the new gate, in its GRU and MGU: the others are not compared."""
    expected = interop.flax.load(of_tree, activation="tanh")[1]
    names = ("kernel", "recurrent_kernel", "bias")
    close([of_params[name] for name in names], [expected[name] for name in names], 1e-12)
    if "recurrent_bias" in expected:
        close([of_params["recurrent_bias"][-H:]], [expected["recurrent_bias"][-H:]], 1e-12)


def squares(run, *arguments):
    """A scalar whose gradient reaches everything that a run returns, and what that is."""
    out = run(*arguments)
    return sum(jnp.sum(leaf**2) for leaf in out), out


LINEN = [
    (linen.SimpleCell, {}, sj.Elman),
    (linen.LSTMCell, {}, sj.LSTM),
    (linen.OptimizedLSTMCell, {}, sj.LSTM),
    (linen.GRUCell, {}, sj.GRU),
    (linen.MGUCell, {}, sj.TiedGRU),
    (linen.MGUCell, {"reset_gate": False}, sj.UGRNN),
]


@pytest.mark.parametrize(("make", "settings", "kind"), LINEN)
def test_linen_cell_gives_the_same_and_comes_back_bitwise(make, settings, kind):
    with jax.enable_x64(True):
        module = make(H, param_dtype=jnp.float64, **settings)
        xs, carry = flax_inputs(module.initialize_carry(jax.random.key(0), (B, F)))
        variables = redrawn(module.init(jax.random.key(0), carry, xs[0]))
        cell, params = interop.flax.load(variables, activation="tanh")
        assert type(cell) is kind
        same_slopes(*check_flax(module.apply, variables, carry, xs, cell, params))
        same(interop.flax.dump(cell, params, make), variables["params"])


@pytest.mark.parametrize("make", [nnx.SimpleCell, nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell])
def test_nnx_cell_gives_the_same_and_comes_back_bitwise(make):
    with jax.enable_x64(True):
        module = make(F, H, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
        tree = redrawn(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
        nnx.update(module, tree)
        xs, carry = flax_inputs(module.initialize_carry((B, F), nnx.Rngs(0)))
        cell, params = interop.flax.load(module)
        graph, weights, rest = nnx.split(module, nnx.Param, ...)
        step = lambda tree, carry, x: nnx.merge(graph, tree, rest)(carry, x)  # noqa: E731
        same_slopes(*check_flax(step, weights, carry, xs, cell, params))
        same(interop.flax.dump(cell, params, make), tree)
        same(interop.flax.load(nnx.state(module, nnx.Param), activation="tanh")[1], params)


def convolution(use_bias=True):
    """Linen's cell, inputs, a carry, and variables without a zero among them."""
    module = linen.ConvLSTMCell(2, (3, 2), use_bias=use_bias, param_dtype=jnp.float64)
    xs, carry = drawn((T, B, 4, 5, F), 1), tuple(jnp.asarray(drawn((B, 4, 5, 2), seed)) for seed in (3, 4))
    return module, jnp.asarray(xs), carry, redrawn(module.init(jax.random.key(0), carry, xs[0]))


@pytest.mark.parametrize("use_bias", [True, False])
def test_linen_convolution_gives_the_same(use_bias):
    """Gates in the order i, g, f, o, one added to f, and a bias in both convolutions."""

    def reordered(leaf):
        i, f, g, o = jnp.split(leaf, 4, axis=-1)
        return jnp.concatenate([i, g, f, o], axis=-1)

    with jax.enable_x64(True):
        module, xs, carry, variables = convolution(use_bias)
        cell, params = interop.flax.load(variables, image=(4, 5))
        assert cell == sj.ConvLSTM(2, image=(4, 5), window=(3, 2), param_dtype="float64")
        slopes, of_tree = check_flax(module.apply, variables, carry, xs, cell, params)
        slopes, expected = {name: reordered(leaf) for name, leaf in slopes.items()}, of_tree["params"]
        close([slopes["kernel"], slopes["recurrent_kernel"]], [expected[name]["kernel"] for name in ("ih", "hh")], 1e-12)
        if use_bias:
            close([slopes["bias"]] * 2, [expected[name]["bias"] for name in ("ih", "hh")], 1e-12)


def test_convolution_goes_to_linen_and_comes_back_bitwise():
    with jax.enable_x64(True):
        module, xs, carry, variables = convolution()
        cell, params = interop.flax.load(variables, image=(4, 5))
        params["bias"] = params["bias"] * 1e-9  # far below the one that Linen adds
        tree = interop.flax.dump(cell, params, linen.ConvLSTMCell)
        again, same_params = interop.flax.load(tree, image=(4, 5))
        assert again == cell
        same(same_params, params)
        same({name: tree[name]["kernel"] for name in tree}, {n: v["kernel"] for n, v in variables["params"].items()})
        _, ys = run(cell, params, sj.LSTMCarry(*carry), xs)
        expected = []
        for x in xs:
            carry, y = module.apply({"params": tree}, carry, x)
            expected.append(y)
        close([ys], [jnp.stack(expected)], 1e-12)


@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        (sj.LSTM, linen.LSTMCell),
        (sj.LSTM, nnx.LSTMCell),
        (sj.LSTM, nnx.OptimizedLSTMCell),
        (sj.GRU, linen.GRUCell),
        (sj.GRU, nnx.GRUCell),
        (sj.TiedGRU, linen.MGUCell),
        (sj.UGRNN, linen.MGUCell),
        (sj.LSTM, "keras"),
    ],
)
def test_two_biases_are_summed_where_they_only_add_up(kind, layout):
    with jax.enable_x64(True):
        cell = kind(H, recurrent_bias=True, param_dtype="float64")
        params = redrawn(cell.init(jax.random.key(0), jnp.zeros((1, 1, F))))
        if layout is nnx.GRUCell:
            params["recurrent_bias"] = params["recurrent_bias"].at[2 * H :].set(0.0)
        tree = interop.keras.dump(cell, params) if layout == "keras" else interop.flax.dump(cell, params, layout)
        other, summed = interop.keras.load(tree) if layout == "keras" else interop.flax.load(tree)
        xs = jnp.asarray(drawn((T, B, F), 1))
        close(run_from_zero(other, summed, xs)[1:], run_from_zero(cell, params, xs)[1:], 1e-12)


def test_bias_behind_the_reset_gate_has_no_place_in_nnx_gru():
    cell = sj.GRU(H, recurrent_bias=True)
    params = redrawn(cell.init(jax.random.key(0), jnp.zeros((1, 1, F))))
    inside = params["recurrent_bias"].at[: 2 * H].set(0.0)
    moved = params | {"bias": params["bias"] + inside, "recurrent_bias": params["recurrent_bias"] - inside}
    xs = jnp.asarray(drawn((T, B, F), 1, "float32"))
    assert jnp.max(jnp.abs(run_from_zero(cell, params, xs)[1] - run_from_zero(cell, moved, xs)[1])) > 0.01
    with pytest.raises(ValueError, match=r"nnx\.GRUCell has none behind its reset gate\n.*Dump to linen\.GRUCell"):
        interop.flax.dump(cell, params, nnx.GRUCell)


def test_flax_cell_of_another_kind_is_refused():
    params = sj.LSTM(H).init(jax.random.key(0), jnp.zeros((1, 1, F)))
    with pytest.raises(ValueError, match=r"LSTM\(features=5\): expected GRU"):
        interop.flax.dump(sj.LSTM(H), params, linen.GRUCell)
    with pytest.raises(ValueError, match=r"LSTM\(features=5\): expected TiedGRU, UGRNN"):
        interop.flax.dump(sj.LSTM(H), params, linen.MGUCell)


def test_flax_error_names_all_that_is_wrong():
    tree = {
        name: {"kernel": np.ones((F if name[0] == "i" else H, H), "float32")}
        for name in ("ir", "iz", "in", "hr", "hz", "hn")
    }
    tree |= {"ir": tree["ir"] | {"bias": np.ones(H + 1, "float32")}, "in": tree["in"] | {"bias": np.ones(H, "int8")}}
    tree["hn"] |= {"bias": np.ones(H, "float32"), "scale": np.ones(H, "float32")}
    with pytest.raises(ValueError) as info:
        interop.flax.load(tree)
    assert str(info.value).splitlines()[1:-1] == [
        "  iz/bias: missing, expected shape [5]",
        "  ir/bias: expected shape [5], got [6]",
        "  hn/scale: unknown, of shape [5]",
        "  in/bias: expected a floating dtype, got int8",
    ]


def test_linen_mgu_error_names_all_that_is_wrong():
    kernels = {name: {"kernel": drawn((F if name[0] == "i" else H, H), 0, "float32")} for name in ("if", "in", "hf", "hn")}
    tree = kernels | {"if": {"bias": np.ones(H, "float32")}, "in": kernels["in"] | {"bias": np.ones(H, "int8")}}
    tree["hf"] = {"kernel": np.ones((H, H + 1), "float32"), "bias": np.ones(H, "float32")}
    tree["hn"] |= {"bias": np.ones(H + 1, "float32")}
    with pytest.raises(ValueError) as info:
        interop.flax.load(tree)
    assert str(info.value).splitlines()[1:-1] == [
        "  if/kernel: missing, expected shape [3, 5]",
        "  hf/kernel: expected shape [5, 5], got [5, 6]",
        "  hf/bias: unknown, of shape [5]",
        "  hn/bias: expected shape [5], got [6]",
        "  in/bias: expected a floating dtype, got int8",
    ]


def test_linen_convolution_error_names_all_that_is_wrong():
    tree = {
        "ih": {"kernel": np.ones((3, F, 8), "float32"), "bias": np.ones(8, "float16")},
        "hh": {"kernel": np.ones((3, 2, 2, 8), "float32"), "scale": np.ones(8, "float32")},
    }
    with pytest.raises(ValueError) as info:
        interop.flax.load(tree, image=(4, 5))
    assert str(info.value).splitlines()[1:-1] == [
        "  hh/bias: missing, expected shape [8]",
        "  ih/kernel: expected shape [3, 2, 3, 8], got [3, 3, 8]",
        "  hh/scale: unknown, of shape [8]",
        "  ih/bias: expected float32 as in ih/kernel, got float16; choose with param_dtype",
    ]


def test_size_of_images_is_not_guessed():
    arrays = [drawn(shape, 0, "float32") for shape in ((3, 2, F, 8), (3, 2, 2, 8))]
    tree = {name: {"kernel": kernel} for name, kernel in zip(("ih", "hh"), arrays, strict=True)}
    for load, source in ((interop.flax.load, tree), (interop.keras.load, arrays)):
        with pytest.raises(ValueError, match=r"arrays do not tell the size of images; say image=\(height, width\)"):
            load(source)
        assert load(source, image=(4, 5))[0].image == (4, 5)
    with pytest.raises(ValueError, match=r"a ChoGRU reads no images; leave out image=\(4, 5\)"):
        interop.keras.load([np.ones(s, "float32") for s in ((F, 3), (1, 3), (3,))], image=(4, 5))


def test_nnx_settings_that_nothing_here_expresses_are_refused():
    cell = nnx.SimpleCell(F, H, residual=True, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="residual: expected False, got True"):
        interop.flax.load(cell)
    gru = nnx.RNN(nnx.GRUCell(F, H, gate_fn=jax.nn.hard_sigmoid, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="gate_fn: expected the logistic function"):
        interop.flax.load(gru)


# ------------------------------------------------------------------------------------------------------------- Keras

# Keras gives its variables to NumPy by an interface that NumPy 2 warns of.
quiet = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def keras():
    os.environ["KERAS_BACKEND"] = "jax"
    return pytest.importorskip("keras")


def keras_layer(keras, name, settings, merge, shape):
    """A layer in float64 with random weights, and its cells."""
    wide = {"return_sequences": True, "return_state": True, "dtype": "float64"}
    layer = getattr(keras.layers, name)(H, **settings, **wide)
    cells = [layer.cell]
    if merge:
        layer = keras.layers.Bidirectional(layer, merge_mode=merge, dtype="float64")
        cells = [layer.forward_layer.cell, layer.backward_layer.cell]
    layer.build(shape)
    layer.set_weights([drawn(array.shape, i) for i, array in enumerate(layer.get_weights())])
    return layer, cells


KERAS = [
    ("SimpleRNN", {"activation": "relu"}, None),
    ("LSTM", {}, None),
    ("LSTM", {"activation": "sigmoid", "use_bias": False}, "sum"),
    ("GRU", {"reset_after": True}, "concat"),
    ("GRU", {"reset_after": True, "use_bias": False}, None),
    ("GRU", {"reset_after": False}, "mul"),
    ("ConvLSTM2D", {"kernel_size": (3, 2), "padding": "same"}, None),
    ("ConvLSTM2D", {"kernel_size": 3, "padding": "same", "use_bias": False}, "concat"),
]


@quiet
@pytest.mark.parametrize(("name", "settings", "merge"), KERAS)
def test_keras_layer_gives_the_same_and_comes_back_bitwise(keras, name, settings, merge):
    images = name == "ConvLSTM2D"
    item, lengths = ((4, 5, F), np.full(B, T)) if images else ((F,), LENGTHS)
    valid = jnp.asarray(np.arange(T)[:, None] < lengths)
    mask = None if images else valid.T  # Keras on JAX does not broadcast a mask to states that are images
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # Keras promotes
        xs = jnp.asarray(drawn((T, B, *item), 1))
        layer, cells = keras_layer(keras, name, settings, merge, (B, T, *item))
        variables, others = ([v.value for v in vs] for vs in (layer.trainable_variables, layer.non_trainable_variables))
        recurrence, params = interop.keras.load(layer)
        same(interop.keras.dump(recurrence, params), layer.get_weights())
        for cell in cells:
            if cell.activation is keras.activations.tanh:
                cell.activation = jnp.tanh  # Keras' own rounds to float32

        def ours(params, xs):
            final, ys = run_from_zero(recurrence, params, xs, valid)
            states = [(state.h, state.c) if "LSTM" in name else state.h for state in (final if merge else [final])]
            return [ys, *jax.tree.leaves(states)]

        def theirs(variables, xs):
            (ys, *finals), _ = layer.stateless_call(variables, others, jnp.swapaxes(xs, 0, 1), mask=mask)
            return [jnp.where(jnp.expand_dims(valid, range(2, xs.ndim)), jnp.swapaxes(ys, 0, 1), 0.0), *finals]

        gradient = jax.jit(jax.grad(squares, argnums=(1, 2), has_aux=True), static_argnums=0)
        ((of_params, slopes), got), ((of_variables, expected), want) = (
            gradient(ours, params, xs),
            gradient(theirs, variables, xs),
        )
        close(got, want, 1e-12)
        close(slopes, expected, 1e-12)
        close(interop.keras.dump(recurrence, of_params), of_variables, 1e-12)


@quiet
def test_keras_list_says_what_it_can(keras):
    assert interop.keras.load([drawn(s, 0, "float32") for s in ((F, 3 * H), (H, 3 * H), (3 * H,))])[0] == sj.ChoGRU(H)
    bare = [drawn(s, 0, "float32") for s in ((F, 3 * H), (H, 3 * H))]
    with pytest.raises(ValueError, match="say reset_after=True or False"):
        interop.keras.load(bare)
    assert interop.keras.load(bare, reset_after=True)[0] == sj.GRU(H, use_bias=False)
    with pytest.raises(ValueError, match='say activation="tanh" or activation="relu"'):
        interop.keras.load([drawn(s, 0, "float32") for s in ((F, H), (H, H))])


@quiet
def test_keras_errors_name_all_that_is_wrong(keras):
    layer = keras.layers.LSTM(H, recurrent_activation="hard_sigmoid", go_backwards=True, activation="gelu")
    with pytest.raises(ValueError) as info:
        interop.keras.load(layer)
    for part in ("3 problems", "activation: expected 'tanh'", "recurrent_activation: expected 'sigmoid'", "go_backwards"):
        assert part in str(info.value)
    with pytest.raises(ValueError, match="expected 2 arrays or 3, with a bias, for each direction; got 0"):
        interop.keras.load(keras.layers.GRU(H))
    with pytest.raises(
        ValueError, match=r"kernel: expected shape \[5, 20\], got \[5, 19\]\n  bias: expected shape \[20\], got \[21\]"
    ):
        interop.keras.load([np.ones(s, "float32") for s in ((F, 20), (H, 19), (21,))])


@quiet
def test_keras_convolution_of_another_kind_is_refused_with_all_reasons(keras):
    settings = {"activation": "relu", "recurrent_activation": "hard_sigmoid", "go_backwards": True}
    with pytest.raises(ValueError) as info:
        interop.keras.load(keras.layers.ConvLSTM2D(H, 3, strides=2, data_format="channels_first", **settings))
    assert str(info.value).splitlines()[1:-1] == [
        "  activation: expected 'tanh', got 'relu'",
        "  recurrent_activation: expected 'sigmoid', got 'hard_sigmoid'",
        "  go_backwards: expected False, got True",
        "  padding: expected 'same', got 'valid'",
        "  strides: expected (1, 1), got (2, 2)",
        "  data_format: expected 'channels_last', got 'channels_first'",
    ]
    layer = keras.layers.Bidirectional(keras.layers.ConvLSTM2D(H, 3, dilation_rate=(2, 1), padding="same"))
    with pytest.raises(ValueError) as info:
        interop.keras.load(layer)
    reason = "dilation_rate: expected (1, 1), got (2, 1)"
    assert str(info.value).splitlines()[1:-1] == [f"  {side} {reason}" for side in ("forward", "backward")]
    with pytest.raises(ValueError, match="expected SimpleRNN, GRU, LSTM, ConvLSTM2D or Bidirectional, got ConvLSTM1D"):
        interop.keras.load(keras.layers.ConvLSTM1D(H, 3))


@quiet
def test_keras_convolution_errors_name_all_that_is_wrong(keras):
    arrays = [np.ones(shape, "float32") for shape in ((3, 2, F, 20), (3, 3, H, 20), (2, 20))]
    with pytest.raises(ValueError) as info:
        interop.keras.load(arrays, image=(4, 5))
    assert str(info.value).splitlines()[1:-1] == [
        "  recurrent_kernel: expected shape [3, 2, 5, 20], got [3, 3, 5, 20]",
        "  bias: expected shape [20], got [2, 20]",
    ]
    layer = keras.layers.ConvLSTM2D(H, 3, padding="same")
    layer.build((B, T, 4, 5, F))
    with pytest.raises(ValueError, match=r"image must be \(4, 5\), as in the layer, or be left out; got \(5, 4\)"):
        interop.keras.load(layer, image=(5, 4))


def test_keras_has_no_stack():
    params = sj.Stack(sj.GRU(H)).init(jax.random.key(0), jnp.zeros((1, 1, F)))
    with pytest.raises(ValueError, match="Keras has no such layer; dump the layers of a stack one by one"):
        interop.keras.dump(sj.Stack(sj.GRU(H)), params)
