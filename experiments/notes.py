"""The lecture notes, executed: what five lecture notes on recurrent networks claim, computed, and ten mistakes put right.

python -m experiments notes                    89 checks in 28 s on 2 cores (AMD EPYC, JAX 0.10.1): none fails
python -m experiments notes --only mistakes    those whose theme, claim or notes have this text

The checks are exact: seqjax against the equations in NumPy float64, against programs, or against closed forms. The control:
tests/test_notes.py makes cells wrong by one part in a million and sees the checks fail.
"""

import collections
import dataclasses
import textwrap
from typing import NamedTuple

import rich.console
import rich.markup
import rich.table

from experiments import lecture_notes, runs

STYLES = {"holds": "", "FAILS": "bold red"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    only: str = ""
    """Run the checks whose theme, claim or notes have this text; all of them by default."""
    seed: int = 0
    """Of all random numbers the checks draw. The claims hold for any."""


PRESETS = {"default": Config()}


class Row(NamedTuple):
    """A line of the table."""

    notes: str
    claim: str
    computed: str
    verdict: str


def chosen(config):
    """The checks that a configuration asks for."""
    found = [check for check in lecture_notes.CHECKS if config.only in f"{check.name} {claim_of(check)} {check.notes}"]
    if not found:
        raise ValueError(f"notes: no check has {config.only!r} in its theme, claim or notes.")
    return found


def claim_of(check):
    """The claim as the table has it."""
    return check.claim if check.mistake is None else f"Mistake {check.mistake}. {check.claim}"


def run(config, preset, directory, *, record=False, quiet=False):
    """Executes the checks, prints the table, and ends with a summary; a check that fails is an error at the end."""
    clock, checks = runs.Clock(), chosen(config)
    if record and config.only:
        raise ValueError("notes: only a run of all checks is recorded; leave out --only.")
    directory = runs.open_run(directory, "notes", preset, config)
    console = rich.console.Console(quiet=quiet)
    view = _Table(console, len(checks)) if console.is_terminal and not quiet else _Lines(console)
    rows = []
    for check in checks:
        verdict, computed = lecture_notes.execute(check, config.seed)
        rows.append(Row(check.notes, claim_of(check), computed, verdict))
        view.add(rows[-1])
    view.close()
    summary = _finish(config, preset, directory, rows, clock.minutes(), record)
    for note, title in lecture_notes.NOTES.items():
        console.print(f"{note}: {title}", highlight=False, markup=False)
    counts = ", ".join(f"{number} {what}" for what, number in summary["verdicts"].items())
    console.print(
        f"{len(rows)} claims: {counts}; {summary['metrics']['seconds']} s; {directory}", highlight=False, soft_wrap=True
    )
    failed = [row.claim for row in rows if row.verdict == "FAILS"]
    if failed:
        raise RuntimeError(f"notes: {len(failed)} of {len(rows)} claims fail: {'; '.join(failed)}.")
    return summary


def _finish(config, preset, directory, rows, minutes, record):
    """Writes the table and the summary into the run directory, and the result where it was asked for."""
    verdicts = collections.Counter(row.verdict for row in rows)
    metrics = {"checks_passed": verdicts["holds"], "seconds": round(60 * minutes, 1)}
    summary = {
        "experiment": "notes",
        "preset": preset,
        "metrics": metrics,
        "verdicts": dict(verdicts),
        "minutes": round(minutes, 2),
        "device": runs.device(),
    }
    runs.write_json(directory / "checks.json", [row._asdict() for row in rows])
    runs.write_json(directory / "summary.json", summary)
    if record and not verdicts["FAILS"]:
        runs.record("notes", preset, config, metrics, minutes)
    return summary


class _Table:
    """A table on a terminal; a line says what is computed until it is complete."""

    def __init__(self, console, number):
        self.console, self.number, self.done = console, number, 0
        self.table = rich.table.Table(title="The lecture notes, executed", show_lines=True)
        for column, ratio in (("notes", None), ("claim", 3), ("computed", 3), ("verdict", None)):
            self.table.add_column(column, ratio=ratio)
        self.status = console.status(f"0 of {number} claims")
        self.status.start()

    def add(self, row):
        self.done += 1
        self.status.update(f"{self.done} of {self.number} claims")
        self.table.add_row(*map(rich.markup.escape, row), style=STYLES[row.verdict])

    def close(self):
        self.status.stop()
        self.console.print(self.table)


class _Lines:
    """Plain lines, two a claim."""

    def __init__(self, console):
        self.console = console

    def add(self, row):
        text = f"{row.verdict:8}{row.notes:16}{row.claim}\n{textwrap.indent(row.computed, ' ' * 24)}"
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self):
        pass
