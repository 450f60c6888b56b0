"""Linear functions split in factors and work: equal to the function, and with little work left."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqjax as sj
from seqjax.engines import factors
from tests.test_engines import backward_loops, equations

T, B, H = 5, 3, 4
drawn = functools.partial(settings, max_examples=40, deadline=None, derandomize=True, database=None)


def compare(function, totals=0, every=0):
    """``function(fixed, varying, linear)`` over T steps, split and as it is; the splits work.

    Of the first ``totals`` outputs the sum over all steps is compared, the last ``every`` are made of all steps at once.
    """
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        fixed = [jnp.asarray(rng.normal(size=shape)) for shape in ((H,), (H, H))]
        varying = [jnp.asarray(rng.normal(size=(T, B, H))) for _ in range(2)]
        linear = [jnp.asarray(rng.normal(size=(T, B, H))) for _ in range(2)]
        one = [[leaf[0] for leaf in leaves] for leaves in (varying, linear)]
        closed = jax.make_jaxpr(function)(fixed, *one)
        works = []

        def split(varying):
            results, work = factors.split(closed, fixed, varying, totals, every)
            works.append(work)
            return results

        same, own = jax.vmap(split, out_axes=(None, 0))(varying)
        sums, wanted, stacks, last = works[0].nothing(), [], [], []
        for t in range(T):
            expected = function(fixed, [leaf[t] for leaf in varying], [leaf[t] for leaf in linear])
            more, actual, kept = works[0]([leaf[t] for leaf in linear], (same, [leaf[t] for leaf in own]))
            sums = [a + b for a, b in zip(sums, more, strict=True)]
            wanted.append(expected[:totals])
            stacks.append(kept)
            alone = len(expected) - every
            last.append(expected[alone:])
            assert len(actual) == alone - totals
            for got, want in zip(actual, expected[totals:alone], strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        for got, *want in zip(works[0].total(sums), *wanted, strict=True):
            np.testing.assert_allclose(got, sum(want), rtol=1e-12, atol=1e-12)
        made = works[0].of_all_steps([jnp.stack(leaves) for leaves in zip(*stacks, strict=True)], (same, own))
        for got, *want in zip(made, *last, strict=True):
            np.testing.assert_allclose(got, jnp.stack(want), rtol=1e-12, atol=1e-12)
    return works[0]


def zeros():
    """What a function of these tests reads at a step."""
    return [jnp.zeros(H), jnp.zeros((H, H))], [jnp.zeros((B, H))] * 2, [jnp.zeros((B, H))] * 2


FUNCTIONS = {
    "a product": lambda f, v, x: [v[0] * x[0]],
    "what comes in": lambda f, v, x: [x[1]],
    "nothing": lambda f, v, x: [jnp.zeros((B, H), x[0].dtype), x[0]],
    "what is known": lambda f, v, x: [jnp.sin(v[0]), x[0]],
    "signs": lambda f, v, x: [-x[0] - (x[1] - v[0] * x[0]), 0.0 - x[1]],
    "quotients": lambda f, v, x: [x[0] / (2 + v[0] ** 2) / 3.0],
    "one after the other": lambda f, v, x: [jnp.cos(v[0]) * (v[1] * (x[0] + v[0] * x[1]))],
    "where": lambda f, v, x: [jnp.where(v[0] > 0, x[0] * v[1], 0.0), jnp.where(v[1] > 0, 0.0, x[0] + x[1])],
    "where between two": lambda f, v, x: [jnp.where(v[0] > 0, x[0], x[1])],
    "rows": lambda f, v, x: [jnp.concatenate([x[0] * v[0], x[1], x[0] + x[1]], -1) * jnp.tile(v[1], (1, 3))],
    "rows with nothing": lambda f, v, x: [jnp.concatenate([x[0], jnp.zeros((B, 2), x[0].dtype)], -1)],
    "sums of rows": lambda f, v, x: [jnp.concatenate([x[0], x[1]], -1) + jnp.concatenate([x[1], v[0] * x[1]], -1)],
    "rows in parts": lambda f, v, x: jnp.split(jnp.concatenate([x[0], x[1] * v[0]], -1) * 2.0, 2, -1),
    "other parts of rows": lambda f, v, x: jnp.split(jnp.concatenate([x[0], x[1] * v[0]], -1), [1], -1),
    "slices turned round": lambda f, v, x: jax.vjp(lambda a: (v[0] * a[..., :H], a[..., H:]), jnp.tile(v[0], 2))[1](
        tuple(x)
    ),
    "slices that overlap": lambda f, v, x: jax.vjp(lambda a: (a[..., :H], a[..., 2 : H + 2]), jnp.tile(v[0], 2))[1](
        tuple(x)
    ),
    "rows of one": lambda f, v, x: [
        jnp.concatenate([x[0] * v[0], x[0], x[0] * v[1]], -1) @ jnp.tile(f[1], (3, 1)),
        jnp.concatenate([x[0] * v[0], x[0], x[0] * v[1]], -1),
        jnp.concatenate([x[0] * v[0], x[0] * v[1], x[0] * v[0] * v[1]], -1),
    ],
    "rows of one times numbers": lambda f, v, x: [
        jnp.concatenate([x[0] * jnp.sum(v[0]), x[0]], -1),
        jnp.concatenate([x[0] * v[0], x[0] * jnp.sum(f[0])], -1),
    ],
    "rows along the batch": lambda f, v, x: [jnp.concatenate([x[0], x[1]], 0)],
    "a fixed matrix": lambda f, v, x: [(x[0] * v[0]) @ f[1].T, x[1] @ f[1], x[0] @ f[1].T],
    "a varying matrix": lambda f, v, x: [x[0] @ v[0].T],
    "a fixed row": lambda f, v, x: [f[0] * x[0] + v[0] * x[0]],
    "means": lambda f, v, x: [x[0] - x[0].mean(-1, keepdims=True) * v[0], (v[0] * x[0]).sum(0)],
    "further functions": lambda f, v, x: [
        jax.jit(lambda a: jax.nn.relu(v[0]) * a)(x[0]),
        jax.checkpoint(jnp.negative)(x[1]),
    ],
}


@pytest.mark.parametrize("every", [0, 1, 2])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_work_with_factors_is_the_function(name, every):
    compare(FUNCTIONS[name], every=min(every, len(FUNCTIONS[name](*zeros()))))


@drawn()
@given(
    st.lists(st.tuples(st.sampled_from("amsdwcrpnxqt"), st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=14),
    st.integers(0, 3),
)
def test_work_with_factors_is_any_function_of_such_parts(parts, every):
    def function(fixed, varying, linear):
        known, values, rows = [*varying, jnp.tanh(varying[0] + fixed[0])], list(linear), []
        for kind, i, j in parts:
            one, other, k = values[i % len(values)], values[j % len(values)], known[j % len(known)]
            match kind:
                case "a":
                    values.append(one + other)
                case "m":
                    values.append(k * one)
                case "s":
                    values.append(one - other)
                case "d":
                    values.append(one / (1 + k**2))
                case "w":
                    values.append(jnp.where(k > 0, one, 0.0))
                case "c":
                    row = jnp.concatenate([one, other, one], -1) * jnp.tile(k, (1, 3))
                    values += jnp.split(row, 3, -1)
                case "p":
                    values.append(one @ fixed[1].T)
                case "x":
                    values.append(jnp.tanh(one) * other)
                case "q":
                    values.append(k / (1 + one**2) + one / (1 + other**2))
                case "t":
                    values.append(jnp.where(one > 0, k, other))
                case "n":
                    known.append(jnp.sin(k) * known[i % len(known)])
                case "r" if not rows:
                    rows = [jnp.concatenate([one * k, one, -one], -1), jnp.concatenate([one * k, other, one * known[0]], -1)]
        return [*(values[2:] or values), *rows]

    compare(function, every=min(every, len(function(*zeros()))))


def test_equal_outputs_are_one_result():
    work = compare(lambda f, v, x: [a := v[0] * x[0], a, x[1] * 2.0])
    assert work.outputs[0] == work.outputs[1] != work.outputs[2]


@pytest.mark.parametrize(("cell", "products"), [(sj.LSTM, 3), (sj.Elman, 1), (sj.GRU, 4)])
def test_backward_loop_of_a_cell_is_one_matrix_product_and_little_more(cell, products):
    (loop,) = backward_loops(cell(4))
    names = [equation.primitive.name for equation in equations(loop.params["jaxpr"].jaxpr)]
    assert names.count("dot_general") == 1
    assert names.count("mul") <= products
    written = {"broadcast_in_dim", "dynamic_update_slice"}  # what is kept, into a row
    little = {"dot_general", "mul", "add", "pjit", "jit", "convert_element_type", "transpose"} | written
    assert set(names) <= little | {"select_n", "reshape"}  # small blocks are chosen between
    (loop,) = backward_loops(cell(300))
    names = [equation.primitive.name for equation in equations(loop.params["jaxpr"].jaxpr)]
    assert names.count("dot_general") == 1
    assert names.count("mul") <= products
    assert set(names) <= little | {"concatenate"}


TOTALS = {  # and whether a sum over the batch is left for after the loop
    "a sum": (lambda f, v, x: [jnp.sum(v[0] * x[0], 0), x[1]], True),
    "more after it": (lambda f, v, x: [jnp.pad(-jnp.sum(v[0] * x[0], 0)[None], ((1, 0), (0, 0))).T], True),
    "two sums": (lambda f, v, x: [jnp.sum(v[0] * x[0], 0) + jnp.sum(x[1], 0)], True),
    "of other shapes": (
        lambda f, v, x: [jnp.sum(jnp.concatenate([x[0], x[1] * v[0]], -1), 0)[:, None] + jnp.sum(x[0])],
        False,
    ),
    "sums of sums": (lambda f, v, x: [jnp.sum(jnp.sum(x[0] * v[1], 1), keepdims=True)[:, None]], True),
    "sums side by side": (lambda f, v, x: [jnp.concatenate([jnp.sum(v[0] * x[0], 0), jnp.sum(x[1], 0)])], True),
    "a sum that is needed": (lambda f, v, x: [a := jnp.sum(v[0] * x[0], 0), jnp.sum(v[1], 0) * a], True),
    "a product of a sum": (lambda f, v, x: [jnp.sum(v[0] * x[0], 0) * f[0]], False),
    "no sum": (lambda f, v, x: [v[0] * x[0], x[1]], True),
    "what is known": (lambda f, v, x: [jnp.sum(v[0], 0), x[0]], True),
    "nothing": (lambda f, v, x: [jnp.zeros(H, x[0].dtype), x[0]], True),
}


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_sums_over_all_steps(name):
    function, waits = TOTALS[name]
    work = compare(function, totals=1)
    (parts,) = work.totals
    shapes = {aval.shape for _, aval, _ in parts}
    if waits and "sum" in name:
        assert shapes <= {(B, H)}
        assert all(then for *_, then in parts) == (name != "no sum")
