"""Measures of answers in the plane: tours, convex hulls, triangulations. Coordinates and sums are float64.

What a model predicts may be no polygon at all, and gets a defined answer. What is true must be one, or is refused.
"""

from typing import NamedTuple

import numpy as np


def tour_length(points, order):
    """The length of a closed tour, from its last point back to the first.

    Args:
      points: ``[N, 2]``, or ``[..., N, 2]`` for many tours at once.
      order: int ``[N]`` or ``[..., N]``, the points in the order of the tour, each once.

    Returns:
      a number, or ``[...]``.

    Raises:
      TypeError: the order is not of integers.
      ValueError: a shape is wrong, a coordinate is not finite, or the order visits some point never or twice.

    Example:
      >>> from seqjax.metrics import tour_length
      >>> tour_length([[0, 0], [1, 1], [1, 0], [0, 1]], [0, 2, 1, 3])
      4.0
    """
    points, order = _points("tour_length", points, many=True), np.asarray(order)
    if not np.issubdtype(order.dtype, np.integer):
        raise TypeError(f"tour_length: order must be integers, got {order.dtype}.")
    if order.shape != points.shape[:-1]:
        raise ValueError(
            f"tour_length: order has shape {list(order.shape)}, expected {list(points.shape[:-1])}, that of the points."
        )
    N = order.shape[-1]
    if not N:
        raise ValueError("tour_length: expected at least one point, got none.")
    wrong = (np.sort(order, axis=-1) != np.arange(N)).any(-1)
    if wrong.any():
        first = order[tuple(np.argwhere(wrong)[0])].tolist()
        raise ValueError(f"tour_length: order must have each of 0..{N - 1} once, got {first}.")
    visited = np.take_along_axis(points, order[..., None], axis=-2)
    lengths = np.linalg.norm(visited - np.roll(visited, -1, axis=-2), axis=-1).sum(-1)
    return float(lengths) if lengths.ndim == 0 else lengths


def same_polygon(predicted, expected, *, directed=False):
    """Whether two sequences of corners go around the same polygon, wherever they start.

    Args:
      predicted: ``[N]``, indices of corners, or ``[N, 2]``, corners. They are compared exactly.
      expected: ``[M]`` or ``[M, 2]``.
      directed: whether the direction has to be the same too.

    Returns:
      a bool; False if they are not as many, True if both have none.

    Raises:
      ValueError: one has indices and the other corners.

    Example:
      >>> from seqjax.metrics import same_polygon
      >>> same_polygon([3, 0, 2], [0, 2, 3]), same_polygon([3, 2, 0], [0, 2, 3], directed=True)
      (True, False)
    """
    a, b = np.asarray(predicted), np.asarray(expected)
    if len(a) and len(b) and (a.shape[1:] != b.shape[1:] or a.shape[1:] not in ((), (2,))):
        raise ValueError(
            f"same_polygon: expected indices [N] or corners [N, 2] in both, got {list(a.shape)} and {list(b.shape)}."
        )
    if len(a) != len(b):
        return False
    starts = [a] if directed else [a, a[::-1]]
    return not len(a) or any(np.array_equal(np.roll(s, k, axis=0), b) for s in starts for k in range(len(a)))


def polygon_area(polygon):
    r"""The area of a simple polygon, whichever way it goes around.

    .. math::
       \tfrac12 \Big| \sum_i x_i y_{i+1} - x_{i+1} y_i \Big|

    Args:
      polygon: corners ``[N, 2]``, in order; zero if there are fewer than three. Where the boundary crosses itself, the
        formula subtracts what is gone around the other way.

    Raises:
      ValueError: the shape is wrong, or a coordinate is not finite.

    Example:
      >>> from seqjax.metrics import polygon_area
      >>> polygon_area([[0, 0], [2, 0], [2, 3]])
      3.0
    """
    return abs(_signed_area(_points("polygon_area", polygon)))


def is_simple(polygon):
    """Whether the boundary of a polygon meets itself nowhere.

    Corners on a straight edge are allowed. Fewer than three corners, coincident ones, edges that fold back, and so
    everything on one line are not simple.

    Args:
      polygon: corners ``[N, 2]``, in order, the first not repeated at the end.

    Raises:
      ValueError: the shape is wrong, or a coordinate is not finite.

    Example:
      >>> from seqjax.metrics import is_simple
      >>> is_simple([[0, 0], [1, 0], [1, 1], [0, 1]]), is_simple([[0, 0], [1, 1], [1, 0], [0, 1]])
      (True, False)
    """
    starts = _points("is_simple", polygon)
    N = len(starts)
    if N < 3:
        return False
    ends, before = np.roll(starts, -1, axis=0), np.roll(starts, 1, axis=0)
    forward = ((ends - starts) * (starts - before)).sum(-1) > 0
    if ((_turn(before, starts, ends) == 0) & ~forward).any():
        return False
    i, j = np.triu_indices(N, 2)
    i, j = i[j - i < N - 1], j[j - i < N - 1]  # the last edge and the first are neighbours
    return not _meet(starts[i], ends[i], starts[j], ends[j]).any()


def area_coverage(predicted, expected):
    """How much of a convex polygon another one covers: the area of what they have in common over that of the first.

    Args:
      predicted: corners ``[N, 2]`` of a simple polygon, convex or not.
      expected: corners ``[M, 2]`` of a convex polygon.

    Returns:
      a share in [0, 1].

    Raises:
      ValueError: one is not simple, the expected one not convex, a shape is wrong, or a coordinate is not finite.

    Example:
      >>> from seqjax.metrics import area_coverage
      >>> area_coverage([[0, 0], [2, 0], [0, 2]], [[0, 0], [2, 0], [2, 2], [0, 2]])
      0.5

    References:
      Vinyals et al., `Pointer Networks <https://arxiv.org/abs/1506.03134>`_, 2015 (section 4.2);
      Sutherland and Hodgman, `Reentrant Polygon Clipping <https://dl.acm.org/doi/10.1145/360767.360802>`_, 1974
    """
    predicted, expected = _points("area_coverage", predicted), _points("area_coverage", expected)
    if not is_simple(predicted):
        raise ValueError(
            "area_coverage: the predicted polygon is not simple, and has no area; count those, see hull_scores."
        )
    _check_convex("area_coverage", expected)
    origin = expected[0]  # near the origin there is less to round
    predicted, expected = predicted - origin, expected - origin
    if _signed_area(expected) < 0:
        expected = expected[::-1]
    common = predicted
    for start, end in zip(expected, np.roll(expected, -1, axis=0), strict=True):
        common = _left_of(common, start, end)
    return min(abs(_signed_area(common)) / _signed_area(expected), 1.0)


class HullScores(NamedTuple):
    """How well convex hulls were found, over many."""

    accuracy: float  # the share that is the same polygon
    simple: float  # the share that is a simple polygon
    coverage: float  # the mean area coverage of the simple ones; NaN, the paper's FAIL, if more than 1 % are not simple


def hull_scores(predicted, expected):
    """Accuracy and area coverage of predicted convex hulls, as Vinyals et al. (2015) report them.

    Args:
      predicted: for each hull its corners ``[N, 2]``, anything that a model may say, such as none.
      expected: for each hull its corners ``[M, 2]``, a convex polygon.

    Returns:
      :class:`HullScores`.

    Raises:
      ValueError: there is none, they are not as many, an expected one is not convex, or a shape is wrong.

    Example:
      >>> from seqjax.metrics import hull_scores
      >>> square = [[0, 0], [1, 0], [1, 1], [0, 1]]
      >>> hull_scores([square[1:] + square[:1]], [square])
      HullScores(accuracy=1.0, simple=1.0, coverage=1.0)
    """
    if not len(expected) or len(predicted) != len(expected):
        raise ValueError(f"hull_scores: expected one prediction for each hull, got {len(predicted)} for {len(expected)}.")
    predicted, expected = ([_points("hull_scores", polygon) for polygon in many] for many in (predicted, expected))
    for polygon in expected:
        _check_convex("hull_scores", polygon)
    same = [same_polygon(*pair) for pair in zip(predicted, expected, strict=True)]
    simple = [is_simple(polygon) for polygon in predicted]
    covered = [area_coverage(p, e) for p, e, fine in zip(predicted, expected, simple, strict=True) if fine]
    enough = 100 * sum(simple) >= 99 * len(simple)
    return HullScores(float(np.mean(same)), float(np.mean(simple)), float(np.mean(covered)) if enough else float("nan"))


def same_triangulation(predicted, expected):
    """Whether two triangulations have the same triangles, in any order, corners in any order; doubles do not matter.

    Args:
      predicted: int ``[M, 3]``, indices of corners; anything that a model may say, such as none.
      expected: int ``[L, 3]``.

    Raises:
      TypeError: they are not integers.
      ValueError: a shape is wrong, or nothing or no triangle is expected.
    """
    return _triangles("predicted", predicted) == _expected_triangles(expected)


def triangle_coverage(predicted, expected):
    """The share of the expected triangles that was found.

    Args:
      predicted: int ``[M, 3]``, indices of corners; anything that a model may say, such as none.
      expected: int ``[L, 3]``.

    Raises:
      TypeError: they are not integers.
      ValueError: a shape is wrong, or nothing or no triangle is expected.

    Example:
      >>> from seqjax.metrics import same_triangulation, triangle_coverage
      >>> triangle_coverage([[2, 1, 0]], [[0, 1, 2], [1, 2, 3]])
      0.5
      >>> same_triangulation([[2, 1, 0], [1, 3, 2]], [[0, 1, 2], [1, 2, 3]])
      True
    """
    found, expected = _triangles("predicted", predicted), _expected_triangles(expected)
    return len(found & expected) / len(expected)


def _triangles(what, values):
    array = np.asarray(values)
    if not array.size:
        return set()
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"triangulations: {what} triangles must be integers, got {array.dtype}.")
    if array.ndim != 2 or array.shape[1] != 3:
        raise ValueError(f"triangulations: {what} triangles must be [M, 3], got {list(array.shape)}.")
    return {frozenset(triangle) for triangle in array.tolist()}


def _expected_triangles(values):
    triangles = _triangles("expected", values)
    if not triangles or any(len(triangle) < 3 for triangle in triangles):
        raise ValueError(
            f"triangulations: expected triangles of three different corners each, got {np.asarray(values).tolist()}."
        )
    return triangles


def _points(name, values, *, many=False):
    points = np.asarray(values, np.float64)
    if not many and not points.size:
        return points.reshape(0, 2)
    if points.shape[-1:] != (2,) or (points.ndim < 2 if many else points.ndim != 2):
        raise ValueError(f"{name}: expected points {'[..., N, 2]' if many else '[N, 2]'}, got shape {list(points.shape)}.")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite coordinates, got {points[~np.isfinite(points)][0]}; leave out padding.")
    return points


def _cross(a, b):
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _turn(a, b, c):
    """Positive if c is to the left of the way from a to b, negative to the right, zero ahead or behind."""
    return _cross(b - a, c - a)


def _signed_area(points):
    """Positive if the way around is counterclockwise."""
    if len(points) < 3:
        return 0.0
    points = points - points[0]
    return float(_cross(points, np.roll(points, -1, axis=0)).sum() / 2)


def _meet(a, b, c, d):
    """Whether the segments from a to b and from c to d have a point in common."""
    astride = (np.sign(_turn(a, b, c)) * np.sign(_turn(a, b, d)) <= 0) & (
        np.sign(_turn(c, d, a)) * np.sign(_turn(c, d, b)) <= 0
    )
    # All four turns are zero on one line, where the boxes decide; elsewhere they agree with the turns.
    return astride & ((np.minimum(a, b) <= np.maximum(c, d)) & (np.minimum(c, d) <= np.maximum(a, b))).all(-1)


def _check_convex(name, polygon):
    edges = np.roll(polygon, -1, axis=0) - polygon
    following = np.roll(edges, -1, axis=0)
    scale = np.linalg.norm(edges, axis=-1) * np.linalg.norm(following, axis=-1)
    turns, tolerance = _cross(edges, following), 1e-9 * scale  # corners of a hull on an edge of it, but for rounding
    if not is_simple(polygon) or ((turns < -tolerance).any() and (turns > tolerance).any()):
        raise ValueError(
            f"{name}: the expected polygon must be simple and convex, its first corner not repeated; got {polygon.tolist()}."
        )


def _left_of(polygon, start, end):
    """What of a polygon is to the left of a line: one step of Sutherland and Hodgman.

    Of a polygon that is not convex several parts may be left, joined along the line. That changes no area: what is cut away
    are closed ways beyond the line, and they go around no point on this side.
    """
    kept = []
    for here, there in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        inside, outside = _turn(start, end, here), _turn(start, end, there)
        if inside >= 0:
            kept.append(here)
        if inside * outside < 0:
            kept.append(here + (there - here) * (inside / (inside - outside)))
    return np.asarray(kept).reshape(-1, 2)
