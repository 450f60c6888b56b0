"""The laws: what every recurrence keeps, and a check of each, for the cells of users too.

A cell that keeps them can be stacked, masked, packed, cut into chunks, batched, compiled and stored like any other:

>>> import seqjax as sj
>>> sj.testing.check_recurrence(sj.GRU(5))

They ask for nothing but the contract of :mod:`seqjax.recurrence`. Run them one by one, or with a test runner:

>>> laws = sj.testing.laws_of(sj.GRU(5))
>>> laws["causality"](sj.GRU(5), sj.testing.Settings(features=4))
"""

from seqjax.recurrence import Cell, GatedCell
from seqjax.testing.holes import check_padding as check_padding
from seqjax.testing.holes import check_reset as check_reset
from seqjax.testing.learning import check_init as check_init
from seqjax.testing.learning import check_learns as check_learns
from seqjax.testing.learning import check_precision as check_precision
from seqjax.testing.order import check_causality as check_causality
from seqjax.testing.order import check_loop as check_loop
from seqjax.testing.order import check_reverse as check_reverse
from seqjax.testing.order import check_split as check_split
from seqjax.testing.order import check_step as check_step
from seqjax.testing.record import check_record as check_record
from seqjax.testing.running import check_axes as check_axes
from seqjax.testing.running import check_engines as check_engines
from seqjax.testing.running import check_jit as check_jit
from seqjax.testing.running import check_key as check_key
from seqjax.testing.running import check_recur as check_recur
from seqjax.testing.running import check_vmap as check_vmap
from seqjax.testing.sample import Settings as Settings

LAWS = {
    "record": check_record,  # first: the others rely on it
    "init": check_init,
    "step": check_step,
    "split": check_split,
    "loop": check_loop,
    "recur": check_recur,
    "engines": check_engines,
    "axes": check_axes,
    "padding": check_padding,
    "reset": check_reset,
    "reverse": check_reverse,
    "causality": check_causality,
    "key": check_key,
    "vmap": check_vmap,
    "jit": check_jit,
    "precision": check_precision,
    "learns": check_learns,
}


def laws_of(recurrence):
    """The laws that apply to a recurrence, by name: those of chunks to causal ones, those of steps to cells."""
    applies = {
        "step": recurrence.causal,
        "split": recurrence.causal,
        "loop": isinstance(recurrence, Cell),
        "recur": isinstance(recurrence, GatedCell),
        "engines": len(getattr(recurrence, "engines", ())) > 1,
    }
    return {name: law for name, law in LAWS.items() if applies.get(name, True)}


def check_recurrence(recurrence, **settings):
    """Tries a recurrence by every law that applies to it.

    Args:
      recurrence: any :class:`seqjax.Recurrence`; small sizes will do.
      **settings: fields of :class:`Settings`, such as ``features``, the width of the inputs.

    Raises:
      AssertionError: a law is broken; the message says which, by what, and what that means for the author.
    """
    for law in laws_of(recurrence).values():
        law(recurrence, Settings(**settings))
