"""Modern recurrences: linear state spaces, which are convolutions and need not run serially."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import seqjax as sj
from experiments.lecture_notes import reference
from experiments.lecture_notes.registry import check
from experiments.lecture_notes.tools import B, F, H, agree, by_row, random_params, require, run, same_bits, start

STEPS, OUT = 51, 3


@dataclasses.dataclass(frozen=True, repr=False)
class StateSpace(sj.LinearCell):
    """``h' = a h + x W, y = h C``: linear, and the same at every step."""

    features: int

    def init(self, key, xs):
        H = self.features
        return {"decay": jnp.ones(H), "kernel": jnp.ones((xs.shape[-1], H)), "output_kernel": jnp.ones((H, OUT))}

    def initial_carry(self, params, batch_shape):
        return sj.LinearCarry(jnp.zeros((*batch_shape, self.features)))

    def project(self, params, xs):
        return xs @ params["kernel"]

    def coefficients(self, params, u):
        return params["decay"], u

    def readout(self, params, h, u):
        return h @ params["output_kernel"]


def state_space(rng):
    """Parameters, inputs, and the outputs of the convolution with ``C a^k W`` for lag k."""
    params = random_params(rng, StateSpace(H)) | {"decay": rng.uniform(-1, 1, size=H)}
    xs = rng.normal(size=(STEPS, B, F))
    lags = params["decay"] ** np.arange(STEPS)[:, None]  # [lag, H]
    kernel = np.einsum("fh,kh,ho->kfo", params["kernel"], lags, params["output_kernel"])

    def convolve(x):
        pairs = [[np.convolve(kernel[:, i, o], x[:, i])[:STEPS] for i in range(F)] for o in range(OUT)]
        return np.sum(pairs, axis=1).T

    return params, xs, by_row(convolve, xs)


@check("S3", "a state-space model is a recurrence, step by step, and a convolution over the whole input")
def convolution(rng):
    params, xs, convolved = state_space(rng)
    _, ys = run(StateSpace(H, engine="scan"), params, xs)
    return f"{STEPS} steps: {agree(ys, convolved)}"


@check("S3", "a state-space model runs in parallel, by an associative scan")
def associative_convolution(rng):
    params, xs, convolved = state_space(rng)
    _, ys = run(StateSpace(H, engine="associative"), params, xs)
    return f"{STEPS} steps: {agree(ys, convolved)}"


@check("S3", "a selective model, whose gates read the input (as Mamba's do), runs in parallel too")
def selective_scan(rng):
    xs, params = rng.normal(size=(STEPS, B, F)), random_params(rng, sj.MinGRU(H))

    def loop(xs):
        h, hs = np.zeros(H), []
        for u in xs @ params["kernel"] + params["bias"]:
            z = reference.sigmoid(u[:H])
            h = (1 - z) * h + z * u[H:]
            hs.append(h)
        return np.array(hs)

    serial, parallel = (run(sj.MinGRU(H, engine=engine), params, xs)[1] for engine in ("scan", "associative"))
    return f"{STEPS} steps, serial: {agree(serial, by_row(loop, xs))}; parallel: {agree(parallel, by_row(loop, xs))}"


@check("S3", "selection: a gate that reads the input can ignore filler to the last bit, a fixed decay cannot")
def selection(rng):
    first, filler = np.zeros((1, B, 2)), np.zeros((100, B, 2))
    first[..., 0], filler[..., 1] = rng.normal(size=B), 1.0  # a value to keep; a mark that says: ignore me
    xs = np.concatenate([first, filler])
    gated = {"kernel": np.array([[0.0, 1.0], [-800.0, 5.0]]), "bias": np.array([400.0, 0.0])}
    kept, _ = run(sj.MinGRU(1), gated, xs)
    require(same_bits(kept.h, first[0, :, :1]), f"{first[0, :, 0]} became {kept.h[:, 0]}")
    fixed = {"decay": np.array([0.99]), "kernel": np.array([[1.0], [5.0]]), "output_kernel": np.ones((1, OUT))}
    state, _ = run(StateSpace(1), fixed, xs)
    moved = np.min(np.abs(state.h - first[0, :, :1]))
    return require(moved > 100, f"after 100 steps of filler: moved by 0 with the gate, by {moved:.0f} without")


@check("S3", "unlimited context at constant memory: one step reads a state whose size no length changes")
def constant_memory(rng):
    params, xs, convolved = state_space(rng)
    carry, ys = None, []
    for x in xs:
        carry, y = run(StateSpace(H), params, x[None], carry)
        ys.append(y[0])
    size = sum(leaf.size for leaf in jax.tree.leaves(carry)) // B
    require(size == H, f"{size} numbers")
    return f"{STEPS} single steps, {size} numbers kept between them: {agree(np.array(ys), convolved)}"


def depth(jaxpr):
    """Additions, products and gates on the longest path through a computation, loops unrolled."""
    depths: dict = {}
    for equation in jaxpr.eqns:
        before = max((depths.get(v, 0) for v in equation.invars if not hasattr(v, "val")), default=0)
        inner = [p for p in equation.params.values() if hasattr(p, "eqns") or hasattr(p, "jaxpr")]
        own = sum(depth(getattr(p, "jaxpr", p)) for p in inner) * equation.params.get("length", 1)
        own += equation.primitive.name in ("add", "add_any", "sub", "mul", "dot_general", "logistic", "tanh")
        depths |= dict.fromkeys(equation.outvars, before + own)
    return max(depths.get(v, 0) for v in jaxpr.outvars if not hasattr(v, "val"))


def depth_of(recurrence, steps):
    """The depth of a recurrence over so many steps."""
    params = jax.tree.map(jnp.asarray, random_params(np.random.default_rng(0), recurrence))
    xs = jax.ShapeDtypeStruct((steps, B, F), jnp.float64)
    return depth(jax.make_jaxpr(lambda xs: recurrence.apply(params, start(recurrence, params, xs), xs))(xs).jaxpr)
