"""TSPLIB files: distances by TSPLIB's rules, matrices in all their layouts, and broken files refused by name and line."""

import math

import numpy as np
import pytest

from experiments.datasets import tsplib
from experiments.geometry import tours

BURMA = """NAME: burma14
TYPE: TSP
COMMENT: 14-Staedte in Burma (Zaw Win)
DIMENSION: 14
EDGE_WEIGHT_TYPE: GEO
EDGE_WEIGHT_FORMAT: FUNCTION
DISPLAY_DATA_TYPE: COORD_DISPLAY
NODE_COORD_SECTION
   1  16.47       96.10
   2  16.47       94.44
   3  20.09       92.54
   4  22.39       93.37
   5  25.23       97.24
   6  22.00       96.05
   7  20.47       97.02
   8  17.20       96.29
   9  16.30       97.38
  10  14.05       98.12
  11  16.53       97.38
  12  21.52       95.59
  13  19.41       97.13
  14  20.09       94.55
EOF
"""

POINTS = {1: (0.0, 0.0), 2: (3.0, 4.1), 3: (-2.5, 7.0), 4: (11.0, 0.4)}


def write(path, kind="EUC_2D", size=4, lines=None, more=""):
    """A file of cities; line 4 is ``more``, or the first section."""
    lines = [f"{city} {x} {y}" for city, (x, y) in POINTS.items()] if lines is None else lines
    head = f"NAME : four\nDIMENSION : {size}\nEDGE_WEIGHT_TYPE : {kind}\n{more}NODE_COORD_SECTION\n"
    path.write_text(head + "\n".join(lines) + "\nEOF\n")
    return path


def explicit(path, form, numbers, size=4):
    """A file of distances, whose first line is line 7."""
    head = f"NAME: matrix\nTYPE: TSP\nDIMENSION: {size}\nEDGE_WEIGHT_TYPE: EXPLICIT\nEDGE_WEIGHT_FORMAT: {form}\n"
    path.write_text(f"{head}EDGE_WEIGHT_SECTION\n" + "\n".join(numbers) + "\nEOF\n")
    return path


def test_the_shortest_trip_through_burma_is_as_long_as_published(tmp_path):
    (tmp_path / "burma14.tsp").write_text(BURMA)
    trip = tsplib.read(tmp_path / "burma14.tsp")
    assert trip.name == "burma14"
    assert trip.points[4].tolist() == [25.23, 97.24]
    tour = tours.optimal_tour(trip.distances)
    # http://comopt.ifi.uni-heidelberg.de/software/TSPLIB95/STSP.html
    assert tours.lengths(trip.distances[None], tour[None]) == 3323


def att(x, y):
    exact = math.sqrt((x * x + y * y) / 10)
    nearest = int(exact + 0.5)
    return nearest + 1 if nearest < exact else nearest


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("EUC_2D", lambda x, y: int(math.hypot(x, y) + 0.5)),
        ("CEIL_2D", lambda x, y: math.ceil(math.hypot(x, y))),
        ("ATT", att),
    ],
)
def test_distances_in_the_plane_are_rounded_as_the_type_says(tmp_path, kind, rule):
    found = tsplib.read(write(tmp_path / "four.tsp", kind)).distances
    for i, (x, y) in enumerate(POINTS.values()):
        for j, (u, v) in enumerate(POINTS.values()):
            assert found[i, j] == rule(x - u, y - v)


def test_cities_may_come_in_any_order(tmp_path):
    lines = [f"{city} {x} {y}" for city, (x, y) in POINTS.items()]
    one, other = (tsplib.read(write(tmp_path / f"{i}.tsp", lines=each)) for i, each in enumerate((lines, lines[::-1])))
    np.testing.assert_array_equal(one.points, other.points)
    np.testing.assert_array_equal(one.distances, other.distances)


WHOLE = np.array([[0, 5, 9, 2], [5, 0, 7, 4], [9, 7, 0, 8], [2, 4, 8, 0]])


@pytest.mark.parametrize(
    ("form", "numbers"),
    [
        ("FULL_MATRIX", ["0 5 9 2", "5 0 7 4", "9 7 0 8", "2 4 8 0"]),
        ("UPPER_ROW", ["5 9 2", "7 4", "8"]),
        ("LOWER_ROW", ["5", "9 7", "2 4 8"]),
        ("UPPER_DIAG_ROW", ["0 5 9 2 0 7", "4 0 8 0"]),  # lines may break anywhere
        ("LOWER_DIAG_ROW", ["0", "5 0", "9 7 0", "2 4 8 0"]),
        ("UPPER_COL", ["5", "9 7", "2 4 8"]),
        ("LOWER_DIAG_COL", ["0 5 9 2", "0 7 4", "0 8", "0"]),
    ],
)
def test_explicit_distances_are_read_in_every_layout(tmp_path, form, numbers):
    trip = tsplib.read(explicit(tmp_path / "matrix.tsp", form, numbers))
    np.testing.assert_array_equal(trip.distances, WHOLE)
    assert trip.points is None


LINES = ["1 0 0", "2 3 4", "3 1 1", "4 2 2"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "XRAY1"}, "line 3: EDGE_WEIGHT_TYPE XRAY1 is unknown; known are EUC_2D"),
        ({"size": "four"}, "line 2: DIMENSION must be a whole number of at least 3, got 'four'"),
        ({"size": 5}, "line 8: NODE_COORD_SECTION has 4 cities, but DIMENSION is 5"),
        ({"size": 3}, "line 8: city 4 is not one of 1 to 3, the DIMENSION"),
        ({"lines": [*LINES[:3], "4 2 two"]}, "line 8: 'two' is not a number"),
        ({"lines": [*LINES[:3], "4 2 inf"]}, "line 8: 'inf' is not finite"),
        ({"lines": [*LINES[:3], "4 2"]}, "line 8: NODE_COORD_SECTION expects a city and two coordinates, got 2 words"),
        ({"lines": [*LINES[:3], "2 5 5"]}, "line 8: city 2 was given before, in line 6"),
        ({"lines": []}, "NODE_COORD_SECTION has 0 cities, but DIMENSION is 4"),
        ({"more": "TYPE : ATSP\n"}, "line 4: TYPE is ATSP, expected TSP"),
        ({"more": "nonsense\n"}, "line 4: expected 'NAME : value' or a section, got 'nonsense'"),
        ({"more": "TOUR_SECTION\n1 2 3\n"}, "line 4: TOUR_SECTION is unknown"),
    ],
)
def test_broken_files_are_refused_by_name_line_and_reason(tmp_path, settings, message):
    path = write(tmp_path / "broken.tsp", **settings)
    with pytest.raises(ValueError) as refusal:
        tsplib.read(path)
    assert str(refusal.value).startswith(str(path))
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("form", "numbers", "message"),
    [
        ("UPPER_ROW", ["5 9 2", "7 4"], "line 8: UPPER_ROW of DIMENSION 4 has 6 numbers, got 5"),
        ("FULL_MATRIX", ["0 5 9 2", "5 0 7 4", "9 6 0 8", "2 4 8 0"], "the matrix is not symmetric: from 2 to 3"),
        ("FUNCTION", ["1"], "line 5: EDGE_WEIGHT_FORMAT FUNCTION is unknown; known are FULL_MATRIX"),
        ("UPPER_ROW", ["5 9 2", "7 4", "8.5"], "distances must be whole numbers"),
        ("UPPER_ROW", ["5 9 2", "7 x", "8"], "line 8: 'x' is not a number"),
    ],
)
def test_broken_matrices_are_refused(tmp_path, form, numbers, message):
    path = explicit(tmp_path / "broken.tsp", form, numbers)
    with pytest.raises(ValueError) as refusal:
        tsplib.read(path)
    assert str(refusal.value).startswith(str(path))
    assert message in str(refusal.value)


@pytest.mark.parametrize("missing", ["DIMENSION", "EDGE_WEIGHT_TYPE", "NODE_COORD_SECTION"])
def test_what_is_missing_is_named(tmp_path, missing):
    path = write(tmp_path / "part.tsp")
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(missing))
    kept = lines[:at] if missing.endswith("SECTION") else lines[:at] + lines[at + 1 :]
    path.write_text("\n".join(kept))
    with pytest.raises(ValueError, match=f"part.tsp.*{missing}"):
        tsplib.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tsplib.read(tmp_path / "nowhere.tsp")
