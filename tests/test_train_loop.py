"""The loop: it goes on where it stopped as if nothing had been, evaluates, reports, and stops when asked or when it must."""

import dataclasses
import json
import os
import shutil
import signal
import sys
import threading
import types

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from seqjax import train
from seqjax.data import loader
from seqjax.train import loop, reports

V, F, B, T, STEPS = 7, 5, 4, 3, 24
CODES = np.random.default_rng(0).integers(0, V, 101)
OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.03))
PLAN = train.Plan(STEPS, evaluate_every=6, checkpoint_every=4, log_every=4, average=0.9)


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam is not written for the strict one
        yield


def language_loss(params, carry, batch, key):
    """A small language model with dropout, written out."""

    def one(h, x):
        h = jnp.tanh(x + h @ params["kernel"])
        return h, h

    carry, hs = jax.lax.scan(one, carry, jnp.swapaxes(params["embedding"][batch["inputs"]], 0, 1))
    if key is not None:
        hs = jnp.where(jax.random.bernoulli(key, 0.8, hs.shape), hs / 0.8, 0.0)
    logits = jnp.swapaxes(hs @ params["embedding"].T, 0, 1)
    values = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
    return values.mean(), (carry, {"likeliest": jnp.exp(-values.min())})


@jax.jit
def held_out(params):
    batch = {"inputs": jnp.arange(T * B).reshape(B, T) % V, "targets": jnp.arange(T * B).reshape(B, T) % 3}
    return {"loss": language_loss(params, jnp.zeros((B, F)), batch, None)[0]}


def start(seed=0):
    keys = jax.random.split(jax.random.key(seed))
    params = {"embedding": jax.random.normal(keys[0], (V, F)), "kernel": jax.random.normal(keys[1], (F, F)) / 3}
    return train.create(params, OPTIMIZER, jax.random.key(seed + 5), carry=jnp.zeros((B, F)), average=True)


def go(directory=None, *, plan=PLAN, seed=0, at=None, evaluate=held_out, quiet=True, fingerprint=None, batches=None):
    data = loader(CODES, batch_size=B, steps=T)
    if batches is not None:
        found = iter(data)
        data = grain.MapDataset.source([next(found) for _ in range(batches)]).to_iter_dataset()
    settings = {"evaluate": evaluate, "directory": directory, "at": at, "quiet": quiet, "fingerprint": fingerprint}
    return train.fit(language_loss, OPTIMIZER, start(seed), data, plan, **settings)


def contents(tree):
    """All that a tree holds, bit for bit."""

    def words(x):
        x = np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        return x.dtype.name, x.shape, x.tobytes()

    return [(jax.tree_util.keystr(path), words(x)) for path, x in jax.tree_util.tree_leaves_with_path(tree)]


def memory(outcome):
    """What the loop remembers, but the time it took."""
    return {name: value for name, value in vars(outcome.progress).items() if name != "seconds"}


def lines(directory, kind=None):
    """The log, without the speed."""
    found = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    found = [{k: v for k, v in line.items() if not k.endswith("_per_second")} for line in found]
    return [line for line in found if kind in (None, line["kind"])]


def saved_steps(directory):
    checkpoints = train.Checkpoints(directory / "checkpoints")
    try:
        return checkpoints.steps(), checkpoints.best()
    finally:
        checkpoints.close()


def ask_to_stop(number=signal.SIGTERM):
    return lambda state: os.kill(os.getpid(), number)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run, and a copy of its directory as a kill right after step 14 would have left it."""
    directory, killed = tmp_path_factory.mktemp("whole") / "run", tmp_path_factory.mktemp("killed") / "run"
    with jax.numpy_dtype_promotion("standard"):
        outcome = go(directory, at={15: lambda state: shutil.copytree(directory, killed)})
    return types.SimpleNamespace(outcome=outcome, directory=directory, killed=killed)


def test_a_run_finishes_and_learns(whole):
    assert whole.outcome.reason == "finished"
    assert int(whole.outcome.state.step) == whole.outcome.progress.step == STEPS
    losses = [line["loss"] for line in lines(whole.directory, "train")]
    assert losses[-1] < losses[0] - 0.1


def test_the_log_has_a_line_for_every_period(whole):
    assert [line["step"] for line in lines(whole.directory, "train")] == [4, 8, 12, 16, 20, 24]
    assert [line["step"] for line in lines(whole.directory, "evaluation")] == [6, 12, 18, 24]
    first = json.loads((whole.directory / "log.jsonl").read_text().splitlines()[0])
    assert set(first) == {"kind", "step", "loss", "gradient_norm", "likeliest", "steps_per_second"}
    assert first["steps_per_second"] > 0


def test_a_line_of_the_log_is_the_mean_since_the_line_before(tmp_path):
    def loss(params, carry, batch, key):
        return jnp.sum(batch["x"] * params), (carry, {})

    state = train.create(jnp.ones(()), optax.sgd(0.0), jax.random.key(0))
    plan = train.Plan(5, log_every=2)
    train.fit(loss, optax.sgd(0.0), state, Numbers([1.0, 2.0, 4.0, 8.0, 16.0]), plan, directory=tmp_path, quiet=True)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 1.5), (4, 6.0), (5, 16.0)]


class Numbers:
    """Batches ``{"x": [1]}`` of given numbers, with the smallest iterator that ``fit`` takes."""

    def __init__(self, values):
        self.values, self.next = values, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.next += 1
        return {"x": np.array([self.values[self.next - 1]], np.float32)}

    def get_state(self):
        return {"next": self.next}

    def set_state(self, state):
        self.next = state["next"]


@pytest.mark.parametrize("step", [5, 12, 23])
def test_a_run_that_was_stopped_goes_on_bit_for_bit(whole, tmp_path, step):
    stopped = go(tmp_path, at={step: ask_to_stop()})
    assert stopped.reason == "interrupted"
    assert int(stopped.state.step) == step
    assert contents(stopped.state) != contents(whole.outcome.state)
    resumed = go(tmp_path, seed=3)  # what it starts from and draws is that of the run, not that of this call
    assert resumed.reason == "finished"
    assert contents(resumed.state) == contents(whole.outcome.state)
    assert memory(resumed) == memory(whole.outcome)
    assert lines(tmp_path, "evaluation") == lines(whole.directory, "evaluation")
    assert saved_steps(tmp_path)[1] == saved_steps(whole.directory)[1]
    assert resumed.progress.seconds > stopped.progress.seconds


def test_a_run_that_was_killed_goes_on_bit_for_bit(whole, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole.killed, directory)
    assert saved_steps(directory)[0][-1] == 12
    with (directory / "log.jsonl").open("a") as log:  # lines beyond the checkpoint, one of them cut off
        log.write(json.dumps({"kind": "train", "step": 13, "loss": -1.0}) + "\n")
        log.write(json.dumps({"kind": "train", "step": 14, "loss": -1.0})[:20])
    resumed = go(directory)
    assert contents(resumed.state) == contents(whole.outcome.state)
    assert lines(directory) == lines(whole.directory), "nothing twice, nothing lost"


def test_a_finished_run_stays_as_it_is(whole, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole.directory, directory)
    again = go(directory, at={STEPS: pytest.fail})
    assert again.reason == "finished"
    assert contents(again.state) == contents(whole.outcome.state)
    assert lines(directory) == lines(whole.directory)
    longer = go(directory, plan=train.Plan(STEPS + 2, evaluate_every=6, log_every=4, average=0.9))
    assert int(longer.state.step) == STEPS + 2


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(whole, tmp_path, capsys):
    directory = tmp_path / "run"
    shutil.copytree(whole.killed, directory)
    newest, before = sorted(saved_steps(directory)[0])[-1], sorted(saved_steps(directory)[0])[-2]
    (directory / "checkpoints" / str(newest) / "tree" / "manifest.ocdbt").write_bytes(b"")
    resumed = go(directory, quiet=False)
    assert before < newest
    assert f"checkpoints/{newest}: this checkpoint is refused" in capsys.readouterr().out.replace("\n", "")
    assert contents(resumed.state) == contents(whole.outcome.state)
    assert (directory / "refused" / str(newest) / "tree").is_dir()


def test_nothing_is_started_over_when_no_checkpoint_can_be_read(whole, tmp_path):
    directory = tmp_path / "run"
    shutil.copytree(whole.killed, directory)
    log = (directory / "log.jsonl").read_bytes()
    with pytest.raises(train.CorruptCheckpointError, match="another configuration"):
        train.Checkpoints(directory / "checkpoints", fingerprint={"features": 2}).restore(start())
    for step in saved_steps(directory)[0]:
        (directory / "checkpoints" / str(step) / "about" / "metadata").write_text("{")
    with pytest.raises(train.CorruptCheckpointError, match="no checkpoint can be read"):
        go(directory)
    assert (directory / "log.jsonl").read_bytes() == log


def scripted(losses):
    """An evaluation that finds the given losses one after the other, and how often it was asked."""
    found = iter(losses)
    return lambda weights: {"loss": next(found)}


def test_evaluations_fall_where_planned_and_the_best_is_remembered(tmp_path):
    plan = train.Plan(10, evaluate_every=4, average=0.9)
    outcome = go(tmp_path, plan=plan, evaluate=scripted([3.0, 1.0, 2.0]))
    assert [(line["step"], line["loss"]) for line in lines(tmp_path, "evaluation")] == [(4, 3.0), (8, 1.0), (10, 2.0)]
    assert (outcome.progress.best, outcome.progress.best_step, outcome.progress.stale) == (1.0, 8, 1)
    assert saved_steps(tmp_path) == ([8, 10], 8)


def test_what_is_evaluated_is_the_average():
    seen = []
    plan = train.Plan(2, evaluate_every=2, average=0.9)
    outcome = go(plan=plan, evaluate=lambda weights: {"loss": seen.append(contents(weights)) or 1.0})
    assert seen == [contents(outcome.state.average)] and seen != [contents(outcome.state.params)]


def test_a_run_stops_when_nothing_gets_better_and_stays_stopped(tmp_path):
    plan = train.Plan(40, evaluate_every=3, patience=2, average=0.9)
    outcome = go(tmp_path, plan=plan, evaluate=scripted([5.0, 2.0, 3.0, 2.5, 0.0]))
    assert outcome.reason == "no improvement"
    assert (outcome.progress.step, outcome.progress.best_step, outcome.progress.stale) == (12, 6, 2)
    assert saved_steps(tmp_path) == ([6, 9, 12], 6)
    again = go(tmp_path, plan=plan, evaluate=pytest.fail)
    assert again.reason == "no improvement"
    assert contents(again.state) == contents(outcome.state)


@pytest.mark.parametrize("batches", [7, 6])
def test_data_that_end_end_the_run_and_nothing_is_lost(tmp_path, batches):
    plan = train.Plan(40, evaluate_every=3, average=0.9)
    outcome = go(tmp_path, plan=plan, batches=batches)
    assert (outcome.reason, outcome.progress.step) == ("end of the data", batches)
    assert [line["step"] for line in lines(tmp_path, "evaluation")] == sorted({3, 6, batches})
    assert saved_steps(tmp_path)[0][-1] == batches
    again = go(tmp_path, plan=plan, batches=batches, evaluate=pytest.fail)
    assert again.reason == "end of the data" and contents(again.state) == contents(outcome.state)


def test_data_without_a_batch_are_refused():
    with pytest.raises(ValueError, match="the data are empty"):
        go(batches=0)


def test_an_equal_loss_is_no_improvement():
    plan = train.Plan(40, evaluate_every=3, patience=1, average=0.9)
    assert go(plan=plan, evaluate=scripted([2.0, 2.0])).progress.step == 6


def test_an_evaluation_that_is_not_a_number_is_never_the_best(tmp_path):
    plan = train.Plan(12, evaluate_every=3, average=0.9)
    outcome = go(tmp_path, plan=plan, evaluate=scripted([1.0, float("nan"), 2.0, float("nan")]))
    assert (outcome.progress.best, outcome.progress.best_step) == (1.0, 3)
    assert saved_steps(tmp_path) == ([3, 9, 12], 3)


def test_without_an_evaluation_there_are_checkpoints_all_the_same(tmp_path):
    outcome = go(tmp_path, plan=train.Plan(7, checkpoint_every=2, average=0.9), evaluate=None)
    assert saved_steps(tmp_path) == ([6, 7], None)
    assert outcome.progress.best == float("inf")
    assert contents(go(tmp_path, plan=train.Plan(7, average=0.9), evaluate=None).state) == contents(outcome.state)


def test_functions_are_called_with_the_state_after_their_step():
    seen = []
    outcome = go(
        plan=train.Plan(6, average=0.9), at={step: lambda state: seen.append(int(state.step)) for step in (1, 4, 6)}
    )
    assert seen == [1, 4, 6]
    assert outcome.progress.step == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops_and_the_handlers_are_put_back(tmp_path, number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    outcome = go(tmp_path, at={7: ask_to_stop(number)})
    assert (outcome.reason, outcome.progress.step) == ("interrupted", 7)
    assert saved_steps(tmp_path)[0][-1] == 7
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_stops_at_once(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def twice(state):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second one must not be waited for")

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, at={7: twice})
    assert saved_steps(tmp_path)[0][-1] == 6
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_thread_may_train():
    outcomes = []

    def work():
        with jax.numpy_dtype_promotion("standard"):
            outcomes.append(go(plan=train.Plan(2, average=0.9)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outcomes[0].reason == "finished"


def spoiled_loss(params, carry, batch, key):
    return jnp.mean((batch["x"] * params) ** 2), (carry, {})


@pytest.mark.parametrize("step", [6, 7, 9, 10])  # when a checkpoint is due, between, when a line is due, at the end
def test_a_loss_that_is_not_finite_ends_the_run_before_anything_is_saved(tmp_path, step):
    values = [1.0] * 10
    values[step - 1] = float("nan")
    state = train.create(jnp.ones(()), optax.sgd(0.01), jax.random.key(0))
    plan = train.Plan(10, evaluate_every=3, log_every=7)
    last = (step - 1) // 3 * 3
    story = rf"the loss is nan at step {step}, batch {step - 1} of the data; .*checkpoints/{last}\."
    with pytest.raises(train.NonFiniteLossError, match=story):
        train.fit(
            spoiled_loss, optax.sgd(0.01), state, Numbers(values), plan,
            evaluate=lambda weights: {"loss": weights}, directory=tmp_path, quiet=True,
        )  # fmt: skip
    checkpoints = train.Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps()[-1] == last
    restored, about = checkpoints.restore(train.create(jnp.ones(()), optax.sgd(0.01), jax.random.key(0)))
    assert np.isfinite(restored.params) and about["step"] == last
    checkpoints.close()


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path):
    def loss(params, carry, batch, key):
        return jnp.sqrt(jnp.sum((batch["x"] * params) ** 2)), (carry, {})  # at zero: the loss 0, the gradient 0 / 0

    state = train.create(jnp.ones(()), optax.sgd(0.01), jax.random.key(0))
    data = Numbers([1.0, 0.0, 1.0])
    plan = train.Plan(3, checkpoint_every=2)
    with pytest.raises(train.NonFiniteLossError, match=r"parameters are not finite after step 2, batch 1.*no checkpoint"):
        train.fit(loss, optax.sgd(0.01), state, data, plan, directory=tmp_path, quiet=True)
    assert saved_steps(tmp_path) == ([], None)


def test_events_for_tensorboard_where_a_writer_is_installed(whole):
    pytest.importorskip("tensorboardX")
    assert [path for path in whole.directory.iterdir() if path.name.startswith("events.out")]


def test_no_events_where_no_writer_is_installed(tmp_path, monkeypatch):
    for module in ("tensorboardX", "tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)  # Python's own way to say that a module is not there
    go(tmp_path, plan=train.Plan(2, average=0.9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "log.jsonl"]


def test_plain_lines_where_the_output_is_no_terminal(capsys):
    go(plan=train.Plan(8, evaluate_every=8, log_every=4, average=0.9, units=("characters", 100)), quiet=False)
    out = capsys.readouterr().out
    assert "step 4/8  loss " in out and "characters/s" in out
    assert "step 8, held out: loss " in out
    assert "step 8/8" not in out, "one line in ten seconds is enough"
    assert "\x1b" not in out


def test_time_left_is_that_of_the_steps_of_this_session(capsys):
    lines = reports.Reports(1000, ("characters", 1), start=900)
    lines.began -= 10  # ten seconds ago
    lines.train(950, {"loss": 1.0})
    assert " 5 characters/s  10 s, about 10 s left" in capsys.readouterr().out


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # takes the output for a terminal
    go(plan=train.Plan(8, evaluate_every=8, log_every=4, average=0.9), quiet=False)
    out = capsys.readouterr().out
    assert "\x1b[" in out and "8/8" in out and "left" in out


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_is_quiet(capsys, monkeypatch, terminal):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    go(plan=train.Plan(2, evaluate_every=2, average=0.9), quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"evaluate_every": 0}, {"checkpoint_every": -1}, {"log_every": 0}, {"patience": 0}, {"devices": 0}],
)
def test_a_plan_refuses_what_cannot_be_done(settings):
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"Plan: {name} must be at least 1, got {value}"):
        train.Plan(**({"steps": 10} | settings))


@pytest.mark.parametrize("average", [0.0, 1.0, 1.5, -0.1])
def test_an_average_is_a_decay(average):
    with pytest.raises(ValueError, match=f"average is a decay in .0, 1., got {average}"):
        train.Plan(10, average=average)


def test_an_average_needs_a_state_that_has_one():
    state = train.create({"w": jnp.ones(2)}, OPTIMIZER, jax.random.key(0))
    with pytest.raises(ValueError, match=r"average=True"):
        train.fit(language_loss, OPTIMIZER, state, [], PLAN)


def test_an_average_needs_a_plan_that_moves_it():
    with pytest.raises(ValueError, match=r"fit: the state has a moving average, but there is no decay"):
        go(plan=dataclasses.replace(PLAN, average=None))


def test_data_whose_position_cannot_be_kept_are_refused_before_anything_is_trained(tmp_path):
    data = grain.DataLoader(
        data_source=range(8), sampler=grain.samplers.SequentialSampler(8, shard_options=grain.sharding.NoSharding())
    )
    with pytest.raises(ValueError, match="get_state of the data's iterator must be a value that JSON can hold, got bytes"):
        train.fit(language_loss, OPTIMIZER, start(0), data, PLAN, directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_signal_that_comes_between_two_looks_loses_nothing(tmp_path, monkeypatch):
    """It comes where nothing is due, after it was asked whether to stop: the next step is the last, and saved."""
    due, signals = loop._due, [signal.SIGTERM]

    def interrupting(step, every):
        if step == 3 and signals:
            os.kill(os.getpid(), signals.pop())
        return due(step, every)

    monkeypatch.setattr(loop, "_due", interrupting)
    outcome = go(tmp_path, plan=dataclasses.replace(PLAN, checkpoint_every=None, evaluate_every=None))
    assert (outcome.reason, outcome.progress.step) == ("interrupted", 4)
    assert saved_steps(tmp_path)[0] == [4]
