"""The law of a recurrence as a value, which can be compared, hashed, stored and printed."""

import contextlib
import copy
import dataclasses
import pickle
import sys

import jax

from seqjax.testing.sample import DEFAULTS
from seqjax.testing.verdict import Verdict


def check_record(recurrence, settings=DEFAULTS):
    """It is a value: a copy, the unpickled and ``eval(repr)`` are equal with equal hash; other settings make another."""
    del settings
    verdict = Verdict(
        "record", recurrence, "Declare @dataclass(frozen=True, repr=False) with hashable fields and nothing hidden."
    )
    verdict.holds(dataclasses.is_dataclass(recurrence), "it is no dataclass")
    verdict.holds(recurrence.__dataclass_params__.frozen, "its fields can be set")
    copies = {"a copy": copy.deepcopy, "the unpickled": lambda r: pickle.loads(pickle.dumps(r)), "eval(repr)": _evaluated}
    for name, make in copies.items():
        try:
            other = make(recurrence)
            same = other == recurrence and hash(other) == hash(recurrence) and type(other) is type(recurrence)
        except Exception as error:
            raise AssertionError(
                f"law of record, broken by {recurrence}: {name} raises {error!r}. {verdict.meaning}"
            ) from error
        verdict.holds(same, f"{name} is not equal or has another hash")
    for field, other in _altered(recurrence):
        verdict.holds(other != recurrence, f"another {field} makes an equal value")
        verdict.holds(repr(other) != repr(recurrence), f"another {field} does not show in the repr")


def _evaluated(recurrence):
    return eval(repr(recurrence), _names(recurrence))


def _names(value):
    """The classes that its repr mentions, by name."""
    names = vars(sys.modules[type(value).__module__]) | {type(value).__name__: type(value)}
    for part in _parts(value):
        names |= _names(part)
    return names


def _parts(value):
    """The recurrences, scores and other such values that a value is made of."""
    values = [getattr(value, field.name) for field in dataclasses.fields(value)]
    return [v for v in jax.tree.leaves(values) if dataclasses.is_dataclass(v)]


def _altered(recurrence):
    """The same recurrence with one setting changed, for every setting that says by its type what another would be."""
    if not recurrence.__dataclass_params__.init:
        return  # a constructor of its own, which dataclasses.replace cannot call
    change = {
        bool: lambda value: not value,
        int: lambda value: value + 1,
        float: lambda value: 0.1 if value > 0.15 else value + 0.1,
    }
    for field in dataclasses.fields(recurrence):
        value = getattr(recurrence, field.name)
        if type(value) in change:
            with contextlib.suppress(ValueError):  # what this setting is may rest on another
                yield field.name, dataclasses.replace(recurrence, **{field.name: change[type(value)](value)})
