"""Cells that read a memory, against loops in NumPy; and that the memory stays where it is."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

import seqjax as sj
from seqjax.attention import Additive, Attend, Bilinear, Dot, LocationAware, Monotonic, MultiHead, ScaledDot
from seqjax.decode.fixed import sizes_of
from seqjax.precision import cast

T, B, F, S, M, H, A = 6, 3, 2, 5, 4, 7, 8

CELLS = {
    "after": Attend(sj.Elman(H), Additive(3), M, A),
    "feed": Attend(sj.Elman(H), Additive(3), M, A, feed=True),
    "before": Attend(sj.Elman(H), Additive(3), M, A, before=True),
}


@pytest.fixture(autouse=True)
def in_float64():
    with jax.enable_x64(True):
        yield


def draw(attend, seed=0, steps=T):
    """Parameters of which none is zero, inputs, a memory with holes, and a state of the cell to start from."""
    rng = np.random.default_rng(seed)
    xs, memory = rng.normal(size=(steps, B, F)), rng.normal(size=(B, S, M))
    mask = np.arange(S) < np.array([[S], [3], [1]])
    shapes = jax.eval_shape(attend.init, jax.random.key(seed), xs)
    params = jax.tree.map(lambda p: 0.3 * rng.normal(size=p.shape), shapes)
    return params, xs, memory, mask, sj.HiddenCarry(rng.normal(size=(B, H)))


@functools.partial(jax.jit, static_argnums=0)
def run(attend, params, xs, memory, there, state, **options):
    return attend.apply(params, attend.start(params, memory, there, state), xs, **options)


def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def loop(attend, params, xs, memory, mask, state):
    """The equations for one sequence: outputs, weights, and the last state."""
    p, h, y = jax.device_get(params), state, np.zeros(A)

    def read(query):
        q = query @ p["score"]["query_kernel"]
        scores = [np.tanh(q + m @ p["score"]["memory_kernel"]) @ p["score"]["scale"] for m in memory[mask]]
        weights = softmax(np.array(scores))
        return weights @ memory[mask], weights

    ys, alignment = [], []
    for x in xs:
        z = x @ p["cell"]["kernel"] + p["cell"]["bias"] + h @ p["cell"]["recurrent_kernel"]
        if attend.before:
            context, weights = read(h)
            h = np.tanh(z + context @ p["feed_kernel"])
        else:
            h = np.tanh(z + y @ p["feed_kernel"] if attend.feed else z)
            context, weights = read(h)
        y = np.tanh(np.concatenate([h, context]) @ p["output_kernel"])
        ys.append(y)
        alignment.append(weights)
    return np.array(ys), np.array(alignment), h


@pytest.mark.parametrize("name", CELLS)
def test_attend_is_its_equations(name):
    attend = CELLS[name]
    params, xs, memory, mask, state = draw(attend)
    carry, ys = run(attend, params, xs, memory, mask, state)
    weights = jax.jit(lambda params: attend.weights(params, attend.start(params, memory, mask, state), xs))(params)
    for b in range(B):
        want, alignment, last = loop(attend, params, xs[:, b], memory[b], mask[b], state.h[b])
        np.testing.assert_allclose(ys[:, b], want, atol=1e-12)
        np.testing.assert_allclose(weights[:, b, mask[b]], alignment, atol=1e-12)
        np.testing.assert_array_equal(weights[:, b, ~mask[b]], 0.0)
        np.testing.assert_allclose(carry.state.h[b], last, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_reach_the_memory_and_are_those_of_finite_differences(name):
    attend = CELLS[name]
    params, xs, memory, mask, state = draw(attend, steps=3)
    function = jax.jit(lambda params, xs, memory, state: run(attend, params, xs, memory, mask, state)[1])
    check_grads(function, (params, xs, memory, state), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_what_stands_where_the_memory_is_masked_has_no_part(name):
    attend = CELLS[name]
    params, xs, memory, mask, state = draw(attend)
    holed = np.where(mask[..., None], memory, np.nan)

    @jax.jit
    def gradient(memory):
        return jax.grad(lambda m: jnp.sum(jnp.sin(run(attend, params, xs, m, mask, state)[1])))(memory)

    np.testing.assert_array_equal(gradient(holed), gradient(memory))
    np.testing.assert_array_equal(gradient(holed)[~mask], 0.0)
    assert np.abs(gradient(holed)[mask]).min() > 0


def loops(jaxpr):
    """All scans in a program, those inside of others too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else [value]:
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from loops(inner)


def arrays_of(equation):
    """Shapes of what a scan carries from step to step, and of what it reads or writes at every step."""
    body, (first, count) = equation.params["jaxpr"], sizes_of(equation.params)
    carried = body.in_avals[first : first + count]
    return [a.shape for a in carried], [a.shape for a in (*body.in_avals[first + count :], *body.out_avals[count:])]


@pytest.mark.parametrize("options", [{}, {"mask": True, "resets": True}])
@pytest.mark.parametrize("name", ["feed", "before"])
def test_no_loop_carries_or_stacks_the_memory(name, options):
    """Forward. Backward, its gradient is summed in the loop, once; and no step keeps a copy of it."""
    attend = CELLS[name]
    params, xs, memory, mask, state = draw(attend)
    options = {key: np.random.default_rng(1).uniform(size=(T, B)) < 0.7 for key in options}

    def forward(params, memory):
        return run(attend, params, xs, memory, mask, state, **options)[1].sum()

    sizes = {(B, S, M), (B, S, 3)}  # values, keys
    found = list(loops(jax.make_jaxpr(forward)(params, memory).jaxpr))
    assert found
    for equation in found:
        carried, stacked = arrays_of(equation)
        assert not sizes & {*carried, *stacked}
    for equation in loops(jax.make_jaxpr(jax.grad(forward, argnums=(0, 1)))(params, memory).jaxpr):
        carried, stacked = arrays_of(equation)
        assert not {(B, S, M)} & set(stacked)
        assert sum(shape == (B, S, M) for shape in carried) <= 1


def test_without_feedback_the_cell_runs_on_its_own_engine():
    assert CELLS["after"].choice(9).engine == "hoisted"
    assert CELLS["feed"].choice(9).engine == CELLS["before"].choice(9).engine == "scan"
    assert Attend(sj.GRU(3), LocationAware(3), M).choice(9).engine == "scan"


def test_initial_carry_reads_a_memory_of_nothing():
    attend = CELLS["after"]
    params, xs, *_ = draw(attend)
    _, ys = attend.apply(params, attend.initial_carry(params, (B,)), xs)
    _, hs = attend.cell.apply(params["cell"], attend.cell.initial_carry(params["cell"], (B,)), xs)
    np.testing.assert_allclose(ys, np.tanh(hs @ params["output_kernel"][:H]), atol=1e-12)


def test_a_reset_leaves_the_memory():
    attend = CELLS["feed"]
    params, xs, memory, mask, _ = draw(attend)
    _, ys = run(attend, params, xs, memory, mask, None, resets=np.arange(T)[:, None] == np.full(B, 2))
    _, again = run(attend, params, xs[2:], memory, mask, None)
    np.testing.assert_allclose(ys[2:], again, atol=1e-12)


def test_layers_can_lie_on_top():
    stack = sj.Stack(CELLS["feed"], sj.GRU(4))
    params, xs, memory, mask, state = draw(stack.layers[0])
    params = {"0": params, "1": cast(stack.layers[1].init(jax.random.key(1), np.zeros((1, 1, A))), "float64")}
    carry = stack.layers[0].start(params["0"], memory, mask, state), stack.layers[1].initial_carry(params["1"], (B,))
    _, ys = stack.apply(params, carry, xs)
    below = run(stack.layers[0], params["0"], xs, memory, mask, state)[1]
    np.testing.assert_allclose(ys, stack.layers[1].apply(params["1"], carry[1], below)[1], atol=1e-12)


def readings(score, params, memory, mask, queries):
    """Weights and contexts of queries that come one after the other."""
    return map(np.array, _readings(score, params, memory, mask, queries))


@functools.partial(jax.jit, static_argnums=0)
def _readings(score, params, memory, mask, queries):
    kept = sj.attention.remember(score, params, memory, mask)
    past, out = score.before(kept.mask, jnp.float64), []
    for query in queries:
        context, weights = sj.attention.attend(score, params, kept, query, past)
        past = score.after(past, weights)
        out.append((weights, context))
    return list(map(jnp.stack, zip(*out, strict=True)))


def moved(score, seed, width=3, S=S):
    rng = np.random.default_rng(seed)
    queries, memory = rng.normal(size=(4, width)), rng.normal(size=(S, M))
    params = jax.eval_shape(score.init, jax.random.key(seed), queries[0], memory)
    return jax.tree.map(lambda p: 0.7 * rng.normal(size=p.shape), params), queries, memory


@pytest.mark.parametrize("cumulative", [False, True])
def test_location_aware_score_is_its_equation(cumulative):
    score = LocationAware(5, filters=2, width=3, cumulative=cumulative)
    params, queries, memory = moved(score, 3)
    mask = np.array([True, True, False, True, True])
    got, _ = readings(score, params, memory, mask, queries)
    p, seen = jax.device_get(params), np.zeros(S)
    for query, weights in zip(queries, got, strict=True):
        around = np.pad(seen, 1)
        location = np.array([around[s : s + 3] @ p["filters"] for s in range(S)]) @ p["location_kernel"]
        hidden = np.tanh(query @ p["query_kernel"] + memory @ p["memory_kernel"] + location)
        want = np.zeros(S)
        want[mask] = softmax((hidden @ p["scale"])[mask])
        np.testing.assert_allclose(weights, want, atol=1e-12)
        seen = seen + want if cumulative else want


def expected_stops(stop, before):
    """Where a reader stops that starts where one before it stopped, with a chance at each position: all ways counted."""
    found = np.zeros(len(stop))
    for j, s in itertools.product(range(len(stop)), repeat=2):
        if s >= j:
            found[s] += before[j] * np.prod(1 - stop[j:s]) * stop[s]
    return found


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 1000), length=st.integers(1, 7))
def test_monotonic_weights_are_the_chances_of_where_a_reader_stops(seed, length):
    score = Monotonic(Bilinear(), offset=0.3)
    params, queries, memory = moved(score, seed, S=length)
    mask = np.random.default_rng(seed).uniform(size=length) < 0.8
    got, _ = readings(score, params, memory, mask, queries)
    before = np.eye(length)[0]
    for query, weights in zip(queries, got, strict=True):
        logits = memory @ np.asarray(params["score"]["kernel"]).T @ query + float(params["offset"])
        before = expected_stops(np.where(mask, 1 / (1 + np.exp(-logits)), 0.0), before)
        np.testing.assert_allclose(weights, before, atol=1e-12)


def test_hard_monotonic_attention_takes_one_position_after_the_other():
    score = Monotonic(Dot(), hard=True, offset=0.0)
    memory = np.array([[1.0, 0], [0, 1], [1, 0], [0, 1], [1, 0]])
    queries = np.array([[-1.0, 1], [1, -1], [1, -1], [-1, 1], [1, -1], [1, 1]])
    params = {"score": {}, "offset": jnp.zeros(())}
    weights, _ = readings(score, params, memory, np.ones(5, bool), queries)
    # From 0 on, the first position that the query likes: 1, 2, 2 again, 3, 4, 4 again.
    np.testing.assert_array_equal(weights, np.eye(5)[[1, 2, 2, 3, 4, 4]])


def test_several_heads_are_heads_one_by_one():
    score = MultiHead(ScaledDot(temperature=0.7), 2, features=6)
    params, queries, memory = moved(score, 5)
    mask = np.array([True, False, True, True, True])
    weights, contexts = readings(score, params, memory, mask, queries)
    p = jax.device_get(params)
    for query, weight, context in zip(queries, weights, contexts, strict=True):
        parts = []
        for k in range(2):
            q, keys, values = (
                x @ p[name][:, 3 * k : 3 * k + 3]
                for x, name in ((query, "query_kernel"), (memory, "memory_kernel"), (memory, "value_kernel"))
            )
            want = np.zeros(S)
            want[mask] = softmax((keys @ q / np.sqrt(3) / 0.7)[mask])
            np.testing.assert_allclose(weight[k], want, atol=1e-12)
            parts.append(want @ values)
        np.testing.assert_allclose(context, np.concatenate(parts) @ p["output_kernel"], atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_bfloat16_memory_is_read_in_bfloat16(name):
    attend = CELLS[name]
    params, xs, memory, mask, _ = draw(attend)
    with jax.numpy_dtype_promotion("strict"):
        narrow = run(attend, cast(params, "float32"), xs.astype(jnp.bfloat16), memory.astype(jnp.bfloat16), mask, None)
    assert narrow[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(narrow[1], run(attend, params, xs, memory, mask, None)[1], atol=0.05)


REFUSED = {
    "a memory of another width": (
        lambda d, p: d.start(p, jnp.ones((B, S, 9))),
        r"memory \[B, S, 4\].* got shape \[3, 5, 9\]",
    ),
    "a mask of another length": (
        lambda d, p: d.start(p, jnp.ones((B, S, M)), jnp.ones((B, 2), bool)),
        r"mask of shape \[3, 5\], got \[3, 2\]",
    ),
    "a memory of another batch": (
        lambda d, p: d.apply(p, d.start(p, jnp.ones((2, S, M)), state=d.cell.initial_carry(p, (B,))), jnp.ones((T, B, F))),
        r"memory has batch axes \[2\], expected \[3\]",
    ),
    "both orders": (lambda d, p: Attend(sj.GRU(3), Dot(), 3, feed=True, before=True), "leave feed out"),
    "a state without h": (
        lambda d, p: Attend(sj.CoRNN(3), Bilinear(), M, before=True).initial_carry(
            Attend(sj.CoRNN(3), Bilinear(), M).init(jax.random.key(0), jnp.ones((1, 1, F))), (B,)
        ),
        "CoRNNCarry has none",
    ),
    "an even filter": (lambda d, p: LocationAware(3, width=4), "width must be odd"),
    "heads that do not divide": (lambda d, p: MultiHead(Dot(), 4, features=6), "cannot be divided by 4 heads"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused(name):
    make, reason = REFUSED[name]
    attend = CELLS["after"]
    with pytest.raises(ValueError, match=reason):
        make(attend, draw(attend)[0])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Attend(sj.Stack(sj.GRU(3)), Dot(), 3), r"expected a cell such as LSTM\(128\)"),
        (lambda: Attend(sj.GRU(3), sj.GRU(3), 3), r"expected a score such as Additive\(128\)"),
        (lambda: Monotonic(LocationAware(3)), "looks at query and keys alone"),
        (lambda: MultiHead(MultiHead(Dot(), 2, 4), 2, 4), "a score of one head"),
    ],
)
def test_parts_that_are_none_are_refused(make, reason):
    with pytest.raises(TypeError, match=reason):
        make()


@pytest.mark.parametrize("around", [sj.Zoneout, sj.LearntCarry])
def test_what_treats_every_leaf_as_a_state_refuses_a_memory(around):
    with pytest.raises(TypeError, match=r"the carry of Attend\(.* holds a memory beside the state"):
        around(Attend(sj.GRU(3), Dot(), 4))
