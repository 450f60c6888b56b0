"""The ten mistakes of the notes, each computed and seen to fail, with the right form beside it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments.lecture_notes import gradients, reference, state_spaces
from experiments.lecture_notes.patterns import WIDE, Writer, write
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    OPEN,
    B,
    F,
    H,
    T,
    affine,
    agree,
    by_row,
    count,
    gap,
    gates,
    params_of,
    random_params,
    require,
    run,
    same_bits,
)
from experiments.lecture_notes.vanilla import WIRED


@check("S3", "`w_xh @ x` fails for a number x; `w_xh * x` is meant", mistake=1)
def product_with_a_number(rng):
    columns = jax.tree.map(np.transpose, WIRED)
    h, hs = np.array([[0.0], [0.0], [1.0]]), []
    try:
        columns["kernel"] @ 1
    except ValueError as error:
        refused = type(error).__name__
    else:
        raise AssertionError("w_xh @ x was computed")
    for x in (0, 1, 0, 1, 1):
        h = np.maximum(columns["recurrent_kernel"] @ h + columns["kernel"] * x, 0)
        hs.append(h[:, 0])
    xs, start = np.array([0.0, 1, 0, 1, 1])[:, None, None], sj.HiddenCarry(jnp.array([[0.0, 0.0, 1.0]]))
    _, ys = run(sj.Elman(3, activation="relu", use_bias=False), WIRED, xs, start)
    require(same_bits(ys[:, 0], np.array(hs)), "w_xh * x gives other states than the network")
    return f"w_xh @ 1 raises {refused}; w_xh * x gives the network's states"


def clip_of_the_notes(grad, threshold):
    """As the notes have it: the sum of squares is called the norm."""
    grad_norm = np.sum(grad * grad)
    return grad * (threshold / grad_norm) if grad_norm > threshold else grad


@check("S3", "clipping compares and divides by the norm, not by its square", mistake=2)
def clip_by_the_square(rng):
    direction = rng.normal(size=9)
    direction /= np.linalg.norm(direction)
    said = []
    for norm, wrong, right in ((10, 0.5, 5), (2.4, 5 / 2.4, 2.4)):
        found = (
            np.linalg.norm(clip_of_the_notes(norm * direction, 5.0)),
            np.linalg.norm(gradients.clip(5.0, {"w": jnp.asarray(norm * direction)})["w"]),
        )
        require(gap(np.array(found), np.array([wrong, right], float)) < 1e-12, f"norm {norm}: {found}")
        said.append(f"norm {norm} becomes {found[0]:.3g}, rightly {found[1]:.3g}")
    return f"threshold 5: {'; '.join(said)}"


@check("S3", "W_hh^(T-1) cannot be pulled out of the product of Jacobians: diag(1 - h^2) stands in between", mistake=3)
def power_pulled_out(rng):
    f, xs, h = affine(rng), rng.normal(size=(T, F)), rng.normal(size=H)
    actual = gradients.jacobian(sj.Elman(H), params_of(f), xs, h)
    slopes = np.prod(1 - reference.elman(f, xs, h) ** 2, axis=0)
    pulled = np.diag(slopes) @ np.linalg.matrix_power(f.V, T)
    wrong = gap(actual, pulled) / np.max(np.abs(actual))
    require(wrong > 0.1, f"the notes' form is {wrong:.0%} off")
    return f"pulled out: {wrong:.0%} off; product of diag(1 - h^2) W: {agree(actual, gradients.product(f, xs, h))}"


@check(
    "S0", "a GRU merges input and forget gate into the update gate: h' = (1 - z) n + z h; not into the reset gate", mistake=4
)
def update_gate(rng):
    xs, h, blocks = rng.normal(size=(1, B, F)), rng.normal(size=(B, H)), gates(rng, "rzn")

    def after(**biases):
        changed = (block._replace(b=np.full(H, biases.get(name, block.b))) for name, block in blocks.items())
        return run(sj.GRU(H), params_of(*changed), xs, sj.HiddenCarry(h))[0].h

    kept, n = after(z=OPEN), after(z=-OPEN)
    require(gap(kept, h) < 1e-15 and gap(n, h) > 0.1, "z = 1 does not keep the state, or z = 0 does")
    z = reference.sigmoid(xs[0] @ blocks["z"].W.T + h @ blocks["z"].V.T + blocks["z"].b)
    said = agree(after(), (1 - z) * n + z * h)
    opened, closed = after(z=-OPEN, r=OPEN), after(z=-OPEN, r=-OPEN)
    away = min(gap(opened, h), gap(closed, h))
    require(away > 0.1 and gap(opened, closed) > 1e-3, "the reset gate keeps the state")
    return f"h' = (1 - z) n + z h: {said}; z = 1 keeps h; a reset gate, open or closed, is {away:.1f} away from keeping it"


@check("S3", "a caption's CNN produces v; W_ih is a learned matrix, the same for every image", mistake=5)
def image_vector(rng):
    D, f, W_ih = 5, affine(rng), 0.5 * rng.normal(size=(H, 5))
    xs, v = rng.normal(size=(T, B, F)), rng.normal(size=(B, D))  # two images or more; v is what the CNN makes of them
    both = np.concatenate([xs, np.broadcast_to(v, (T, B, D))], axis=-1)
    params = params_of(f._replace(W=np.concatenate([f.W, W_ih], axis=1)))

    def loop(x, v):
        return reference.elman(lambda x, h: f(x, h) + W_ih @ v, x, np.zeros(H))

    said = agree(run(sj.Elman(H), params, both)[1], by_row(loop, xs, v))

    @jax.jit
    def gradient(params, both):
        zero = sj.HiddenCarry(jnp.zeros((B, H)))
        return jax.grad(lambda p: sj.Elman(H).apply(p, zero, both[:1])[1].sum())(params)["kernel"][F:]

    error = 1 - np.tanh(both[0] @ params["kernel"] + params["bias"]) ** 2
    learned = gap(gradient(params, both), v.T @ error)
    require(learned < 1e-12 and W_ih.shape != v[0].shape, f"its gradient is {learned} off")
    return f"h = tanh(W_xh x + W_hh h + W_ih v): {said}; W_ih {W_ih.shape} has a gradient, v is {v[0].shape} an image"


@check(
    "S3",
    "truncated back-propagation through time (TBPTT) keeps the losses of its chunks: without, earlier ones learn nothing",
    mistake=6,
)
def chunk_losses(rng):
    f, xs, weights = affine(rng), rng.normal(size=(12, F)), rng.normal(size=(12, H))
    last = np.where(np.arange(12)[:, None] == 11, weights, 0)  # "no loss at each time step any more"

    @jax.jit
    def by_chunk(params, weights):
        carry, found = sj.HiddenCarry(jnp.zeros((H,))), []
        for part in (slice(0, 4), slice(4, 8), slice(8, 12)):

            def loss(params, carry, part=part):
                carry, ys = sj.Elman(H).apply(params, carry, xs[part])
                return jnp.sum(weights[part] * ys**2) / 2, carry

            gradient, carry = jax.grad(loss, has_aux=True)(params, carry)
            found.append(gradient)
        return found

    with_losses, without = by_chunk(params_of(f), weights), by_chunk(params_of(f), last)
    total = jax.tree.map(lambda *leaves: sum(leaves), *with_losses)
    said = agree(total, gradients.as_params(reference.backpropagate(f, xs, np.zeros(H), weights, 4)))
    sizes = [[float(optax.tree.norm(gradient)) for gradient in found] for found in (with_losses, without)]
    require(min(sizes[0]) > 0.01 and sizes[1][:2] == [0, 0] and sizes[1][2] > 0, f"{sizes}")
    return f"gradient of chunks 1 to 3: {_numbers(sizes[0])} ({said}); without their losses {_numbers(sizes[1])}"


def _numbers(values):
    return ", ".join(f"{value:.2g}" for value in values)


@check(
    "S4",
    "GRU is Gated Recurrent Unit; an output gate shows a part of tanh(C) as H, makes no C, and C and H are not exchanged",
    mistake=7,
)
def output_gate(rng):
    blocks = {name: affine(rng) for name in "ifgo"}
    x, c, h = rng.normal(size=(1, B, F)), 2 * rng.normal(size=(B, H)), rng.normal(size=(B, H))
    start = sj.LSTMCarry(c, h)
    carry, _ = run(sj.LSTM(H), params_of(*blocks.values()), x, start)
    other, _ = run(sj.LSTM(H), params_of(*(blocks | {"o": affine(rng)}).values()), x, start)
    require(same_bits(carry.c, other.c) and gap(carry.h, other.h) > 0.01, "the output gate reaches C, or not H")
    o = reference.sigmoid(x[0] @ blocks["o"].W.T + h @ blocks["o"].V.T + blocks["o"].b)
    said = agree(carry.h, o * np.tanh(carry.c))
    swapped = gap(carry.c, carry.h * np.tanh(carry.c))  # the sentence of the notes: C' from tanh of the state, chosen by H
    require(swapped > 0.1, "exchanged, it is the same")
    return f"h = o tanh(c): {said}; C is the same for every output gate; exchanged, C is {swapped:.1f} off"


ENGLISH, CHINESE = ("I", "love", "artificial", "intelligence"), ("<start>", "我", "爱", "人工", "智能", "<end>")


@check("S2", "from English to Chinese the encoder reads English words and the decoder writes Chinese ones", mistake=8)
def direction_of_translation(rng):
    table, encoder, writer = rng.normal(size=(len(ENGLISH), F)), affine(rng, hidden=WIDE), Writer.random(rng, len(CHINESE))
    sentence = np.arange(len(ENGLISH))[:, None]

    def state(table):
        return sj.Elman(WIDE).apply(params_of(encoder), sj.HiddenCarry(jnp.zeros((1, WIDE))), table[sentence])[0].h

    tokens = np.asarray(write(writer, jax.jit(state)(table), length=5))[:, 0]
    want = writer.loop(reference.elman(encoder, table, np.zeros(WIDE))[-1], 0, 5)
    require(tokens.tolist() == want and tokens.max() < len(CHINESE), f"{tokens} instead of {want}")
    read = jax.jit(jax.grad(lambda table: state(table).sum()))(table)
    require(read.shape == table.shape and np.all(np.any(read != 0, axis=1)), "an English word was not read")
    require(table.shape[0] == len(ENGLISH) != len(CHINESE) == writer.head.shape[0], "the vocabularies are exchanged")
    try:
        table[np.arange(1, len(CHINESE))]  # as in the notes: Chinese words are read
        failed = ""
    except IndexError as error:
        failed = str(error)
    require(failed, "Chinese words were read from the English table")
    return f"{len(ENGLISH)} English words read, {len(tokens)} of {len(CHINESE)} Chinese symbols written; reversed, {failed}"


@check(
    "S1", "f(x) + f(h) are two maps, each with a matrix and a bias: with one f there is no such sum, and no 640", mistake=9
)
def one_map_or_two(rng):
    W, b = rng.normal(size=(20, 10)), rng.normal(size=20)
    x, h = rng.normal(size=10), rng.normal(size=20)
    try:
        (W @ x + b) + (W @ h + b)
    except ValueError as error:
        refused = type(error).__name__
    else:
        raise AssertionError("one matrix was applied to 10 inputs and to 20 states")
    one_map, two_maps = W.size + b.size, count(sj.Elman(20, recurrent_bias=True), 10)
    require(count(sj.Elman(20), 10) == 620, "one bias")
    return require((one_map, two_maps) == (220, 640), f"f(h) raises {refused}; parameters: one f {one_map}, two {two_maps}")


@check("S0", "only nonlinear recurrences have to run serially: a linear one has depth log T", mistake=10)
def serial_only(rng):
    cells = {engine: sj.MinGRU(H, engine=engine) for engine in ("scan", "associative")}
    depths = {engine: [state_spaces.depth_of(cell, steps) for steps in (512, 1024)] for engine, cell in cells.items()}
    serial, parallel = depths["scan"], depths["associative"]
    require(serial[1] > 1024 and serial[1] > 1.9 * serial[0], f"serial {serial}")
    require(parallel[1] <= 6 * np.log2(1024) and parallel[1] - parallel[0] <= 5, f"parallel {parallel}")
    xs, params = rng.normal(size=(1024, B, F)), random_params(rng, cells["scan"])
    said = agree(*(run(cell, params, xs)[1] for cell in cells.values()))
    steps = f"{serial[0]:,}, {serial[1]:,} serial, {parallel[0]}, {parallel[1]} parallel"
    return f"operations in sequence at T = 512, 1,024: {steps}; {said}"
