"""Results: a table on the terminal; recorded, a line for each case, a table in README.md and a picture for each question."""

import datetime
import json
import pathlib
import re
import textwrap
from typing import NamedTuple

import jax
import matplotlib
import rich.console
import rich.table

import seqjax as sj
from benchmarks import peers, torch_peer
from benchmarks.layers import OURS
from benchmarks.measure import Result
from experiments import runs

matplotlib.use("agg")
import matplotlib.pyplot as plt

FOLDER = pathlib.Path(__file__).parent
BEGIN, END = "<!-- tables -->", "<!-- end of tables -->"


class Row(NamedTuple):
    """A case by its name, and the :class:`Result` of each peer."""

    name: str
    results: dict[str, Result]


class Table(NamedTuple):
    """The rows of a question."""

    question: str
    what: str
    unit: str
    rows: list[Row]

    def columns(self):
        """Peers in the order in which they came, each with what its numbers are."""
        names = dict.fromkeys(name for row in self.rows for name in row.results)
        return {name: f"{name}, {self.unit}" if name == OURS else name for name in names}

    def cells(self):
        """The rows in words: ours as a number with its range, others as multiples of ours."""
        return [[row.name, *[_cell(row.results, name) for name in self.columns()]] for row in self.rows]


def show(table, console=None):
    """Prints a table."""
    shown = rich.table.Table(title=f"{table.question}: {table.what}", title_justify="left", caption=described())
    shown.add_column("")
    for name in table.columns().values():
        shown.add_column(name, justify="right")
    for row in table.cells():
        shown.add_row(*row)
    (console or rich.console.Console()).print(shown)


def append(question, what, unit, case, results, rounds):
    """Appends a line for a case to results/<device>.jsonl."""
    path = _lines()
    path.parent.mkdir(exist_ok=True)
    line = {
        "question": question,
        "what": what,
        "case": case.name,
        **case.fields,
        "unit": unit,
        "results": {name: [round(x, 4) for x in result] for name, result in results.items()},
        "rounds": rounds,
        "device": runs.device(),
        "devices": len(jax.devices()),
        "versions": versions(),
        "commit": runs.commit(),
        "date": datetime.date.today().isoformat(),
    }
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def publish(question):
    """Draws the picture of a question and the tables in README.md anew, from all that is recorded on this device."""
    path = _lines()
    for table in recorded(path)[0]:
        if table.question == question:
            draw(table, path.with_name(f"{path.stem}-{question}.png"))
    readme = FOLDER / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")


def _lines():
    return FOLDER / "results" / f"{device_name()}.jsonl"


def fill(text):
    """README.md with the tables of all that is recorded."""
    before, rest = text.split(BEGIN)
    parts = [BEGIN, ""]
    for path in sorted((FOLDER / "results").glob("*.jsonl")):
        tables, lines = recorded(path)
        parts += [f"### {lines[-1]['device']}", ""]
        for table in tables:
            parts += [*_markdown(table, path.stem), ""]
        words = ", ".join(f"{name} {version}" for name, version in lines[-1]["versions"].items())
        parts += [f"Versions of the last line: {words}.", ""]
    return before + "\n".join([*parts, END]) + rest.split(END)[1]


def recorded(path):
    """The newest results of each case in a file of lines, question by question, and the lines."""
    lines = runs.read_lines(path)
    newest = {(line["question"], line["case"].split(":")[0]): line for line in lines}  # behind it is what was chosen
    tables: dict[str, Table] = {}
    for (question, _), line in newest.items():
        table = tables.setdefault(question, Table(question, line["what"], line["unit"], []))
        table.rows.append(Row(line["case"], {name: Result(*result) for name, result in line["results"].items()}))
    return [tables[name] for name in sorted(tables)], lines


def _markdown(table, stem):
    names = ["", *table.columns().values()]
    yield f"**{table.question}**: {table.what}"
    yield ""
    for cells in (names, ["---", *["---:"] * (len(names) - 1)], *table.cells()):
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"![{table.question}](results/{stem}-{table.question}.png)"


def draw(table, path):
    """The picture of a question: for each case, every peer as a multiple of ours."""
    figure, axes = plt.subplots(figsize=(7.5, 1.2 + 0.32 * len(table.rows)), layout="constrained")
    axes.axvline(1, color="grey", lw=0.8)
    for name in table.columns():
        points = [(row, i) for i, (_, row) in enumerate(table.rows) if name in row and OURS in row and name != OURS]
        if points:
            ratios = [row[name].median / row[OURS].median for row, _ in points]
            axes.plot(ratios, [i for _, i in points], "o", ms=5, alpha=0.8, label=name)
    axes.set_yticks(range(len(table.rows)), [row.name for row in table.rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    low, high = axes.get_xlim()
    digits = "235" if high > 5 * low else "23456789"
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in digits else "")
    axes.set_xlabel(f"{table.unit} as a multiple of {OURS} on one device")
    figure.suptitle(textwrap.fill(table.what, 100), fontsize=9)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _cell(results, name):
    if name not in results:
        return "-"
    result = results[name]
    if name == OURS or OURS not in results:
        return f"{_number(result.median)} ({_number(result.low)} to {_number(result.high)})"
    return f"{result.median / results[OURS].median:.2f}"


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def described():
    """The device and the versions, in a line."""
    words = ", ".join(f"{name} {version}" for name, version in versions().items())
    return (
        f"{runs.device()}, {sj.train.cores()} threads, {len(jax.devices())} devices; medians and ranges; others as "
        f"multiples of {OURS}; {words}"
    )


def versions():
    """Versions of all that is measured."""
    found = runs.versions()
    for peer in peers.PEERS:
        if peer.is_installed():
            found |= peer.versions()
    return found | torch_peer.versions()


def device_name():
    """The device as a file name, such as ``cpu-amd-epyc-avx-512-2-cores``."""
    return re.sub(r"[^a-z0-9]+", "-", f"{jax.default_backend()} {runs.device()}".lower()).strip("-")
