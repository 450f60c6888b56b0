"""The engines against the plain scan, and what makes each of them worth having."""

import dataclasses
import functools
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seqjax as sj
from seqjax import engines
from seqjax.decode.fixed import sizes_of
from seqjax.engines import choice, pieces

T, B, H = 5, 3, 4

drawn = functools.partial(settings, max_examples=25, deadline=None, derandomize=True, database=None)
steps = hnp.arrays(bool, (T, B))


def recur(params, h):
    return h @ params["recurrent_kernel"]


def gate(params, h, u, r):
    h = jnp.tanh(u * params["scale"] + r) + 0.5 * h
    return h, h * u


def case(seed=0):
    """params, carry, us, and the state of a sequence that begins, all of them to be learnt."""
    rng = np.random.default_rng(seed)
    params = {"recurrent_kernel": rng.normal(size=(H, H)) / 2, "scale": rng.normal(size=H)}
    return jax.tree.map(jnp.asarray, (params, rng.normal(size=(B, H)), rng.normal(size=(T, B, H)), rng.normal(size=(B, H))))


def plainly(params, carry, us, fresh, mask, resets):
    return engines.scan(lambda h, u: gate(params, h, u, recur(params, h)), carry, us, mask=mask, resets=resets, fresh=fresh)


def hoisted(params, carry, us, fresh, mask, resets, *, steps=None):
    return engines.hoisted(recur, gate, params, carry, us, steps=steps, mask=mask, resets=resets, fresh=fresh)


def loss(run, params, carry, us, fresh, mask=None, resets=None):
    final, ys = run(params, carry, us, fresh, mask, resets)
    return jnp.sum(jnp.sin(ys)) + jnp.sum(jnp.cos(final))


@functools.partial(jax.jit, static_argnums=0)
def gradients(run, *arguments):
    return jax.value_and_grad(loss, argnums=(1, 2, 3, 4))(run, *arguments)


def close(actual, expected, tolerance=1e-12):
    chex.assert_trees_all_close(actual, expected, rtol=tolerance, atol=tolerance)


@drawn()
@given(mask=steps, resets=steps)
def test_hoisted_is_the_scan_for_any_mask_and_resets(mask, resets):
    with jax.enable_x64(True):
        close(gradients(hoisted, *case(), mask, resets), gradients(plainly, *case(), mask, resets))


def test_a_state_that_begins_gets_its_gradient_through_every_reset():
    resets = np.zeros((T, B), bool)
    resets[1, 0] = resets[3, 0] = resets[2, 1] = True
    with jax.enable_x64(True):
        _, (_, _, _, dfresh) = gradients(hoisted, *case(), np.ones((T, B), bool), resets)
        _, (_, _, _, expected) = gradients(plainly, *case(), np.ones((T, B), bool), resets)
    close(dfresh, expected)
    assert np.min(np.abs(dfresh[:2])) > 0
    np.testing.assert_array_equal(dfresh[2], np.zeros(H))  # its sequence never begins anew


def test_second_derivatives_by_reverse_over_reverse():
    with jax.enable_x64(True):
        arguments = case()
        direction = jax.tree.map(
            lambda leaf: jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape), arguments[:3]
        )

        @functools.partial(jax.jit, static_argnums=0)
        def curvature(run, params, carry, us, fresh, mask, resets):
            def slope(params, carry, us):
                slopes = jax.grad(loss, argnums=(1, 2, 3))(run, params, carry, us, fresh, mask, resets)
                return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, slopes, direction)))

            return jax.grad(slope, argnums=(0, 1, 2))(params, carry, us)

        mask = np.arange(T)[:, None] < np.array([5, 3, 0])
        resets = np.arange(T)[:, None] == np.array([2, 1, 4])
        expected = curvature(plainly, *arguments, mask, resets)
        close(curvature(hoisted, *arguments, mask, resets), expected)
        assert all(np.max(np.abs(leaf)) > 0.01 for leaf in jax.tree.leaves(expected))


def test_forward_mode_needs_the_plain_scan():
    params, carry, us, fresh = case()

    def tangent(run):
        return jax.jvp(lambda us: loss(run, params, carry, us, fresh), (us,), (jnp.ones_like(us),))[1]

    assert tangent(plainly) != 0
    with pytest.raises(TypeError, match="forward-mode"):
        tangent(hoisted)


def test_products_with_the_hessian_by_forward_over_reverse():
    with jax.enable_x64(True):
        params, *others = case()
        direction = jax.tree.map(jnp.cos, params)

        def product(run):
            return jax.jvp(lambda params: jax.grad(loss, argnums=1)(run, params, *others), (params,), (direction,))[1]

        close(product(hoisted), product(plainly))


def test_time_is_linear_in_the_number_of_steps():
    """Stacked outputs of narrow rows cost T squared with a jaxlib of 2026 (jax#40101): 256 instead of 16 times as much."""
    cell = sj.LSTM(4)

    def seconds(steps):
        xs = jnp.ones((steps, 1, 3))
        params = cell.init(jax.random.key(0), xs)
        gradient = jax.jit(jax.grad(lambda p: jnp.sum(cell.apply(p, cell.initial_carry(p, (1,)), xs)[1])))
        runs = []
        for _ in range(4):
            start = time.perf_counter()
            jax.block_until_ready(gradient(params))
            runs.append(time.perf_counter() - start)
        return min(runs)

    assert seconds(32768) < 64 * seconds(2048)


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_hoisted_flattens_any_number_of_batch_axes(batch):
    rng = np.random.default_rng(0)
    params = case()[0]
    carry, us = jnp.asarray(rng.normal(size=(*batch, H))), jnp.asarray(rng.normal(size=(T, *batch, H)))

    def total(run, params):
        return jnp.sum(jnp.sin(run(params)[1]))

    actual = jax.grad(lambda p: total(lambda p: engines.hoisted(recur, gate, p, carry, us, batch_axes=len(batch)), p))(
        params
    )
    expected = jax.grad(lambda p: total(lambda p: plainly(p, carry, us, None, None, None), p))(params)
    close(actual, expected, 1e-5)


def backward_loops(recurrence):
    """The loops that run from the last step to the first, in the gradient of a recurrence."""
    xs = jnp.ones((7, 2, 3))
    params = recurrence.init(jax.random.key(0), xs)
    carry = recurrence.initial_carry(params, (2,))
    jaxpr = jax.make_jaxpr(jax.grad(lambda p: jnp.sum(recurrence.apply(p, carry, xs)[1] ** 2)))(params)
    return [e for e in equations(jaxpr.jaxpr) if e.primitive.name == "scan" and e.params["reverse"]]


CUTS = {
    "split": (lambda u, r: jnp.split(u, 3, axis=-1)[1], [2, 4]),
    "slices": (lambda u, r: u[..., :1] * u[..., 4:], [1, 4]),
    "one_part": (lambda u, r: u[..., 2:5], [2, 5]),
    "after_a_sum": (lambda u, r: jnp.tanh(jnp.split(2 * u + r, 2, axis=-1)[0]), [3]),
    "read_as_a_whole": (lambda u, r: jnp.tanh(u)[..., :2], []),
    "also_read_as_a_whole": (lambda u, r: u[..., :2] + jnp.sum(u), []),
    "given_back": (lambda u, r: u + r, []),
    "another_axis": (lambda u, r: u[:1], []),
    "every_second": (lambda u, r: u[..., ::2], []),
    "not_read": (lambda u, r: r, []),
}


@pytest.mark.parametrize("name", CUTS)
def test_it_is_known_where_a_gate_cuts_its_inputs(name):
    function, expected = CUTS[name]
    params, carry, u = {"a": np.ones(3), "b": np.ones(2)}, (np.ones((2, 6)),), {"x": np.ones((2, 6)), "y": np.ones((2, 4))}
    assert pieces.cuts(lambda params, carry, u, r: function(u["x"], r), params, carry, u, np.ones((2, 6))) == [expected, []]


@pytest.mark.parametrize(("cell", "widths"), [(sj.JANET(5), [5, 5]), (sj.GRU(5), [5, 5, 5]), (sj.LSTM(5), [20])])
def test_a_loop_reads_inputs_part_by_part_where_its_gate_takes_them_apart(cell, widths):
    xs = jax.ShapeDtypeStruct((7, 3, 2), jnp.float32)
    params = cell.init(jax.random.key(0), xs)
    program = jax.make_jaxpr(lambda params, xs: cell.apply(params, cell.initial_carry(params, (3,)), xs))(params, xs)
    (loop,) = [e for e in equations(program.jaxpr) if e.primitive.name == "scan"]
    inputs = loop.invars[sum(sizes_of(loop.params)) :]
    read = [v.aval.shape for v in inputs if v.aval.shape[:2] == (7, 3)]
    assert read == [(7, 3, width) for width in widths]


def equations(jaxpr):
    """All equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from equations(getattr(inner, "jaxpr", inner))


def carried_shapes(loop):
    """Shapes of what a loop carries from step to step; what it stacks has the number of steps in front."""
    return [v.aval.shape for v in loop.outvars if v.aval.shape[:1] != (loop.params["length"],)]


TRANSCENDENTAL = {"tanh", "logistic", "exp", "log", "erf", "sin", "cos", "pow"}


@dataclasses.dataclass(frozen=True, repr=False)
class SoftSign(sj.LSTM):
    """A user's cell: the derivative of softsign is in terms of what came in."""

    def init(self, key, xs):
        return super().init(key, xs) | {"peephole": jnp.full((2, self.features), 0.3, self.param_dtype)}

    def gate(self, params, carry, u, r):
        i, f, g, o = jnp.split(u + r, 4, -1)
        inward, keep = params["peephole"]
        c = jax.nn.sigmoid(f + keep * carry.c) * carry.c + jax.nn.sigmoid(i + inward * carry.c) * jax.nn.soft_sign(g)
        h = jax.nn.sigmoid(o) * jax.nn.soft_sign(c)
        return sj.LSTMCarry(c, h), h


def test_a_part_is_kept_where_a_derivative_needs_no_more_than_a_part():
    xs, H = jnp.ones((7, 2, 3)), 4
    for cell in (sj.GRU(H), sj.TiedGRU(H), SoftSign(H)):
        params = cell.init(jax.random.key(0), xs)
        carry = cell.initial_carry(params, (2,))
        program = jax.make_jaxpr(jax.grad(lambda p, cell=cell, carry=carry: jnp.sum(cell.apply(p, carry, xs)[1] ** 2)))(
            params
        )
        forward, backward = (
            [e for e in equations(program.jaxpr) if e.primitive.name == "scan" and e.params["reverse"] == way]
            for way in (0, 1)
        )
        whole = params["recurrent_kernel"].shape[1]
        stacked = [v.aval.shape[-1] for loop in forward for v in loop.outvars if v.aval.shape[:2] in ((7, 2), (8, 2))]
        assert whole not in stacked
        names = {e.primitive.name for loop in backward for e in equations(loop.params["jaxpr"].jaxpr)}
        assert "reduce_sum" not in names
        products = [e for e in equations(program.jaxpr) if e.primitive.name == "dot_general"]
        assert sum(e.outvars[0].aval.shape == (7, 2, whole) for e in products) == 1, "inputs are projected once"


@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_a_users_cell_equal_those_of_the_plain_scan(seed):
    rng = np.random.default_rng(seed)
    with jax.enable_x64(True):
        steps, batch = rng.integers(2, 9), rng.integers(1, 5)
        xs = jnp.asarray(rng.normal(size=(steps, batch, 3)))
        mask, resets = (jnp.asarray(rng.random((steps, batch)) < share) for share in (0.7, 0.2))
        found = []
        for engine in ("scan", "hoisted"):
            cell = SoftSign(4, param_dtype="float64", engine=engine)
            params = cell.init(jax.random.key(seed), xs)
            carry = cell.initial_carry(params, (int(batch),))

            def loss(params, xs, cell=cell, carry=carry):
                return jnp.sum(jnp.sin(cell.apply(params, carry, xs, mask=mask, resets=resets)[1]))

            found.append(jax.grad(loss, (0, 1))(params, xs))
        chex.assert_trees_all_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("cell", "rows", "own"),
    [(sj.LSTM(3), 2, [12]), (sj.LSTM(3), 2000, [12]), (sj.GRU(3), 2, [6, 3]), (sj.GRU(3), 2000, [6, 3, 3])],
)
def test_a_loop_keeps_nothing_that_follows_from_the_rest(cell, rows, own):
    """Of a small LSTM the memory cells and the gates; of a large one the outputs too, but not tanh(c).

    Of a small GRU the states, two gates and r_n, of a large one n too. The two gates are computed as one.
    """
    xs = jnp.ones((7, rows, 5))
    params = cell.init(jax.random.key(0), xs)
    carry = cell.initial_carry(params, (rows,))
    program = jax.make_jaxpr(jax.grad(lambda p: jnp.sum(cell.apply(p, carry, xs)[1] ** 2)))(params)
    (loop,) = [e for e in equations(program.jaxpr) if e.primitive.name == "scan" and not e.params["reverse"]]
    states = len(jax.tree.leaves(carry)) if rows > 2 else 1
    stacked = sorted(v.aval.shape for v in loop.outvars if v.aval.ndim == 3)
    assert stacked == sorted([*((7, rows, width) for width in own), *[(8, rows, 3)] * states])
    assert "concatenate" not in {e.primitive.name for e in equations(loop.params["jaxpr"].jaxpr)}


PARTS = {  # of u and r, which are cut in six
    "u": lambda u, r, i: u[i],
    "r": lambda u, r, i: r[i],
    "a sum": lambda u, r, i: u[i] + r[i],
    "a sum of sums": lambda u, r, i: u[i] + (u[i] + r[i]),
    "a sum from two places": lambda u, r, i: u[i] + r[i + 1],
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS)
def test_parts_put_side_by_side_are_what_they_were(first, second, axis):
    u, r = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 6)), jnp.float32)
    for start in (0, 1, 2):  # only what starts where the last one ended is a part of the same

        def gate(params, carry, u, r, start=start):
            cut = jnp.split(u, 6, -1), [r[..., i : i + 1] for i in range(6)]
            return jnp.tanh(jnp.concatenate([PARTS[first](*cut, 0), PARTS[second](*cut, start)], axis)), carry

        for found, expected in zip(pieces.named(gate)(1.0, 2.0, u, r), gate(1.0, 2.0, u, r), strict=True):
            np.testing.assert_array_equal(found, expected)


ODD = {  # what a step gives, from its state h, what came in and the product
    "an_output_that_follows": lambda params, h, u, r: (jnp.tanh(u + r), jnp.tanh(params["scale"] * jnp.tanh(u + r))),
    "an_output_of_the_start": lambda params, h, u, r: (jnp.tanh(u + r), h * h),
    "a_constant": lambda params, h, u, r: (jnp.tanh(u + r), jnp.ones(h.shape)),
    "inputs_alone": lambda params, h, u, r: (jnp.tanh(jnp.cos(u) * r), jnp.sin(jnp.exp(u) * jnp.tanh(jnp.cos(u) * r))),
    "numbers": lambda params, h, u, r: (jnp.clip(u + r, -1, 1), jnp.argmax(u + r, -1)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ODD)
def test_any_gate_has_the_gradients_of_the_plain_scan(name, masked):
    """Beside h there are a state that follows from it, one that stays what it was, and one that is the same for all."""

    def gate(params, carry, u, r):
        h, y = ODD[name](params, carry[0], u, r)
        return (h, 2 * jnp.sin(h), carry[2], jnp.zeros_like(carry[3])), y

    def recur(params, carry):
        return (carry[0] * carry[2] + carry[1]) @ params["recurrent_kernel"]

    def step(carry, u, params):
        return gate(params, carry, u, recur(params, carry))

    def run(engine, params, h, us, fresh):
        begin, again = ((h, h + 1, h - 2, h) for h in (h, fresh))
        cells = jnp.arange(T * B).reshape(T, B)
        places = {"mask": cells % 3 > 0, "resets": cells % 4 == 1, "fresh": again} if masked else {}
        if engine == "scan":
            return engines.scan(functools.partial(step, params=params), begin, us, **places)
        return engines.hoisted(recur, gate, params, begin, us, **places)

    def loss(engine, *arguments):
        carry, y = run(engine, *arguments)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in (*carry, y))

    with jax.enable_x64(True):
        found, expected = (
            jax.jit(jax.value_and_grad(functools.partial(loss, engine), (0, 1, 2, 3)))(*case())
            for engine in ("hoisted", "scan")
        )
        close(found, expected)
        close(run("hoisted", *case()), run("scan", *case()))


@pytest.mark.parametrize("cell", [sj.LSTM, sj.GRU, sj.Elman])
def test_backward_loop_of_hoisted_carries_no_weight_gradient_and_computes_no_activation(cell):
    weights = cell(4).init(jax.random.key(0), jnp.ones((1, 1, 3)))["recurrent_kernel"].shape
    (loop,) = backward_loops(cell(4, engine="hoisted"))
    (plain,) = backward_loops(cell(4, engine="scan"))
    assert weights in carried_shapes(plain)  # what hoisting takes out of the loop
    assert weights not in carried_shapes(loop)
    names = {equation.primitive.name for equation in equations(loop.params["jaxpr"].jaxpr)}
    assert "dot_general" in names
    assert not names & TRANSCENDENTAL


@drawn()
@given(mask=steps, resets=steps, size=st.integers(1, T))
def test_associative_is_the_scan_for_any_mask_resets_and_number_of_steps(mask, resets, size):
    rng = np.random.default_rng(0)
    decay, drive = rng.uniform(0.5, 1, size=(T, B, H))[:size], rng.normal(size=(T, B, H))[:size]
    h, fresh = rng.normal(size=(2, B, H))
    with jax.enable_x64(True):
        arguments = jax.tree.map(jnp.asarray, (decay, drive, h, fresh))
        close(*(linear(run, *arguments, mask[:size], resets[:size]) for run in (linear_associative, linear_scan)))


def linear_associative(decay, drive, h, fresh, mask, resets):
    return engines.associative(decay, drive, h, mask=mask, resets=resets, fresh=fresh)


def linear_scan(decay, drive, h, fresh, mask, resets):
    def step(h, u):
        h = u[0] * h + u[1]
        return h, h

    hs, held = [], h
    for t in range(len(drive)):  # unlike ys, states are held at invalid steps
        held, _ = engines.scan(
            step, held, (decay[t : t + 1], drive[t : t + 1]), mask=mask[t : t + 1], resets=resets[t : t + 1], fresh=fresh
        )
        hs.append(held)
    return jnp.stack(hs)


@functools.partial(jax.jit, static_argnums=0)
def linear(run, *arguments):
    mask, resets = arguments[4:]
    return jax.value_and_grad(lambda *a: jnp.sum(jnp.sin(run(*a, mask, resets))), argnums=(0, 1, 2, 3))(*arguments[:4])


@functools.cache  # one function a size, compiled once
def in_parts(size):
    return functools.partial(hoisted, steps=size)


@drawn()
@given(mask=steps, resets=steps, size=st.sampled_from([2, T, T + 1]))
def test_steps_in_parts_are_all_steps_at_once(mask, resets, size):
    with jax.enable_x64(True):
        close(gradients(in_parts(size), *case(), mask, resets), gradients(plainly, *case(), mask, resets))


@pytest.mark.parametrize(("most", "lengths"), [(0, {6, 2, 1}), (1500, {3, 10, 8, 1}), (1 << 22, {38})])
def test_a_gated_cell_takes_as_many_steps_at_once_as_the_cache_holds(monkeypatch, most, lengths):
    monkeypatch.setitem(choice._AT_ONCE, "cpu", most)
    rng, cell = np.random.default_rng(0), sj.GRU(H)
    xs = jnp.asarray(rng.normal(size=(38, B, H)), jnp.float32)
    mask, resets = rng.random((2, 38, B)) < 0.5
    params = cell.init(jax.random.key(0), xs)

    def gradient(cell):
        carry = cell.initial_carry(params, (B,))
        return jax.jit(jax.grad(lambda params: jnp.sum(jnp.sin(cell.apply(params, carry, xs, mask=mask, resets=resets)[1]))))

    close(gradient(cell)(params), gradient(dataclasses.replace(cell, engine="scan"))(params), 1e-5)
    loops = [e for e in equations(jax.make_jaxpr(gradient(cell))(params).jaxpr) if e.primitive.name == "scan"]
    assert {e.params["length"] for e in loops} == lengths


def test_noise_is_drawn_for_every_step_however_many_are_taken_at_once(monkeypatch):
    monkeypatch.setitem(choice._AT_ONCE, "cpu", 1500)
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(38, B, H)), jnp.float32)

    def outputs(engine):
        recurrence = sj.Zoneout(sj.GRU(H, engine=engine), 0.4)
        params = recurrence.init(jax.random.key(0), xs)
        return recurrence.apply(params, recurrence.initial_carry(params, (B,)), xs, key=jax.random.key(1))[1]

    close(outputs("hoisted"), outputs("scan"), 1e-5)


def product_loops(units, rows):
    """Shapes of the products in the loop of an LSTM's forward pass, and in the one of its backward pass."""
    xs, cell = jax.ShapeDtypeStruct((7, rows, 3), jnp.float32), sj.LSTM(units)
    params = jax.eval_shape(cell.init, jax.random.key(0), xs)

    def total(params, xs):
        return jnp.sum(cell.apply(params, cell.initial_carry(params, (rows,)), xs)[1] ** 2)

    loops = [e for e in equations(jax.make_jaxpr(jax.grad(total))(params, xs).jaxpr) if e.primitive.name == "scan"]
    return [
        [v.aval.shape for v in e.invars]
        for loop in loops
        for e in equations(loop.params["jaxpr"].jaxpr)
        if e.primitive.name == "dot_general"
    ]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices lay out products as they like")
def test_large_matrices_stand_on_the_left_of_few_rows():
    assert product_loops(512, 24) == [[(2048, 512), (512, 24)], [(512, 2048), (2048, 24)]]
    assert product_loops(512, 72) == [[(72, 512), (512, 2048)], [(72, 2048), (2048, 512)]]
    assert product_loops(256, 24) == [[(24, 256), (256, 1024)], [(24, 1024), (1024, 256)]]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices lay out products as they like")
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_turned_products_are_the_scan(batch):
    rng, cell = np.random.default_rng(0), sj.LSTM(512)
    xs = jnp.asarray(rng.normal(size=(3, *batch, 2)), jnp.float32)
    params = cell.init(jax.random.key(0), xs)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(cell, params):
        return jax.grad(lambda params: jnp.sum(jnp.sin(cell.apply(params, cell.initial_carry(params, batch), xs)[1])))(
            params
        )

    close(gradient(cell, params), gradient(dataclasses.replace(cell, engine="scan"), params), 1e-5)


def test_how_many_steps_the_cache_holds(monkeypatch):
    monkeypatch.setitem(choice._AT_ONCE, "cpu", 1000)
    assert choice.steps_at_once(7, 999, 10) == 7  # all fit
    assert choice.steps_at_once(70, 7000, 10) == 10
    assert choice.steps_at_once(71, 7100, 1200) == 24  # fewer would be spent on adding to the gradient
    assert choice.steps_at_once(70, 7000, 1200) == 14  # and no shorter one remains
    assert choice.steps_at_once(12, 12000, 2000) == 4
    assert choice.steps_at_once(12, 12000, 1999) == 12  # three steps are not worth a loop of their own
    assert choice.steps_at_once(5, 7000, 9000) == 5
    assert choice.steps_at_once(0, 0, 10) == 0
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert choice.steps_at_once(70, 7000, 10) == 70


def test_auto_is_the_associative_scan_where_time_can_be_parallel(monkeypatch):
    assert sj.MinGRU(4).choice(100).engine == "scan"
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert sj.MinGRU(4).choice(100).engine == "associative"
    assert sj.LSTM(4).choice(100).engine == "hoisted"
    assert sj.ChoGRU(4).choice(100).engine == "scan"


def test_choice_says_why():
    for cell in (sj.LSTM(4), sj.ChoGRU(4), sj.MinGRU(4), sj.GridLSTM(4)):
        for steps in (1, 2, 1000):
            engine, why = str(cell.choice(steps)).split(": ", 1)
            assert engine in cell.engines
            assert len(why) > 10
        assert str(dataclasses.replace(cell, engine="scan").choice(9)) == "scan: asked for"
