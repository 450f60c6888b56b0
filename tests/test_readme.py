"""What the documents say is so: their code runs, and the README's tables are what the package exports."""

import importlib.util
import inspect
import pathlib
import re
import sys
import types

import jax
import pytest

import seqjax as sj
from seqjax.testing import check_recurrence

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONTRACTS = (sj.LinearCell, sj.GatedCell, sj.Cell, sj.Recurrence)


def blocks(language):
    """``(document and line, code)`` of every block in a language."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start(1)].count("\n")
            yield f"{path.relative_to(ROOT)}:{line + 1}", "\n" * line + match[1]


@pytest.fixture
def namespace(monkeypatch):
    """A module of its own, under its name among the others, as pickling asks for."""
    module = types.ModuleType("document")
    monkeypatch.setitem(sys.modules, "document", module)
    return module


@pytest.mark.parametrize(("where", "code"), [pytest.param(*block, id=block[0]) for block in blocks("python")])
def test_python_block_runs(where, code, namespace):
    path = ROOT / where.split(":")[0]
    with jax.numpy_dtype_promotion("standard"):  # as its reader has it, and as Optax needs it
        exec(compile(code, path, "exec"), vars(namespace))


def test_first_bash_block_is_one_line_to_train_and_one_to_test():
    commands = next(code for where, code in blocks("bash") if where.startswith("README")).strip().splitlines()
    assert [command.split(" && ")[-1] for command in commands] == ["python -m experiments char_lm", "python -m pytest"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", prose)
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (path.parent / target).exists()] == []


def test_skeleton_is_a_cell_of_at_most_forty_lines_and_keeps_the_laws(monkeypatch):
    path = ROOT / "docs/skeletons/cell.py"
    spec = importlib.util.spec_from_file_location("skeleton", path)
    skeleton = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "skeleton", skeleton)
    spec.loader.exec_module(skeleton)
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 40
    member = re.search(r"^# The line in tests/registry\.py: +(.+),$", source, re.MULTILINE)[1]
    ((recurrence, settings),) = eval(f"{{{member}}}", vars(skeleton)).values()
    assert isinstance(recurrence, sj.GatedCell)
    check_recurrence(recurrence, **settings)


def exported():
    """The recurrences that the package and its attention export, without the contracts."""
    classes = {value for part in (sj, sj.attention) for value in vars(part).values() if inspect.isclass(value)}
    return {cls for cls in classes if issubclass(cls, sj.Recurrence)} - {*CONTRACTS, sj.attention.Reading}


@pytest.fixture
def tables():
    """The module that makes the tables of recurrences."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_of_recurrences_are_those_of_the_registry(tables):
    assert tables.fill(README) == README, "run: python docs/tables.py"
    named = re.findall(r"^\| `(?:attention\.)?(\w+)` \|", tables.recurrences(), re.MULTILINE)
    assert sorted(named) == sorted(cls.__name__ for cls in exported())
