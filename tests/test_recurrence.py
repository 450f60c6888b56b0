"""The contract from its caller's side: what is refused and how it is said, and the corners that no law names."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from seqjax import engines

T, B, F, H = 5, 2, 3, 4
LSTM, XS = sj.LSTM(H), np.ones((T, B, F), np.float32)


def params_of(recurrence, features=F):
    return recurrence.init(jax.random.key(0), jax.ShapeDtypeStruct((T, B, features), jnp.float32))


def apply(recurrence, xs=XS, *, params=None, carry=None, **options):
    params = params_of(recurrence) if params is None else params
    carry = recurrence.initial_carry(params, (B,)) if carry is None else carry
    return recurrence.apply(params, carry, xs, **options)


def mask(*shape, dtype=bool):
    return np.ones(shape, dtype)


SETTINGS_REFUSED = {
    "no_features": (lambda: sj.LSTM(0), r"LSTM: features must be a positive integer, got 0"),
    "negative_features": (lambda: sj.GRU(-3), r"GRU: features must be a positive integer, got -3"),
    "fractional_features": (lambda: sj.MinGRU(2.5), r"MinGRU: features must be a positive integer, got 2\.5"),
    "features_true": (lambda: sj.Elman(True), r"Elman: features must be a positive integer, got True"),
    "engine": (lambda: sj.LSTM(H, engine="fast"), r"LSTM: engine must be one of 'auto', 'scan', 'hoisted'; got 'fast'"),
    "engine_of_another": (lambda: sj.ChoGRU(H, engine="hoisted"), r"ChoGRU: engine must be .*'scan'; got 'hoisted'"),
    "kernel_init": (lambda: sj.LSTM(H, kernel_init="he"), r"LSTM: kernel_init must be one of .*'lecun_normal'.*; got 'he'"),
    "recurrent_init": (lambda: sj.GRU(H, recurrent_init="ones"), r"GRU: recurrent_init must be one of .*; got 'ones'"),
    "activation": (lambda: sj.Elman(H, activation="swish"), r"Elman: activation must be one of .*'tanh'.*; got 'swish'"),
    "param_dtype": (lambda: sj.LSTM(H, param_dtype="int32"), r"LSTM: param_dtype must be a floating dtype, got 'int32'"),
    "state_dtype": (lambda: sj.LSTM(H, state_dtype="f99"), r"LSTM: state_dtype must be a floating dtype, got 'f99'"),
    "no_layers": (lambda: sj.Stack(), r"Stack: needs at least one layer"),
    "rate_one": (lambda: sj.Dropout(LSTM, 1.0), r"Dropout: rate is the share that is dropped, in \[0, 1\); got 1\.0"),
    "rate_negative": (lambda: sj.Dropout(LSTM, -0.1), r"Dropout: rate .* got -0\.1"),
    "rate_text": (lambda: sj.Dropout(LSTM, "half"), r"Dropout: rate .* got 'half'"),
    "stack_dropout": (lambda: sj.Stack(LSTM, dropout=1.5), r"Stack: dropout is the share that is dropped.* got 1\.5"),
}

PARTS_REFUSED = {
    "stack": (lambda: sj.Stack(LSTM, 128), r"Stack: expected a recurrence such as LSTM\(128\), got 128"),
    "stack_of_a_list": (lambda: sj.Stack([LSTM]), r"Stack: expected a recurrence such as LSTM\(128\), got \["),
    "bidirectional": (lambda: sj.Bidirectional(LSTM, None), r"Bidirectional: expected a recurrence.* got None"),
    "dropout": (lambda: sj.Dropout("lstm"), r"Dropout: expected a recurrence.* got 'lstm'"),
    "a_class": (lambda: sj.Reverse(sj.LSTM), r"Reverse: expected a recurrence.* got <class"),
}

VALUES_REFUSED = {
    "features": (
        lambda: apply(LSTM, np.ones((T, B, 7), np.float32)),
        r"LSTM\(features=4\): xs has 7 features but params\['kernel'\] expects 3; init with these inputs or check the layer",
    ),
    "features_in_a_stack": (
        lambda: apply(sj.Stack(LSTM, LSTM), np.ones((T, B, 7), np.float32)),
        r"Stack\(LSTM.*\): xs has 7 features but params\['0'\]\['kernel'\] expects 3",
    ),
    "rank": (lambda: apply(LSTM, np.ones((T,), np.float32)), r"LSTM.*xs must have at least two axes.*got shape \(5,\)"),
    "rank_and_carry": (
        lambda: apply(LSTM, XS[:, 0]),
        r"LSTM.*carry\.c has shape \(2, 4\), expected \(4,\) for a batch of \(\)",
    ),
    "mask_shape": (
        lambda: apply(LSTM, mask=mask(T, B + 1)),
        r"LSTM.*mask has shape \(5, 3\), expected time-major \(5, 2\); .*length_mask\(lengths, 5\)",
    ),
    "mask_batch_major": (
        lambda: apply(LSTM, mask=mask(B, T)),
        r"LSTM.*mask has shape \(2, 5\), expected time-major \(5, 2\); transpose it",
    ),
    "mask_with_features": (lambda: apply(LSTM, mask=mask(T, B, 1)), r"mask has shape \(5, 2, 1\).*no feature axis"),
    "mask_reversed": (lambda: apply(sj.Reverse(LSTM), mask=mask(B, T)), r"mask has shape \(2, 5\), expected time-major"),
    "resets_batch_major": (lambda: apply(LSTM, resets=mask(B, T)), r"LSTM.*resets has shape \(2, 5\).*transpose it"),
    "params_of_another": (
        lambda: apply(LSTM, params=params_of(sj.GRU(H))),
        r"LSTM.*params\['bias'\] has shape \(12,\), expected \(16,\)",
    ),
    "params_of_other_settings": (
        lambda: apply(LSTM, params=params_of(sj.LSTM(H, recurrent_bias=True))),
        r"LSTM.*params must be dict\(\['bias'\], \['kernel'\], \['recurrent_kernel'\]\), got dict\(.*\['recurrent_bias'\]",
    ),
    "params_of_a_layer": (
        lambda: apply(sj.Stack(LSTM), params=params_of(LSTM), carry=()),
        r"Stack.*params must be dict\(.*got",
    ),
    "carry_of_another_batch": (
        lambda: apply(LSTM, carry=LSTM.initial_carry(None, (B + 1,))),
        r"LSTM.*carry\.c has shape \(3, 4\), expected \(2, 4\) for a batch of \(2,\); start from initial_carry",
    ),
    "carry_of_another_cell": (
        lambda: apply(LSTM, carry=sj.GRU(H).initial_carry(None, (B,))),
        r"LSTM.*carry must be LSTMCarry\(c, h\), got HiddenCarry\(h\); start from initial_carry\(params, \(2,\)\)",
    ),
    "carry_of_a_layer": (
        lambda: apply(sj.Stack(LSTM, LSTM), carry=LSTM.initial_carry(None, (B,))),
        r"LSTM.*carry must be LSTMCarry",
    ),
    "carry_of_one_layer_less": (
        lambda: apply(sj.Stack(LSTM, LSTM), carry=(LSTM.initial_carry(None, (B,)),)),
        r"Stack.*carry must be a tuple with one entry for each of 2 layers, got one of 1",
    ),
    "carry_is_no_tuple": (
        lambda: apply(sj.Stack(LSTM), carry={"h": 0}),
        r"Stack.*carry must be a tuple with one entry for each of 1 layers, got dict",
    ),
    "final_states_as_carry": (
        lambda: apply(sj.Bidirectional(LSTM, LSTM), carry=apply(sj.Bidirectional(LSTM, LSTM))[0]),
        r"Bidirectional.*needs whole sequences; the final states of another chunk were given as carry",
    ),
    "final_states_as_carry_in_a_stack": (
        lambda: apply(sj.Stack(sj.Bidirectional(LSTM, LSTM)), carry=apply(sj.Stack(sj.Bidirectional(LSTM, LSTM)))[0]),
        r"Bidirectional.*needs whole sequences",
    ),
    "residual_width": (
        lambda: apply(sj.Residual(LSTM)),
        r"Residual.*outputs have 4 features but the inputs they are added to have 3; make the recurrence as wide",
    ),
    "length_beyond": (lambda: sj.length_mask(np.array([2, 6]), 5), r"length_mask: lengths must lie in 0\.\.5.*got 2\.\.6"),
    "length_negative": (lambda: sj.length_mask(np.array([-1, 5]), 5), r"length_mask: lengths must lie in 0\.\.5.*got -1"),
}

TYPES_REFUSED = {
    "integers": (
        lambda: apply(LSTM, mask(T, B, F, dtype=np.int32)),
        r"LSTM.*xs must be floating.*got int32\[5, 2, 3\]; embed",
    ),
    "a_list": (lambda: apply(LSTM, [[1.0]]), r"LSTM.*xs must be an array \[T, B, F\], got list"),
    "mask_of_numbers": (
        lambda: apply(LSTM, mask=mask(T, B, dtype=np.float32)),
        r"LSTM.*mask must be bool, got float32; write",
    ),
    "mask_is_a_list": (lambda: apply(LSTM, mask=[True] * T), r"LSTM.*mask must be a bool array, got list"),
    "resets_of_numbers": (lambda: apply(LSTM, resets=mask(T, B, dtype=np.int32)), r"LSTM.*resets must be bool, got int32"),
    "fractional_lengths": (lambda: sj.length_mask(np.array([1.5]), 5), r"length_mask: lengths must be integers.*float"),
}


@pytest.mark.parametrize("case", SETTINGS_REFUSED)
def test_setting_is_refused(case):
    call, message = SETTINGS_REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("case", PARTS_REFUSED)
def test_part_is_refused(case):
    call, message = PARTS_REFUSED[case]
    with pytest.raises(TypeError, match=message):
        call()


@pytest.fixture
def no_engine_runs(monkeypatch):
    """Fails a test as soon as a recurrence is run: what is wrong must have been said before.

    One step is let through, because a stack's ``init`` asks a layer for the shape of its outputs.
    """

    def refuse(engine, *args, **options):
        if any(T in np.shape(leaf)[:1] for leaf in jax.tree.leaves(args) if not callable(leaf)):
            raise AssertionError("an engine was reached")
        return engine(*args, **options)

    for name in ("scan", "hoisted", "associative"):
        monkeypatch.setattr(engines, name, functools.partial(refuse, getattr(engines, name)))


ONLY_AFTER_A_RUN = {"final_states_as_carry", "final_states_as_carry_in_a_stack", "residual_width"}


@pytest.mark.parametrize("case", sorted(set(VALUES_REFUSED) - ONLY_AFTER_A_RUN))
def test_value_is_refused_before_anything_runs(case, no_engine_runs):
    call, message = VALUES_REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("case", sorted(ONLY_AFTER_A_RUN))
def test_value_is_refused(case):
    call, message = VALUES_REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("case", TYPES_REFUSED)
def test_type_is_refused_before_anything_runs(case, no_engine_runs):
    call, message = TYPES_REFUSED[case]
    with pytest.raises(TypeError, match=message):
        call()


def test_an_engine_is_reached_where_nothing_is_wrong(no_engine_runs):
    with pytest.raises(AssertionError, match="an engine was reached"):
        apply(LSTM)


@pytest.mark.parametrize("recurrence", [LSTM, sj.MinGRU(H), sj.Bidirectional(LSTM, LSTM), sj.Stack(LSTM, LSTM)], ids=str)
def test_no_steps_leave_the_carry_as_it_is(recurrence):
    params = params_of(recurrence)
    carry = jax.tree.map(lambda leaf: leaf + 1, recurrence.initial_carry(params, (B,)))
    final, ys = apply(recurrence, XS[:0], params=params, carry=carry, mask=mask(0, B), resets=mask(0, B))
    assert ys.shape == (0, B, apply(recurrence)[1].shape[-1])
    for got, want in zip(jax.tree.leaves(final), jax.tree.leaves(carry), strict=True):
        np.testing.assert_array_equal(got, want)


def test_settings_that_name_a_dtype_take_any_form_of_it():
    assert sj.LSTM(4, param_dtype=jnp.bfloat16) == sj.LSTM(4, param_dtype="bfloat16")
    assert hash(sj.LSTM(4, state_dtype=np.float64)) == hash(sj.LSTM(4, state_dtype="float64"))


def test_repr_shows_what_differs_from_the_defaults():
    assert repr(sj.LSTM(4)) == "LSTM(features=4)"
    assert eval(repr(sj.GRU(4, engine="scan")), vars(sj)) == sj.GRU(4, engine="scan")
    assert repr(sj.Stack(sj.LSTM(8), sj.GRU(8), dropout=0.2)) == "Stack(LSTM(features=8), GRU(features=8), dropout=0.2)"


def test_parameters_in_bfloat16_keep_a_state_in_float32():
    cell = sj.LSTM(4, param_dtype="bfloat16")
    params = params_of(cell)
    assert {leaf.dtype for leaf in params.values()} == {jnp.dtype(jnp.bfloat16)}
    carry, ys = apply(cell, jnp.asarray(XS, jnp.bfloat16))
    assert carry.c.dtype == carry.h.dtype == jnp.float32
    assert ys.dtype == jnp.bfloat16


def test_state_dtype_is_that_of_the_state():
    carry, ys = apply(sj.GRU(4, state_dtype="bfloat16"))
    assert carry.h.dtype == jnp.bfloat16
    assert ys.dtype == jnp.float32


def test_a_reset_fits_a_carry_of_another_dtype():
    """The carry decides in which dtype a state is held, for a state that starts anew as well."""
    carry = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), LSTM.initial_carry(None, (B,)))
    final, _ = apply(LSTM, carry=carry, resets=mask(T, B))
    assert final.h.dtype == jnp.bfloat16


def test_cells_say_that_they_are_causal_and_not_random():
    assert LSTM.causal
    assert not LSTM.stochastic


def test_a_field_cannot_be_set():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LSTM.features = 8


def test_lstm_forget_bias_is_where_the_forget_gate_is():
    bias = params_of(sj.LSTM(H, forget_bias=0.5))["bias"]
    np.testing.assert_array_equal(bias, np.repeat([0, 0.5, 0, 0], H).astype(np.float32))


def test_learnable_start_is_learnt_through_resets():
    """An initial carry made from params gets a gradient from every sequence that begins with it."""

    @dataclasses.dataclass(frozen=True, repr=False)
    class Learnt(sj.Elman):
        def init(self, key, xs):
            return super().init(key, xs) | {"start": jnp.full((self.features,), 0.1)}

        def initial_carry(self, params, batch_shape):
            return sj.HiddenCarry(jnp.broadcast_to(params["start"], (*batch_shape, self.features)))

    resets = np.zeros((T, B), bool)
    resets[3] = True

    def loss(params, engine, resets):
        cell = Learnt(H, engine=engine)
        carry = jax.lax.stop_gradient(cell.initial_carry(params, (B,)))
        return jnp.sum(cell.apply(params, carry, jnp.asarray(XS), resets=resets)[1] ** 2)

    params = params_of(Learnt(H))
    gradients = {engine: jax.grad(loss)(params, engine, resets)["start"] for engine in ("scan", "hoisted")}
    assert np.min(np.abs(gradients["scan"])) > 0
    np.testing.assert_allclose(gradients["hoisted"], gradients["scan"], rtol=1e-5)
    np.testing.assert_array_equal(jax.grad(loss)(params, "scan", np.zeros((T, B), bool))["start"], np.zeros(H, np.float32))


def test_members_of_an_ensemble_start_one_matrix_at_a_time():
    """Batched QR, where two run at once, can wait for each other for ever (jaxlib 0.10.1)."""
    xs = jax.ShapeDtypeStruct((T, B, F), jnp.float32)
    start = functools.partial(sj.Bidirectional(sj.LSTM(H), sj.GRU(H)).init, xs=xs)
    keys = jax.random.split(jax.random.key(3), 5)
    program = jax.jit(jax.vmap(start)).lower(keys)
    drawn = [line for line in program.as_text().splitlines() if "custom_call" in line and "geqrf" in line]
    assert drawn
    assert all(f"tensor<{H}x{H}xf32>" in line for line in drawn)
    alone = jax.tree.map(lambda *leaves: np.stack(leaves), *map(start, keys))
    jax.tree.map(np.testing.assert_array_equal, program.compile()(keys), alone)
