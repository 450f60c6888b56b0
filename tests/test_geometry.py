"""Metrics in the plane: against their definitions in NumPy, and defined answers for whatever a model may say."""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqjax import metrics

few = functools.partial(settings, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
SQUARE = np.array([[0, 0], [2, 0], [2, 2], [0, 2]])


@few(max_examples=20)
@given(N=st.integers(1, 7), seed=seeds)
def test_tour_length_is_the_sum_of_its_ways(N, seed):
    rng = np.random.default_rng(seed)
    points, orders = rng.normal(size=(2, 3, N, 2)), rng.permuted(np.tile(np.arange(N), (2, 3, 1)), axis=-1)
    got = metrics.tour_length(points, orders)
    for i, j in itertools.product(range(2), range(3)):
        stops = [points[i, j, k] for k in orders[i, j]]
        expected = sum(math.dist(a, b) for a, b in zip(stops, stops[1:] + stops[:1], strict=True))
        np.testing.assert_allclose(got[i, j], expected, rtol=1e-12, atol=1e-12)
        assert metrics.tour_length(points[i, j], orders[i, j]) == got[i, j]


@pytest.mark.parametrize(("points", "order", "error", "message"), [
    (SQUARE, [0, 1, 2, 2], ValueError, r"each of 0..3 once, got \[0, 1, 2, 2\]"),
    (SQUARE, [1, 2, 3, 4], ValueError, "each of 0..3 once"),
    (SQUARE, [0, 1, 2], ValueError, r"order has shape \[3\], expected \[4\]"),
    (SQUARE, [0.0, 1, 2, 3], TypeError, "order must be integers"),
    (SQUARE[:, :1], [0, 1, 2, 3], ValueError, r"expected points \[..., N, 2\], got shape \[4, 1\]"),
    (np.where(SQUARE, np.nan, 0), [0, 1, 2, 3], ValueError, "finite"),
    (np.zeros((0, 2)), np.zeros(0, int), ValueError, "at least one point"),
])  # fmt: skip
def test_what_is_no_tour_is_refused(points, order, error, message):
    with pytest.raises(error, match=f"tour_length: .*{message}"):
        metrics.tour_length(points, order)


@few(max_examples=30)
@given(N=st.integers(1, 6), seed=seeds, reverse=st.booleans(), corners=st.booleans())
def test_same_polygon_is_any_rotation_and_direction_and_no_other_order(N, seed, reverse, corners):
    rng = np.random.default_rng(seed)
    true = rng.permutation(9)[:N]
    points = rng.normal(size=(9, 2))
    choose = (lambda order: points[order]) if corners else (lambda order: order)
    turned = np.roll(true[::-1] if reverse else true, rng.integers(N))
    assert metrics.same_polygon(choose(turned), choose(true))
    assert metrics.same_polygon(choose(turned), choose(true), directed=True) == (not reverse or N < 3)
    other = rng.permutation(true)
    ways = {frozenset(pair) for pair in zip(true, np.roll(true, 1), strict=True)}
    same = ways == {frozenset(pair) for pair in zip(other, np.roll(other, 1), strict=True)}
    assert metrics.same_polygon(choose(other), choose(true)) == same


def test_same_polygon_has_an_answer_for_whatever_a_model_says():
    assert not metrics.same_polygon([], [0, 1, 2]) and not metrics.same_polygon(SQUARE[:3], SQUARE)
    assert metrics.same_polygon([], [])
    with pytest.raises(ValueError, match=r"same_polygon: .* got \[3\] and \[4, 2\]"):
        metrics.same_polygon([0, 1, 2], SQUARE)


def common(a, b, c, d):
    """Whether two segments of integers meet, in rational numbers: solve a + s (b - a) = c + t (d - c)."""
    (ux, uy), (vx, vy), (wx, wy) = b - a, d - c, c - a
    determinant = ux * vy - uy * vx
    if determinant:
        return 0 <= Fraction(wx * vy - wy * vx, determinant) <= 1 and 0 <= Fraction(wx * uy - wy * ux, determinant) <= 1
    if ux * wy - uy * wx:
        return False  # on two parallel lines
    ends = sorted(Fraction(x * ux + y * uy, ux * ux + uy * uy) for x, y in (c - a, d - a))
    return ends[0] <= 1 and ends[1] >= 0


def touches_nowhere(corners):
    """The definition of a simple polygon, corner by corner and pair of edges by pair."""
    N = len(corners)
    if N < 3 or len({tuple(c) for c in corners.tolist()}) < N:
        return False
    edges = [(corners[i], corners[(i + 1) % N]) for i in range(N)]
    for i, j in itertools.combinations(range(N), 2):
        if j - i in (1, N - 1):  # neighbours: only their common corner, so neither far end is on the other edge
            (a, b), (_, d) = (edges[i], edges[j]) if j - i == 1 else (edges[j], edges[i])
            if common(a, b, d, d) or common(b, d, a, a):
                return False
        elif common(*edges[i], *edges[j]):
            return False
    return True


@few(max_examples=150)
@given(corners=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6))
def test_is_simple_is_its_definition(corners):
    corners = np.array(corners, dtype=object)
    assert metrics.is_simple(corners.astype(float)) == touches_nowhere(corners)


def star(rng, N):
    """A simple polygon that is mostly not convex: corners around a centre, with angles in order and any radius."""
    angles = 2 * np.pi * (np.arange(N) + rng.uniform(0, 0.8, N)) / N
    return rng.uniform(0.1, 2.0, (N, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=-1) + rng.normal(size=2) / 2


def ellipse(rng, N):
    """A convex polygon: corners on an ellipse, with angles in order."""
    angles = 2 * np.pi * (np.arange(N) + rng.uniform(0, 0.8, N)) / N
    return np.stack([1.5 * np.cos(angles), np.sin(angles)], axis=-1) @ rng.normal(size=(2, 2)) + rng.normal(size=2) / 2


def within(polygon, points):
    """Whether points are in a polygon: a ray to the right crosses its edges an odd number of times."""
    inside = np.zeros(len(points), bool)
    for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        x, y = points.T
        spans = (ay > y) != (by > y)
        inside ^= spans & (x < ax + (y - ay) * (bx - ax) / np.where(by == ay, 1, by - ay))
    return inside


POINTS = 20_000


@few(max_examples=25)
@given(N=st.integers(3, 9), M=st.integers(3, 7), seed=seeds, reversed_=st.tuples(st.booleans(), st.booleans()))
def test_area_coverage_is_the_share_of_random_points(N, M, seed, reversed_):
    rng = np.random.default_rng(seed)
    predicted, expected = (p[::-1] if r else p for p, r in zip((star(rng, N), ellipse(rng, M)), reversed_, strict=True))
    assert metrics.is_simple(predicted)
    low, high = expected.min(0), expected.max(0)
    points = rng.uniform(low, high, (POINTS, 2))
    points = points[within(expected, points)]
    share = within(predicted, points).mean()
    deviation = math.sqrt(max(share * (1 - share), 1e-4) / len(points))
    assert abs(metrics.area_coverage(predicted, expected) - share) < 6 * deviation


@few(max_examples=10)
@given(N=st.integers(3, 8), seed=seeds)
def test_polygon_area_is_the_share_of_random_points(N, seed):
    rng = np.random.default_rng(seed)
    polygon = star(rng, N)
    box = np.ptp(polygon, axis=0).prod()
    share = within(polygon, rng.uniform(polygon.min(0), polygon.max(0), (POINTS, 2))).mean()
    expected, deviation = box * share, box * math.sqrt(max(share * (1 - share), 1e-4) / POINTS)
    assert abs(metrics.polygon_area(polygon) - expected) < 6 * deviation
    np.testing.assert_allclose(metrics.polygon_area(polygon[::-1]), metrics.polygon_area(polygon))


def test_area_coverage_counts_all_parts_of_a_comb():
    comb = [[0, 0], [5, 0], [5, 3], [4, 3], [4, 1], [3, 1], [3, 3], [2, 3], [2, 1], [1, 1], [1, 3], [0, 3]]
    assert metrics.area_coverage(comb, [[0, 2], [5, 2], [5, 3], [0, 3]]) == 3 / 5  # three teeth that hang together nowhere
    assert metrics.area_coverage(comb, [[0, 0], [5, 0], [5, 4], [0, 4]]) == (5 + 3 * 2) / 20


def test_area_coverage_is_one_around_and_zero_beside():
    assert metrics.area_coverage(SQUARE * 2 - 1, SQUARE) == 1
    assert metrics.area_coverage(SQUARE + np.array([2, 0]), SQUARE) == 0
    assert metrics.area_coverage(SQUARE[::-1], np.insert(SQUARE, 1, [1, 0], axis=0)) == 1, "a corner on an edge"


BOW, LINE, L = (
    SQUARE[[0, 2, 1, 3]],
    np.array([[0, 0], [1, 1], [2, 2]]),
    np.array([[0, 0], [2, 0], [2, 1], [1, 1], [1, 2], [0, 2]]),
)


@pytest.mark.parametrize("polygon", [[], SQUARE[:1], SQUARE[:2], LINE, SQUARE[[0, 1, 1]], BOW], ids=str)
def test_degenerate_polygons_are_not_simple(polygon):
    assert not metrics.is_simple(polygon)
    assert metrics.polygon_area(polygon) == 0
    with pytest.raises(ValueError, match="area_coverage: the predicted polygon is not simple"):
        metrics.area_coverage(polygon, SQUARE)
    with pytest.raises(ValueError, match="area_coverage: the expected polygon must be simple and convex"):
        metrics.area_coverage(SQUARE, polygon)


@pytest.mark.parametrize("expected", [L, np.concatenate([SQUARE, SQUARE[:1]])], ids=["not convex", "closed"])
def test_area_coverage_of_what_is_not_convex_is_refused(expected):
    with pytest.raises(ValueError, match="must be simple and convex"):
        metrics.area_coverage(SQUARE, expected)


@pytest.mark.parametrize("measure", [metrics.polygon_area, metrics.is_simple, lambda p: metrics.area_coverage(p, SQUARE)])
@pytest.mark.parametrize(("polygon", "message"), [
    ([[0, 0, 0]], r"expected points \[N, 2\], got shape \[1, 3\]"), ([[0, np.nan]], "expected finite coordinates, got nan"),
])  # fmt: skip
def test_what_are_no_points_is_refused(measure, polygon, message):
    with pytest.raises(ValueError, match=message):
        measure(polygon)


def test_hull_scores_are_those_of_each_hull():
    predicted, expected = [SQUARE[[2, 1, 0, 3]], SQUARE[:3], SQUARE * 0.5] * 40, [SQUARE] * 120
    scores = metrics.hull_scores(predicted, expected)
    np.testing.assert_allclose(scores, (1 / 3, 1, (1 + 0.5 + 0.25) / 3))


@pytest.mark.parametrize(("wrong", "fails"), [(1, False), (2, True)])
def test_coverage_fails_with_more_than_one_percent_that_is_not_simple(wrong, fails):
    scores = metrics.hull_scores([SQUARE] * (100 - wrong) + [[], BOW][:wrong], [SQUARE] * 100)
    np.testing.assert_allclose(scores, (1 - wrong / 100, 1 - wrong / 100, np.nan if fails else 1.0))


def test_hull_scores_of_bad_input_are_refused():
    with pytest.raises(ValueError, match=r"hull_scores: .* got 1 for 2"):
        metrics.hull_scores([SQUARE], [SQUARE, SQUARE])
    with pytest.raises(ValueError, match=r"hull_scores: .* got 0 for 0"):
        metrics.hull_scores([], [])
    with pytest.raises(ValueError, match="hull_scores: the expected polygon must be simple and convex"):
        metrics.hull_scores([SQUARE], [L])


@few(max_examples=20)
@given(count=st.integers(1, 6), kept=st.integers(0, 6), seed=seeds)
def test_triangulations_are_compared_in_any_order(count, kept, seed):
    rng = np.random.default_rng(seed)
    kept, every = min(kept, count), list(itertools.combinations(range(7), 3))
    true, other = np.split(np.array(every)[rng.permutation(len(every))[: 2 * count]], 2)
    said = rng.permuted(rng.permutation(np.concatenate([true[:kept], other[kept:]])), axis=-1)
    assert metrics.triangle_coverage(said, true) == kept / count
    assert metrics.same_triangulation(said, true) == (kept == count)


def test_triangulations_have_an_answer_for_whatever_a_model_says():
    assert metrics.triangle_coverage([], [[0, 1, 2]]) == 0 and not metrics.same_triangulation([], [[0, 1, 2]])
    assert metrics.triangle_coverage([[0, 0, 1]], [[0, 1, 2]]) == 0
    assert metrics.same_triangulation([[0, 1, 2], [2, 0, 1]], [[0, 1, 2]])
    assert not metrics.same_triangulation([[0, 1, 2], [1, 2, 3]], [[0, 1, 2]]), "one too many"


@pytest.mark.parametrize("measure", [metrics.same_triangulation, metrics.triangle_coverage])
@pytest.mark.parametrize(("predicted", "expected", "error", "message"), [
    ([[0, 1, 2]], [], ValueError, "three different corners"),
    ([[0, 1, 2]], [[0, 1, 1]], ValueError, "three different corners"),
    ([[0.0, 1, 2]], [[0, 1, 2]], TypeError, "predicted triangles must be integers"),
    ([0, 1, 2], [[0, 1, 2]], ValueError, r"must be \[M, 3\], got \[3\]"),
])  # fmt: skip
def test_what_is_no_triangulation_is_refused(measure, predicted, expected, error, message):
    with pytest.raises(error, match=message):
        measure(predicted, expected)
