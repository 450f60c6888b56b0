"""The experiment of SCAN: a run asks for every command of the test and counts exact answers."""

import json

import jax
import pytest

from experiments import runs, scan
from experiments.datasets.corpus import Corpus, Lines

COMMANDS = {
    "walk": "I_WALK", "run": "I_RUN", "walk twice": "I_WALK I_WALK", "run twice": "I_RUN I_RUN",
    "turn left": "I_TURN_LEFT", "run left": "I_TURN_LEFT I_RUN", "walk left": "I_TURN_LEFT I_WALK",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run over seven commands that are asked for as they were learnt."""
    directory = tmp_path_factory.mktemp("scan")
    lines = Lines(list(COMMANDS), list(COMMANDS.values()))
    corpus = Corpus(lines, lines, lines, origin="seven commands", tokenize="none")
    config = scan.Config(
        split="jump",
        features=16,
        embedding=12,
        batch_size=8,
        shapes=1,
        longest=6,
        steps=150,
        evaluations=1,
        learning_rate=0.02,
    )
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(runs, "RESULTS", directory / "results")
        patch.setattr(scan.scan, "load", lambda split: corpus)
        summary = scan.run(config, "jump", directory / "run", record=True, quiet=True)
    return directory, summary


def test_seven_commands_are_learnt_and_every_answer_is_counted(finished):
    directory, summary = finished
    wrong = len(summary["mistakes"])
    assert summary["metrics"] == {"exact_jump": pytest.approx(1 - wrong / 7)}
    assert summary["metrics"]["exact_jump"] >= 6 / 7
    assert set(summary["exact_by_actions"]) == {"1", "2"}
    (line,) = (directory / "results" / "scan.jsonl").read_text().splitlines()
    assert json.loads(line)["preset"] == "jump (changed)"


def test_an_action_is_one_symbol():
    words = scan.Subwords.of(COMMANDS.values(), 1000, punctuation=False)
    assert [words.symbol(code) for code in words.encode("I_TURN_LEFT I_RUN")] == ["▁I_TURN_LEFT", "▁I_RUN"]
