"""The experiment of Grid LSTM: it learns, its answers are counted as they are, and a run ends with its summary."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import grid_lstm, runs

SMALL = grid_lstm.Config(
    task="parity", length=3, features=16, depth=2, batch_size=16, steps=600, evaluations=4, answers=500, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has ended: its directory and its summary."""
    directory = tmp_path_factory.mktemp("runs") / "parity"
    with jax.numpy_dtype_promotion("standard"):  # optax.adam relies on it
        return directory, grid_lstm.run(SMALL, "default", directory, quiet=True)


def test_parity_of_three_bits_is_learnt(finished):
    directory, summary = finished
    assert summary["metrics"]["parity_3_exact"] >= 0.99
    assert summary["metrics"]["parity_bits_at_99"] == 3
    assert 0 < summary["metrics"]["samples_to_99"] <= SMALL.steps * SMALL.batch_size
    assert json.loads((directory / "summary.json").read_text())["metrics"] == summary["metrics"]
    assert (directory / "loss.png").stat().st_size > 1000


def test_examples_grow_to_their_full_length_over_a_share_of_the_steps():
    config = dataclasses.replace(SMALL, length=4, steps=100, growth=0.5)
    assert [grid_lstm.longest(config, step) for step in (0, 12, 13, 38, 50, 99)] == [1, 1, 2, 4, 4, 4]
    assert grid_lstm.longest(dataclasses.replace(config, growth=0.0), 0) == 4


def test_samples_are_those_of_the_first_good_evaluation(tmp_path):
    lines = [(100, 0.5), (200, 0.991), (300, 1.0)]
    text = "".join(json.dumps({"kind": "evaluation", "step": step, "exact": exact}) + "\n" for step, exact in lines)
    (tmp_path / "log.jsonl").write_text(text)
    assert grid_lstm.samples_to_99(tmp_path, SMALL) == 200 * 16
    (tmp_path / "log.jsonl").write_text(text.splitlines()[0])
    assert grid_lstm.samples_to_99(tmp_path, SMALL) is None


def test_an_answer_counts_where_every_symbol_is_right():
    task = grid_lstm.Task(dataclasses.replace(SMALL, task="addition", length=2))
    rng = np.random.default_rng((grid_lstm.HELD_OUT, 0))
    batch = task.make(rng, 500, exactly=2)
    right = jax.nn.one_hot(batch["targets"], task.make.symbols) * 9.0
    task._logits = lambda weights, inputs: right
    assert task.evaluate(task.weights)["exact"] == 1.0
    wrong = right.at[:250, -1].set(jnp.roll(right[:250, -1], 1, axis=-1))
    task._logits = lambda weights, inputs: wrong
    assert task.evaluate(task.weights)["exact"] == 0.5


@pytest.mark.parametrize("cell", ["grid", "stack"])
def test_addition_starts_to_be_learnt(cell):
    config = grid_lstm.Config(length=1, cell=cell, features=24, depth=2, steps=1, answers=500)
    task = grid_lstm.Task(config)
    batch = task.make(np.random.default_rng(0), 32)
    loss, gradients = jax.value_and_grad(lambda w: task.loss(w, (), batch, None)[0])(task.weights)
    better = jax.tree.map(lambda w, g: w - 0.3 * g, task.weights, gradients)
    assert task.loss(better, (), batch, None)[0] < loss


def test_sizes_that_make_no_model_are_refused():
    with pytest.raises(ValueError, match="grid_lstm: depth must be at least 1, got 0"):
        grid_lstm.Config(depth=0)


def test_a_result_is_recorded_when_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    config = dataclasses.replace(SMALL, steps=2, evaluations=1, length=1)
    with jax.numpy_dtype_promotion("standard"):
        grid_lstm.run(config, "default", tmp_path / "run", record=True, quiet=True)
    (line,) = (tmp_path / "results" / "grid_lstm.jsonl").read_text().splitlines()
    assert set(json.loads(line)["metrics"]) == {"parity_1_exact", "parity_bits_at_99", "samples_to_99"}
