"""The house: imports point one way, and every public name says what it is."""

import ast
import importlib
import inspect
import pathlib

import pytest

import seqjax as sj

ROOT = pathlib.Path(sj.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A part may import parts of lower rank, and itself.
RANKS = {
    "precision": 0,
    "masks": 0,
    "checks": 0,
    "engines": 1,
    "recurrence": 2,
    "cells": 3,
    "combine": 4,
    "attention": 5,
    "losses": 5,
    "metrics": 5,
    "_layout": 5,
    "decode": 6,
    "nnx": 6,
    "linen": 6,
    "interop": 6,
    "analysis": 6,
    "testing": 6,
    "data": 6,
    "train": 7,
}


@pytest.mark.parametrize("path", [p for p in sorted((ROOT / "cells").glob("*.py")) if p.stem not in ("__init__", "parts")])
def test_a_family_of_cells_is_one_short_file(path):
    assert 40 <= len(path.read_text().splitlines()) <= 180


def part(path):
    """The part of the package that a file belongs to: its folder, or its own name."""
    relative = path.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imports(path):
    """The full names that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_imports(own, names):
    """What a part may not import: parts of equal or higher rank, the package as a whole, experiments, benchmarks, tests."""
    for name in names:
        root, *rest = name.split(".")
        outside = root in ("experiments", "benchmarks", "tests") or name == "seqjax"
        if outside or (root == "seqjax" and rest[0] != own and RANKS[rest[0]] >= RANKS[own]):
            yield name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = part(path)
    if own == "__init__":
        assert not [name for name in imports(path) if name.split(".")[0] in ("experiments", "benchmarks", "tests")]
        return
    assert own in RANKS, f"{own} is new: give it a rank"
    assert not list(wrong_imports(own, imports(path)))


def test_wrong_imports_are_seen():
    names = ["seqjax.cells.parts", "seqjax.engines.scan", "experiments.copying", "seqjax", "seqjax.combine.Stack", "jax"]
    assert list(wrong_imports("cells", names)) == ["experiments.copying", "seqjax", "seqjax.combine.Stack"]


def public_names(module):
    return {name: value for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)}


@pytest.mark.parametrize("name", sorted(public_names(sj)))
def test_public_name_has_a_docstring(name):
    value = getattr(sj, name)
    own = value.__doc__ if inspect.isfunction(value) else vars(value).get("__doc__")
    assert own, f"{name} has no docstring"
    assert not own.startswith(f"{name}("), f"{name} has the docstring that Python made for it"


PARTS = (
    "attention",
    "data",
    "decode",
    "interop.flax",
    "interop.keras",
    "interop.torch",
    "losses",
    "metrics",
    "testing",
    "train",
)


@pytest.mark.parametrize("name", PARTS)
def test_public_name_of_a_part_has_a_docstring(name):
    module = importlib.import_module(f"seqjax.{name}")
    values = {n: v for n, v in public_names(module).items() if getattr(v, "__module__", "").startswith("seqjax")}
    assert module.__doc__
    assert values
    assert not [n for n, value in values.items() if callable(value) and not inspect.getdoc(value)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_says_why_it_exists(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_every_public_recurrence_is_in_the_registry():
    """A cell that no law is tried on is a cell that nobody knows to be right."""
    from tests.registry import MEMBERS

    contracts = {sj.Recurrence, sj.Cell, sj.GatedCell, sj.LinearCell, sj.attention.Reading}
    names = [*public_names(sj).values(), *public_names(sj.attention).values()]
    public = {v for v in names if inspect.isclass(v) and issubclass(v, sj.Recurrence)} - contracts
    assert public <= {type(recurrence) for recurrence, _ in MEMBERS.values()}


def test_importing_the_package_needs_jax_alone():
    """Flax, Optax and Orbax are imported by the parts that use them, so that a cell starts fast."""
    light = {"__init__", "precision", "masks", "checks", "engines", "recurrence", "cells", "combine"}
    heavy = [
        (path.name, name)
        for path in FILES
        if part(path) in light
        for name in imports(path)
        if name.split(".")[0] in ("flax", "optax", "orbax", "grain", "chex")
    ]
    assert not heavy
