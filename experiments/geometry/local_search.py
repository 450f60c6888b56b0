"""Short round trips in little time: moves that make one shorter, for many trips at once."""

import functools
from typing import NamedTuple

import numpy as np

from experiments.geometry import tours

LONGEST = 3  # cities of a piece that or-opt moves
ENOUGH = 1e-9  # a move that saves less is none


class Moves(NamedTuple):
    """Moves of trips of N cities, by place: what each makes of a trip, and what it changes."""

    order: np.ndarray  # [M, N]: the places in their new order
    added: np.ndarray  # [M, 3]: new edges between places a and b, as a N + b; place 0 and itself where there are fewer
    removed: np.ndarray  # [M, 3]


def improved(rng, between, *, starts=8):
    """The best of several trips, each improved by 2-opt and then by 2-opt and or-opt until no move makes it shorter.

    Not always the shortest trip, unlike :func:`tours.held_karp` and :func:`tours.optimal_tour`. Trips start as those of a
    traveller who goes to the nearest city next, from cities drawn at random.

    Args:
      rng: a ``numpy.random.Generator``.
      between: symmetric distances ``[B, N, N]``, N at least 5.
      starts: how many.

    Returns:
      int ``[B, N]``, each from city 0.
    """
    B, N, _ = between.shape
    starts = min(starts, N)
    first = rng.permuted(np.tile(np.arange(N), (B, 1)), axis=1)[:, :starts].ravel()
    repeated = np.repeat(between, starts, 0)
    trips = _nearest(repeated, first)
    for moves in (_reversals(N), _all_moves(N)):
        trips = _descend(repeated, trips, moves)
    best = tours.lengths(repeated, trips).reshape(B, starts).argmin(1)
    trips = trips.reshape(B, starts, N)[np.arange(B), best]
    return np.take_along_axis(trips, (np.arange(N) + trips.argmin(1)[:, None]) % N, 1)


def _nearest(between, first):
    """Trips that go to the nearest city that is left: [R, N, N], [R] -> [R, N]."""
    rows, city = np.arange(len(first)), first
    left = np.ones(between.shape[:2], bool)
    trips = np.empty(left.shape, int)
    for place in range(left.shape[1]):
        trips[:, place], left[rows, city] = city, False
        city = np.where(left, between[rows, city], np.inf).argmin(1)
    return trips


def _descend(between, trips, moves):
    """Makes the move that saves most, again and again, until none saves anything."""
    trips, active = trips.copy(), np.arange(len(trips))
    while len(active):
        now = trips[active]
        edges = between[active[:, None, None], now[:, :, None], now[:, None, :]].reshape(len(now), -1)
        change = sum(edges[:, ends] for ends in moves.added.T) - sum(edges[:, ends] for ends in moves.removed.T)
        best = change.argmin(1)
        saves = change[np.arange(len(now)), best] < -ENOUGH
        active = active[saves]
        trips[active] = np.take_along_axis(now, moves.order[best], 1)[saves]
    return trips


@functools.cache
def _reversals(N):
    """2-opt: a piece of the trip the other way round."""
    places = list(range(N))
    return _moves([places[:i] + places[i:j][::-1] + places[j:] for i in range(N) for j in range(i + 2, N + 1)])


@functools.cache
def _all_moves(N):
    """2-opt and or-opt: a short piece somewhere else, either way round."""
    orders = _reversals(N).order.tolist()
    for start in range(N):
        turned = [(start + i) % N for i in range(N)]
        for length in range(1, LONGEST + 1):
            piece, rest = turned[:length], turned[length:]
            for i in range(1, len(rest)):
                orders += [rest[:i] + part + rest[i:] for part in (piece, piece[::-1])]
    return _moves(orders)


def _moves(orders):
    """Those of the orders that make other trips, one for each."""
    N = len(orders[0])
    found: dict[frozenset, tuple] = {}
    old = _edges(range(N))
    for order in orders:
        new = _edges(order)
        found.setdefault(frozenset(new - old), (order, new - old, old - new))
    found.pop(frozenset(), None)
    order, added, removed = zip(*found.values(), strict=True)
    return Moves(np.array(order), _padded(added, N), _padded(removed, N))


def _edges(order):
    order = list(order)
    return {(min(a, b), max(a, b)) for a, b in zip(order, order[1:] + order[:1], strict=True)}


def _padded(edges, N):
    return np.array([[a * N + b for a, b in sorted(each)] + [0] * (3 - len(each)) for each in edges])
