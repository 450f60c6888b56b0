"""One step of training: what it computes, what it leaves alone, and over how many devices."""

import json
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import train

B, T, F = 6, 3, 4


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam is not written for the strict one
        yield


def loss(params, carry, batch, key):
    """A recurrence over the chunk; the draw is only reported, so that the loss does not depend on it."""

    def one(h, x):
        h = jnp.tanh(x + h @ params["kernel"])
        return h, h

    carry, hs = jax.lax.scan(one, carry, jnp.swapaxes(batch["xs"], 0, 1))
    value = jnp.mean((hs[-1] - batch["target"]) ** 2)
    return value, (carry, {"size": jnp.abs(hs).mean(), "draw": jax.random.uniform(key)})


def masked_loss(params, carry, batch, key):
    """A mean over the rows that count."""
    errors = jnp.mean((jnp.tanh(batch["xs"].sum(1) @ params["kernel"]) - batch["target"]) ** 2, axis=1)
    counts = batch["counts"]
    value = jnp.sum(errors * counts) / jnp.maximum(counts.sum(), 1)
    return value, (carry, {"size": value, "weight": counts.sum()})


def batch_of(seed):
    xs = np.random.default_rng(seed).normal(size=(B, T, F)).astype(np.float32)
    return {"xs": xs, "target": np.cos(3 * xs.sum(1))}


def start():
    params = {"kernel": jax.random.normal(jax.random.key(1), (F, F)) / 2}
    return params, jnp.full((B, F), 0.3, jnp.float32)


OPTIMIZER = optax.chain(optax.clip_by_global_norm(0.01), optax.adam(0.05))


@pytest.fixture(scope="module")
def three_steps():
    """The state after each of three steps, copied, and the metrics of each."""
    with jax.numpy_dtype_promotion("standard"):
        params, carry = start()
        state = train.create(params, OPTIMIZER, jax.random.key(7), carry=carry, average=True)
        step = train.step_function(loss, OPTIMIZER, average=0.12)
        states, metrics = [jax.tree.map(jnp.copy, state)], []
        for t in range(3):
            state, values = step(state, batch_of(t))
            states.append(jax.tree.map(jnp.copy, state))
            metrics.append({name: float(value) for name, value in values.items()})
    return states, metrics


def test_a_step_is_the_update_of_the_optimizer_written_by_hand(three_steps):
    states, metrics = three_steps
    params, carry = start()
    opt_state = OPTIMIZER.init(params)
    for t in range(3):
        value_and_grad = jax.value_and_grad(loss, has_aux=True)
        (value, (carry, aux)), grads = value_and_grad(params, carry, batch_of(t), jax.random.key(0))
        assert metrics[t]["loss"] == pytest.approx(float(value), rel=1e-5)
        assert metrics[t]["size"] == pytest.approx(float(aux["size"]), rel=1e-5)
        norm = float(jnp.sqrt(jnp.sum(grads["kernel"] ** 2)))
        assert norm > 0.02, "the clipping must matter"
        assert metrics[t]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(states[t + 1].params["kernel"], params["kernel"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(states[t + 1].carry, carry, rtol=1e-5, atol=1e-6)
        assert int(states[t + 1].step) == t + 1
    assert float(jnp.abs(params["kernel"] - start()[0]["kernel"]).max()) > 0.05, "the parameters must have moved"


def test_the_carry_goes_on_and_the_gradient_stays_in_the_chunk():
    params, carry = start()
    sgd = optax.sgd(1.0)
    step = train.step_function(loss, sgd)
    state, _ = step(train.create(params, optax.sgd(0.0), jax.random.key(7), carry=carry), batch_of(0))
    before = jax.tree.map(jnp.copy, state)
    state, _ = step(state, batch_of(1))
    moved = before.params["kernel"] - state.params["kernel"]  # the gradient, at a learning rate of one

    def of_chunk(params):
        return loss(params, before.carry, batch_of(1), jax.random.key(0))[0]

    def of_both(params):
        _, (between, _) = loss(params, carry, batch_of(0), jax.random.key(0))
        return loss(params, between, batch_of(1), jax.random.key(0))[0]

    np.testing.assert_allclose(moved, jax.grad(of_chunk)(before.params)["kernel"], rtol=1e-4, atol=1e-6)
    further = jax.grad(of_both)(before.params)["kernel"]
    assert float(jnp.abs(moved - further).max()) > 1e-3, "a gradient through both chunks is another one"
    assert float(jnp.abs(before.carry - carry).max()) > 0.1


def test_every_step_draws_anew_from_the_key_of_the_run(three_steps):
    states, metrics = three_steps
    draws = [values["draw"] for values in metrics]
    assert len(set(draws)) == 3
    for state in states:
        assert jnp.array_equal(jax.random.key_data(state.key), jax.random.key_data(jax.random.key(7)))


def test_the_average_follows_as_documented(three_steps):
    states, _ = three_steps
    shadow = np.asarray(states[0].params["kernel"], np.float64)
    for t in range(3):
        decay = min(0.12, (1 + t) / (10 + t))  # 0.1 first, 0.12 then: both branches
        shadow = decay * shadow + (1 - decay) * np.asarray(states[t + 1].params["kernel"], np.float64)
        np.testing.assert_allclose(states[t + 1].average["kernel"], shadow, rtol=1e-5, atol=1e-6)
    assert states[-1].weights["kernel"] is states[-1].average["kernel"]
    assert not np.allclose(states[-1].average["kernel"], states[-1].params["kernel"])


def test_without_an_average_the_weights_are_the_parameters():
    params, carry = start()
    state = train.create(params, OPTIMIZER, jax.random.key(0), carry=carry)
    assert state.average == () and state.weights is state.params


def test_the_state_is_donated_and_what_the_caller_holds_stays_alive():
    params, carry = start()
    key = jax.random.key(7)
    state = train.create(params, OPTIMIZER, key, carry=carry, average=True)
    train.step_function(loss, OPTIMIZER, average=0.5)(state, batch_of(0))
    assert state.params["kernel"].is_deleted(), "the buffers are used again"
    for held in (params["kernel"], carry, key):
        assert not held.is_deleted()
    assert float(params["kernel"].sum()) == float(start()[0]["kernel"].sum())
    jax.random.normal(key)


def test_parameters_of_several_dtypes_keep_them():
    params = {"low": jnp.ones((F,), jnp.bfloat16), "high": jnp.ones((F,), jnp.float32)}

    def mixed(params, carry, batch, key):
        ys = batch["xs"].sum(1) * params["low"].astype(jnp.float32) * params["high"]
        return jnp.mean((ys - batch["target"]) ** 2), (carry, {})

    state, _ = train.step_function(mixed, optax.sgd(0.1))(
        train.create(params, optax.sgd(0.1), jax.random.key(0)), batch_of(0)
    )
    assert state.params["low"].dtype == jnp.bfloat16 and state.params["high"].dtype == jnp.float32
    np.testing.assert_allclose(state.params["low"].astype(jnp.float32), state.params["high"], atol=2e-2)
    assert float(jnp.abs(state.params["high"] - 1).max()) > 0.05


def test_an_average_of_narrow_parameters_does_not_stand_still():
    """A thousandth of the way is less than bfloat16 tells apart."""
    state = train.create({"w": jnp.ones(F, jnp.bfloat16)}, optax.sgd(1.0), jax.random.key(0), average=True)
    state = state._replace(step=jnp.array(10**5, jnp.int32), params={"w": jnp.full(F, 1.5, jnp.bfloat16)})
    step = train.step_function(
        lambda params, carry, batch, key: (0.0 * params["w"].sum(), (carry, {})), optax.sgd(1.0), average=0.999
    )
    for _ in range(3):
        state, _ = step(state, batch_of(0))
    np.testing.assert_allclose(state.average["w"], np.full(F, 1.5 - 0.5 * 0.999**3), rtol=1e-6)
    assert state.weights["w"].dtype == jnp.bfloat16


@pytest.mark.parametrize("kept", [True, False])
def test_an_average_that_nothing_changes_and_one_that_is_not_there_are_refused(kept):
    params, carry = start()
    state = train.create(params, OPTIMIZER, jax.random.key(0), carry=carry, average=kept)
    with pytest.raises(ValueError, match="moving average"):
        train.step_function(loss, OPTIMIZER, average=None if kept else 0.9)(state, batch_of(0))


@pytest.mark.parametrize("devices", [0, 4096])
def test_devices_that_are_not_there_are_refused(devices):
    with pytest.raises(ValueError, match=rf"devices={devices}, but there are \d+.*jax_num_cpu_devices"):
        train.step_function(loss, OPTIMIZER, devices=devices)


def test_two_devices_do_what_one_does():
    script = """
        import json, jax
        jax.config.update("jax_num_cpu_devices", 2)
        import jax.numpy as jnp, numpy as np
        from seqjax import train
        from tests.test_train_step import OPTIMIZER, B, batch_of, loss, masked_loss, start

        found = {}
        for devices in (1, 2):
            params, carry = start()
            state = train.create(params, OPTIMIZER, jax.random.key(7), carry=carry, average=True)
            step = train.step_function(loss, OPTIMIZER, devices=devices, average=0.9)
            for t in range(3):
                state, metrics = step(state, batch_of(t))
            params, carry = start()
            masked = train.step_function(masked_loss, OPTIMIZER, devices=devices)
            uneven = train.create(params, OPTIMIZER, jax.random.key(7), carry=carry)
            for counts in ([1, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 0], [0] * B):
                uneven, told = masked(uneven, batch_of(5) | {"counts": np.array(counts, np.int32)})
                metrics[f"masked, {counts}"] = told["loss"]
                metrics[f"gradient, {counts}"] = told["gradient_norm"]
            assert "weight" not in told
            found[devices] = {
                "losses": [float(value) for name, value in metrics.items() if name != "draw"],
                "arrays": [
                    np.asarray(x).tolist()
                    for x in (state.params["kernel"], state.average["kernel"], state.carry, uneven.params["kernel"])
                ],
                "rows": sorted(shard.data.shape[0] for shard in state.carry.addressable_shards),
            }
        try:
            step(state, {name: x[: B - 1] for name, x in batch_of(0).items()})
        except ValueError as error:
            found["refused"] = str(error)
        print(json.dumps(found))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False, timeout=200
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for name in ("losses", "arrays"):
        for one, two in zip(found["1"][name], found["2"][name], strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
    assert (found["1"]["rows"], found["2"]["rows"]) == ([B], [B // 2, B // 2])
    assert "a batch of [5] cannot be split over 2 devices" in found["refused"]


def compilations(step, state, t, caplog):
    caplog.clear()
    with jax.log_compiles(), caplog.at_level("WARNING"):
        state, _ = step(state, batch_of(t))
    return state, sum("Compiling jit(advance)" in record.getMessage() for record in caplog.records)


def test_a_step_is_compiled_once(caplog):
    params, carry = start()
    state = train.create(params, OPTIMIZER, jax.random.key(7), carry=carry)
    for _ in range(2):
        step = train.step_function(loss, OPTIMIZER)
        state, first = compilations(step, state, 0, caplog)
        state, second = compilations(step, state, 1, caplog)
        assert (first, second) == (1, 0)
        # The second time as it is read from a checkpoint: host arrays.
        state = state._replace(**jax.tree.map(np.asarray, state._replace(key=())._asdict()) | {"key": state.key})


def test_a_single_array_can_be_learned_and_averaged():
    state = train.create(jnp.ones((F,)), optax.sgd(0.5), jax.random.key(0), average=True)
    step = train.step_function(
        lambda params, carry, batch, key: (jnp.sum(params**2), (carry, {})), optax.sgd(0.5), average=0.9
    )
    state, _ = step(state, batch_of(0))
    np.testing.assert_allclose(state.weights, np.full(F, 0.1), atol=1e-6)  # 0 averaged with 1, at a decay of 0.1
