"""The benchmarks run, refuse to compare what differs, and their README shows what is recorded."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from benchmarks import asking, measure, peers, report
from benchmarks.layers import OURS
from benchmarks.measure import Case, Program, Result
from benchmarks.questions import engines, settings
from benchmarks.specs import Options, Size, parse
from experiments import runs
from tests.commands import command

SMALL = Options(sizes=("5,4,3,2",), rounds=1, cells=("lstm",), peers=("flax.nnx", "torch"))


@pytest.fixture(autouse=True)
def promotion():
    """Peers mix dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("name", asking.names())
def test_question_is_answered(name, monkeypatch):
    tables = []
    monkeypatch.setattr(report, "show", tables.append)
    monkeypatch.setitem(settings.FLAGS, "cpu", ("--xla_no_such_flag=1",))  # each flag takes a process
    asking.ask(name, SMALL)
    (table,) = tables
    assert table.rows
    for row in table.rows:
        assert OURS in row.results
        assert len(row.results) > 1, "nothing is compared"
        for result in row.results.values():
            assert 0 <= result.low <= result.median <= result.high


def test_all_peers_agree(monkeypatch):
    tables = []
    monkeypatch.setattr(report, "show", tables.append)
    asking.ask("forward", dataclasses.replace(SMALL, cells=("lstm", "gru", "elman"), peers=()))
    lstm, *others = [set(row.results) for row in tables[0].rows]
    installed = {peer.name for peer in peers.PEERS if peer.is_installed()}
    assert installed <= lstm
    for results in (installed, *others):
        assert {"flax.linen", "flax.nnx"} <= results


def programs(*values):
    return {name: Program(lambda value=value: value, np.asarray) for name, value in values}


def test_peers_that_differ_are_not_measured():
    measure.agree(Case("same", {}, programs(("a", [1.0, 2.0]), ("b", [1.0, 2.0001]))))
    for value in ([1.0, 2.01], [1.0, np.nan], [1.0]):
        with pytest.raises(RuntimeError, match="other: b"):
            measure.agree(Case("other", {}, programs(("a", [1.0, 2.0]), ("b", value))))


def test_all_are_measured_equally_often_and_in_turn():
    order: list[str] = []
    case = Case("in turn", {}, {name: Program(lambda name=name: order.append(name)) for name in "abc"})
    measure.LONG_ENOUGH, before = 0.0, measure.LONG_ENOUGH
    try:
        results = measure.times(case, rounds=20, warm_up=1)
    finally:
        measure.LONG_ENOUGH = before
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert rounds[0] == "abc"
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(rounds) == 21
    assert len(set(rounds)) > 3  # in no fixed order
    assert set(results) == set("abc")


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder with one recorded question, measured twice."""
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    (tmp_path / "README.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for milliseconds in (9.0, 2.0):
        results = {OURS: Result(milliseconds, 1.5, 9.5), "other": Result(3.0, 3.0, 3.0)}
        case = Case("lstm 1,2,3,4", {"cell": "lstm", **Size(1, 2, 3, 4)._asdict()}, {})
        report.append("gradient", "Some gradients.", "ms", case, results, rounds=15)
        report.publish("gradient")
    return tmp_path


def test_record_is_lines_a_table_and_a_picture(recorded):
    (path,) = (recorded / "results").glob("*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["results"][OURS][0] for line in lines] == [9.0, 2.0]
    assert {"T", "B", "D", "H", "device", "versions", "commit", "rounds"} <= set(lines[0])
    readme = (recorded / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "| lstm 1,2,3,4 | 2 (1.5 to 9.5) | 1.50 |" in readme
    assert "old" not in readme
    assert (recorded / "results" / f"{path.stem}-gradient.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("flags", "said"), [("fpu avx avx2 avx512f", "A CPU (AVX-512)"), ("avx avx2 fma", "A CPU (AVX2)"), ("sse2", "A CPU")]
)
def test_a_processor_is_told_with_its_vectors(flags, said):
    each = f"processor\t: 0\nmodel name\t: A CPU\nflags\t\t: {flags}\n\n"
    assert runs.processor(2 * each) == said
    assert runs.processor("Features\t: fp asimd\n") == ""


def test_readme_shows_what_is_recorded():
    text = (report.FOLDER / "README.md").read_text()
    assert report.fill(text) == text, "record again, or: python -c 'from benchmarks import report; ...fill'"


def test_the_engine_that_is_chosen_is_one_that_was_measured_to_be_fast():
    newest = {}
    for path in sorted((report.FOLDER / "results").glob(f"{jax.default_backend()}*.jsonl")):
        for line in report.recorded(path)[1]:
            if line["question"] == "engines":
                newest[path.stem, line["cell"], *(line[axis] for axis in "TBDH")] = line
    assert newest or jax.default_backend() != "cpu"
    for line in newest.values():
        chosen = engines.CELLS[line["cell"]](line["H"]).choice(line["T"]).engine
        fastest = min(median for name, (median, *_) in line["results"].items() if name != OURS)
        assert line["results"][chosen][0] < 1.25 * fastest, line["case"]
        if line["chosen"] == chosen:  # else recorded before that was changed
            assert line["results"][OURS][0] < 1.25 * fastest, line["case"]


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,0", "a,b,c,d", "1,2,3,4,5"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="T,B,D,H"):
        parse(text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "no questions ['nothing']"),
        (["forward", "--peers", "nobody"], "no peers ['nobody']"),
        (["forward", "--rounds", "0"], "rounds must be positive"),
        (["forward", "--cells", "lstn"], "unknown cells ['lstn']"),
    ],
)
def test_what_is_not_there_is_refused(arguments, said):
    answer = command(*arguments, package="benchmarks")
    assert answer.status != 0
    assert said in answer.err + answer.out


def test_questions_are_listed():
    answer = command(package="benchmarks")
    assert answer.status == 0
    lines = answer.out.splitlines()
    assert [line.split(":")[0] for line in lines[: 2 * len(asking.names()) : 2]] == asking.names()
    assert "512,16,64,64" in lines[2 * asking.names().index("gradient") + 1].split()
    assert any(line.startswith("sizes are T,B,D,H; installed: ") and "flax.nnx" in line for line in lines)
