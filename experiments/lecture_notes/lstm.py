"""The LSTM: its equations, what its gates do, and what it costs."""

import math

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    OPEN,
    B,
    F,
    H,
    T,
    agree,
    by_row,
    count,
    gates,
    params_of,
    random_params,
    require,
    run,
    same_bits,
)


def lstm_params(rng, scale=0.3, **biases):
    """Random parameters of an LSTM, the named gates with a bias that decides them."""
    blocks = gates(rng, "ifgo", scale=scale)
    return params_of(*(block._replace(b=np.full(H, biases.get(name, 0.0))) for name, block in blocks.items()))


@check("S1 S4", "an LSTM step: forget, choose what to write, the new cell, what to show; biases everywhere")
def four_steps(rng):
    xs, blocks = rng.normal(size=(T, B, F)), gates(rng, "ifgo")
    carry, ys = run(sj.LSTM(H), params_of(*blocks.values()), xs)
    states = by_row(lambda x: reference.lstm(blocks, x, np.zeros(H), np.zeros(H)), xs)  # [T, B, 2, H]
    return agree((carry.c, ys), (states[-1, :, 0], states[:, :, 1]))


@check("S3", "(i, f, o, g) = (sigma, sigma, sigma, tanh) W [h; x]; c = f c + i g; h = o tanh(c)")
def stacked(rng):
    xs, W = rng.normal(size=(T, B, F)), 0.5 * rng.normal(size=(4 * H, H + F))

    def loop(xs, h, c):
        hs = []
        for x in xs:
            i, f, o, g = np.split(W @ np.concatenate([h, x]), 4)
            c = reference.sigmoid(f) * c + reference.sigmoid(i) * np.tanh(g)
            h = reference.sigmoid(o) * np.tanh(c)
            hs.append(h)
        return np.array(hs)

    i, f, o, g = np.split(W, 4)
    ours = np.concatenate([i, f, g, o])  # the order in which seqjax keeps them
    params = {"kernel": ours[:, H:].T, "recurrent_kernel": ours[:, :H].T}
    _, ys = run(sj.LSTM(H, use_bias=False), params, xs)
    return agree(ys, by_row(loop, xs, np.zeros((B, H)), np.zeros((B, H))))


@check("S0 S4", "the three gates lie in (0, 1), the candidate in (-1, 1)")
def gate_ranges(rng):
    xs, c = rng.normal(size=(1, 1000, F)), jnp.ones((1000, H))
    h, blocks = rng.uniform(-1, 1, size=(1000, H)), gates(rng, "ifgo", scale=0.4)

    def after(**biases):
        params = params_of(*(block._replace(b=np.full(H, biases.get(k, 0.0))) for k, block in blocks.items()))
        return run(sj.LSTM(H), params, xs, sj.LSTMCarry(c, h))[0]

    # Each gate is read off from what the cell does while the other gates are held open or closed.
    found = {
        "forget": after(i=-OPEN).c,
        "input": after(f=-OPEN, g=OPEN).c,
        "candidate": after(f=-OPEN, i=OPEN).c,
        "output": after(f=OPEN, i=-OPEN).h / np.tanh(1.0),
    }
    for name, values in found.items():
        low = -1 if name == "candidate" else 0
        require(np.all((values > low) & (values < 1)), f"{name}: {values.min()} to {values.max()}")
    require(found["candidate"].min() < -0.5 and found["forget"].min() < 0.2, "nothing varied")
    return ", ".join(f"{name} {values.min():.3f} to {values.max():.3f}" for name, values in found.items())


@check("S0 S3", "the cell c is not bounded, the state h = o tanh(c) stays in (-1, 1)")
def unbounded_cell(rng):
    carry, ys = run(sj.LSTM(H), lstm_params(rng, f=OPEN, i=OPEN, g=OPEN), rng.normal(size=(1000, B, F)))
    require(np.all(carry.c == 1000), f"c is {carry.c.min()} after adding one 1,000 times")
    return require(np.max(np.abs(ys)) < 1, f"c = {carry.c.max():g}, |h| <= {np.max(np.abs(ys)):.3f}")


@check("S3", "with f = 1 and i = 0 a cell keeps what it holds for ever")
def kept_for_ever(rng):
    params = jax.tree.map(np.float32, lstm_params(rng, f=OPEN, i=-OPEN))
    xs = rng.normal(size=(1000, 1, F)).astype(np.float32)
    c = rng.normal(size=(1, H)).astype(np.float32)
    cell = sj.LSTM(H, engine="scan")

    @jax.jit
    def long(carry):
        def chunk(carry, _):
            new, _ = cell.apply(params, carry, xs)
            return new, jnp.all(new.c == c)

        return jax.lax.scan(chunk, carry, None, length=1000)

    carry, kept = jax.device_get(long(sj.LSTMCarry(c, np.zeros_like(c))))
    require(np.any(carry.h != 0), "the state shows nothing")
    return require(kept.all() and same_bits(carry.c, c), f"{1000 * kept.sum():,} steps of 1,000,000: the same bits")


@check("S3", "with f = 0.9 and i = 0 the cell, and its gradient, vanish as 0.9^T: an LSTM guarantees nothing")
def vanishing_cell(rng):
    params, xs, c = lstm_params(rng, f=math.log(9), i=-OPEN), rng.normal(size=(200, 1, F)), rng.normal(size=(1, H))
    params["kernel"][:, H : 2 * H] = params["recurrent_kernel"][:, H : 2 * H] = 0  # f is sigma(ln 9) = 0.9
    cell = sj.LSTM(H)

    @jax.jit
    def last(c):
        return cell.apply(params, sj.LSTMCarry(c, jnp.zeros((1, H))), xs)[0].c.sum()

    value, gradient = jax.value_and_grad(last)(c)
    want = 0.9**200
    require(abs(value / (want * c.sum()) - 1) < 1e-10 and np.all(abs(gradient / want - 1) < 1e-10), f"{value}, {gradient}")
    return f"dc[200]/dc[0] = {gradient[0, 0]:.3e}, 0.9^200 = {want:.3e}"


@check("S3", "an LSTM's gradient can explode: one unit, gates open, candidate tanh(h), around c = 0")
def exploding_cell(rng):
    params = {"kernel": np.zeros((1, 4)), "recurrent_kernel": np.zeros((1, 4)), "bias": np.array([OPEN, OPEN, 0.0, OPEN])}
    params["recurrent_kernel"][0, 2] = 1.0

    def last(c):
        return sj.LSTM(1).apply(params, sj.LSTMCarry(c, c), jnp.zeros((50, 1, 1)))[0].c.sum()

    gradient = float(jax.jit(jax.grad(last))(jnp.zeros((1, 1)))[0, 0])  # c' = c + tanh(h), h = tanh(c): doubles
    return require(gradient == 2.0**50, f"dc[50]/dc[0] = {gradient:.4e} = 2^50")


@check("S3", "back from c[t] to c[t-1] there is an elementwise product with f and no product with W")
def gradient_highway(rng):
    blocks, x, c, h = gates(rng, "ifgo"), rng.normal(size=F), rng.normal(size=H), rng.normal(size=H)
    cell, params = sj.LSTM(H), params_of(*blocks.values())

    @jax.jit
    def jacobian(c):
        return jax.jacobian(lambda c: cell.apply(params, sj.LSTMCarry(c, h), x[None])[0].c)(c)

    f = reference.sigmoid(blocks["f"](x, h))
    return f"Jacobian against diag(f): {agree(jacobian(c), np.diag(f))}"


@check("S4", "gates are masks: an output gate of zeros and ones shows some flags, a forget gate clears some")
def bit_masks(rng):
    bits = {"o": rng.integers(0, 2, size=H), "f": rng.integers(0, 2, size=H)}
    bits["o"][:2], bits["f"][:2] = (0, 1), (1, 0)
    blocks = gates(rng, "ifgo", scale=0.1)
    signs = {"i": -OPEN, "g": 0.0} | {name: OPEN * (2.0 * values - 1) for name, values in bits.items()}
    params = params_of(*(block._replace(b=np.zeros(H) + signs[name]) for name, block in blocks.items()))
    c = rng.normal(size=(B, H))
    carry, _ = run(sj.LSTM(H), params, rng.normal(size=(1, B, F)), sj.LSTMCarry(c, jnp.zeros((B, H))))
    require(same_bits(carry.c, np.where(bits["f"] == 1, c, 0.0)), "c is not c masked by f")
    shown, hidden = carry.h[:, bits["o"] == 1], carry.h[:, bits["o"] == 0]
    require(np.all(hidden == 0), "what is masked shows")
    return f"f = {bits['f']}, o = {bits['o']}: {agree(shown, np.tanh(carry.c[:, bits['o'] == 1]))}"


@check("S0 S1 S3 S4", "an LSTM has four times the parameters of a vanilla network, 4 (H (H + D) + H)")
def parameters(rng):
    found = count(sj.LSTM(20), 10), count(sj.LSTM(20, recurrent_bias=True), 10)
    return require(
        found == (4 * (20 * (20 + 10) + 20), 4 * 640), f"D = 10, H = 20: {found[0]:,}; with two biases {found[1]:,}"
    )


@check("S0", "the memory of a vanilla network changes violently, that of an LSTM slowly")
def slow_memory(rng):
    xs, wide = rng.normal(size=(200, 8, 16)), 64

    def change(cell, part):
        params = jax.tree.map(np.float64, cell.init(jax.random.key(rng.integers(2**31)), xs))

        @jax.jit
        def states(params, xs):
            def step(carry, x):
                carry, _ = cell.step(params, carry, cell.project(params, x))
                return carry, getattr(carry, part)

            carry = jax.tree.map(lambda leaf: leaf.astype(xs.dtype), cell.initial_carry(params, (8,)))
            return jax.lax.scan(step, carry, xs)[1]

        values = np.asarray(states(params, xs))[20:]
        return np.linalg.norm(np.diff(values, axis=0)) / np.linalg.norm(values[1:])

    vanilla, cell = change(sj.Elman(wide), "h"), change(sj.LSTM(wide), "c")
    return require(cell < 0.6 * vanilla, f"change per step, relative to the state, at first: h {vanilla:.2f}, c {cell:.2f}")


@check("S0", "LSTM and GRU run serially too: their states depend on the states before them in no linear way")
def not_linear(rng):
    found = []
    for make in (sj.LSTM, sj.GRU):
        cell, xs = make(H), rng.normal(size=(T, B, F))
        params = random_params(rng, cell)
        zero = jax.tree.map(lambda leaf: np.zeros(leaf.shape), cell.initial_carry(params, (B,)))
        one = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), zero)
        base, once, twice = (run(cell, params, xs, jax.tree.map(lambda o, k=k: k * o, one))[0].h for k in (0.0, 1.0, 2.0))
        found.append(np.max(np.abs((twice - base) - 2 * (once - base))) / np.max(np.abs(once - base)))
    return require(
        min(found) > 1e-3, "doubling the start fails to double its effect by " + ", ".join(f"{x:.0%}" for x in found)
    )
