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
from tests import registry

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
    """The recurrences that the package exports, by name, without the contracts."""
    classes = {name: value for name, value in vars(sj).items() if inspect.isclass(value)}
    return {n: c for n, c in classes.items() if issubclass(c, sj.Recurrence) and c not in CONTRACTS}


def table():
    """The rows of the README's tables of recurrences: ``{name: (equation, paper, contract)}``."""
    section = README.split("## The recurrences")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\| `(\w+)` \|$", section, re.MULTILINE)
    return {name: tuple(cell.strip() for cell in cells) for name, *cells in rows}


def test_table_has_a_row_for_every_recurrence():
    assert set(table()) == set(exported())


@pytest.mark.parametrize("name", table())
def test_row_says_what_the_docstring_says(name):
    cls, (equation, paper, contract) = exported()[name], table()[name]
    doc = inspect.getdoc(cls)
    assert contract == next(c.__name__ for c in CONTRACTS if issubclass(cls, c))
    if formulas := re.findall(r"\$([^$]+)\$", equation):
        missing = [formula for formula in formulas if without_layout(formula) not in without_layout(doc)]
        assert not missing
    else:
        assert equation == doc.splitlines()[0].replace("``", "`")
    links = re.findall(r"\[(.+?) (\d{4})\]\((.+?)\)", paper)
    for authors, year, link in links:
        reference = re.search(rf"{authors.removesuffix(' et al.')}[^<>]*<{re.escape(link)}>`_, (\d{{4}})", doc)
        assert reference, f"the docstring of {name} does not refer to {link}"
        assert reference[1] == year


def without_layout(formula):
    """LaTeX without spaces and the marks of alignment."""
    return re.sub(r"\s|&", "", formula)


def test_every_exported_recurrence_is_a_member_of_the_registry():
    assert set(exported().values()) <= {type(recurrence) for recurrence, _ in registry.MEMBERS.values()}
