"""Round trips: exact ones, by two methods that have nothing in common, and good ones in little time."""

import numpy as np
from scipy import optimize, sparse

LARGEST = 13  # cities of held_karp: 2^12 subsets by 12 last cities for each trip


def distances(points):
    """Euclidean distances between points: ``[..., N, 2]`` -> float64 ``[..., N, N]``."""
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[..., :, None, :] - points[..., None, :, :], axis=-1)


def lengths(between, tours):
    """How long trips are, the way home included: distances ``[B, N, N]``, cities int ``[B, N]`` in order -> ``[B]``."""
    rows = np.arange(len(tours))[:, None]
    return between[rows, tours, np.roll(tours, -1, 1)].sum(1)


def canonical(points, tours):
    """The same trips through points ``[B, N, 2]``, from point 0 and counter-clockwise: the area inside is positive.

    Which way round is no matter of length. Optimal trips in the plane do not cross themselves, so that all of one way round
    look alike, which those that go to the lower of two indices first do not.
    """
    rows, steps = np.arange(len(tours))[:, None], np.arange(tours.shape[1])
    x, y = np.moveaxis(np.asarray(points, np.float64)[rows, tours], -1, 0)
    clockwise = (x * np.roll(y, -1, 1) - np.roll(x, -1, 1) * y).sum(1) < 0
    tours = np.where(clockwise[:, None], tours[:, ::-1], tours)
    return tours[rows, (steps + tours.argmin(1)[:, None]) % tours.shape[1]]


def held_karp(between):
    """The shortest trips of a batch, by dynamic programming over subsets (Held and Karp 1962): 2^N N^2 steps.

    Args:
      between: distances ``[B, N, N]``, symmetric or not, 3 to 13 cities.

    Returns:
      tours: int ``[B, N]``, each from city 0.

    Raises:
      ValueError: a shape is wrong, there are too many cities, or a distance is not finite.
    """
    between = _checked(between, "held_karp")
    if not 3 <= between.shape[1] <= LARGEST:
        raise ValueError(f"held_karp: 3 to {LARGEST} cities, got {between.shape[1]}; optimal_tour takes more.")
    parts = [_held_karp(np.ascontiguousarray(np.moveaxis(part, 0, -1))) for part in _pieces(between, 64)]
    return np.concatenate(parts)


def _pieces(batch, size):
    return [batch[i : i + size] for i in range(0, len(batch), size)]


def _held_karp(between):
    """Distances [N, N, B] -> tours [B, N]. Bit j of a subset is city j + 1.

    shortest[subset, j] is the length of the shortest way from city 0 through all of the subset that ends at its city j + 1.
    """
    n, B = len(between) - 1, between.shape[-1]
    inner, subsets = between[1:, 1:], np.arange(2**n)
    sizes = sum((subsets >> j) & 1 for j in range(n))
    shortest = np.full((2**n, n, B), np.inf)
    shortest[2 ** np.arange(n), np.arange(n)] = between[0, 1:]
    for size in range(2, n + 1):
        for j in range(n):
            ending = subsets[(sizes == size) & ((subsets >> j) & 1 == 1)]
            shortest[ending, j] = (shortest[ending ^ (1 << j)] + inner[:, j]).min(1)
    return _way_back(shortest, between)


def _way_back(shortest, between):
    """The trips, from their last city to their first, by looking again for what each minimum was taken from."""
    n, B = shortest.shape[1:]
    rows, subset = np.arange(B), np.full(B, 2**n - 1)
    city = (shortest[-1] + between[1:, 0]).argmin(0)
    tours = np.zeros((B, n + 1), int)
    for place in range(n, 0, -1):
        tours[:, place] = city + 1
        subset = subset ^ (1 << city)
        ways = shortest[subset, :, rows] + between[1:, city + 1, rows].T
        city = np.where(np.isfinite(ways), ways, np.inf).argmin(1)
    return tours


def optimal_tour(between):
    """The shortest trip, by integer programming: edges of degree two, and a cut for every subtour that turns up.

    Args:
      between: symmetric distances ``[N, N]`` of three cities or more; a few dozen take a fraction of a second.

    Returns:
      tour: int ``[N]``, from city 0.

    Raises:
      ValueError: the distances are not symmetric, not finite or of fewer than three cities.
      RuntimeError: the solver gave up.

    References:
      Dantzig, Fulkerson, Johnson, `Solution of a Large-Scale Traveling-Salesman Problem
      <https://doi.org/10.1287/opre.2.4.393>`_, 1954.
    """
    (between,) = _checked(np.asarray(between)[None], "optimal_tour")
    N = len(between)
    if N < 3 or not np.array_equal(between, between.T):
        raise ValueError(f"optimal_tour: expected symmetric distances of at least three cities, got {N} cities.")
    one, other = np.triu_indices(N, 1)
    edges = np.arange(len(one))
    touches = sparse.csr_array((np.ones(2 * len(one)), (np.r_[one, other], np.r_[edges, edges])), shape=(N, len(one)))
    rows, least, most = [touches], [np.full(N, 2.0)], [np.full(N, 2.0)]
    while True:
        chosen = _solve(between[one, other], sparse.vstack(rows), np.concatenate(least), np.concatenate(most))
        graph = sparse.csr_array((np.ones(N), (one[chosen], other[chosen])), shape=(N, N))
        parts, label = sparse.csgraph.connected_components(graph, directed=False)
        if parts == 1:
            return _walk(one[chosen], other[chosen])
        leaves = [(label[one] == part) != (label[other] == part) for part in range(parts)]
        rows.append(sparse.csr_array(np.array(leaves, float)))
        least.append(np.full(parts, 2.0))
        most.append(np.full(parts, np.inf))


def _solve(costs, rows, least, most):
    """The cheapest choice of edges: bool [E]."""
    result = optimize.milp(
        costs,
        integrality=np.ones(len(costs)),
        bounds=optimize.Bounds(0, 1),
        constraints=optimize.LinearConstraint(rows, least, most),
        options={"mip_rel_gap": 0.0},
    )
    if not result.success:
        raise RuntimeError(f"optimal_tour: {result.message}")
    return result.x > 0.5


def _walk(one, other):
    """The cities of a cycle of edges in order, from city 0 towards the lower of its two neighbours."""
    neighbours: dict[int, list[int]] = {}
    for a, b in zip(one.tolist(), other.tolist(), strict=True):
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    tour = [0, min(neighbours[0])]
    while len(tour) < len(one):
        tour.append(next(city for city in neighbours[tour[-1]] if city != tour[-2]))
    return np.array(tour)


def _checked(between, what):
    between = np.asarray(between, np.float64)
    if between.ndim != 3 or between.shape[1] != between.shape[2]:
        raise ValueError(f"{what}: expected square distances, got shape {list(between.shape[1:])}.")
    if not np.isfinite(between).all():
        raise ValueError(f"{what}: a distance is not finite.")
    return between
