"""Delaunay triangulations, in the order in which a network is to say them."""

import numpy as np
from scipy import spatial

from experiments.geometry.sets import checked


def delaunay(points):
    """The triangles of a Delaunay triangulation in the order of Vinyals et al. (2015).

    Indices grow within a triangle. Triangles are in the lexicographic order of their incenters. Where four points or more
    lie on one circle with no point inside there are several triangulations, and this is one of them.

    Args:
      points: ``[N, 2]``.

    Returns:
      int ``[M, 3]``; M is 2 N - 2 less the points on the hull.

    Raises:
      ValueError: fewer than three points, two that coincide, one that is not finite, or all on one line.
    """
    (points,), _, _ = checked(np.asarray(points)[None], None, fewest=3, what="delaunay")
    try:
        found = spatial.Delaunay(points)
    except spatial.QhullError:
        raise ValueError("delaunay: the points lie on one line, where there are no triangles.") from None
    if len(found.coplanar):
        twice, _, other = found.coplanar[0]
        raise ValueError(f"delaunay: points {other} and {twice} coincide, or nearly, so that one of them is in no triangle.")
    triangles = found.simplices
    triangles = np.sort(triangles, 1)
    x, y = incenters(points[triangles]).T
    return triangles[np.lexsort((y, x))]


def incenters(triangles):
    """The centres of the circles inside triangles ``[..., 3, 2]``: ``[..., 2]``."""
    a, b, c = (triangles[..., i, :] for i in range(3))
    sides = np.stack([np.linalg.norm(b - c, axis=-1), np.linalg.norm(c - a, axis=-1), np.linalg.norm(a - b, axis=-1)], -1)
    return (sides[..., None] * triangles).sum(-2) / sides.sum(-1)[..., None]
