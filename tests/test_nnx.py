"""seqjax.nnx.RNN: Flax's words mean what they say, and the module lives well among Flax's tools."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen, nnx

import seqjax as sj

B, T, F, H = 3, 5, 2, 4
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32, where chunks or flips order the same sums differently
DROPPING = sj.Dropout(sj.LSTM(H), 0.5)
STACK = sj.Stack(sj.LSTM(H), sj.GRU(H), dropout=0.5)


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(1), (B, T, F))


def rnn(recurrence=None, seed=0, **options):
    return sj.nnx.RNN(recurrence or sj.LSTM(H), F, rngs=nnx.Rngs(seed), **options)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


close = functools.partial(chex.assert_trees_all_close, **CLOSE)


def swap(x):
    return jnp.swapaxes(x, 0, 1)


class CharLM(nnx.Module):
    """The model of the design: embedding, two LSTM layers with dropout between them, output layer."""

    def __init__(self, vocab, features, *, rngs):
        self.embed = nnx.Embed(vocab, features, rngs=rngs)
        self.rnn = sj.nnx.RNN(sj.Stack(*[sj.LSTM(features)] * 2, dropout=0.2), features, rngs=rngs)
        self.head = nnx.Linear(features, vocab, rngs=rngs)

    def __call__(self, tokens, carry=None):
        carry, ys = self.rnn(self.embed(tokens), initial_carry=carry)
        return carry, self.head(ys)


def char_loss(model, tokens):
    logits = model(tokens[:, :-1])[1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


# What a call means


def test_call_equals_apply_of_the_recurrence(xs):
    model = rnn()
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))["params"]
    expected = sj.LSTM(H).apply(params, sj.LSTM(H).initial_carry(params, (B,)), swap(xs))
    carry, ys = model(xs)
    equal((carry, swap(ys)), expected)
    assert isinstance(carry, sj.LSTMCarry)


@pytest.mark.parametrize("at", ["construction", "call"])
def test_time_major_equals_batch_major(xs, at):
    lengths, resets = jnp.array([4, 0, 5]), jax.random.bernoulli(jax.random.key(2), 0.3, (B, T))
    carry, ys = rnn()(xs, seq_lengths=lengths, resets=resets)
    model, said = (rnn(time_major=True), {}) if at == "construction" else (rnn(), {"time_major": True})
    carry_time_major, ys_time_major = model(swap(xs), seq_lengths=lengths, resets=swap(resets), **said)
    equal((carry_time_major, swap(ys_time_major)), (carry, ys))


def test_time_major_false_in_a_call_overrides_true(xs):
    equal(rnn(time_major=True)(xs, time_major=False), rnn()(xs))


def test_no_batch_axis_and_two_batch_axes(xs):
    carry, ys = rnn()(xs[:, None])
    whole_carry, whole = rnn()(xs)
    close((carry.h[:, 0], ys[:, 0]), (whole_carry.h, whole))
    lengths = jnp.array([[4], [0], [5]])
    ragged = rnn()(xs[:, None], seq_lengths=lengths)[1]
    close(ragged[:, 0], rnn()(xs, seq_lengths=lengths[:, 0])[1])
    carry, ys = rnn()(xs[1], seq_lengths=jnp.array(3))
    assert carry.h.shape == (H,)
    close(ys[:3], whole[1, :3])
    assert not ys[3:].any()


def test_seq_lengths_ignore_what_the_padding_holds(xs):
    lengths = jnp.array([4, 0, 5])
    padding = jnp.arange(T) >= lengths[:, None]
    noisy = jnp.where(padding[..., None], jnp.nan, xs)
    start = jax.tree.map(jnp.ones_like, rnn().initialize_carry((B,)))
    carry, ys = rnn()(noisy, seq_lengths=lengths, initial_carry=start)
    equal((carry, ys), rnn()(xs, seq_lengths=lengths, initial_carry=start))
    assert not ys[padding].any()
    assert ys[~padding].all()
    equal(jax.tree.map(lambda c: c[1], carry), jax.tree.map(lambda c: c[1], start))
    close(carry.h[0], rnn()(xs[:1, :4], initial_carry=jax.tree.map(lambda c: c[:1], start))[0].h[0])


def test_seq_lengths_equal_their_mask(xs):
    lengths = jnp.array([4, 0, 5])
    equal(rnn()(xs, seq_lengths=lengths), rnn()(xs, mask=jnp.arange(T) < lengths[:, None]))


def test_padding_gives_no_gradient(xs):
    lengths = jnp.array([4, 0, 5])
    grads = jax.grad(lambda xs: rnn()(xs, seq_lengths=lengths)[1].sum())(xs.at[0, 4].set(jnp.nan))
    assert not grads[0, 4].any() and not grads[1].any()
    assert grads[0, :4].all() and grads[2].all()


def test_resets_start_anew(xs):
    resets = jnp.zeros((B, T), bool).at[:, 2].set(True)
    carry, ys = rnn()(xs, resets=resets)
    later_carry, later = rnn()(xs[:, 2:])
    close((carry, ys[:, 2:]), (later_carry, later))
    assert not np.allclose(ys[:, 2:], rnn()(xs)[1][:, 2:])


def test_reverse_equals_flipping_by_hand(xs):
    carry, ys = rnn()(xs, reverse=True)
    flipped_carry, flipped = rnn()(xs[:, ::-1])
    close((carry, ys), (flipped_carry, flipped[:, ::-1]))


def test_reverse_starts_each_ragged_sequence_at_its_last_step(xs):
    lengths = jnp.array([4, 0, 5])
    carry, ys = rnn()(xs, seq_lengths=lengths, reverse=True)
    for b, n in enumerate(lengths.tolist()):
        own_carry, own = rnn()(xs[b, :n][::-1])
        close((carry.h[b], ys[b, :n]), (own_carry.h, own[::-1]))


@pytest.mark.parametrize("recurrence", [STACK, sj.MinGRU(H)])
def test_chunks_equal_the_whole(xs, recurrence):
    model = rnn(recurrence)
    model.eval()
    carry, first = model(xs[:, :2])
    carry, second = model(xs[:, 2:], initial_carry=carry)
    close((carry, jnp.concatenate([first, second], axis=1)), model(xs))
    equal(model(xs, initial_carry=model.initialize_carry((B,))), model(xs))


def test_bidirectional_is_as_wide_as_both(xs):
    model = rnn(sj.Bidirectional(sj.GRU(H), sj.GRU(H + 1)))
    assert model(xs)[1].shape == (B, T, 2 * H + 1)


def test_bfloat16_in_bfloat16_out_float32_kept(xs):
    carry, ys = rnn()(xs.astype(jnp.bfloat16))
    assert ys.dtype == jnp.bfloat16
    assert carry.c.dtype == rnn().params["kernel"].dtype == jnp.float32


# Randomness


def test_dropout_draws_in_training_and_not_in_evaluation(xs):
    model = rnn(DROPPING)
    assert not np.allclose(model(xs)[1], model(xs)[1])
    model.eval()
    evaluated = model(xs)
    equal(model(xs), evaluated)
    equal(model(xs, rngs=jax.random.key(3)), evaluated)
    assert not np.allclose(model(xs, deterministic=False)[1], evaluated[1])
    model.train()
    assert not np.allclose(model(xs)[1], evaluated[1])
    equal(model(xs, deterministic=True), evaluated)
    equal(nnx.view(model, deterministic=True)(xs), evaluated)


@pytest.mark.parametrize(
    "make", [jax.random.key, jax.random.PRNGKey, nnx.Rngs, lambda s: nnx.Rngs(dropout=s), lambda s: nnx.Rngs(s)["default"]]
)
def test_dropout_is_reproducible_with_what_a_call_is_given(xs, make):
    model = rnn(DROPPING)
    equal(model(xs, rngs=make(7)), model(xs, rngs=make(7)))


def test_dropout_is_reproducible_from_the_seed(xs):
    equal(rnn(DROPPING)(xs), rnn(DROPPING)(xs))
    assert not np.allclose(rnn(DROPPING)(xs, rngs=nnx.Rngs(1))[1], rnn(DROPPING)(xs, rngs=nnx.Rngs(2))[1])


def test_dropout_draws_anew_in_every_jitted_step(xs):
    model, call = rnn(DROPPING), nnx.jit(lambda model, xs: model(xs)[1])
    assert not np.allclose(call(model, xs), call(model, xs))


def test_nothing_to_draw_from_is_an_error_in_training_only(xs):
    model = sj.nnx.RNN(DROPPING, F, rngs=nnx.Rngs(params=0))
    with pytest.raises(ValueError, match=r"no stream to draw from.*rngs=key.*model\.eval\(\)"):
        model(xs)
    with pytest.raises(ValueError, match="no stream to draw from"):
        model(xs, rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match=r"rngs must be nnx\.Rngs, nnx\.RngStream or a random key, got int"):
        model(xs, rngs=3)
    model.eval()
    assert model(xs)[1].shape == (B, T, H)


def test_deterministic_recurrences_hold_no_random_state():
    assert not jax.tree.leaves(nnx.state(rnn(), nnx.RngState))
    assert jax.tree.leaves(nnx.state(rnn(DROPPING), nnx.RngState))
    equal(nnx.state(rnn(DROPPING), nnx.Param), nnx.state(rnn(), nnx.Param))


# Among Flax's tools


def test_params_are_the_nested_dict_of_init():
    state = nnx.to_pure_dict(nnx.state(rnn(STACK), nnx.Param))["params"]
    expected = STACK.init(jax.random.key(0), jnp.zeros((T, B, F)))
    assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, expected)
    assert isinstance(rnn(STACK).params["1"]["kernel"], nnx.Param)


@pytest.mark.parametrize("recurrence", [sj.LSTM(H), STACK])
def test_equal_settings_give_equal_graph_definitions(recurrence):
    one, other = (nnx.graphdef(rnn(eval(repr(recurrence), vars(sj)), seed)) for seed in (0, 1))
    assert one == other and hash(one) == hash(other)
    assert one != nnx.graphdef(rnn(sj.GRU(H)))


def test_equal_settings_do_not_retrace(xs):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(1)
    def call(graphdef, state, xs):
        return nnx.merge(graphdef, state)(xs)[1]

    for seed in (0, 1):
        call(*nnx.split(rnn(DROPPING, seed)), xs)


def test_split_and_merge_round_trip_with_plain_jax(xs):
    model = rnn()
    graphdef, state = nnx.split(model)

    @jax.jit
    def loss(state, xs):
        return jnp.sum(nnx.merge(graphdef, state)(xs)[1] ** 2)

    equal(nnx.merge(graphdef, state)(xs), model(xs))
    grads = jax.jit(jax.grad(loss))(state, xs)
    close(grads, nnx.grad(lambda model: jnp.sum(model(xs)[1] ** 2))(model))
    assert all(g.any() for g in jax.tree.leaves(grads))
    descended = jax.tree.map(lambda p, g: p - 0.01 * g, state, grads)
    assert loss(descended, xs) < loss(state, xs)


def test_whole_model_learns_under_nnx_jit():
    tokens = jax.random.randint(jax.random.key(2), (B, T + 1), 0, 7)
    model = CharLM(7, 8, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-2), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, tokens):
        loss, grads = nnx.value_and_grad(char_loss)(model, tokens)
        with jax.numpy_dtype_promotion("standard"):  # optax divides floats by an integer count
            optimizer.update(model, grads)
        return loss

    losses = [train_step(model, optimizer, tokens) for _ in range(30)]
    model.eval()
    assert char_loss(model, tokens) < 0.5 * losses[0]


def test_whole_model_streams_token_by_token():
    tokens = jax.random.randint(jax.random.key(2), (B, T), 0, 7)
    model, carry, steps = CharLM(7, 8, rngs=nnx.Rngs(0)), None, []
    model.eval()
    for t in range(T):
        carry, logits = model(tokens[:, t : t + 1], carry)
        steps.append(logits)
    close((carry, jnp.concatenate(steps, axis=1)), model(tokens))


def test_orbax_restores_bitwise(xs, tmp_path):
    model, other = rnn(sj.Stack(*STACK.layers), seed=0), rnn(sj.Stack(*STACK.layers), seed=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", nnx.to_pure_dict(nnx.state(model)))
        checkpointer.wait_until_finished()
        graphdef, state = nnx.split(other)
        nnx.replace_by_pure_dict(state, checkpointer.restore(tmp_path / "model", nnx.to_pure_dict(state)))
    assert not np.allclose(other(xs)[1], model(xs)[1])
    equal(nnx.merge(graphdef, state)(xs), model(xs))


def test_ensemble_equals_its_members(xs):
    make = nnx.split_rngs(splits=2)(nnx.vmap(lambda rngs: sj.nnx.RNN(sj.LSTM(H), F, rngs=rngs)))
    graphdef, states = nnx.split(make(nnx.Rngs(0)))
    ys = nnx.vmap(lambda model, xs: model(xs)[1], in_axes=(0, None))(nnx.merge(graphdef, states), xs)
    close(jax.vmap(lambda state: nnx.merge(graphdef, state)(xs)[1])(states), ys)
    for i in range(2):
        close(ys[i], nnx.merge(graphdef, jax.tree.map(lambda x, i=i: x[i], states))(xs)[1])
    assert not np.allclose(ys[0], ys[1])


# Errors


@pytest.mark.parametrize(
    "wrong, says",
    [
        (nnx.LSTMCell(F, H, rngs=nnx.Rngs(0)), r"LSTMCell; Flax's cells run in Flax's own RNN.*seqjax\.LSTM\(128\)"),
        (linen.LSTMCell(H), r"LSTMCell; Flax's cells run in Flax's own RNN"),
        (sj.LSTM, r"the class seqjax\.cells\.lstm\.LSTM; make one of it first: LSTM\(\.\.\.\)"),
        ("lstm", r"builtins\.str; give a seqjax\.Recurrence"),
    ],
)
def test_what_is_no_recurrence_is_refused(wrong, says):
    with pytest.raises(TypeError, match=says):
        sj.nnx.RNN(wrong, F, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("in_features", [0, -1, 2.0, True, None])
def test_in_features_must_be_positive(in_features):
    with pytest.raises(ValueError, match="RNN: in_features must be a positive integer"):
        sj.nnx.RNN(sj.LSTM(H), in_features, rngs=nnx.Rngs(0))


def test_rngs_must_be_rngs():
    with pytest.raises(TypeError, match=r"rngs must be nnx\.Rngs, got int; write rngs=nnx\.Rngs\(0\)"):
        sj.nnx.RNN(sj.LSTM(H), F, rngs=0)


@pytest.mark.parametrize("name", ["mask", "resets"])
def test_errors_speak_of_the_layout_of_the_caller(xs, name):
    steps = jnp.ones((T, B), bool)
    with pytest.raises(ValueError, match=rf"{name} has shape \(5, 3\), expected \(3, 5\).*batch-major \[B, T, F\]"):
        rnn()(xs, **{name: steps})
    with pytest.raises(ValueError, match=rf"{name} has shape \(3, 5\), expected \(5, 3\).*time-major \[T, B, F\]"):
        rnn()(swap(xs), **{name: steps.T}, time_major=True)
    with pytest.raises(TypeError, match=f"{name} must be bool"):
        rnn()(xs, **{name: steps.T.astype(int)})


def test_wrong_calls_are_refused(xs):
    with pytest.raises(ValueError, match="seq_lengths and mask both say which steps count"):
        rnn()(xs, seq_lengths=jnp.array([4, 0, 5]), mask=jnp.ones((B, T), bool))
    with pytest.raises(ValueError, match=r"seq_lengths has shape \(5,\), expected \(3,\)"):
        rnn()(xs, seq_lengths=jnp.ones(T, int))
    with pytest.raises(ValueError, match=r"lengths must lie in 0\.\.5"):
        rnn()(xs, seq_lengths=jnp.array([4, 0, 6]))
    with pytest.raises(ValueError, match=r"xs must be batch-major \[B, T, F\], or \[T, F\]; got shape \(2,\)"):
        rnn()(xs[0, 0])
    with pytest.raises(TypeError, match="xs must be an array, got list"):
        rnn()([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"xs has 4 features but params.*expects 2"):
        rnn()(jnp.ones((B, T, 4)))


def test_start_gives_a_decoder_its_memory_with_the_parameters_of_the_module(xs):
    decoder = sj.nnx.RNN(sj.attention.Attend(sj.GRU(H), sj.attention.Bilinear(), 4), F, rngs=nnx.Rngs(0))
    memory, mask = (
        jnp.asarray(np.random.default_rng(0).normal(size=(B, 6, 4)), jnp.float32),
        jnp.arange(6) < jnp.array([[6], [2], [4]]),
    )
    carry, ys = decoder(xs, initial_carry=decoder.start(memory, mask))
    start = decoder.recurrence.start(nnx.to_pure_dict(nnx.state(decoder))["params"], memory, mask)
    _, zs = decoder(xs, initial_carry=start)
    np.testing.assert_array_equal(ys, zs)
    assert carry.memory.values.shape == (B, 6, 4)
    assert not np.allclose(ys, decoder(xs)[1])


def test_start_of_what_is_given_nothing_is_refused():
    with pytest.raises(TypeError, match=r"starts from nothing but initialize_carry"):
        rnn().start(jnp.ones((B, 6, 4)))
