"""Every member of the registry keeps every law that applies to it; and every law can fail."""

import dataclasses
import gc
from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest

from seqjax import Cell
from seqjax.testing import LAWS, check_recurrence, laws_of
from tests.broken import BROKEN, Deaf, Silent
from tests.registry import MEMBERS, member

CASES = [(name, law) for name in MEMBERS for law in laws_of(MEMBERS[name][0])]


@pytest.fixture(autouse=True)
def what_was_there_before_is_not_searched():
    """The search for leaking tracers goes through every object that is not frozen, which takes seconds late in a run."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(("name", "law"), CASES, ids=[f"{name}-{law}" for name, law in CASES])
def test_member_keeps_law(name, law):
    recurrence, settings = member(name)
    laws_of(recurrence)[law](recurrence, settings)


class OutsiderCarry(NamedTuple):
    """A state of several kinds: a number, and how many steps it has seen."""

    sums: jax.Array  # [B, H]
    count: jax.Array  # [B]


@dataclasses.dataclass(frozen=True, repr=False)
class Outsider(Cell):
    """A squashed running mean that is trusted more with every step; written from the contract alone."""

    features: int

    def init(self, key, xs):
        return {"scale": jax.random.normal(key, (xs.shape[-1], self.features)) / xs.shape[-1] ** 0.5}

    def initial_carry(self, params, batch_shape):
        del params
        return OutsiderCarry(jnp.zeros((*batch_shape, self.features)), jnp.zeros(batch_shape, jnp.int32))

    def project(self, params, xs):
        return xs @ params["scale"]

    def step(self, params, carry, u):
        del params
        sums, count = carry.sums / 2 + u, carry.count + 1
        return OutsiderCarry(sums, count), jnp.tanh(sums) * (1 - 1 / (1 + count.astype(sums.dtype)))[..., None]


BREAKS = [(law, cell) for law, cells in BROKEN.items() for cell in cells]


@pytest.mark.parametrize(("law", "cell"), BREAKS, ids=[f"{law}-{cell.__name__}" for law, cell in BREAKS])
def test_law_catches_the_cell_that_breaks_it(law, cell):
    with pytest.raises(AssertionError, match=f"law of {law}, broken by {cell.__name__}"):
        LAWS[law](cell(5))


def test_every_law_has_a_cell_that_breaks_it():
    assert set(BROKEN) == set(LAWS)


@pytest.mark.parametrize("law", sorted(set(LAWS) - {"record"}))
def test_law_is_not_kept_by_computing_nothing(law):
    with pytest.raises(AssertionError, match=f"law of {law}, broken by Silent"):
        LAWS[law](Silent(5))


def test_check_recurrence_accepts_a_cell_written_outside_of_the_package():
    check_recurrence(Outsider(12), features=4)


def test_check_recurrence_says_which_law_broke():
    with pytest.raises(AssertionError, match=r"law of padding, broken by Deaf\(features=5\): .* hold the state"):
        check_recurrence(Deaf(5))
