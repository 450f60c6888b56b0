"""The command line: what it lists, and that whatever is wrong is said in one line and leaves everything as it was."""

import dataclasses
import gzip
import json
import subprocess
import sys

import pytest

from experiments import char_lm, runs
from tests.commands import command, contents


@pytest.mark.parametrize("arguments", [["list"], [], ["--help"]])
def test_all_experiments_and_presets_are_listed(arguments):
    status, out, _ = command(*arguments)
    assert status == 0
    for word in ("char_lm", *char_lm.PRESETS):
        assert word in out


def test_help_tells_the_settings_of_the_preset():
    status, out, _ = command("char_lm", "--preset", "hello", "--help")
    assert status == 0
    for word in ("--features", "--learning-rate", "--record", "--run", f"(default: {char_lm.PRESETS['hello'].features})"):
        assert word in out


def a_config(**changes):
    return dataclasses.replace(char_lm.PRESETS["default"], **changes)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\n" * 20)
    return path


def write(path, data):
    path.write_bytes(data)
    return path


WRONG = {
    "no experiment": (
        lambda at: ["lstm"],
        "'lstm' is no experiment and no command; there are char_lm, grid_lstm, pointer, navigation, notes, scan, "
        "translation, list, resume, sample, answer.",
    ),
    "no preset": (lambda at: ["char_lm", "--preset", "big"], "no preset 'big'; there are default, hello"),
    "no preset, other spelling": (lambda at: ["char_lm", "--preset=big"], "no preset 'big'"),
    "no layers": (lambda at: ["char_lm", "--layers", "0"], "layers must be at least 1, got 0"),
    "no average": (
        lambda at: ["char_lm", "--text", at / "text.txt", "--average", "1.5", "--run", at / "run"],
        "average is a decay in (0, 1), got 1.5",
    ),
    "all dropped": (
        lambda at: ["char_lm", "--text", at / "text.txt", "--dropout", "1", "--run", at / "run"],
        "dropout is the share that is dropped, in [0, 1); got 1.0.",
    ),
    "more noise than text": (lambda at: ["char_lm", "--noise", "1.2"], "noise is a share, from 0 to 1, got 1.2"),
    "no file": (lambda at: ["char_lm", "--text", at / "none.txt"], "none.txt: no such file."),
    "a folder": (lambda at: ["char_lm", "--text", at], "no such file."),
    "an empty text": (lambda at: ["char_lm", "--text", write(at / "empty.txt", b"")], "empty.txt: the file is empty."),
    "a short text": (lambda at: ["char_lm", "--text", write(at / "short.txt", b"hey")], "short.txt: 3 symbols are too few"),
    "no UTF-8": (
        lambda at: ["char_lm", "--text", write(at / "latin.txt", b"caf\xe9" * 50)],
        "latin.txt: not UTF-8, byte 0xe9 at offset 3",
    ),
    "half a gzip file": (
        lambda at: ["char_lm", "--text", write(at / "half.gz", gzip.compress(b"hello" * 99)[:-9])],
        "half.gz: this gzip file is damaged",
    ),
    "no network": (lambda at: ["char_lm", "--preset", "linux"], "linux-4.19_kernel_ascii_shuf0.txt is not at"),
    "nothing to resume": (lambda at: ["resume", at / "none"], "config.json: no such file; is"),
    "nothing to answer": (lambda at: ["answer", at / "none", "text"], "config.json: no such file; is"),
    "nothing to sample": (lambda at: ["sample", at / "none"], "config.json: no such file; is"),
    "no JSON": (lambda at: ["resume", write(at / "config.json", b'{"exp').parent], "config.json: not JSON"),
    "a file as a folder": (
        lambda at: ["char_lm", "--text", at / "text.txt", "--run", at / "text.txt" / "run"],
        "text.txt/run: this run directory cannot be written",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(text, what, monkeypatch):
    for name in ("SEQJAX_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(text.parent / "nowhere"))
    arguments, message = WRONG[what]
    arguments = arguments(text.parent)
    before = contents(text.parent)
    status, _, err = command(*arguments)
    assert status == 1
    assert message in err
    assert err.count("\n") == 1 and "Traceback" not in err
    assert contents(text.parent) == before


@pytest.mark.parametrize("arguments", [
    ["char_lm", "--no-such-setting", "1"], ["char_lm", "--features", "many"], ["char_lm", "--cell", "Transformer"],
    ["char_lm", "--preset"], ["resume"], ["list", "all"],
])  # fmt: skip
def test_a_setting_that_is_none_is_refused_with_the_usage(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command(*arguments)
    assert status == 2
    assert arguments[-1].lstrip("-") in out + err or "required" in out + err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_run_directory_of_another_configuration_is_left_alone(text, tmp_path):
    run = runs.open_run(tmp_path / "run", "char_lm", "default", a_config(text=str(text), features=9))
    before = contents(tmp_path)
    status, _, err = command("char_lm", "--text", text, "--features", "8", "--seed", "3", "--run", run)
    assert status == 1
    assert "holds another configuration: features is 9 there and 8 here, seed is 0 there and 3 here" in err
    assert err.count("\n") == 1
    assert contents(tmp_path) == before


def test_a_run_is_not_resumed_on_another_text(text, tmp_path):
    run = runs.open_run(tmp_path / "run", "char_lm", "default", a_config(text=str(text)))
    runs.keep_json(run / "text.json", "some words, and their SHA-256")
    runs.keep_json(run / "vocabulary.json", "abc")
    before = contents(tmp_path)
    status, _, err = command("resume", run)
    assert status == 1
    assert "text.json says 'some words, and their SHA-256', and now it would be" in err
    assert contents(tmp_path) == before


def test_a_run_without_a_checkpoint_cannot_be_sampled(text, tmp_path):
    run = runs.open_run(tmp_path / "run", "char_lm", "default", a_config(text=str(text), features=4, embedding=2))
    runs.keep_json(run / "vocabulary.json", "abc")
    status, out, err = command("sample", run)
    assert (status, out) == (1, "")
    assert "no such checkpoint" in err and err.count("\n") == 1


def test_a_json_file_is_kept_as_it_is_or_refused(tmp_path):
    path = tmp_path / "kept.json"
    for _ in range(2):
        runs.keep_json(path, {"a": [1, "κ"]})
    assert json.loads(path.read_text()) == {"a": [1, "κ"]}
    with pytest.raises(ValueError, match=r"kept\.json says .* and now it would be 3\. Choose another --run\."):
        runs.keep_json(path, 3)
    assert json.loads(path.read_text()) == {"a": [1, "κ"]}
    assert [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def test_a_process_of_its_own_exits_with_a_status_and_a_line():
    for arguments, status, message in ((["nothing"], 1, "'nothing' is no experiment"), (["list"], 0, "")):
        run = subprocess.run(
            [sys.executable, "-m", "experiments", *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert run.returncode == status
        assert message in run.stderr and run.stderr.count("\n") == status
