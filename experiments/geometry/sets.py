"""Sets of points: what every solver asks of them before it starts."""

import numpy as np


def checked(points, counts, *, fewest, what):
    """Sets of points as float64, how many each has, and which are there.

    Args:
      points: ``[B, N, 2]``.
      counts: int ``[B]``, how many of the N points of a set are there; None for all. The others may hold anything.
      fewest: how many a set needs.
      what: who asks, for the error.

    Returns:
      ``(points, counts, there)``: ``[B, N, 2]``, zero where nothing is there; ``[B]``; bool ``[B, N]``.

    Raises:
      ValueError: a shape is wrong, a set is too small, or a coordinate is not finite.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 3 or points.shape[-1] != 2:
        raise ValueError(f"{what}: expected points [B, N, 2], got shape {list(points.shape)}.")
    B, N, _ = points.shape
    counts = np.full(B, N) if counts is None else np.asarray(counts)
    if counts.shape != (B,) or (counts > N).any():
        raise ValueError(
            f"{what}: expected counts [{B}] of at most {N}, got shape {list(counts.shape)}, largest {counts.max()}."
        )
    if (counts < fewest).any():
        first = int(np.argmax(counts < fewest))
        raise ValueError(f"{what}: set {first} has {counts[first]} points, and {fewest} are needed.")
    there = np.arange(N) < counts[:, None]
    points = np.where(there[..., None], points, 0.0)
    if not np.isfinite(points).all():
        first = int(np.argmax(~np.isfinite(points).all((1, 2))))
        raise ValueError(f"{what}: a coordinate of set {first} is not finite.")
    return points, counts, there
