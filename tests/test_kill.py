"""A run that is killed, again and again, ends with exactly the parameters of one that was not.

``SEQJAX_KILLS=10`` kills more often than the two times of every day.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from experiments import char_lm
from seqjax.train import Checkpoints

KILLS = int(os.environ.get("SEQJAX_KILLS", "2"))
STEPS, EVERY = 84, 3


def launch(directory, *arguments):
    command = [sys.executable, "-m", "experiments", *map(str, arguments)]
    with (directory / "stderr.txt").open("w") as log:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)


def finish(directory, *arguments):
    assert launch(directory, *arguments).wait(timeout=300) == 0, (directory / "stderr.txt").read_text()


def training(text, run):
    sizes = {"layers": 1, "features": 8, "embedding": 4, "dropout": 0.1, "batch-size": 16, "chunk": 8, "average": 0.9}
    plan = {"text": text, "steps": STEPS, "evaluations": STEPS // EVERY, "run": run}
    return ["char_lm", *(f"--{name}={value}" for name, value in (sizes | plan).items())]


def newest(run):
    return max((int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit()), default=0)


def being_written(run):
    return [path.name for path in run.glob("checkpoints/*.orbax-checkpoint-tmp*")]


def wait_for(process, directory, condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, f"it ended by itself: {(directory / 'stderr.txt').read_text()}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody disturbs."""
    directory = tmp_path_factory.mktemp("whole")
    words = np.random.default_rng(0).choice(["the ", "cat ", "sat ", "on ", "a ", "mat.\n"], 900)
    (directory / "text.txt").write_text("".join(words))
    finish(directory, *training(directory / "text.txt", directory / "run"))
    return directory


def final(run):
    """All that the last checkpoint holds, bit for bit, and what is told about it."""
    task, _ = char_lm.restore(run)
    checkpoints = Checkpoints(run / "checkpoints")
    state, about = checkpoints.restore(task.state(), STEPS)
    checkpoints.close()
    state = state._replace(key=jax.random.key_data(state.key))
    found = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(state)}
    del about["seconds"]
    return {name: (x.dtype.name, x.shape, x.tobytes()) for name, x in found.items()}, about


def lines(run):
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.endswith("_per_second")} for line in found]


def test_killed_and_resumed_is_the_same_to_the_last_bit(whole, tmp_path):
    run, rng, cut_off = tmp_path / "run", random.Random(KILLS), 0
    start = training(whole / "text.txt", run)
    for i in range(KILLS):
        process = launch(tmp_path, *(["resume", run] if (run / "config.json").exists() else start))
        target = STEPS * (i + 1) // (KILLS + 1)
        if i % 3 < 2:
            wait_for(process, tmp_path, lambda target=target: newest(run) >= target)
        if i % 3 == 0:  # while a checkpoint is written
            wait_for(process, tmp_path, lambda: being_written(run))
        else:  # at any moment; every third time before the first step, as a rule
            time.sleep(rng.uniform(0, 0.1 if i % 3 == 1 else 2.0))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        cut_off += bool(being_written(run))
    finish(tmp_path, "resume", run)
    print(f"{KILLS} kills, {cut_off} of them while a checkpoint was written")
    assert not being_written(run)
    assert not (run / "refused").exists(), "what is cut off is not a checkpoint, so that none is refused"
    expected, found = final(whole / "run"), final(run)
    assert any("params" in name and np.frombuffer(data, np.float32).any() for name, (_, _, data) in found[0].items())
    assert found == expected
    assert lines(run) == lines(whole / "run")
    summaries = [json.loads((path / "summary.json").read_text()) for path in (run, whole / "run")]
    assert summaries[0]["metrics"] == summaries[1]["metrics"]
    for sample in (whole / "run" / "samples").iterdir():
        assert (run / "samples" / sample.name).read_bytes() == sample.read_bytes()


def test_a_run_is_stopped_by_a_signal_and_says_how_to_go_on(whole, tmp_path):
    run = tmp_path / "run"
    with (tmp_path / "stdout.txt").open("w") as out:
        arguments = map(str, training(whole / "text.txt", run))
        process = subprocess.Popen([sys.executable, "-m", "experiments", *arguments], stdout=out, stderr=out)
        wait_for(process, whole, lambda: newest(run) >= 2 * EVERY)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
    last = newest(run)
    assert 2 * EVERY <= last < STEPS
    told = (tmp_path / "stdout.txt").read_text()
    assert f"stopped at step {last} of {STEPS}; go on with: python -m experiments resume {run}" in told
    assert "Traceback" not in told and not (run / "summary.json").exists()
