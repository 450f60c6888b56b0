"""The lecture notes, executed: every check holds, and fails where what it computes with is broken."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqjax as sj
from experiments import lecture_notes, notes, runs
from experiments.lecture_notes import registry
from tests.commands import command

CHECKS = {check.name: check for check in lecture_notes.CHECKS}


@pytest.mark.parametrize("name", CHECKS)
def test_check_holds(name):
    verdict, computed = lecture_notes.execute(CHECKS[name], 0)
    assert verdict == "holds", computed
    assert computed


def test_there_are_sixty_checks_and_each_has_a_name_of_its_own():
    assert len(CHECKS) == len(lecture_notes.CHECKS)
    assert len(CHECKS) >= 60


def test_table_names_all_ten_mistakes():
    shown = [notes.claim_of(check) for check in lecture_notes.CHECKS]
    for number in range(1, 11):
        assert sum(claim.startswith(f"Mistake {number}. ") for claim in shown) == 1


def test_every_note_is_one_of_the_five():
    assert {note for check in CHECKS.values() for note in check.notes.split()} == set(lecture_notes.NOTES)


def slightly_wrong(method):
    """The same method, what it returns one part in a million off."""
    return lambda *arguments: jax.tree.map(lambda leaf: leaf * (1 + 1e-6), method(*arguments))


@pytest.mark.parametrize(
    ("cell", "method", "names"),
    [
        (sj.Elman, "recur", ["vanilla.one_bias", "gradients.many_steps", "truncation.chunks_of_k", "mistakes.image_vector"]),
        (sj.Elman, "gate", ["vanilla.weight_sharing", "layers.both_directions", "min_char_rnn.loss_trace"]),
        (
            sj.LSTM,
            "gate",
            ["lstm.four_steps", "lstm.gradient_highway", "lstm.kept_for_ever", "mistakes.output_gate"],
        ),
        (sj.GRU, "gate", ["gru.reset_after", "layers.stacked_layers", "mistakes.update_gate"]),
        (sj.attention.Additive, "score", ["attention.mlp_score"]),
        (sj.attention.Bilinear, "prepare", ["attention.bilinear_score"]),
        (sj.attention.Dot, "score", ["attention.dot_score", "attention.scaled_dot_score"]),
        (sj.MinGRU, "coefficients", ["state_spaces.selective_scan", "state_spaces.selection"]),
    ],
)
def test_check_fails_where_a_cell_is_slightly_wrong(cell, method, names, monkeypatch):
    monkeypatch.setattr(cell, method, slightly_wrong(getattr(cell, method)))
    jax.clear_caches()
    try:
        assert {name: lecture_notes.execute(CHECKS[name], 0)[0] for name in names} == dict.fromkeys(names, "FAILS")
    finally:
        jax.clear_caches()


@pytest.fixture
def three(monkeypatch):
    """Three checks in place of all: one that holds, one that fails, one that breaks down."""
    checks: list[registry.Check] = []
    monkeypatch.setattr(registry, "CHECKS", checks)
    monkeypatch.setattr(lecture_notes, "CHECKS", checks)
    registry.check("S0", "two is two")(lambda rng: "2 and 2")
    registry.check("S1", "one is two", mistake=3)(lambda rng: registry_fails("1 and 2"))
    registry.check("S2", "a number has a shape")(lambda rng: str((1).shape))
    return checks


def registry_fails(text):
    raise AssertionError(text)


def test_failing_check_gives_exit_status_1(three, tmp_path):
    status, out, err = command("notes", "--run", tmp_path / "run")
    assert status == 1
    assert err.startswith("RuntimeError: notes: 2 of 3 claims fail: Mistake 3. one is two; a number has a shape.")
    assert err.count("\n") == 1
    for words in ("FAILS   S1", "1 and 2", "AttributeError: 'int' object has no attribute 'shape'"):
        assert words in out
    assert "3 claims: 1 holds, 2 FAILS" in out


def test_table_on_a_terminal_has_all_claims(three, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    status, out, _ = command("notes", "--run", tmp_path / "run")
    assert status == 1
    for words in ("The lecture notes, executed", "two is two", "2 and 2", "FAILS"):
        assert words in out


def test_run_without_failures_is_recorded(three, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    del three[1:]
    status, out, _ = command("notes", "--run", tmp_path / "run", "--record")
    assert status == 0
    assert "1 claims: 1 holds" in out
    line = json.loads((tmp_path / "results" / "notes.jsonl").read_text())
    assert line["experiment"] == "notes"
    assert line["metrics"]["checks_passed"] == 1
    assert line["metrics"].keys() == {"checks_passed", "seconds"}
    rows = json.loads((tmp_path / "run" / "checks.json").read_text())
    assert [row["verdict"] for row in rows] == ["holds"]


def test_failures_and_parts_are_not_recorded(three, tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "RESULTS", tmp_path / "results")
    assert command("notes", "--run", tmp_path / "a", "--record").status == 1
    status, _, err = command("notes", "--run", tmp_path / "b", "--record", "--only", "two is two")
    assert status == 1 and "only a run of all checks is recorded" in err
    assert not (tmp_path / "results").exists()


def test_only_some_checks_can_be_run(three, tmp_path):
    status, out, _ = command("notes", "--run", tmp_path / "run", "--only", "two is two")
    assert status == 0 and "1 claims: 1 holds" in out
    status, _, err = command("notes", "--run", tmp_path / "none", "--only", "nothing")
    assert status == 1 and "no check has 'nothing'" in err
    assert not (tmp_path / "none").exists()


def test_run_of_the_notes_cannot_be_sampled(tmp_path):
    runs.open_run(tmp_path / "run", "notes", "default", notes.Config())
    status, _, err = command("sample", tmp_path / "run")
    assert status == 1 and "a run of notes has no model to sample from" in err


def test_what_is_computed_is_judged():
    """The judges refuse NaN, other shapes, other trees and differences."""
    from experiments.lecture_notes.tools import agree, gap, require

    ones = np.ones(3)
    assert agree(ones, jnp.ones(3)) == "largest difference 0e+00"
    for wrong in (ones * np.nan, np.ones((3, 1)), (ones,), ones + 1e-9):
        with pytest.raises(AssertionError):
            agree(wrong, ones)
    assert gap({"a": ones, "b": ones + 2}, {"a": ones, "b": ones}) == 2
    with pytest.raises(AssertionError, match="why"):
        require(False, "why")
