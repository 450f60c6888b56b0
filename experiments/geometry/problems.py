"""Problems whose answer is a list of the points that they are given: hulls, tours, triangulations, sorted numbers.

A problem draws batches for ever: ``seqjax.data.examples(Hulls(5, 50), batch_size=128)``. Points are uniform in the unit
square and come in random order, as in Vinyals et al. (2015). A batch has

  points   float32 [B, N, 2], zero beyond what is there; numbers that are to be sorted are [B, N, 1]
  counts   int32 [B], how many are there
  targets  int32 [B, T]: the answer, 0 for "stop" and i + 1 for point i
  mask     bool [B, T], True where the answer is

How many points there are is drawn for each example. N is one of few numbers, so that few programs are compiled, and they
grow by about the same factor, each as likely: of 5 to 50 points, three batches in five have 18 or fewer, where uniform
numbers of points would make five of seven examples have more.
"""

import abc

import numpy as np

from experiments.geometry import hulls, local_search, tours, triangulations
from seqjax import metrics

STOP = 0


class Problem(abc.ABC):
    """A problem on ``fewest`` to ``most`` points, as a source of batches.

    Args:
      fewest, most: points of an example.
      groups: how many different N there are, ``widths``; all examples of a batch are of one group, which are as likely one
        as the other, and within it all numbers of points are.
    """

    coordinates = 2
    smallest = 3
    ending = "stop"
    """How an answer ends: "stop" says so, "return" comes back to its first point, "all" has been everywhere."""

    def __init__(self, fewest, most, *, groups=1):
        name = type(self).__name__
        if not self.smallest <= fewest <= most:
            raise ValueError(f"{name}: expected {self.smallest} <= fewest <= most, got {fewest} and {most}.")
        if not 1 <= groups <= most - fewest + 1:
            raise ValueError(f"{name}: {most - fewest + 1} numbers of points make 1 to as many groups, got {groups}.")
        self.fewest, self.most = fewest, most
        before = fewest - 1
        grown = [round(before * (most / before) ** (k / groups)) for k in range(1, groups + 1)]
        self.widths = [max(width, before + k) for k, width in enumerate(grown, start=1)]  # no group is empty

    def __call__(self, rng, batch_size, *, exactly=None, longest=None):
        """A batch; ``exactly`` is how many points all examples have, ``longest`` the most that any may have."""
        if exactly is None:
            counts, width = self._counts(rng, batch_size, longest or self.most)
        else:
            counts, width = np.full(batch_size, exactly), exactly
        points = rng.random((batch_size, width, self.coordinates), np.float32)
        points[np.arange(width) >= counts[:, None]] = 0
        return self.batch(points, counts, self.solve(points, counts))

    def _counts(self, rng, batch_size, longest):
        """How many points each example has, and the N of their group."""
        edges = np.minimum([self.fewest - 1, *self.widths], max(longest, self.fewest))
        group = rng.integers(np.count_nonzero(np.diff(edges)))
        return rng.integers(edges[group] + 1, edges[group + 1] + 1, size=batch_size), self.widths[group]

    def batch(self, points, counts, answers):
        """Points and their answers, a list of lists of indices, as arrays that go into a network."""
        symbols = [self.symbols(answer) for answer in answers]
        targets = np.full((len(points), self.steps(points.shape[1])), STOP, np.int32)
        mask = np.zeros(targets.shape, bool)
        for row, said in enumerate(symbols):
            said = said[: targets.shape[1]]
            targets[row, : len(said)], mask[row, : len(said)] = said, True
        return {"points": points, "counts": counts.astype(np.int32), "targets": targets, "mask": mask}

    @abc.abstractmethod
    def solve(self, points, counts):
        """Answers to points ``[B, N, C]`` of which ``counts [B]`` are there: a list of int arrays, indices of points."""

    def truth(self, points, counts):
        """Answers to be judged by; those of :meth:`solve` where nothing is better."""
        return self.solve(points, counts)

    @abc.abstractmethod
    def symbols(self, answer):
        """What is to be said for an answer: point i is i + 1."""

    def answer(self, symbols):
        """The answer that symbols ``[T]`` are, as far as they are one: int ``[K]``."""
        return _until_stop(symbols) - 1

    def choose(self, points, answers):
        """The answer that is given of several, of which the likeliest comes first."""
        return answers[0]

    @abc.abstractmethod
    def steps(self, width):
        """T, how many symbols are kept of answers to problems of up to ``width`` points."""

    @abc.abstractmethod
    def judge(self, points, answer, truth):
        """What an answer to points ``[N, C]`` is worth: a dict of numbers, "accuracy" among them; NaN where one has none."""


class Hulls(Problem):
    """The corners of the convex hull, counter-clockwise from the one with the lowest index and back to it.

    Hulls of N uniform points have 8/3 ln N - 0.3 corners on average (Renyi and Sulanke 1963). Where there are six more,
    which of 50 points one in a thousand has, a batch does not hold the end of the answer.
    """

    ending = "return"

    def solve(self, points, counts):
        corners, sizes = hulls.convex_hulls(points, counts)
        return [row[:size] for row, size in zip(corners, sizes, strict=True)]

    def symbols(self, answer):
        return np.append(answer, answer[0]) + 1

    def answer(self, symbols):
        answer = _until_stop(symbols) - 1
        return answer[:-1] if len(answer) > 1 and answer[-1] == answer[0] else answer

    def steps(self, width):
        return min(width + 1, round(8 / 3 * np.log(width)) + 6)

    def choose(self, points, answers):
        """The largest polygon, as the hull is of all that points make; the likeliest of those that are as large."""

        def size(corners):
            return metrics.polygon_area(points[corners]) if metrics.is_simple(points[corners]) else -1.0

        return max(answers, key=size)

    def judge(self, points, answer, truth):
        """Whether it is the same polygon; the area that it covers, which one that is not simple has not."""
        polygon, simple = points[answer], metrics.is_simple(points[answer])
        area = metrics.area_coverage(polygon, points[truth]) if simple else np.nan
        return {"accuracy": float(metrics.same_polygon(answer, truth)), "area": area, "simple": float(simple)}


class Tours(Problem):
    """A short trip through all points: it starts at point 0 and goes counter-clockwise.

    Trips are the shortest ones up to ``exact`` points, by :func:`tours.held_karp`; from there on they are the best of
    ``starts`` that :func:`local_search.improved` has found.
    """

    smallest = 5
    ending = "all"

    def __init__(self, fewest, most, *, groups=1, exact=9, starts=4):
        super().__init__(fewest, most, groups=groups)
        self.exact, self.starts = exact, starts

    def solve(self, points, counts):
        answers = np.zeros(points.shape[:2], int)
        for count in np.unique(counts):
            rows = np.flatnonzero(counts == count)
            chosen = points[rows, :count]
            between = tours.distances(chosen)
            rng = np.random.default_rng(len(rows))
            found = (
                tours.held_karp(between) if count <= self.exact else local_search.improved(rng, between, starts=self.starts)
            )
            answers[rows, :count] = tours.canonical(chosen, found)
        return [row[:count] for row, count in zip(answers, counts, strict=True)]

    def choose(self, points, answers):
        """The shortest, which needs no knowledge of the truth."""
        return min(answers, key=lambda trip: metrics.tour_length(points, trip))

    def truth(self, points, counts):
        """The shortest trips, whatever it takes."""
        between = [tours.distances(row[:count]) for row, count in zip(points, counts, strict=True)]
        found = [tours.held_karp(d[None])[0] if len(d) <= self.exact else tours.optimal_tour(d) for d in between]
        return [
            tours.canonical(row[None, :count], tour[None])[0] for row, count, tour in zip(points, counts, found, strict=True)
        ]

    def symbols(self, answer):
        return answer + 1

    def steps(self, width):
        return width

    def judge(self, points, answer, truth):
        """How much longer it is than the shortest, as a share; and whether it is as short."""
        length, least = (metrics.tour_length(points, trip) for trip in (answer, truth))
        return {"accuracy": float(length <= least + 1e-6), "length": length, "gap": length / least - 1}


class Triangulations(Problem):
    """The triangles of the Delaunay triangulation, three points each, in the order of :func:`triangulations.delaunay`."""

    def solve(self, points, counts):
        return [triangulations.delaunay(row[:count]).ravel() for row, count in zip(points, counts, strict=True)]

    def symbols(self, answer):
        return np.append(answer + 1, STOP)

    def answer(self, symbols):
        said = _until_stop(symbols) - 1
        return said[: len(said) // 3 * 3]

    def steps(self, width):
        return 3 * (2 * width - 5) + 1

    def judge(self, points, answer, truth):
        """Whether it is the same set of triangles, and the share of them that it has."""
        said, true = answer.reshape(-1, 3), truth.reshape(-1, 3)
        right = metrics.same_triangulation(said, true)
        return {"accuracy": float(right), "coverage": metrics.triangle_coverage(said, true)}


class Sorting(Problem):
    """Numbers in (0, 1), from the smallest to the largest."""

    coordinates = 1
    smallest = 2
    ending = "all"

    def solve(self, points, counts):
        return [np.argsort(row[:count, 0], kind="stable") for row, count in zip(points, counts, strict=True)]

    def symbols(self, answer):
        return answer + 1

    def steps(self, width):
        return width

    def judge(self, points, answer, truth):
        return {"accuracy": float(np.array_equal(answer, truth))}


def _until_stop(symbols):
    symbols = np.asarray(symbols)
    ends = np.flatnonzero(symbols == STOP)
    return symbols[: ends[0]] if len(ends) else symbols
