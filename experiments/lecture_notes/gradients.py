"""Gradients through time: what they are, why they vanish or explode, and what clipping does."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import Affine, F, H, T, affine, agree, gap, params_of, require, run


def as_params(gradients):
    """Gradients of W, V and b, in the notes' form, as a tree of parameters."""
    return params_of(Affine(*gradients))


def loss_of(cell, xs, weights):
    """``sum(weights * hs ** 2) / 2`` as a function of the parameters; no batch axis."""

    def loss(params):
        return jnp.sum(weights * cell.apply(params, sj.HiddenCarry(jnp.zeros((H,))), xs)[1] ** 2) / 2

    return loss


@check("S3 S4", "back-propagation through the whole sequence gives the derivative: finite differences agree")
def finite_differences(rng):
    xs, weights, f = rng.normal(size=(T, F)), rng.normal(size=(T, H)), affine(rng)
    gradient = jax.jit(jax.grad(loss_of(sj.Elman(H), xs, weights)))(params_of(f))

    def value(f):
        return np.sum(weights * reference.elman(f, xs, np.zeros(H)) ** 2) / 2

    slopes = []
    for part, matrix in enumerate(f):
        slope = np.zeros(matrix.shape)
        for at in np.ndindex(matrix.shape):
            change = np.zeros(matrix.shape)
            change[at] = 1e-5
            up, down = (value(f._replace(**{f._fields[part]: matrix + sign * change})) for sign in (1, -1))
            slope[at] = (up - down) / 2e-5
        slopes.append(slope)
    return f"{sum(s.size for s in slopes)} weights: {agree(gradient, as_params(slopes), 1e-8)}"


@check("S3", "dL/dW is the sum over the steps of what flows back to them")
def sum_over_steps(rng):
    xs, weights, f = rng.normal(size=(T, F)), rng.normal(size=(T, H)), affine(rng)
    gradient = jax.jit(jax.grad(loss_of(sj.Elman(H), xs, weights)))(params_of(f))
    return agree(gradient, as_params(reference.backpropagate(f, xs, np.zeros(H), weights)))


def jacobian(cell, params, xs, h):
    """d h[T] / d h[0] by automatic differentiation, [H, H]; no batch axis."""
    return jax.jit(jax.jacobian(lambda h: cell.apply(params, sj.HiddenCarry(h), xs)[0].h))(h)


def product(f, xs, h):
    """The product of diag(1 - h^2) V over all steps, later ones on the left."""
    total = np.eye(len(h))
    for after in reference.elman(f, xs, h):
        total = np.diag(1 - after**2) @ f.V @ total
    return total


@check("S3", "dh[t]/dh[t-1] = diag(1 - h[t]^2) W_hh")
def one_step(rng):
    f, xs, h = affine(rng), rng.normal(size=(1, F)), rng.normal(size=H)
    return agree(jacobian(sj.Elman(H), params_of(f), xs, h), product(f, xs, h))


@check("S3", "dh[T]/dh[0] is the product of the Jacobians of all steps")
def many_steps(rng):
    f, xs, h = affine(rng), rng.normal(size=(T, F)), rng.normal(size=H)
    return agree(jacobian(sj.Elman(H), params_of(f), xs, h), product(f, xs, h))


def linear_norms(rng, gain, steps):
    """The spectral norm of dh[t]/dh[0] for all t, of a linear network whose matrix is orthogonal times a gain."""
    V = gain * np.linalg.qr(rng.normal(size=(H, H)))[0]
    params = params_of(Affine(np.zeros((H, F)), V, np.zeros(H)))
    # A linear network is its own Jacobian: started at the unit vectors, its states are the columns.
    cell, xs = sj.Elman(H, activation="identity"), np.zeros((steps, H, F))
    _, columns = run(cell, params, xs, sj.HiddenCarry(jnp.eye(H)))
    return np.linalg.norm(columns, ord=2, axis=(1, 2))


@check("S0 S3 S4", "largest singular value of W_hh above 1: gradients explode; the slope of log-norm is its logarithm")
def explodes(rng):
    logs = np.log(linear_norms(rng, 1.1, 200))
    slope = np.polyfit(np.arange(200), logs, 1)[0]
    require(abs(slope - np.log(1.1)) < 1e-12, f"slope {slope}")
    return f"sigma = 1.1: slope {slope:.6f} = ln 1.1; norm {np.exp(logs[-1]):.1e} after 200 steps"


@check("S0 S3 S4", "largest singular value of W_hh below 1: gradients vanish, with the same law")
def vanishes(rng):
    logs = np.log(linear_norms(rng, 0.9, 200))
    slope = np.polyfit(np.arange(200), logs, 1)[0]
    require(abs(slope - np.log(0.9)) < 1e-12, f"slope {slope}")
    return f"sigma = 0.9: slope {slope:.6f} = ln 0.9; norm {np.exp(logs[-1]):.1e} after 200 steps"


@check("S0", "a gradient through time is like a power function, with a jump near 1")
def power_function(rng):
    norms = {gain: linear_norms(rng, gain, 1000)[-1] for gain in (0.99, 1.0, 1.01)}
    require(all(abs(norm / gain**1000 - 1) < 1e-9 for gain, norm in norms.items()), f"{norms}")
    return "after 1,000 steps: " + ", ".join(f"{gain}: {norm:.1e}" for gain, norm in norms.items())


@check("S3", "tanh' is below 1 almost everywhere, so that even an orthogonal W_hh lets gradients vanish")
def tanh_shrinks(rng):
    f = affine(rng)._replace(V=np.linalg.qr(rng.normal(size=(H, H)))[0])
    norms = [
        np.linalg.norm(jacobian(sj.Elman(H), params_of(f), rng.normal(size=(t, F)), np.zeros(H)), 2) for t in (1, 10, 100)
    ]
    require(1 > norms[0] > norms[1] > norms[2] and norms[2] < 1e-3, f"{norms}")
    return "norm after 1, 10, 100 steps: " + ", ".join(f"{norm:.1e}" for norm in norms)


@check("S3", "one singular value of W_hh above 1 is not enough to explode: what counts is that of the power")
def power_of_a_matrix(rng):
    V = np.array([[0.0, 2.0], [0.0, 0.0]])
    params = params_of(Affine(np.zeros((2, 1)), V, np.zeros(2)))
    cell = sj.Elman(2, activation="identity")
    norms = [np.linalg.norm(jacobian(cell, params, np.zeros((t, 1)), np.zeros(2)), 2) for t in (1, 2)]
    return require(norms == [2, 0], f"W = [[0, 2], [0, 0]]: norm {norms[0]:g} after one step, {norms[1]:g} after two")


@check("S1 S3", "information many steps back is hard to reach in practice: a vanilla network as it is initialized")
def hard_to_reach(rng):
    wide, steps = 32, 100
    cell, xs = sj.Elman(wide), rng.normal(size=(steps, wide))
    params = jax.tree.map(np.float64, cell.init(jax.random.key(rng.integers(2**31)), xs))

    @jax.jit
    def reach(xs):
        return jax.grad(lambda xs: cell.apply(params, sj.HiddenCarry(jnp.zeros((wide,))), xs)[1][-1].sum())(xs)

    norms = np.linalg.norm(reach(xs), axis=-1)
    return require(norms[0] < 1e-6 * norms[-1], f"|dh[100]/dx[t]|: {norms[-1]:.1f} for t = 100, {norms[0]:.0e} for t = 1")


def clip(limit, gradients):
    """What Optax makes of gradients."""
    transform = optax.clip_by_global_norm(limit)
    return transform.update(gradients, transform.init(gradients))[0]


@check("S3", "gradient clipping: a gradient whose norm is too large is scaled to the threshold, any other one stays")
def clipping(rng):
    norms = []
    for scale in (0.01, 1.0, 1e6):
        tree = jax.tree.map(lambda g, scale=scale: jnp.asarray(scale * g), params_of(affine(rng)))
        norm = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in tree.values()))
        want = jax.tree.map(lambda g, norm=norm: g * min(1.0, 0.5 / norm), tree)
        clipped = clip(0.5, tree)
        require(gap(clipped, want) < 1e-12, f"{gap(clipped, want)} from the formula")
        norms.append((norm, np.sqrt(sum(np.sum(np.square(leaf)) for leaf in clipped.values()))))
    require(norms[0][0] == norms[0][1], "a small gradient was changed")
    return "threshold 0.5: " + ", ".join(f"{before:.3g} -> {after:.3g}" for before, after in norms)


@check("S3", "an exploding gradient is cured by clipping: gradient descent diverges without it and converges with it")
def clipping_converges(rng):
    cell, xs = sj.Elman(1, activation="identity", use_bias=False), jnp.zeros((20, 1, 1))

    def loss(w):  # the state after 20 steps, w^20, should be one
        params = {"kernel": jnp.zeros((1, 1)), "recurrent_kernel": w}
        return (cell.apply(params, sj.HiddenCarry(jnp.ones((1, 1))), xs)[0].h[0, 0] - 1) ** 2 / 2

    def descend(transform):
        def step(state, _):
            w, inner = state
            updates, inner = transform.update(jax.grad(loss)(w), inner)
            return (optax.apply_updates(w, updates), inner), None

        w = jnp.full((1, 1), 1.3)
        return float(jax.jit(lambda w: jax.lax.scan(step, (w, transform.init(w)), None, length=300)[0][0])(w)[0, 0])

    free, clipped = descend(optax.sgd(0.004)), descend(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.004)))
    require(not abs(free) < 10 and abs(clipped - 1) < 1e-3, f"without {free}, with {clipped}")
    return f"from w = 1.3 to w = 1: w is {free:.0e} without clipping, {clipped:.4f} with it"


@check("S3", "a vanishing gradient is not cured by clipping: it stays as small as it was")
def clipping_leaves_small(rng):
    f = affine(rng)._replace(V=np.zeros((H, H)))
    f.V[0, 0] = 0.1
    xs, weights = rng.normal(size=(T, F)), np.zeros((T, H))
    weights[-1, 0] = 1
    cell, params = sj.Elman(H), params_of(f)

    @jax.jit
    def reach(xs):
        return jax.grad(lambda xs: jnp.sum(weights * cell.apply(params, sj.HiddenCarry(jnp.zeros((H,))), xs)[1]))(xs)

    early = {"xs": reach(xs)[0]}
    clipped = clip(1.0, early)
    size = float(jnp.max(jnp.abs(early["xs"])))
    require(0 < size < 1e-5, f"the gradient is {size}")
    return require(
        np.array_equal(clipped["xs"], early["xs"]), f"{size:.0e} before, {jnp.max(jnp.abs(clipped['xs'])):.0e} after"
    )
