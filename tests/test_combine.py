"""What combinators add to the recurrences they are made of."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seqjax as sj
from seqjax.testing.sample import values

T, B, F = 7, 3, 4


def start(recurrence, xs, seed=0):
    """params of a recurrence, none of them zero, and its initial carry."""
    params = recurrence.init(jax.random.key(seed), xs)
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda p: p + (0.2 * rng.normal(size=p.shape)).astype(p.dtype), jax.device_get(params))
    return params, jax.device_get(recurrence.initial_carry(params, xs.shape[1:-1]))


def inputs(steps=T, batch=B, features=F, seed=1):
    return np.random.default_rng(seed).normal(size=(steps, batch, features)).astype(np.float32)


class Echo(sj.Recurrence):
    """Gives its inputs back."""

    def init(self, key, xs):
        return {}

    def initial_carry(self, params, batch_shape):
        return ()

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        return carry, xs


def dropped(rate, locked=False, seed=0, steps=200):
    """What dropout leaves of ones."""
    xs = np.ones((steps, 20, 10), np.float32)
    return np.asarray(values(sj.Dropout(Echo(), rate, locked=locked), {}, (), xs, key=jax.random.key(seed))[1])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_rate_and_scales_what_stays(rate):
    ys = dropped(rate)
    share = np.mean(ys == 0)
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / ys.size)
    np.testing.assert_allclose(ys[ys != 0], 1 / (1 - rate), rtol=1e-6)


def test_recurrent_dropout_drops_the_same_entries_at_all_steps():
    cell = sj.Elman(8, activation="identity", recurrent_init="identity")  # without inputs h' = h, where nothing is dropped
    recurrence, xs = sj.RecurrentDropout(cell, 0.5), jnp.zeros((T, 20, F))
    params = recurrence.init(jax.random.key(0), xs)
    start = sj.HiddenCarry(jnp.ones((20, 8)))
    carry, ys = values(recurrence, params, start, xs, key=jax.random.key(1))
    kept = np.asarray(ys[0] != 0)
    assert 0.3 < kept.mean() < 0.7
    assert (kept[0] != kept[1]).any()
    for t, y in enumerate(ys):
        np.testing.assert_array_equal(y, kept * 2.0 ** (t + 1))
    np.testing.assert_array_equal(carry.h, ys[-1])
    np.testing.assert_array_equal(values(recurrence, params, start, xs)[1], np.ones((T, 20, 8)))


def test_recurrent_dropout_leaves_alone_what_the_gates_read():
    cell = sj.GRU(8)
    recurrence, xs = sj.RecurrentDropout(cell, 0.5), inputs(steps=1)
    params = recurrence.init(jax.random.key(0), xs)
    params["bias"] = params["bias"].at[8:16].set(50.0)  # z = 1: h stays
    start = sj.HiddenCarry(inputs(steps=B, batch=8)[..., 0])
    _, ys = values(recurrence, params, start, xs, key=jax.random.key(1))
    np.testing.assert_array_equal(ys[0], start.h)


def test_recurrent_dropout_asks_for_a_gated_cell():
    with pytest.raises(TypeError, match=r"recurrent product of a gated cell, got ChoGRU\(features=3\)"):
        sj.RecurrentDropout(sj.ChoGRU(3))


@pytest.mark.parametrize("cell", [sj.LSTM(8), sj.ChoGRU(8), sj.MinGRU(8), sj.MinGRU(8, engine="associative")], ids=repr)
def test_zoneout_lets_a_share_of_the_state_skip_the_step(cell):
    xs = inputs(steps=1, batch=300)
    params, zeros = start(cell, xs)
    rates = (0.5, 0.1)[: len(zeros)]
    recurrence = sj.Zoneout(cell, rates)
    old = jax.tree.map(lambda leaf: inputs(1, leaf.shape[0], leaf.shape[1], seed=3)[0], zeros)
    moved, _ = values(cell, params, old, xs)
    drawn, ys = values(recurrence, params, old, xs, key=jax.random.key(2))
    np.testing.assert_array_equal(ys[0], drawn.h)
    for rate, before, after, got in zip(rates, old, moved, drawn, strict=True):
        stayed = np.asarray(got == before)
        assert abs(np.mean(stayed) - rate) < 5 * np.sqrt(rate * (1 - rate) / stayed.size)
        np.testing.assert_allclose(got, np.where(stayed, before, after), atol=1e-6)
    expected, ys = values(recurrence, params, old, xs)
    np.testing.assert_array_equal(ys[0], expected.h)
    for rate, before, after, got in zip(rates, old, moved, expected, strict=True):
        np.testing.assert_allclose(got, rate * before + (1 - rate) * after, atol=1e-6)


@pytest.mark.parametrize("key", [None, 4])
def test_zoneout_of_a_linear_cell_runs_in_parallel(key):
    xs, rng = inputs(steps=40), np.random.default_rng(0)
    params, carry = start(sj.MinGRU(6), xs)
    steps = {"mask": rng.uniform(size=(40, B)) < 0.8, "resets": rng.uniform(size=(40, B)) < 0.1}
    key = None if key is None else jax.random.key(key)
    runs = []
    for engine in ("scan", "associative"):
        apply = functools.partial(sj.Zoneout(sj.MinGRU(6, engine=engine), 0.3).apply, **steps, key=key)
        runs.append(jax.jit(apply)(params, carry, xs))
        loops = str(jax.make_jaxpr(apply)(params, carry, xs)).count("scan[")
        assert loops == (engine == "scan")
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-6), *runs)


def test_dropout_draws_anew_for_every_step_sequence_and_feature():
    ys = dropped(0.5)
    assert (ys[0] != ys[1]).any()
    assert (ys[:, 0] != ys[:, 1]).any()
    assert (ys[..., 0] != ys[..., 1]).any()


def test_locked_dropout_draws_once_for_all_steps():
    ys = dropped(0.5, locked=True)
    np.testing.assert_array_equal(ys, np.broadcast_to(ys[0], ys.shape))
    assert (ys[0, 0] != ys[0, 1]).any()
    assert 0.3 < np.mean(ys == 0) < 0.7


def test_dropout_of_another_key_is_another():
    assert (dropped(0.5, seed=0) != dropped(0.5, seed=1)).any()


@pytest.mark.parametrize("locked", [False, True])
def test_dropout_without_a_key_is_the_recurrence_itself(locked):
    xs, cell = inputs(), sj.GRU(5)
    params, carry = start(cell, xs)
    expected = values(cell, params, carry, xs)
    actual = values(sj.Dropout(cell, 0.5, locked=locked), params, carry, xs)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_dropout_of_nothing_is_not_random():
    assert not sj.Dropout(sj.GRU(5), 0.0).stochastic
    assert sj.Dropout(sj.Dropout(sj.GRU(5), 0.1), 0.0).stochastic


def test_dropout_passes_a_key_of_its_own_on():
    """Two dropouts on top of each other drop other inputs each: a quarter stays."""
    xs = np.ones((200, 20, 10), np.float32)
    _, ys = values(sj.Dropout(sj.Dropout(Echo(), 0.5), 0.5), {}, (), xs, key=jax.random.key(0))
    assert abs(np.mean(np.asarray(ys) != 0) - 0.25) < 0.02


def test_stack_drops_between_layers_only():
    xs = np.ones((200, 20, 10), np.float32)
    for layers, share in ((1, 1.0), (2, 0.5), (3, 0.25)):
        stack = sj.Stack(*[Echo()] * layers, dropout=0.5)
        _, ys = values(stack, {str(i): {} for i in range(layers)}, ((),) * layers, xs, key=jax.random.key(0))
        assert abs(np.mean(np.asarray(ys) != 0) - share) < 0.02
    assert not sj.Stack(Echo(), dropout=0.5).stochastic
    assert sj.Stack(Echo(), Echo(), dropout=0.5).stochastic


def test_stack_is_its_layers_one_after_the_other():
    xs, mask = inputs(), sj.length_mask(np.array([7, 4, 0]), T)
    resets = np.zeros((T, B), bool)
    resets[2] = True
    lower, upper = sj.LSTM(5), sj.GRU(6)
    params, carry = start(sj.Stack(lower, upper), xs)
    carry = jax.tree.map(lambda leaf: leaf + np.float32(0.3), carry)
    first, hs = values(lower, params["0"], carry[0], xs, mask=mask, resets=resets)
    second, ys = values(upper, params["1"], carry[1], hs, mask=mask, resets=resets)
    actual = values(sj.Stack(lower, upper), params, carry, xs, mask=mask, resets=resets)
    jax.tree.map(np.testing.assert_array_equal, actual, ((first, second), ys))


def test_stack_layers_have_parameters_of_their_own():
    params = sj.Stack(sj.GRU(4), sj.GRU(4)).init(jax.random.key(0), inputs())
    assert (params["0"]["kernel"] != params["1"]["kernel"]).any()


def test_stack_of_bidirectional_reads_both_directions():
    stack = sj.Stack(sj.Bidirectional(sj.GRU(5), sj.LSTM(6)), sj.GRU(3))
    params, carry = start(stack, inputs())
    assert params["1"]["kernel"].shape == (11, 9)
    assert not stack.causal
    assert values(stack, params, carry, inputs())[1].shape == (T, B, 3)


@pytest.mark.parametrize("lengths", [(7, 7, 7), (7, 3, 1), (0, 5, 2)])
def test_bidirectional_is_two_passes_over_each_ragged_sequence(lengths):
    xs = inputs()
    both = sj.Bidirectional(sj.LSTM(5), sj.GRU(6))
    params, carry = start(both, xs)
    carry = jax.tree.map(lambda leaf: leaf + np.float32(0.3), carry)
    final, ys = values(both, params, carry, xs, mask=sj.length_mask(np.array(lengths), T))
    assert isinstance(final, sj.BidirectionalFinal)
    for b, length in enumerate(lengths):
        x = xs[:length, b]
        forward, backward = (jax.tree.map(lambda leaf, b=b: leaf[b], part) for part in carry)
        forward, ahead = values(both.forward, params["forward"], forward, x)
        backward, back = values(both.backward, params["backward"], backward, np.flip(x, 0))
        expected = np.concatenate([ahead, np.flip(back, 0)], -1)
        np.testing.assert_allclose(ys[:length, b], expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(ys[length:, b], np.zeros((T - length, 11), np.float32))
        np.testing.assert_allclose(final.forward.c[b], forward.c, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(final.backward.h[b], backward.h, rtol=1e-5, atol=1e-6)


def test_bidirectional_of_a_stack_is_not_a_stack_of_bidirectionals():
    layers = sj.Bidirectional(sj.Stack(sj.GRU(5), sj.GRU(5)), sj.Stack(sj.GRU(5), sj.GRU(5)))
    params, carry = start(layers, inputs())
    assert params["forward"]["1"]["kernel"].shape == (5, 15)
    assert values(layers, params, carry, inputs())[1].shape == (T, B, 10)


def test_reverse_twice_is_the_recurrence_itself():
    xs, mask = inputs(), sj.length_mask(np.array([7, 4, 0]), T)
    cell = sj.GRU(5)
    params, carry = start(cell, xs)
    actual = values(sj.Reverse(sj.Reverse(cell)), params, carry, xs, mask=mask)
    jax.tree.map(np.testing.assert_array_equal, actual, values(cell, params, carry, xs, mask=mask))


def test_residual_adds_the_inputs_where_they_count():
    xs, mask = inputs(), sj.length_mask(np.array([7, 4, 0]), T)
    cell = sj.GRU(F)
    params, carry = start(cell, xs)
    _, ys = values(sj.Residual(cell), params, carry, np.where(mask[..., None], xs, np.nan).astype(np.float32), mask=mask)
    _, inner = values(cell, params, carry, xs, mask=mask)
    np.testing.assert_allclose(ys, np.where(mask[..., None], xs + inner, 0.0), rtol=1e-6)


def test_residual_refuses_another_width():
    cell = sj.GRU(F + 1)
    params, carry = start(cell, inputs())
    with pytest.raises(ValueError, match=r"Residual.*outputs have 5 features but the inputs they are added to have 4"):
        sj.Residual(cell).apply(params, carry, inputs())


def test_dropout_in_one_direction_makes_both_random():
    both = sj.Bidirectional(sj.GRU(5), sj.Dropout(sj.GRU(5)))
    params, carry = start(both, inputs())
    ys = [values(both, params, carry, inputs(), key=key)[1] for key in (None, jax.random.key(0))]
    assert both.stochastic
    np.testing.assert_array_equal(ys[0][..., :5], ys[1][..., :5])
    assert (ys[0][..., 5:] != ys[1][..., 5:]).any()


@given(steps=st.none() | st.integers(1, 9), length=st.integers(0, 14), ragged=st.booleans())
@settings(max_examples=5, deadline=None)
def test_remat_changes_neither_values_nor_gradients(steps, length, ragged):
    rng = np.random.default_rng(length)
    cell, xs = sj.GRU(5), jnp.asarray(rng.normal(size=(length, B, F)), jnp.float32)
    params, carry = start(cell, xs)
    mask = sj.length_mask(rng.integers(0, length + 1, B), length) if ragged else None
    resets = jnp.asarray(rng.random((length, B)) < 0.2) if ragged else None

    def loss(recurrence, params, carry, xs):
        final, ys = recurrence.apply(params, carry, xs, mask=mask, resets=resets)
        return jnp.sum(jnp.sin(ys)) + jnp.sum(final.h**2)

    results = [
        jax.jit(jax.value_and_grad(functools.partial(loss, recurrence), argnums=(0, 1, 2)))(params, carry, xs)
        for recurrence in (cell, sj.Remat(cell, steps))
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), *results)


def test_remat_takes_a_quarter_of_the_memory():
    xs = jnp.zeros((400, B, F))

    def memory(recurrence):
        params, carry = start(recurrence, xs)
        gradient = jax.grad(lambda params, xs: jnp.sum(recurrence.apply(params, carry, xs)[1] ** 2))
        return jax.jit(gradient).lower(params, xs).compile().memory_analysis().temp_size_in_bytes

    assert memory(sj.Remat(sj.LSTM(32))) < memory(sj.LSTM(32)) / 4


@pytest.mark.parametrize(("merge", "of"), [("sum", np.add), ("product", np.multiply)])
def test_directions_are_merged_as_asked(merge, of):
    both, xs = sj.Bidirectional(sj.GRU(5), sj.Elman(5)), inputs()
    params, carry = start(both, xs)
    merged = values(sj.Bidirectional(both.forward, both.backward, merge=merge), params, carry, xs)[1]
    np.testing.assert_allclose(merged, of(*np.split(values(both, params, carry, xs)[1], 2, axis=-1)), atol=1e-6)


@pytest.mark.parametrize("inside", [sj.Reverse(sj.GRU(5)), sj.Dropout(sj.GRU(5)), sj.Bidirectional(sj.GRU(5), sj.GRU(5))])
def test_remat_refuses_what_is_no_chain_of_chunks(inside):
    with pytest.raises(TypeError, match="put Remat around the cells"):
        sj.Remat(inside)
    with pytest.raises(ValueError, match="steps must be a positive"):
        sj.Remat(sj.GRU(5), steps=0)
