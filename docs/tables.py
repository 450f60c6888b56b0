"""The tables of recurrences, made from the registry of the tests and the docstrings, for the README and for the site.

python docs/tables.py writes them into README.md; a test tells when that is due. The site makes them anew when it is built.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

import seqjax as sj  # noqa: E402
from tests.registry import MEMBERS  # noqa: E402

BEGIN, END = "<!-- recurrences -->", "<!-- end of recurrences -->"
CONTRACTS = (sj.LinearCell, sj.GatedCell, sj.Cell, sj.Recurrence)


def recurrences():
    """Both tables, as Markdown: cells with their equations, and recurrences made of recurrences."""
    classes = list(dict.fromkeys(type(recurrence) for recurrence, _ in MEMBERS.values()))
    cells = [_row(cls, _equations(cls.__doc__)) for cls in classes if issubclass(cls, sj.Cell)]
    others = [_row(cls, cls.__doc__.splitlines()[0].replace("``", "`")) for cls in classes if not issubclass(cls, sj.Cell)]
    return "\n".join(
        [
            *("| name | equation | paper | contract |", "|---|---|---|---|", *cells, ""),
            *("Recurrences made of recurrences. They can be nested; some take cells only, some whole sequences only.", ""),
            *("| name | what it does | paper | contract |", "|---|---|---|---|", *others),
        ]
    )


def fill(text):
    """A document with the tables between its marks made anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{recurrences()}\n\n{END}{rest.split(END)[1]}"


def on_page_markdown(markdown, **_):
    """What MkDocs calls for every page."""
    return fill(markdown) if BEGIN in markdown else markdown


def _row(cls, what):
    contract = next(c.__name__ for c in CONTRACTS if issubclass(cls, c))
    name = cls.__name__ if hasattr(sj, cls.__name__) else f"attention.{cls.__name__}"
    return f"| `{name}` | {what} | {_paper(cls.__doc__)} | `{contract}` |"


def _equations(doc):
    """The display formula of a docstring, line by line."""
    block = re.search(r"\.\. math::\n(.*?)\n\n", doc, re.DOTALL)[1]
    formulas = re.split(r"\\\\|\\qquad|\n", block.replace("&", ""))
    formulas = [re.split(r"\\quad", formula)[0].strip().rstrip(",") for formula in formulas]
    return ", ".join(f"${formula}$" for formula in formulas if formula not in ("", "y = h'"))


def _paper(doc):
    """The first of a docstring's references."""
    references = re.search(r"References:\s+(.*)", doc, re.DOTALL)
    if references is None:
        return ""
    authors, link, year = re.match(r"(.+?),\s+`[^<]+<([^>]+)>`_,\s+(\d{4})", references[1], re.DOTALL).groups()
    return f"[{' '.join(authors.split())} {year}]({link})"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")
