"""The vanilla recurrent network: five ways to write it, what its weights are, and a network wired by hand."""

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import (
    B,
    F,
    H,
    T,
    affine,
    agree,
    by_row,
    count,
    params_of,
    require,
    run,
    same_bits,
    shapes_of,
)


@check("S1", "h[0] = tanh(f(x[0])), h[t] = tanh(f(x[t]) + f'(h[t-1])), with two affine maps")
def two_affine_maps(rng):
    xs, f, extra = rng.normal(size=(T, B, F)), affine(rng), rng.normal(size=H)
    params = params_of(f) | {"recurrent_bias": extra}
    first = np.tanh(xs[0] @ f.W.T + f.b)
    _, ys = run(sj.Elman(H, recurrent_bias=True), params, xs[1:], sj.HiddenCarry(first))
    return agree(ys, by_row(lambda x, h: reference.elman(f._replace(b=f.b + extra), x, h), xs[1:], first))


@check("S2", "h[t] = tanh(W x[t] + V h[t-1] + b)")
def one_bias(rng):
    xs, f = rng.normal(size=(T, B, F)), affine(rng)
    _, ys = run(sj.Elman(H), params_of(f), xs)
    return agree(ys, by_row(lambda x: reference.elman(f, x, np.zeros(H)), xs))


@check("S3", "h[t] = tanh(W_hh h[t-1] + W_xh x[t]) and y[t] = W_hy h[t], without biases")
def no_bias(rng):
    xs, f, head = rng.normal(size=(T, B, F)), affine(rng), rng.normal(size=(5, H))
    rnn = sj.nnx.RNN(sj.Elman(H, use_bias=False), F, time_major=True, rngs=flax.nnx.Rngs(0))
    linear = flax.nnx.Linear(H, 5, use_bias=False, rngs=flax.nnx.Rngs(0))
    ours = {name: flax.nnx.Param(jnp.asarray(value)) for name, value in params_of(f, bias=False).items()}
    rnn.params, linear.kernel = flax.nnx.data(ours), flax.nnx.Param(jnp.asarray(head.T))
    _, hs = rnn(jnp.asarray(xs), initial_carry=sj.HiddenCarry(jnp.zeros((B, H))))
    want = by_row(lambda x: reference.elman(f._replace(b=0.0), x, np.zeros(H)) @ head.T, xs)
    return agree(linear(hs), want)


@check("S3", "h[t] = tanh(W [h[t-1]; x[t]]): one stacked matrix is the two matrices side by side")
def stacked_matrix(rng):
    xs, W = rng.normal(size=(T, B, F)), 0.5 * rng.normal(size=(H, H + F))

    def loop(xs, h):
        hs = []
        for x in xs:
            h = np.tanh(W @ np.concatenate([h, x]))
            hs.append(h)
        return np.array(hs)

    params = {"kernel": W[:, H:].T, "recurrent_kernel": W[:, :H].T}
    _, ys = run(sj.Elman(H, use_bias=False), params, xs)
    return agree(ys, by_row(loop, xs, np.zeros((B, H))))


@check("S4", "sigma(W X[i] + H S[i-1] + b) with any activation; W is emb x hid, H is hid x hid")
def any_activation(rng):
    xs, f = rng.normal(size=(T, B, F)), affine(rng, scale=0.4)
    shapes = {name: leaf.shape for name, leaf in shapes_of(sj.Elman(H)).items()}
    require((shapes["kernel"], shapes["recurrent_kernel"]) == ((F, H), (H, H)), f"{shapes}")
    kinds = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "identity": lambda z: z, "sigmoid": reference.sigmoid}
    for name, phi in kinds.items():
        _, ys = run(sj.Elman(H, activation=name), params_of(f), xs)
        said = agree(ys, by_row(lambda x, phi=phi: reference.elman(f, x, np.zeros(H), phi), xs))
    return f"{', '.join(kinds)}: {said}"


@check("S1", "nn.RNN(10, 20, 1) has 640 parameters, nn.RNN(10, 20, 2) has 1480; 620 and 1440 with one bias a layer")
def parameter_counts(rng):
    one, two = sj.Elman(20), sj.Elman(20, recurrent_bias=True)
    counts = [count(recurrence, 10) for recurrence in (two, sj.Stack(two, two), one, sj.Stack(one, one))]
    return require(counts == [640, 1480, 620, 1440], ", ".join(map(str, counts)))


@check("S1 S3 S4", "the same weights serve every step: a model does not grow with the length of its input")
def size_and_length(rng):
    cell, params = sj.Elman(H), params_of(affine(rng))
    sizes = {steps: count(cell, steps=steps) for steps in (1, 7, 10_000)}
    for steps in (1, T, 50):
        xs = rng.normal(size=(steps, B, F))
        shape = run(cell, params, xs)[1].shape
        require(shape == (steps, B, H), f"{steps} steps in, {shape} out")
    return require(set(sizes.values()) == {F * H + H * H + H}, f"{sizes[1]} parameters for 1, 7 and 10,000 steps")


@check("S1 S3 S4", "the gradient of a shared weight is the sum over the steps of the gradients of untied copies")
def weight_sharing(rng):
    xs, weights, params = rng.normal(size=(T, B, F)), rng.normal(size=(T, B, H)), params_of(affine(rng))
    cell = sj.Elman(H)

    def shared(params):
        return jnp.sum(weights * cell.apply(params, sj.HiddenCarry(jnp.zeros((B, H))), xs)[1])

    def untied(copies):
        h, total = jnp.zeros((B, H)), jnp.zeros(())
        for t in range(T):
            h = jnp.tanh(xs[t] @ copies["kernel"][t] + h @ copies["recurrent_kernel"][t] + copies["bias"][t])
            total += jnp.sum(weights[t] * h)
        return total

    copies = jax.tree.map(lambda leaf: np.repeat(leaf[None], T, axis=0), params)
    by_step = jax.jit(jax.grad(untied))(copies)
    summed = jax.tree.map(lambda leaf: leaf.sum(0), by_step)
    return f"{T} copies: {agree(jax.jit(jax.grad(shared))(params), summed)}"


WIRED = {  # the matrices of the notes, transposed: rows are what is read
    "kernel": np.array([[1.0, 0.0, 0.0]]),
    "recurrent_kernel": np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).T,
}


def detect(bits):
    """The outputs of the network that the notes wire by hand, for bits [T, B]."""
    xs = np.asarray(bits, np.float32)[..., None]
    h = jnp.tile(jnp.array([0.0, 0.0, 1.0], jnp.float32), (xs.shape[1], 1))
    params = jax.tree.map(np.float32, WIRED)
    _, hs = run(sj.Elman(3, activation="relu", use_bias=False), params, xs, sj.HiddenCarry(h))
    return np.maximum(hs @ np.array([1, 1, -1], np.float32), 0)


@check("S3", "a ReLU network wired by hand finds repeated ones in 0 1 0 1 1 1 0 1 1")
def detector(rng):
    found = detect(np.array([[0, 1, 0, 1, 1, 1, 0, 1, 1]]).T)[:, 0]
    return require(found.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 1], " ".join(f"{y:g}" for y in found))


@check("S3", "the same network is x[t] AND x[t-1] on every string of 16 bits")
def detector_everywhere(rng):
    bits = (np.arange(2**16) >> np.arange(16)[:, None]) & 1
    before = np.concatenate([np.zeros_like(bits[:1]), bits[:-1]])
    wrong = int(np.sum(detect(bits) != (bits & before)))
    return require(wrong == 0, f"{wrong} wrong outputs of {bits.size:,}")


@check("S3", "a matrix times a one-hot vector picks a column of it")
def one_hot_product(rng):
    tokens, V = rng.integers(0, 50, size=(T, B)), 50
    cell = sj.Elman(H, use_bias=False)
    kernel = rng.normal(size=(V, H)).astype(np.float32)
    product = jax.jit(cell.project)({"kernel": kernel}, np.eye(V, dtype=np.float32)[tokens])
    embed = flax.nnx.Embed(V, H, rngs=flax.nnx.Rngs(0))
    embed.embedding = flax.nnx.Param(jnp.asarray(kernel))
    return require(same_bits(product, embed(jnp.asarray(tokens))), "one-hot product and embedding: the same bits")


@check("S3 S4", "an embedding between input and hidden layer makes the model smaller: its product has low rank")
def embedding_rank(rng):
    V, E, wide = 1000, 8, 32
    table, f, tokens = rng.normal(size=(V, E)), affine(rng, E, wide, 0.2), rng.integers(0, V, size=(T, B))
    _, ys = run(sj.Elman(wide), params_of(f), table[tokens])
    product = f.W @ table.T
    one_hot = by_row(lambda x: reference.elman(f._replace(W=product), x, np.zeros(wide)), np.eye(V)[tokens])
    rank, small = np.linalg.matrix_rank(product), V * E + E * wide
    require(rank == E and small < V * wide, f"rank {rank}, {small} weights")
    return f"rank {rank}; {small:,} weights instead of {V * wide:,}; {agree(ys, one_hot)}"


@check("S2", "tanh keeps the memory in (-1, 1) however long it runs; the identity and ReLU need not")
def bounded_memory(rng):
    turn = 1.01 * np.eye(H)[np.roll(np.arange(H), 1)]
    params = {"kernel": np.zeros((F, H)), "recurrent_kernel": turn, "bias": np.zeros(H)}
    xs, carry = np.zeros((10_000, 1, F)), sj.HiddenCarry(jnp.full((1, H), 0.5))
    largest = {
        name: np.max(run(sj.Elman(H, activation=name), params, xs, carry)[1]) for name in ("tanh", "relu", "identity")
    }
    require(largest["tanh"] < 1, f"tanh reaches {largest['tanh']}")
    grown = 0.5 * 1.01**10_000
    require(np.allclose([largest["relu"], largest["identity"]], grown, rtol=1e-9), f"{largest}")
    return f"after 10,000 steps: tanh {largest['tanh']:.2f}, identity and ReLU {grown:.0e}"


@check("S2", "the derivative of tanh is smooth; that of ReLU jumps")
def smooth_derivative(rng):
    points = np.linspace(-2, 2, 4001)

    def slope(name):
        cell = sj.Elman(1, activation=name, use_bias=False)
        params = {"kernel": np.ones((1, 1)), "recurrent_kernel": np.ones((1, 1))}
        state = sj.HiddenCarry(jnp.zeros((1,)))
        output = jax.grad(lambda x: cell.apply(params, state, x[None, None])[1][0, 0])
        return jax.jit(jax.vmap(output))(points)

    slopes = {name: np.asarray(slope(name)) for name in ("tanh", "relu")}
    said = agree(slopes["tanh"], 1 - np.tanh(points) ** 2)
    jumps = {name: np.max(np.abs(np.diff(values))) for name, values in slopes.items()}
    require(jumps["tanh"] < 0.8e-3 and jumps["relu"] == 1, f"{jumps}")
    return f"1 - tanh^2: {said}; largest change in 0.001: tanh {jumps['tanh']:.1e}, ReLU {jumps['relu']:g}"
