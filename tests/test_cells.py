"""Every cell against a loop in NumPy, float64, written from its paper gate by gate; and the settings that are refused.

Values are compared, and gradients: the loops are made of analytic functions, so that a step along the imaginary axis too
small to be seen in the values gives their derivatives without a rounding error (Squire and Trapp 1998).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj

T, B, F, H = 5, 3, 4, 6


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def sample(cell, item=(F,), seed=0):
    """Random params without a zero among them, a carry on the way, and inputs, all float64."""
    rng = np.random.default_rng(seed)
    params = cell.init(jax.random.key(seed), jax.ShapeDtypeStruct((1, 1, *item), jnp.float32))
    params = jax.tree.map(lambda p: np.asarray(p, np.float64) + 0.3 * rng.normal(size=p.shape), params)
    carry = cell.initial_carry(params, (B,))
    carry = jax.tree.map(lambda c: 0.5 * rng.normal(size=c.shape), carry)
    return params, carry, rng.normal(size=(T, B, *item))


def weighed(carry, ys):
    """A number that every entry of the results moves differently."""
    return sum((leaf * np.cos(1 + 1.3 * np.arange(leaf.size)).reshape(leaf.shape)).sum() for leaf in (*carry, ys))


def slopes(loop, arguments, directions):
    """The derivative of what ``loop`` makes of its arguments along a direction in each leaf, all others held."""
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda leaf: leaf.astype(complex), arguments))
    step, found = 1e-30, []
    for i, direction in enumerate(jax.tree.leaves(directions)):
        moved = [leaf + step * 1j * direction if i == j else leaf for j, leaf in enumerate(leaves)]
        carry, ys = loop(*tree.unflatten(moved))
        found.append(weighed(carry, np.stack(ys)).imag / step)
    return found


def compare(cell, loop, item=(F,), change=lambda carry: carry, read=tuple):
    """``loop(params, carry, xs) -> (carry, ys)`` in NumPy against ``apply``: values, and gradients in all three.

    Args:
      cell: the cell.
      loop: its equations.
      item: the shape of one step of one sequence.
      change: makes a state of this cell of a random one.
      read: what ``loop`` returns as carry, from the carry of ``cell``.
    """
    params, carry, xs = sample(cell, item)
    arguments = params, change(carry), xs

    @functools.partial(jax.grad, argnums=(0, 1, 2), has_aux=True)
    def gradients(*arguments):
        final, ys = cell.apply(*arguments)
        return weighed(read(final), ys), (read(final), ys)

    gradient, (got, ys) = jax.jit(gradients)(*jax.tree.map(jnp.asarray, arguments))
    want, want_ys = loop(*arguments)
    np.testing.assert_allclose(ys, np.stack(want_ys), atol=1e-12)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), got, tuple(want))

    rng = np.random.default_rng(1)
    directions = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), arguments)
    along = jax.tree.map(lambda g, d: np.sum(np.asarray(g) * d), gradient, directions)
    expected = slopes(loop, arguments, directions)
    assert all(expected), "a leaf that moves nothing tests nothing"
    np.testing.assert_allclose(jax.tree.leaves(along), expected, rtol=1e-12, atol=1e-12)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gates(array, letters):
    """An array of gates side by side, by letter."""
    return dict(zip(letters, np.split(array, len(letters), axis=-1), strict=True))


def normalized(x, scale):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale


def odyssey(name, letters="ifgo"):
    """Greff et al. (2017), section II, with one thing changed."""
    fixed = {"NIG": "i", "NFG": "f", "NOG": "o"}.get(name, "")
    g_of = (lambda x: x) if name == "NIAF" else np.tanh
    h_of = (lambda x: x) if name == "NOAF" else np.tanh

    def loop(params, carry, xs):
        W, R, b = (gates(params[n], letters) for n in ("kernel", "recurrent_kernel", "bias"))
        p = {letter: params.get(f"peephole_{letter}", 0.0) for letter in "ifo"}
        c, y, ys = carry.c, carry.h, []
        before = gates(carry.gates, "ifo") if name == "FGR" else None
        for x in xs:
            z = {letter: x @ W[letter] + y @ R[letter] + b[letter] for letter in letters}
            if name == "FGR":
                nine = {
                    row: gates(block, "ifo") for row, block in zip("ifo", np.split(params["gate_kernel"], 3), strict=True)
                }
                for letter in "ifo":
                    z[letter] = z[letter] + sum(before[row] @ nine[row][letter] for row in "ifo")
            i = 1.0 if fixed == "i" else sigmoid(z["i"] + p["i"] * c)
            f = 1 - i if name == "CIFG" else 1.0 if fixed == "f" else sigmoid(z["f"] + p["f"] * c)
            c = g_of(z["g"]) * i + c * f
            o = 1.0 if fixed == "o" else sigmoid(z["o"] + p["o"] * c)
            y = h_of(c) * o
            before = {"i": i, "f": f, "o": o}
            ys.append(y)
        return (c, y, np.concatenate([i, f, o], -1)) if name == "FGR" else (c, y), ys

    return loop


@pytest.mark.parametrize("name", sj.LSTM.variants(H))
def test_variant_of_the_odyssey(name):
    cell = sj.LSTM.variants(H)[name]
    letters = {"NIG": "fgo", "NFG": "igo", "NOG": "ifg", "CIFG": "igo"}.get(name, "ifgo")
    assert cell.blocks == letters
    compare(cell, odyssey(name, letters))


def test_variants_differ_from_the_vanilla_form():
    assert len(set(sj.LSTM.variants(H).values())) == 9
    assert sj.LSTM.variants(H)["NP"] == sj.LSTM(H)


def test_layer_norm_lstm():
    """Ba et al. (2016), equations 20 to 22."""

    def loop(params, carry, xs):
        c, h, ys = carry.c, carry.h, []
        for x in xs:
            z = normalized(x @ params["kernel"], params["norm_scale"]) + params["bias"]
            z = gates(z + normalized(h @ params["recurrent_kernel"], params["recurrent_norm_scale"]), "ifgo")
            c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
            h = sigmoid(z["o"]) * np.tanh(normalized(c, params["cell_norm_scale"]) + params["cell_norm_bias"])
            ys.append(h)
        return (c, h), ys

    compare(sj.LSTM(H, layer_norm=True), loop)


def test_projection_and_clipping():
    """Sak et al. (2014), with the memory cell clipped after it was written."""

    def loop(params, carry, xs):
        c, h, ys = carry.c, carry.h, []
        for x in xs:
            z = gates(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"], "ifgo")
            c = np.clip(sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"]), -0.3, 0.3)
            h = (sigmoid(z["o"]) * np.tanh(c)) @ params["projection_kernel"]
            ys.append(h)
        return (c, h), ys

    compare(sj.LSTM(H, projection=2, cell_clip=0.3), loop)


def test_multiplicative_lstm():
    def loop(params, carry, xs):
        W, R, b = (gates(params[n], "ifgom") for n in ("kernel", "recurrent_kernel", "bias"))
        c, h, ys = carry.c, carry.h, []
        for x in xs:
            m = (x @ W["m"] + b["m"]) * (h @ R["m"])
            z = {letter: x @ W[letter] + m @ R[letter] + b[letter] for letter in "ifgo"}
            c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
            h = sigmoid(z["o"]) * np.tanh(c)
            ys.append(h)
        return (c, h), ys

    compare(sj.MultiplicativeLSTM(H), loop)


@pytest.mark.parametrize("forget", ["sigmoid", "exp"])
def test_slstm_without_a_stabilizer_is_the_same(forget):
    """Beck et al. (2024), equations 8 to 14: exponentials as they are, which float64 bears for a few steps."""
    K = 2

    def loop(params, carry, xs):
        W, b = gates(params["kernel"], "ifgo"), gates(params["bias"], "ifgo")
        R = [gates(head, "ifgo") for head in params["recurrent_kernel"]]
        c, n, h, ys = carry.c * np.exp(carry.m), carry.n * np.exp(carry.m), carry.h, []
        for x in xs:
            seen = {
                x_: np.concatenate([part @ r[x_] for part, r in zip(np.split(h, K, -1), R, strict=True)], -1)
                for x_ in "ifgo"
            }
            z = {letter: x @ W[letter] + seen[letter] + b[letter] for letter in "ifgo"}
            f = sigmoid(z["f"]) if forget == "sigmoid" else np.exp(z["f"])
            c, n = f * c + np.exp(z["i"]) * np.tanh(z["g"]), f * n + np.exp(z["i"])
            h = sigmoid(z["o"]) * c / n
            ys.append(h)
        return (c, n, h), ys

    def positive(carry):
        return carry._replace(n=np.abs(carry.n) + 1)

    def unstabilized(carry):
        return carry.c * jnp.exp(carry.m), carry.n * jnp.exp(carry.m), carry.h

    compare(sj.SLSTM(H, heads=K, forget_activation=forget), loop, change=positive, read=unstabilized)


def test_slstm_stays_finite_where_exponentials_do_not():
    cell = sj.SLSTM(H, forget_activation="exp")
    params, _, xs = sample(cell)
    outputs = jax.jit(lambda params: cell.apply(params, cell.initial_carry(params, (B,)), xs)[1])
    gradients = jax.jit(jax.grad(lambda params: jnp.sum(outputs(params) ** 2)))
    for sign in (1, -1):
        params["bias"] = np.repeat([1000.0 * sign, 500.0 * sign, 0.0, 0.0], H)
        assert np.isfinite(outputs(params)).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients(params)))


def hidden(step):
    """A loop of ``step(params, h, x) -> h``."""

    def loop(params, carry, xs):
        h, ys = carry.h, []
        for x in xs:
            h = step(params, h, x)
            ys.append(h)
        return (h,), ys

    return loop


def mgu(params, h, x):
    """Zhou et al. (2016): f = s(W_f [h, x] + b_f), n = tanh(W_h [f h, x] + b_h), h = (1 - f) h + f n."""
    W, R, b = (gates(params[n], "fn") for n in ("kernel", "recurrent_kernel", "bias"))
    f = sigmoid(x @ W["f"] + h @ R["f"] + b["f"])
    return (1 - f) * h + f * np.tanh(x @ W["n"] + (f * h) @ R["n"] + b["n"])


def tied_gru(params, h, x):
    """Flax's MGUCell: f = s(W_if x + b_if + W_hf h), n = tanh(W_in x + b_in + f (W_hn h + b_hn)), h = (1 - f) n + f h."""
    W, R, b, q = (gates(params[n], "fn") for n in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"))
    f = sigmoid(x @ W["f"] + b["f"] + h @ R["f"] + q["f"])
    return (1 - f) * np.tanh(x @ W["n"] + b["n"] + f * (h @ R["n"] + q["n"])) + f * h


def ugrnn(params, h, x):
    z = gates(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"], "zn")
    return sigmoid(z["z"]) * h + (1 - sigmoid(z["z"])) * np.tanh(z["n"])


def janet(params, h, x):
    z = gates(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"], "sn")
    return sigmoid(z["s"]) * h + (1 - sigmoid(z["s"] - 0.7)) * np.tanh(z["n"])


def indrnn(params, h, x):
    return np.maximum(x @ params["kernel"] + params["recurrent_scale"] * h + params["bias"], 0)


def gru(params, h, x):
    """Cho et al. (2014) with the reset after the product, as torch.nn.GRU states it."""
    W, R, b, q = (gates(params[n], "szn") for n in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"))
    s, z = (sigmoid(x @ W[a] + b[a] + h @ R[a] + q[a]) for a in "sz")
    return (1 - z) * np.tanh(x @ W["n"] + b["n"] + s * (h @ R["n"] + q["n"])) + z * h


def cho_gru(params, h, x):
    """Cho et al. (2014), equations 5 to 8: the reset before the product."""
    W, R, b, q = (gates(params[n], "szn") for n in ("kernel", "recurrent_kernel", "bias", "recurrent_bias"))
    s, z = (sigmoid(x @ W[a] + b[a] + h @ R[a] + q[a]) for a in "sz")
    return (1 - z) * np.tanh(x @ W["n"] + b["n"] + (s * h) @ R["n"] + q["n"]) + z * h


def min_gru(params, h, x):
    z, n = np.split(x @ params["kernel"] + params["bias"], 2, -1)
    return (1 - sigmoid(z)) * h + sigmoid(z) * n


def rhn(params, h, x):
    for layer, R in enumerate(params["recurrent_kernel"]):
        u = x @ params["kernel"] + params["bias"] if layer == 0 else params["depth_bias"][layer - 1]
        z = gates(u + h @ R, "nt")
        t = sigmoid(z["t"])
        h = np.tanh(z["n"]) * t + h * (1 - t)
    return h


HIDDEN = {
    "GRU": (sj.GRU(H, recurrent_bias=True), gru),
    "ChoGRU": (sj.ChoGRU(H, recurrent_bias=True), cho_gru),
    "MinGRU": (sj.MinGRU(H), min_gru),
    "MGU": (sj.MGU(H), mgu),
    "TiedGRU": (sj.TiedGRU(H, recurrent_bias=True), tied_gru),
    "UGRNN": (sj.UGRNN(H), ugrnn),
    "JANET": (sj.JANET(H, beta=0.7), janet),
    "IndRNN": (sj.IndRNN(H), indrnn),
    "RHN": (sj.RHN(H, depth=3), rhn),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_cell_with_nothing_but_a_hidden_state(name):
    cell, step = HIDDEN[name]
    compare(cell, hidden(step))


def test_coupled_oscillators():
    """Rusch and Mishra (2021), equation 3, the damping explicit."""

    def loop(params, carry, xs):
        y, z, ys = carry.y, carry.z, []
        R_y, R_z = np.split(params["recurrent_kernel"], 2)
        for x in xs:
            force = np.tanh(y @ R_y + z @ R_z + x @ params["kernel"] + params["bias"])
            z = z + 0.2 * (force - 1.5 * y - 0.7 * z)
            y = y + 0.2 * z
            ys.append(y)
        return (y, z), ys

    compare(sj.CoRNN(H, dt=0.2, gamma=1.5, epsilon=0.7), loop)


def correlate(image, kernel):
    """[B, height, width, C] with [h, w, C, N], zeros beyond the border, pixel by pixel."""
    rows, columns = image.shape[1:3]
    top, left = (kernel.shape[0] - 1) // 2, (kernel.shape[1] - 1) // 2
    out = np.zeros((*image.shape[:3], kernel.shape[-1]), np.result_type(image, kernel))
    for r in range(rows):
        for s in range(columns):
            for i in range(kernel.shape[0]):
                for j in range(kernel.shape[1]):
                    if 0 <= r + i - top < rows and 0 <= s + j - left < columns:
                        out[:, r, s] += image[:, r + i - top, s + j - left] @ kernel[i, j]
    return out


def test_convolutional_lstm():
    def loop(params, carry, xs):
        c, h, ys = carry.c, carry.h, []
        for x in xs:
            z = correlate(x, params["kernel"]) + correlate(h, params["recurrent_kernel"]) + params["bias"]
            z = gates(z, "ifgo")
            c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
            h = sigmoid(z["o"]) * np.tanh(c)
            ys.append(h)
        return (c, h), ys

    compare(sj.ConvLSTM(2, image=(4, 5), window=(3, 1)), loop, item=(4, 5, 2))


def test_convolutional_gru():
    def loop(params, carry, xs):
        h, ys = carry.h, []
        for x in xs:
            u = gates(correlate(x, params["kernel"]) + params["bias"], "szn")
            r = gates(correlate(h, params["recurrent_kernel"]), "szn")
            s, z = sigmoid(u["s"] + r["s"]), sigmoid(u["z"] + r["z"])
            h = (1 - z) * np.tanh(u["n"] + s * r["n"]) + z * h
            ys.append(h)
        return (h,), ys

    compare(sj.ConvGRU(2, image=(4, 3), window=(3, 3)), loop, item=(4, 3, 2))


def lstm(hs, c, R, b):
    """Kalchbrenner et al. (2015), equation 1: one transform of a block."""
    z = gates(hs @ R + b, "ifgo")
    c = sigmoid(z["f"]) * c + sigmoid(z["i"]) * np.tanh(z["g"])
    return c, sigmoid(z["o"]) * np.tanh(c)


def block(R, b, sides, priority):
    """Section 3: states (c, h) of N sides, depth first; with priority depth goes last and reads what is new."""
    count = len(sides)
    R, b = np.split(R, count, axis=-1), np.split(b, count)
    hs = np.concatenate([h for _, h in sides], -1)
    new = [lstm(hs, c, R[k], b[k]) for k, (c, _) in enumerate(sides)]
    if priority:
        hs = np.concatenate([sides[0][1], *(h for _, h in new[1:])], -1)
        new[0] = lstm(hs, sides[0][0], R[0], b[0])
    return new


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("priority", [False, True])
def test_grid_lstm_of_two_dimensions(tied, priority):
    L = 3

    def loop(params, carry, xs):
        c, h, ys = carry.c.copy(), carry.h.copy(), []
        for x in xs:
            through = np.split(x @ params["kernel"] + params["bias"], 2, axis=-1)
            for layer in range(L):
                own = 0 if tied else layer
                R, b = params["recurrent_kernel"][own], params["recurrent_bias"][own]
                through, (c[:, layer], h[:, layer]) = block(R, b, [through, (c[:, layer], h[:, layer])], priority)
            ys.append(through[1])
        return (c, h), ys

    compare(sj.GridLSTM(H, depth=L, tied=tied, priority=priority), loop)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("priority", [False, True])
def test_grid_lstm_of_three_dimensions(tied, priority):
    L, S = 2, 4

    def loop(params, carry, xs):
        c, h, ys = carry.c.copy(), carry.h.copy(), []
        for x in xs:
            beside = [(np.zeros((B, H)), np.zeros((B, H))) for _ in range(L)]
            row = []
            for s in range(S):
                through = np.split(x[:, s] @ params["kernel"] + params["bias"], 2, axis=-1)
                for layer in range(L):
                    own = 0 if tied else layer
                    R, b = params["recurrent_kernel"][own], params["recurrent_bias"][own]
                    sides = [through, (c[:, s, layer], h[:, s, layer]), beside[layer]]
                    through, (c[:, s, layer], h[:, s, layer]), beside[layer] = block(R, b, sides, priority)
                row.append(through[1])
            ys.append(np.stack(row, 1))
        return (c, h), ys

    compare(sj.GridLSTM(H, depth=L, dimensions=3, places=S, tied=tied, priority=priority), loop, item=(S, F))


def test_grid_block_of_one_dimension_is_an_lstm_along_depth():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(H, 4 * H)), "bias": rng.normal(size=4 * H)}
    state = sj.GridCarry(*rng.normal(size=(2, B, H)))
    (got,) = sj.grid_block(jax.tree.map(jnp.asarray, params), (jax.tree.map(jnp.asarray, state),))
    c, h = lstm(state.h, state.c, params["kernel"], params["bias"])
    np.testing.assert_allclose(got.c, c, atol=1e-12)
    np.testing.assert_allclose(got.h, h, atol=1e-12)


REFUSED = {
    "coupled without an input gate": (lambda: sj.LSTM(4, coupled=True, input_gate=False), "coupled needs"),
    "gate recurrence without a gate": (lambda: sj.LSTM(4, gate_recurrence=True, coupled=True), "gate_recurrence needs"),
    "peepholes without gates": (
        lambda: sj.LSTM(4, peepholes=True, input_gate=False, forget_gate=False, output_gate=False),
        "peepholes need a gate",
    ),
    "layer norm with a second bias": (lambda: sj.LSTM(4, layer_norm=True, recurrent_bias=True), "leave recurrent_bias out"),
    "no room in the cell": (lambda: sj.LSTM(4, cell_clip=0.0), "cell_clip must be positive"),
    "no projection": (lambda: sj.LSTM(4, projection=0), "projection must be a positive integer"),
    "unknown activation": (lambda: sj.LSTM(4, output_activation="tan"), "output_activation must be one of"),
    "chrono without a bias": (lambda: sj.LSTM(4, chrono=100, use_bias=False), "chrono is a number of steps above 2"),
    "chrono without a forget gate": (
        lambda: sj.LSTM(4, chrono=20, forget_gate=False),
        "chrono starts the biases of a forget",
    ),
    "chrono of two steps": (lambda: sj.JANET(4, chrono=2), "chrono is a number of steps above 2"),
    "heads of no equal size": (lambda: sj.SLSTM(5, heads=2), "heads=2 must divide features=5"),
    "a second bias of heads": (lambda: sj.SLSTM(4, recurrent_bias=True), "has no recurrent_bias"),
    "an image of one number": (lambda: sj.ConvLSTM(4, image=8), r"image must be \(height, width\)"),
    "places in two dimensions": (lambda: sj.GridLSTM(4, places=3), "places belong to three dimensions"),
    "three dimensions without places": (lambda: sj.GridLSTM(4, dimensions=3), "places must be a positive integer"),
    "an oscillator that stands still": (lambda: sj.CoRNN(4, dt=0.0), "must be positive"),
    "a highway of no layers": (lambda: sj.RHN(4, depth=0), "depth must be a positive integer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_setting_is_refused(name):
    make, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason):
        make()


def test_images_of_another_size_are_refused():
    cell = sj.ConvGRU(4, image=(6, 5))
    with pytest.raises(ValueError, match=r"images of \(5, 6\), expected image=\(6, 5\)"):
        cell.init(jax.random.key(0), jnp.zeros((1, 1, 5, 6, 2)))


def test_chrono_biases_remember_for_up_to_as_many_steps():
    params = sj.LSTM(1000, chrono=50, recurrent_init="zeros").init(jax.random.key(0), jnp.zeros((1, 1, 2), jnp.float32))
    i, f, g, o = np.split(np.asarray(params["bias"]), 4)
    assert 0 <= f.min() < 0.1
    assert np.log(48) < f.max() <= np.log(49)
    np.testing.assert_array_equal(i, -f)
    assert not g.any()
    assert not o.any()
