"""The character language model, end to end on a small text: what a run leaves, and that its numbers are right."""

import dataclasses
import functools
import itertools
import json
import os
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import c_source, char_lm, runs
from seqjax.data import Vocabulary
from tests.commands import command, contents

WORDS = ["the ", "cat ", "sat ", "on ", "a ", "mat.\n", "(so: it did)\n"]


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam is not written for the strict one
        yield


def settings(text):
    sizes = {"layers": 1, "features": 12, "embedding": 5, "dropout": 0.1, "batch-size": 4, "chunk": 8, "seed": 4}
    training = {"text": text, "steps": 60, "evaluations": 5, "average": 0.9, "learning-rate": 0.02}
    return ["char_lm", *(f"--{name}={value}" for name, value in (sizes | training).items())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run from the command line to its end."""
    directory = tmp_path_factory.mktemp("char_lm")
    text, run = directory / "text.txt", directory / "run"
    text.write_text("".join(np.random.default_rng(0).choice(WORDS, 1700)))
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(runs, "RESULTS", directory / "results")
        status, out, err = command(*settings(text), "--run", run, "--record")
        assert status == 0, err
        task, weights = char_lm.restore(run)
    summary = json.loads((run / "summary.json").read_text())
    held_out = text.read_text()[int(len(text.read_text()) * 0.9) :]
    found = {"text": text, "run": run, "results": directory / "results", "out": out, "summary": summary}
    return types.SimpleNamespace(**found, task=task, weights=weights, held_out=held_out)


def test_a_run_leaves_all_that_is_needed(finished):
    names = {path.name for path in finished.run.iterdir() if not path.name.startswith("events")}
    assert names == {
        "checkpoints", "config.json", "log.jsonl", "loss.png", "samples", "summary.json", "text.json", "vocabulary.json",
    }  # fmt: skip
    assert json.loads((finished.run / "vocabulary.json").read_text()) == "".join(sorted(set(finished.text.read_text())))
    assert (finished.run / "loss.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_there_is_a_sample_of_every_quarter(finished):
    samples = sorted((finished.run / "samples").iterdir())
    assert [path.name for path in samples] == [f"step_{step:06d}.txt" for step in (15, 30, 45, 60)]
    drawn = [path.read_text() for path in samples]
    assert all(len(text) == 500 and set(text) <= set(finished.task.vocabulary.symbols) for text in drawn)
    assert len(set(drawn)) == 4


def test_the_configuration_is_kept(finished):
    stored = json.loads((finished.run / "config.json").read_text())
    assert (stored["experiment"], stored["preset"]) == ("char_lm", "default")
    config = char_lm.Config(**stored["config"])
    assert (config.text, config.features, config.dropout, config.seed) == (str(finished.text), 12, 0.1, 4)
    assert stored["command"].startswith("python -m experiments char_lm --layers=1 ")
    assert {"python", "jax", "seqjax"} <= set(stored["versions"])


def test_the_log_and_the_summary_agree(finished):
    lines = [json.loads(line) for line in (finished.run / "log.jsonl").read_text().splitlines()]
    held_out = {line["step"]: line["loss"] for line in lines if line["kind"] == "evaluation"}
    assert sorted(held_out) == [12, 24, 36, 48, 60]
    assert finished.summary["best_step"] == min(held_out, key=held_out.get)
    assert finished.summary["steps"] == 60 and finished.summary["reason"] == "finished"
    training = [line["loss"] for line in lines if line["kind"] == "train"]
    uniform = np.log(len(finished.task.vocabulary))
    assert abs(training[0] - uniform) < 0.5 and training[-1] < 0.8 * uniform, "it has learned"


def test_the_number_is_that_of_a_slow_loop_over_characters(finished):
    """One character at a time, the sum in float64."""
    task, weights = finished.task, finished.weights

    @jax.jit
    def step(carry, token):
        carry, logits = task.model(weights)(token[None, None], carry)
        return carry, logits[0, 0]

    symbols = task.vocabulary.symbols
    carry, total = task.initial_carry(1), 0.0
    for now, following in itertools.pairwise(finished.held_out):
        carry, logits = step(carry, jnp.asarray(symbols.index(now)))
        logits = np.asarray(logits, np.float64)
        total += np.log(np.exp(logits).sum()) - logits[symbols.index(following)]
    expected = total / (len(finished.held_out) - 1)
    assert finished.summary["metrics"]["val_nats_per_char"] == pytest.approx(expected, rel=1e-5)
    assert f"validation loss {expected:.4f} nats per character" in finished.out


def test_several_streams_are_the_pieces_of_the_text(finished):
    task, text = finished.task, finished.held_out[:400]
    bounds = np.arange(4) * (len(text) - 1) // 3
    pieces = [text[start : stop + 1] for start, stop in itertools.pairwise(bounds)]
    each = [task.evaluate(finished.weights, piece, streams=1) * (len(piece) - 1) for piece in pieces]
    expected = sum(each) / (len(text) - 1)
    assert task.evaluate(finished.weights, text, streams=3) == pytest.approx(expected, rel=1e-5)
    assert task.evaluate(finished.weights, text, streams=1) != pytest.approx(expected, rel=1e-5)


def test_windows_start_from_nothing_and_tile_the_text(finished):
    task, text = finished.task, finished.held_out[: 2 * char_lm.WINDOW + 20]
    codes = task.vocabulary.encode(text)
    each = []
    for start in (0, char_lm.WINDOW):
        _, logits = task.model(finished.weights)(codes[None, start : start + char_lm.WINDOW])
        targets = codes[None, start + 1 : start + char_lm.WINDOW + 1]
        each.append(optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean())
    found = task.evaluate_windows(finished.weights, text)
    assert found == pytest.approx(float(np.mean(each)), rel=1e-5)
    assert found != pytest.approx(task.evaluate(finished.weights, text[: 2 * char_lm.WINDOW + 1], streams=1), rel=1e-5)
    whole = task.evaluate_windows(finished.weights, finished.held_out)
    assert finished.summary["metrics"]["val_nats_per_char_windows_256"] == pytest.approx(whole, rel=1e-5)


def test_a_text_shorter_than_a_window_has_none(finished):
    assert finished.task.evaluate_windows(finished.weights, finished.held_out[: char_lm.WINDOW]) is None
    assert finished.task.evaluate_windows(finished.weights, finished.held_out[: char_lm.WINDOW + 1]) is not None


def test_a_recorded_result_is_a_line(finished):
    (line,) = (finished.results / "char_lm.jsonl").read_text().splitlines()
    result = json.loads(line)
    assert set(result) == {
        "experiment", "preset", "seed", "changes", "metrics", "minutes", "device", "versions", "commit", "command",
    }  # fmt: skip
    assert (result["experiment"], result["preset"], result["seed"]) == ("char_lm", "default (changed)", 4)
    assert result["changes"]["steps"] == 60 and "seed" not in result["changes"]
    assert result["metrics"] == finished.summary["metrics"] and result["minutes"] > 0
    assert all(isinstance(result[name], str) and result[name] for name in ("device", "commit", "command"))


def test_a_recorded_result_is_added_to_those_before(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "new")
    for seed in (1, 2):
        config = dataclasses.replace(char_lm.PRESETS["hello"], seed=seed)
        runs.record("char_lm", "hello", config, {"nll": 0.5}, 1.234)
    lines = [json.loads(line) for line in (tmp_path / "new" / "char_lm.jsonl").read_text().splitlines()]
    assert [(line["preset"], line["seed"], line["changes"], line["minutes"], line["metrics"]) for line in lines] == [
        ("hello", 1, {}, 1.23, {"nll": 0.5}),
        ("hello", 2, {}, 1.23, {"nll": 0.5}),
    ]


def test_the_lines_of_the_results_say_what_is_a_preset_and_what_is_not():
    for path in runs.RESULTS.glob("*.jsonl"):
        for line in runs.read_lines(path):
            assert line["preset"].endswith(" (changed)") == bool(line["changes"]), line["command"]


def test_a_finished_run_is_resumed_to_the_same_summary(finished):
    before = contents(finished.run / "checkpoints")
    status, out, err = command("resume", finished.run)
    assert status == 0, err
    summary = json.loads((finished.run / "summary.json").read_text())
    for name in ("metrics", "best_step", "steps", "reason", "preset"):
        assert summary[name] == finished.summary[name]
    assert contents(finished.run / "checkpoints") == before
    assert f"{summary['metrics']['val_nats_per_char']:.4f}" in out


def test_the_same_command_with_the_same_run_resumes_it(finished):
    status, out, err = command(*settings(finished.text), "--run", finished.run, "--quiet")
    assert (status, out) == (0, ""), err


def test_sampling_the_same_seed_twice_is_equal(finished):
    drawn = {seed: command("sample", finished.run, "--prompt", "the ", "--length", 40, "--seed", seed) for seed in (0, 1)}
    status, out, _ = drawn[0]
    assert status == 0
    assert out.startswith("the ") and len(out) == len("the ") + 40 + 1
    assert command("sample", finished.run, "--prompt", "the ", "--length", 40) == drawn[0], "seed 0 is the default"
    assert drawn[1][1] != out


def test_sampling_cold_is_greedy(finished):
    cold = [command("sample", finished.run, "--length", 40, "--temperature", 0, "--seed", seed)[1] for seed in (0, 1)]
    assert cold[0] == cold[1]
    assert command("sample", finished.run, "--length", 40, "--top-k", 1)[1] == cold[0]


def test_pieces_of_a_sample_are_one_text(finished):
    """Greedy: what comes in pieces of 7 is what comes in one."""
    key = jax.random.key(0)
    pieces = [
        "".join(text for (text,) in finished.task.write(finished.weights, "a c", 30, key, temperature=0, piece=piece))
        for piece in (7, 30)
    ]
    assert pieces[0] == pieces[1] and len(pieces[0]) == 30


@pytest.mark.parametrize(("arguments", "message"), [
    (["--prompt", "the cät"], "'ä' at position 5 is not among the"),
    (["--prompt", ""], "the prompt is empty"),
    (["--temperature", "-1"], "temperature must be at least 0"),
    (["--top-k", "0"], "top_k must be at least 1"),
    (["--top-p", "2"], "top_p must be in (0, 1]"),
])  # fmt: skip
def test_what_cannot_be_sampled_is_said_in_one_line(finished, arguments, message):
    before = contents(finished.run)
    status, out, err = command("sample", finished.run, *arguments)
    assert (status, out) == (1, "")
    assert message in err and err.count("\n") == 1 and "Traceback" not in err
    assert contents(finished.run) == before


def test_a_damaged_best_checkpoint_is_named(finished, tmp_path):
    shutil.copytree(finished.run, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / str(finished.summary["best_step"]) / "tree" / "manifest.ocdbt").unlink()
    status, out, err = command("sample", tmp_path / "run")
    assert (status, out) == (1, "")
    assert f"checkpoints/{finished.summary['best_step']}: this checkpoint is refused" in err and err.count("\n") == 1


@pytest.mark.parametrize(("body", "share"), [("return (a);", 1.0), ("return (a;", 0.0)])
def test_what_the_model_leaves_open_is_unbalanced(tmp_path, body, share):
    function = f"\nstatic int f(int a)\n{{\n\t{body}\n}}\n"
    (tmp_path / "text.c").write_text(function * 200)
    size = {"features": 32, "embedding": 8, "layers": 1, "batch_size": 4, "chunk": len(function), "evaluations": 1}
    config = char_lm.Config(text=str(tmp_path / "text.c"), steps=150, learning_rate=0.02, average=0.9, **size)
    char_lm.run(config, "default", tmp_path / "run", quiet=True)
    task, weights = char_lm.restore(tmp_path / "run")
    measured = functools.partial(c_source.balance, task, weights, jax.random.key(0), wanted=4)
    assert measured(length=500) == {"balanced_share": share, "endless_share": 0.0}
    assert measured(length=10) == {"balanced_share": 0.0, "endless_share": 1.0}, "nothing ends within ten characters"


@pytest.mark.parametrize("cell", ["LSTM", "GRU", "Elman", "MinGRU"])
def test_every_cell_learns_from_its_chunk_and_carries_its_state(cell):
    config = char_lm.Config(cell=cell, layers=2, features=6, embedding=4, batch_size=3, dropout=0.5)
    task = char_lm.Task(config, Vocabulary("abcd"))
    batch = {"inputs": np.arange(15).reshape(3, 5) % 4, "targets": np.arange(1, 16).reshape(3, 5) % 4}
    loss = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (value, (carry, _)), grads = loss(task.weights, task.initial_carry(3), batch, jax.random.key(0))
    assert 0 < float(value) < 4
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(grads))
    assert float(loss(task.weights, carry, batch, jax.random.key(0))[0][0]) != float(value), "the state matters"
    assert float(loss(task.weights, task.initial_carry(3), batch, jax.random.key(1))[0][0]) != float(value), "dropout does"


def test_the_control_forgets_at_every_chunk():
    task = char_lm.Task(char_lm.Config(layers=1, features=6, embedding=4, restart=1.0), Vocabulary("abcd"))
    batch = {"inputs": np.arange(15).reshape(3, 5) % 4, "targets": np.arange(1, 16).reshape(3, 5) % 4}
    loss = jax.jit(task.loss)
    value, (carry, _) = loss(task.weights, task.initial_carry(3), batch, jax.random.key(0))
    assert float(loss(task.weights, carry, batch, jax.random.key(0))[0]) == float(value)


SEEDS = int(os.environ.get("SEQJAX_HELLO_SEEDS", "2"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_hello_is_learned(tmp_path, seed):
    status, _, err = command("char_lm", "--preset", "hello", "--seed", seed, "--run", tmp_path / "run", "--quiet")
    assert status == 0, err
    metrics = json.loads((tmp_path / "run" / "summary.json").read_text())["metrics"]
    assert metrics["hello_nll"] < 1e-3
    _, out, _ = command("sample", tmp_path / "run", "--prompt", "h", "--length", 4, "--temperature", 0)
    assert out == "hello\n"
