"""Convex hulls of many sets of points at once."""

import numpy as np

from experiments.geometry.sets import checked

NEARLY = 1e-12  # radians: a point that is seen from a corner as close to an edge as this lies on it


def convex_hulls(points, counts=None):
    """The corners of convex hulls, counter-clockwise from the corner with the lowest index: gift wrapping.

    A point on an edge is no corner. Of points that coincide the one with the lowest index is.

    Args:
      points: ``[B, N, 2]``.
      counts: int ``[B]``, how many of the points of each set are there; None for all. The others may hold anything.

    Returns:
      ``(corners, sizes)``: int ``[B, K]``, indices of points, -1 beyond the last corner, K the largest size; int ``[B]``.

    Raises:
      ValueError: a set has fewer than three points, one that is not finite, or all on one line.
    """
    points, counts, there = checked(points, counts, fewest=3, what="convex_hulls")
    rows = np.arange(len(points))
    first = current = _lowest(points, there)
    direction = np.tile([1.0, 0.0], (len(points), 1))
    found, open_ = [first], np.ones(len(points), bool)
    for _ in range(points.shape[1]):
        current = _next(points, there, current, direction)
        direction = points[rows, current] - points[rows, found[-1]]
        open_ = open_ & (current != first)
        current = np.where(open_, current, first)  # a hull that is closed waits at its first corner
        if not open_.any():
            break
        found.append(current)
    corners = np.stack(found, 1)
    corners[:, 1:][corners[:, 1:] == first[:, None]] = -1
    sizes = (corners >= 0).sum(1)
    if (sizes < 3).any():
        flat = int(np.argmax(sizes < 3))
        raise ValueError(f"convex_hulls: the points of set {flat} lie on one line or coincide: their hull has no area.")
    return from_lowest(corners, sizes), sizes


def _lowest(points, there):
    """The point with the smallest y, of those the one with the smallest x, of those the first: [B]."""
    y = np.where(there, points[..., 1], np.inf)
    x = np.where(y == y.min(1, keepdims=True), points[..., 0], np.inf)
    return x.argmin(1)


def _next(points, there, current, direction):
    """The point that is reached with the smallest turn to the left, of several on a line the farthest: [B]."""
    rows = np.arange(len(points))
    offsets = points - points[rows, current][:, None]
    cross = direction[:, :1] * offsets[..., 1] - direction[:, 1:] * offsets[..., 0]
    turns = np.arctan2(cross, (direction[:, None] * offsets).sum(-1))
    turns = np.where(turns < -NEARLY, turns + 2 * np.pi, turns)
    distance = np.hypot(offsets[..., 0], offsets[..., 1])
    turns = np.where(there & (distance > 0), turns, np.inf)
    least = turns.min(1, keepdims=True)
    return np.where((turns <= least + NEARLY) & there, distance, -1.0).argmax(1)


def from_lowest(cycles, sizes):
    """Cycles ``[B, K]``, the first ``sizes [B]`` of each row, turned so that the lowest index comes first; -1 beyond."""
    steps = np.arange(cycles.shape[1])
    inside = steps < sizes[:, None]
    start = np.where(inside, cycles, np.iinfo(cycles.dtype).max).argmin(1)
    turned = np.take_along_axis(cycles, (steps + start[:, None]) % np.maximum(sizes, 1)[:, None], 1)
    return np.where(inside, turned, -1)
