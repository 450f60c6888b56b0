"""Travelling salesman problems as TSPLIB writes them (Reinelt 1995): symmetric ones, with TSPLIB's own distances.

Distances are whole numbers by rules that differ from type to type, and the optimal lengths that are published hold for these
numbers only. Those of GEO are on an idealized sphere, with minutes behind the point: 25.23 are 25 degrees and 23 minutes.
"""

import math
from typing import NamedTuple

import numpy as np

from seqjax.data import read_text

FUNCTIONS = ("EUC_2D", "CEIL_2D", "GEO", "ATT")
# Where the numbers of an explicit matrix stand. By columns the one triangle is by rows the other.
FORMATS = {
    "FULL_MATRIX": "full",
    "UPPER_ROW": "upper",
    "LOWER_COL": "upper",
    "LOWER_ROW": "lower",
    "UPPER_COL": "lower",
    "UPPER_DIAG_ROW": "upper, diagonal",
    "LOWER_DIAG_COL": "upper, diagonal",
    "LOWER_DIAG_ROW": "lower, diagonal",
    "UPPER_DIAG_COL": "lower, diagonal",
}
SECTIONS = ("NODE_COORD_SECTION", "EDGE_WEIGHT_SECTION", "DISPLAY_DATA_SECTION")


class Trip(NamedTuple):
    """A travelling salesman problem."""

    name: str
    points: np.ndarray | None  # float64 [N, 2], as in the file; None where it has none
    distances: np.ndarray  # int64 [N, N]


def read(path):
    """A problem from a ``.tsp`` file.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is not a symmetric problem of a known type, or is malformed: names file, line and reason.
    """
    fields, sections = _parse(path, read_text(path).splitlines())
    size = _size(path, fields)
    kind, line = _field(path, fields, "EDGE_WEIGHT_TYPE")
    if kind not in (*FUNCTIONS, "EXPLICIT"):
        raise _error(path, line, f"EDGE_WEIGHT_TYPE {kind} is unknown; known are {', '.join(FUNCTIONS)} and EXPLICIT")
    shown = next((name for name in ("NODE_COORD_SECTION", "DISPLAY_DATA_SECTION") if name in sections), None)
    points = None if shown is None else _points(path, shown, sections[shown], size)
    if kind == "EXPLICIT":
        between = _matrix(path, fields, sections, size)
    elif "NODE_COORD_SECTION" not in sections:
        raise _error(path, line, f"EDGE_WEIGHT_TYPE {kind} needs a NODE_COORD_SECTION, and there is none")
    else:
        between = distances(kind, points)
    return Trip(fields.get("NAME", (str(path), 0))[0], points, between)


def distances(kind, points):
    """TSPLIB's distances of a type between points ``[N, 2]``: int64 ``[N, N]``."""
    if kind == "GEO":
        return _on_earth(points)
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    if kind == "EUC_2D":
        return np.floor(np.sqrt(squared) + 0.5).astype(np.int64)
    if kind == "CEIL_2D":
        return np.ceil(np.sqrt(squared)).astype(np.int64)
    return np.ceil(np.sqrt(squared / 10)).astype(np.int64)  # ATT: to the nearest, and one more where that is less


def _on_earth(points):
    """The rule of GEO, with its own pi and its radius of the earth in kilometres."""
    degrees = np.trunc(points)
    latitude, longitude = (3.141592 * (degrees + 5 * (points - degrees) / 3) / 180).T
    q1 = np.cos(longitude[:, None] - longitude)
    q2 = np.cos(latitude[:, None] - latitude)
    q3 = np.cos(latitude[:, None] + latitude)
    arc = np.arccos(np.clip(0.5 * ((1 + q1) * q2 - (1 - q1) * q3), -1, 1))
    between = (6378.388 * arc + 1).astype(np.int64)
    np.fill_diagonal(between, 0)
    return between


def _parse(path, lines):
    """Fields ``{name: (value, line)}`` and sections ``{name: [(line, words)]}``."""
    fields: dict[str, tuple[str, int]] = {}
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    section = None
    for number, line in enumerate(lines, 1):
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not line.strip() or name == "-1":
            continue
        if name == "EOF":
            break
        if name.endswith("_SECTION"):
            if name not in SECTIONS:
                raise _error(path, number, f"{name} is unknown; known are {', '.join(SECTIONS)}")
            section = sections.setdefault(name, [])
        elif colon:
            fields[name], section = (value, number), None
        elif section is None:
            raise _error(path, number, f"expected 'NAME : value' or a section, got {line.strip()[:40]!r}")
        else:
            section.append((number, line.split()))
    return fields, sections


def _size(path, fields):
    kind, line = fields.get("TYPE", ("TSP", 0))
    if kind.split()[0] != "TSP":
        raise _error(path, line, f"TYPE is {kind}, expected TSP, a symmetric problem")
    size, line = _field(path, fields, "DIMENSION")
    if not size.isdecimal() or int(size) < 3:
        raise _error(path, line, f"DIMENSION must be a whole number of at least 3, got {size!r}")
    return int(size)


def _points(path, name, lines, size):
    """The coordinates of cities 1 to size, which may come in any order."""
    points = np.zeros((size, 2))
    seen: dict[float, int] = {}
    for number, words in lines:
        if len(words) != 3:
            raise _error(path, number, f"{name} expects a city and two coordinates, got {len(words)} words")
        city, *coordinates = _numbers(path, number, words)
        if city not in range(1, size + 1):
            raise _error(path, number, f"city {words[0]} is not one of 1 to {size}, the DIMENSION")
        if city in seen:
            raise _error(path, number, f"city {words[0]} was given before, in line {seen[city]}")
        seen[city] = number
        points[int(city) - 1] = coordinates
    if len(seen) < size:
        raise _error(path, lines[-1][0] if lines else 0, f"{name} has {len(seen)} cities, but DIMENSION is {size}")
    return points


def _matrix(path, fields, sections, size):
    """The distances of an EDGE_WEIGHT_SECTION."""
    form, line = _field(path, fields, "EDGE_WEIGHT_FORMAT")
    if form not in FORMATS:
        raise _error(path, line, f"EDGE_WEIGHT_FORMAT {form} is unknown; known are {', '.join(FORMATS)}")
    if "EDGE_WEIGHT_SECTION" not in sections:
        raise _error(path, line, "EDGE_WEIGHT_TYPE EXPLICIT needs an EDGE_WEIGHT_SECTION, and there is none")
    lines = sections["EDGE_WEIGHT_SECTION"]
    values = np.array([value for number, words in lines for value in _numbers(path, number, words)])
    between, where = np.zeros((size, size)), FORMATS[form]
    diagonal = 0 if "diagonal" in where else 1
    rows, columns = np.indices((size, size)).reshape(2, -1)
    if "upper" in where:
        rows, columns = np.triu_indices(size, diagonal)
    elif "lower" in where:
        rows, columns = np.tril_indices(size, -diagonal)
    if len(values) != len(rows):
        last = lines[-1][0] if lines else 0
        raise _error(path, last, f"{form} of DIMENSION {size} has {len(rows)} numbers, got {len(values)}")
    between[rows, columns] = values
    if where != "full":
        between[columns, rows] = values
    if not np.array_equal(between, between.T):
        row, column = np.argwhere(between != between.T)[0] + 1
        raise _error(path, lines[0][0], f"the matrix is not symmetric: from {row} to {column} is not as far as back")
    if not np.array_equal(between, np.trunc(between)):
        raise _error(path, lines[0][0], "distances must be whole numbers")
    return between.astype(np.int64)


def _numbers(path, line, words):
    values = []
    for word in words:
        try:
            values.append(float(word))
        except ValueError:
            raise _error(path, line, f"{word!r} is not a number") from None
        if not math.isfinite(values[-1]):
            raise _error(path, line, f"{word!r} is not finite")
    return values


def _field(path, fields, name):
    if name not in fields:
        raise _error(path, 0, f"there is no {name}")
    return fields[name]


def _error(path, line, reason):
    return ValueError(f"{path}{f', line {line}' if line else ''}: {reason}.")
