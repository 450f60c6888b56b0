"""seqjax.linen.RNN: the same words as seqjax.nnx.RNN, the same numbers, and Linen's own tools."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import core, errors, linen, nnx

import seqjax as sj

B, T, F, H = 3, 5, 2, 4
CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # float32, where chunks or flips order the same sums differently
LENGTHS = np.array([4, 0, 5])
DROPPING = sj.Dropout(sj.LSTM(H), 0.5)
STACK = sj.Stack(sj.LSTM(H), sj.GRU(H), dropout=0.5)


@pytest.fixture
def xs():
    return jax.random.normal(jax.random.key(1), (B, T, F))


def rnn(recurrence=None, seed=0, **options):
    """A module and its variables."""
    module = sj.linen.RNN(recurrence or sj.LSTM(H), **options)
    return module, module.init(jax.random.key(seed), jnp.zeros((B, T, F)))


def call(xs, recurrence=None, **options):
    module, variables = rnn(recurrence)
    return module.apply(variables, xs, **options)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


close = functools.partial(chex.assert_trees_all_close, **CLOSE)


class CharLM(linen.Module):
    """Embedding, two LSTM layers with dropout between them, output layer."""

    vocab: int
    features: int

    @linen.compact
    def __call__(self, tokens, carry=None, *, training=False):
        rnn = sj.linen.RNN(sj.Stack(*[sj.LSTM(self.features)] * 2, dropout=0.2), name="rnn")
        xs = linen.Embed(self.vocab, self.features)(tokens)
        carry, ys = rnn(xs, initial_carry=carry, deterministic=not training)
        return carry, linen.Dense(self.vocab)(ys)


# The same as seqjax.nnx.RNN


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"seq_lengths": LENGTHS},
        {"mask": np.arange(T) < LENGTHS[:, None]},
        {"seq_lengths": LENGTHS, "reverse": True},
        {"resets": np.arange(T) == LENGTHS[:, None] - 2},
        {"time_major": True, "seq_lengths": np.array([3, 0, 1, 2, 3])},
    ],
    ids=lambda said: "-".join(said) or "plain",
)
def test_equals_nnx_with_the_same_params(xs, said):
    module, variables = rnn()
    model = sj.nnx.RNN(sj.LSTM(H), F, rngs=nnx.Rngs(0))
    nnx.update(model, {"params": variables["params"]})
    start = model.initialize_carry((T if "time_major" in said else B,))
    start = jax.tree.map(jnp.ones_like, start)
    ys = module.apply(variables, xs, initial_carry=start, **said)
    equal(ys, model(xs, initial_carry=start, **said))
    assert np.abs(ys[1]).sum() > 0.1


def test_a_stack_equals_nnx_with_the_same_params(xs):
    module, variables = rnn(STACK)
    model = sj.nnx.RNN(STACK, F, rngs=nnx.Rngs(0))
    nnx.update(model, {"params": variables["params"]})
    equal(module.apply(variables, xs, deterministic=True), model(xs, deterministic=True))


# What a call means


def test_params_are_the_nested_dict_of_the_recurrence():
    for recurrence in (sj.LSTM(H), STACK, sj.Bidirectional(sj.GRU(H), sj.GRU(H))):
        _, variables = rnn(recurrence)
        expected = recurrence.init(jax.random.key(0), jnp.zeros((T, B, F)))
        assert set(variables) == {"params"}
        assert jax.tree.map(jnp.shape, variables["params"]) == jax.tree.map(jnp.shape, expected)


def test_init_depends_on_the_key_only():
    equal(rnn(seed=1)[1], rnn(seed=1)[1])
    assert not np.allclose(rnn(seed=1)[1]["params"]["kernel"], rnn(seed=2)[1]["params"]["kernel"])


def test_time_major_equals_batch_major(xs):
    module, variables = rnn(time_major=True)
    carry, ys = module.apply(variables, jnp.swapaxes(xs, 0, 1), seq_lengths=LENGTHS)
    equal((carry, jnp.swapaxes(ys, 0, 1)), call(xs, seq_lengths=LENGTHS))
    equal(module.apply(variables, xs, seq_lengths=LENGTHS, time_major=False), call(xs, seq_lengths=LENGTHS))


def test_seq_lengths_ignore_what_the_padding_holds(xs):
    padding = np.arange(T) >= LENGTHS[:, None]
    carry, ys = call(jnp.where(padding[..., None], jnp.nan, xs), seq_lengths=LENGTHS)
    equal((carry, ys), call(xs, seq_lengths=LENGTHS))
    assert not ys[padding].any() and ys[~padding].all()
    assert not carry.h[1].any()


def test_reverse_equals_flipping_by_hand(xs):
    carry, ys = call(xs, reverse=True)
    flipped_carry, flipped = call(xs[:, ::-1])
    close((carry, ys), (flipped_carry, flipped[:, ::-1]))


def test_chunks_equal_the_whole(xs):
    carry, first = call(xs[:, :2])
    carry, second = call(xs[:, 2:], initial_carry=carry)
    close((carry, jnp.concatenate([first, second], axis=1)), call(xs))


def test_initialize_carry_starts_as_none_does(xs):
    module, variables = rnn(STACK)
    carry = module.apply(variables, (B,), method="initialize_carry")
    said = {"deterministic": True}
    equal(module.apply(variables, xs, initial_carry=carry, **said), module.apply(variables, xs, **said))


def test_bfloat16_in_bfloat16_out_float32_kept(xs):
    carry, ys = call(xs.astype(jnp.bfloat16))
    assert ys.dtype == jnp.bfloat16 and carry.c.dtype == jnp.float32


# Randomness


def test_dropout_follows_its_stream(xs):
    module, variables = rnn(DROPPING)

    def draw(seed):
        return module.apply(variables, xs, deterministic=False, rngs={"dropout": jax.random.key(seed)})[1]

    equal(draw(1), draw(1))
    assert not np.allclose(draw(1), draw(2))
    evaluated = module.apply(variables, xs, deterministic=True, rngs={"dropout": jax.random.key(1)})[1]
    equal(evaluated, sj.linen.RNN(DROPPING, deterministic=True).apply(variables, xs)[1])
    assert not np.allclose(draw(1), evaluated)


def test_dropout_asks_for_what_it_needs(xs):
    module, variables = rnn(DROPPING)
    with pytest.raises(ValueError, match="say deterministic=True or False"):
        module.apply(variables, xs)
    with pytest.raises(ValueError, match=r'rngs=\{"dropout": key\}'):
        module.apply(variables, xs, deterministic=False)


# Among Linen's tools


def test_jit_and_grad(xs):
    module, variables = rnn()

    @jax.jit
    def loss(variables, xs):
        return jnp.sum(module.apply(variables, xs, seq_lengths=LENGTHS)[1] ** 2)

    grads, xs_grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(variables, xs.at[0, 4].set(jnp.nan))
    assert all(g.any() and jnp.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert not xs_grads[0, 4].any() and not xs_grads[1].any() and xs_grads[2].all()
    assert loss(jax.tree.map(lambda p, g: p - 0.01 * g, variables, grads), xs) < loss(variables, xs)


def test_equal_modules_do_not_retrace(xs):
    @functools.partial(jax.jit, static_argnums=0)
    @chex.assert_max_traces(1)
    def call(module, variables, xs):
        return module.apply(variables, xs)[1]

    for seed in (0, 1):
        call(*rnn(seed=seed), xs)


def test_whole_model_learns():
    tokens = jax.random.randint(jax.random.key(2), (B, T + 1), 0, 7)
    model, optimizer = CharLM(7, 8), optax.adam(3e-2)
    variables = model.init(jax.random.key(0), tokens[:, :-1])
    assert set(variables["params"]["rnn"]) == {"0", "1"}

    def loss(variables, **options):
        logits = model.apply(variables, tokens[:, :-1], **options)[1]
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()

    @jax.jit
    def train_step(variables, state, key):
        grads = jax.grad(loss)(variables, training=True, rngs={"dropout": key})
        with jax.numpy_dtype_promotion("standard"):  # optax divides floats by an integer count
            updates, state = optimizer.update(grads, state)
            return optax.apply_updates(variables, updates), state

    loss_of = jax.jit(loss)
    before, state = loss_of(variables), optimizer.init(variables)
    for key in jax.random.split(jax.random.key(3), 30):
        variables, state = train_step(variables, state, key)
    assert loss_of(variables) < 0.5 * before


def test_one_module_called_twice_shares_its_params(xs):
    class Twice(linen.Module):
        @linen.compact
        def __call__(self, xs):
            rnn = sj.linen.RNN(sj.LSTM(F))
            return rnn(rnn(xs)[1])[1]

    ys, variables = Twice().init_with_output(jax.random.key(0), xs)
    assert list(variables["params"]) == ["RNN_0"]
    equal(Twice().apply(variables, xs), ys)


def test_ensemble_by_linen_vmap(xs):
    ensemble = linen.vmap(sj.linen.RNN, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=None, axis_size=2)(
        sj.LSTM(H)
    )
    variables = ensemble.init(jax.random.key(0), xs)
    ys = ensemble.apply(variables, xs)[1]
    for i in range(2):
        member = jax.tree.map(lambda p, i=i: p[i], variables)
        close(ys[i], sj.linen.RNN(sj.LSTM(H)).apply(member, xs)[1])
    assert not np.allclose(ys[0], ys[1])


def test_frozen_variables_are_taken(xs):
    module, variables = rnn(sj.Stack(sj.LSTM(H), sj.LSTM(H)))
    equal(module.apply(core.freeze(variables), xs), module.apply(variables, xs))


def test_orbax_restores_bitwise(xs, tmp_path):
    (module, variables), (_, others) = rnn(STACK), rnn(STACK, seed=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", variables)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "model", others)
    said = {"deterministic": True}
    equal(module.apply(restored, xs, **said), module.apply(variables, xs, **said))
    assert not np.allclose(module.apply(others, xs, **said)[1], module.apply(variables, xs, **said)[1])


# Errors


def test_what_is_no_recurrence_is_refused():
    with pytest.raises(TypeError, match=r"LSTMCell; Flax's cells run in Flax's own RNN.*seqjax\.LSTM\(128\)"):
        sj.linen.RNN(linen.LSTMCell(H))
    with pytest.raises(TypeError, match="make one of it first"):
        sj.linen.RNN(sj.LSTM)


def test_missing_params_are_linens_own_error(xs):
    with pytest.raises(errors.ScopeCollectionNotFound, match="params"):
        sj.linen.RNN(sj.LSTM(H)).apply({}, xs)


def test_wrong_calls_are_refused(xs):
    steps = np.ones((T, B), bool)
    with pytest.raises(ValueError, match=r"mask has shape \(5, 3\), expected \(3, 5\).*batch-major \[B, T, F\]"):
        call(xs, mask=steps)
    with pytest.raises(ValueError, match="seq_lengths and mask both say which steps count"):
        call(xs, seq_lengths=LENGTHS, mask=steps.T)
    with pytest.raises(ValueError, match=r"xs must be batch-major \[B, T, F\], or \[T, F\]; got shape \(2,\)"):
        call(xs[0, 0])
    with pytest.raises(TypeError, match="xs must be an array, got list"):
        call([[1.0, 2.0]])
    with pytest.raises(ValueError, match=r"xs has 4 features but params.*expects 2"):
        call(jnp.ones((B, T, 4)))
