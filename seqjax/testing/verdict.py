"""Comparisons that say which law broke, for which recurrence, and what that means for its author."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Judges one recurrence by one law.

    Args:
      law: its name.
      recurrence: who is judged.
      meaning: what a failure means for the author of the cell.
    """

    law: str
    recurrence: Any
    meaning: str

    def holds(self, condition, finding):
        """Refuses with ``finding`` unless ``condition``."""
        if not condition:
            raise AssertionError(f"law of {self.law}, broken by {self.recurrence}: {finding}. {self.meaning}")

    def equal(self, name, actual, expected, tolerance):
        """Compares two trees leaf by leaf; the types of their nodes may differ.

        Args:
          name: what is compared.
          actual, expected: trees with equally many leaves.
          tolerance: the allowed difference relative to the largest expected value, or to one where all are smaller;
            0 asks for the same bits.
        """
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(actual)]
        pairs = list(zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True))
        for path, (got, want) in zip(paths, pairs, strict=True):
            got, want = _numbers(got), _numbers(want)
            self.holds(got.shape == want.shape, f"{name}{path} has shape {got.shape}, expected {want.shape}")
            if not got.size:
                continue
            error, allowed = np.max(np.abs(got - want)), tolerance * max(1.0, np.max(np.abs(want)))
            self.holds(error <= allowed, f"{name}{path} differs by {error:.1e} where {allowed:.1e} is allowed")

    def zero(self, name, values):
        """Asks for exact zeros, which no tolerance can replace: a small leak is a leak."""
        worst = np.max(np.abs(_numbers(values)), initial=0.0)
        self.holds(worst == 0, f"{name} should be exactly zero but reaches {worst:.1e}")

    def matters(self, what, tree, other=None):
        """Asks that something flowed in every leaf of ``tree``, or made it another than ``other``.

        Without this a recurrence that computes nothing would keep every law.
        """
        others = [0.0] * len(jax.tree.leaves(tree)) if other is None else jax.tree.leaves(other)
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        for (path, leaf), reference in zip(leaves, others, strict=True):
            if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                moved = np.max(np.abs(_numbers(leaf) - _numbers(reference)), initial=0.0)
                where = f" to {jax.tree_util.keystr(path)}" if path else ""
                self.holds(moved > 0, f"{what} made no difference{where}, so the law tests nothing")


def _numbers(leaf):
    """A leaf in the widest type, because NumPy has no arithmetic of bfloat16 and booleans have no difference."""
    leaf = np.asarray(leaf)
    return leaf.astype(np.complex128 if np.iscomplexobj(leaf) else np.float64)
