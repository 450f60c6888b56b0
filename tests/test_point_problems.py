"""Problems of points: their answers are right, by other means than those that found them, and batches say what they hold."""

import itertools

import matplotlib
import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.geometry import hulls, local_search, pictures, tours, triangulations
from experiments.geometry.problems import STOP, Hulls, Sorting, Tours, Triangulations
from seqjax.data import examples

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 10**6)


def cyclic(indices):
    """A cycle from its lowest index."""
    indices = list(map(int, indices))
    at = indices.index(min(indices))
    return indices[at:] + indices[:at]


@few
@given(seed=seeds, width=st.integers(3, 40))
def test_hulls_are_those_of_qhull(seed, width):
    rng = np.random.default_rng(seed)
    counts = rng.integers(3, width + 1, size=7)
    points = rng.normal(size=(7, width, 2)) * rng.uniform(0.01, 100)
    points[np.arange(width) >= counts[:, None]] = np.nan  # nobody looks there
    corners, sizes = hulls.convex_hulls(points, counts)
    for row, size, each, count in zip(corners, sizes, points, counts, strict=True):
        assert row[:size].tolist() == cyclic(scipy.spatial.ConvexHull(each[:count]).vertices)
        assert (row[size:] == -1).all()


@few
@given(seed=seeds, side=st.integers(2, 6))
def test_points_on_an_edge_and_points_that_coincide_are_no_corners(seed, side):
    grid = np.array(list(itertools.product(range(side), repeat=2)), float)
    order = np.random.default_rng(seed).permutation(2 * side**2)
    points = np.concatenate([grid, grid])[order]  # every point twice
    ((*corners,),), (size,) = hulls.convex_hulls(points[None])
    assert size == 4
    last = side - 1
    found = [tuple(points[corner]) for corner in corners]
    around = [(0, 0), (last, 0), (last, last), (0, last)]
    start = around.index(found[0])
    assert found == around[start:] + around[:start]
    assert all(corner == np.flatnonzero((points == points[corner]).all(1))[0] for corner in corners)


@pytest.mark.parametrize("points", [[[0, 0], [1, 1], [3, 3], [2, 2]], [[0.5, 0.5]] * 4])
def test_points_that_have_no_hull_are_refused(points):
    good = np.random.default_rng(0).random((4, 2))
    with pytest.raises(ValueError, match="points of set 1 lie on one line or coincide"):
        hulls.convex_hulls(np.stack([good, np.array(points, float)]))


def test_sets_that_are_none_are_refused():
    points = np.random.default_rng(0).random((2, 5, 2))
    with pytest.raises(ValueError, match=r"expected points \[B, N, 2\], got shape \[5, 2\]"):
        hulls.convex_hulls(points[0])
    with pytest.raises(ValueError, match="set 1 has 2 points, and 3 are needed"):
        hulls.convex_hulls(points, [5, 2])
    with pytest.raises(ValueError, match="a coordinate of set 1 is not finite"):
        hulls.convex_hulls(np.where(np.arange(2)[:, None, None] == 1, np.inf, points))
    with pytest.raises(ValueError, match="counts"):
        hulls.convex_hulls(points, [5, 6])


def every_trip(between):
    """The length of the shortest trip, by trying all."""
    N = len(between)
    return min(
        sum(between[a, b] for a, b in zip((0, *rest), (*rest, 0), strict=True))
        for rest in itertools.permutations(range(1, N))
    )


@few
@given(seed=seeds, count=st.integers(3, 6))
def test_held_karp_finds_the_shortest_of_all_trips(seed, count):
    between = np.random.default_rng(seed).random((3, count, count))  # not symmetric: the way matters
    found = tours.held_karp(between)
    assert (np.sort(found, 1) == np.arange(count)).all()
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(tours.lengths(between, found), [every_trip(each) for each in between])


@pytest.mark.parametrize("count", [4, 7, 10, 12])
def test_integer_programming_and_held_karp_agree(count):
    between = tours.distances(np.random.default_rng(count).random((5, count, 2)))
    found = np.stack([tours.optimal_tour(each) for each in between])
    assert (np.sort(found, 1) == np.arange(count)).all()
    np.testing.assert_allclose(tours.lengths(between, found), tours.lengths(between, tours.held_karp(between)))


def test_two_far_groups_need_a_cut():
    """Without cuts the cheapest edges of degree two are a cycle in each group."""
    points = np.random.default_rng(0).random((9, 2)) + np.repeat([[0.0, 0], [9, 0], [0, 9]], 3, axis=0)
    between = tours.distances(points)
    tour = tours.optimal_tour(between)
    assert sorted(tour.tolist()) == list(range(9))
    np.testing.assert_allclose(
        tours.lengths(between[None], tour[None]), tours.lengths(between[None], tours.held_karp(between[None]))
    )


def test_trips_that_cannot_be_found_are_refused():
    with pytest.raises(ValueError, match="3 to 13 cities, got 14; optimal_tour takes more"):
        tours.held_karp(np.ones((2, 14, 14)))
    with pytest.raises(ValueError, match="symmetric"):
        tours.optimal_tour(np.arange(16.0).reshape(4, 4))
    with pytest.raises(ValueError, match="square distances"):
        tours.held_karp(np.ones((2, 4, 5)))
    with pytest.raises(ValueError, match="not finite"):
        tours.optimal_tour(np.full((4, 4), np.nan))


def test_local_search_is_close_to_the_shortest():
    rng = np.random.default_rng(3)
    between = tours.distances(rng.random((100, 12, 2)))
    found = local_search.improved(rng, between)
    assert (np.sort(found, 1) == np.arange(12)).all()
    assert (found[:, 0] == 0).all()
    excess = tours.lengths(between, found) / tours.lengths(between, tours.held_karp(between)) - 1
    assert excess.min() > -1e-9
    assert (excess < 1e-9).mean() > 0.95
    assert excess.mean() < 1e-3


def test_no_move_makes_an_improved_trip_shorter():
    rng, N = np.random.default_rng(5), 8
    between = tours.distances(rng.random((10, N, 2)))
    for trip, d in zip(local_search.improved(rng, between, starts=1), between, strict=True):
        length = tours.lengths(d[None], trip[None])
        for i, j in itertools.combinations(range(N + 1), 2):
            turned = np.r_[trip[:i], trip[i:j][::-1], trip[j:]]
            moved = [np.r_[rest[:k], trip[i:j], rest[k:]] for rest in [np.r_[trip[:i], trip[j:]]] for k in range(len(rest))]
            for other in [turned, *(moved if j - i <= local_search.LONGEST else [])]:
                assert tours.lengths(d[None], other[None]) > length - 1e-8


@few
@given(seed=seeds, count=st.integers(3, 12))
def test_a_canonical_trip_starts_at_point_0_and_goes_counter_clockwise(seed, count):
    rng = np.random.default_rng(seed)
    points = rng.random((4, count, 2))
    trips = rng.permuted(np.tile(np.arange(count), (4, 1)), axis=1)
    between, found = tours.distances(points), tours.canonical(points, trips)
    np.testing.assert_allclose(tours.lengths(between, found), tours.lengths(between, trips))
    assert (found[:, 0] == 0).all()
    for x, y in (each[trip].T for each, trip in zip(points, found, strict=True)):
        assert (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0


@few
@given(seed=seeds, count=st.integers(3, 25))
def test_no_point_is_inside_the_circle_of_a_delaunay_triangle(seed, count):
    points = np.random.default_rng(seed).random((count, 2))
    triangles = triangulations.delaunay(points)
    assert len(triangles) == 2 * count - 2 - len(scipy.spatial.ConvexHull(points).vertices)
    assert (np.diff(triangles, axis=1) > 0).all()
    for a, b, c in points[triangles]:
        centre = np.linalg.solve(2 * np.array([b - a, c - a]), np.array([b @ b - a @ a, c @ c - a @ a]))
        assert (np.linalg.norm(points - centre, axis=1) > np.linalg.norm(a - centre) - 1e-9).all()


@few
@given(seed=seeds)
def test_triangles_come_in_the_order_of_their_incenters(seed):
    points = np.random.default_rng(seed).random((9, 2))
    centres = triangulations.incenters(points[triangulations.delaunay(points)])
    assert [tuple(c) for c in centres.tolist()] == sorted(tuple(c) for c in centres.tolist())
    for centre, (a, b, c) in zip(centres, points[triangulations.delaunay(points)], strict=True):
        away = [abs(np.linalg.det([q - p, centre - p])) / np.linalg.norm(q - p) for p, q in ((a, b), (b, c), (c, a))]
        np.testing.assert_allclose(away, away[0], rtol=1e-6)  # equally far from all three sides


def test_points_that_have_no_triangulation_are_refused():
    points = np.random.default_rng(1).random((5, 2))
    with pytest.raises(ValueError, match=r"points . and . coincide"):
        triangulations.delaunay(np.r_[points[:4], points[1:2]])
    with pytest.raises(ValueError, match="lie on one line"):
        triangulations.delaunay(np.arange(5.0)[:, None] * [1, 2])


PROBLEMS = {
    "hulls": Hulls(3, 12, groups=3),
    "tours": Tours(5, 11, groups=2, exact=6),
    "triangulations": Triangulations(3, 7),
    "sorting": Sorting(2, 9, groups=4),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_batch_holds_points_and_their_answer(name):
    problem = PROBLEMS[name]
    for seed in range(6):
        batch = problem(np.random.default_rng(seed), 9)
        points, counts, targets, mask = (batch[key] for key in ("points", "counts", "targets", "mask"))
        assert [points.dtype, counts.dtype, targets.dtype, mask.dtype] == [np.float32, np.int32, np.int32, bool]
        assert points.shape == (9, points.shape[1], problem.coordinates)
        assert points.shape[1] in problem.widths
        assert targets.shape == mask.shape == (9, problem.steps(points.shape[1]))
        assert (problem.fewest <= counts).all()
        assert (counts <= points.shape[1]).all()
        assert not points[np.arange(points.shape[1]) >= counts[:, None]].any()
        assert (np.diff(mask.astype(int), axis=1) <= 0).all(), "answers come first and without a gap"
        answers = problem.solve(points, counts)
        for said, there, answer in zip(targets, mask, answers, strict=True):
            assert said[there].tolist() == problem.symbols(answer)[: len(said)].tolist()
            assert (said[~there] == STOP).all()


@pytest.mark.parametrize("name", PROBLEMS)
def test_an_answer_ends_as_its_problem_says(name):
    problem = PROBLEMS[name]
    batch = problem(np.random.default_rng(1), 5, exactly=problem.most)
    for said, there in zip(batch["targets"], batch["mask"], strict=True):
        said = said[there].tolist()
        if problem.ending == "return":
            assert said[-1] == said[0]
            assert len(set(said)) == len(said) - 1
        elif problem.ending == "all":
            assert sorted(said) == list(range(1, problem.most + 1))
        else:
            assert said.index(STOP) == len(said) - 1


@pytest.mark.parametrize("seed", range(4))
def test_of_several_polygons_the_largest_is_the_answer(seed):
    """The hull, before a part of it that is likelier and one that crosses itself; the likeliest where none is a polygon."""
    rng, problem = np.random.default_rng(seed), Hulls(8, 8)
    points = rng.random((8, 2), np.float32)
    (hull,) = problem.solve(points[None], np.array([8]))
    part, crossed = hull[:-1] if len(hull) > 3 else hull[:2], np.r_[hull[1], hull[0], hull[2:], hull[0]]
    assert problem.choose(points, [part, crossed, hull, np.roll(hull, 1)]) is hull
    assert problem.choose(points, [crossed, part[:2]]) is crossed


def test_groups_are_drawn_equally_often_and_numbers_of_points_within_them_too():
    problem, counts = Hulls(3, 12, groups=3), []
    for seed in range(4000):
        counts.extend(problem._counts(np.random.default_rng(seed), 5, 12)[0])
    assert problem.widths == [4, 7, 12]
    shares = np.bincount(counts, minlength=13)[3:] / len(counts)
    # Batches are of one group: a share of a third of 4,000 draws has a standard deviation of 0.0075, half of it 0.0045.
    np.testing.assert_allclose(shares, np.repeat([1 / 6, 1 / 9, 1 / 15], [2, 3, 5]), atol=0.015)


@given(st.integers(3, 9), st.integers(0, 60), st.data())
def test_groups_grow_by_a_factor_and_none_is_empty(fewest, more, data):
    groups = data.draw(st.integers(1, more + 1))
    widths = Hulls(fewest, fewest + more, groups=groups).widths
    assert len(widths) == groups
    assert widths[-1] == fewest + more
    edges = np.array([fewest - 1, *widths])
    sizes = np.diff(edges)
    assert (sizes >= 1).all()
    assert (sizes[1:] >= sizes[:-1] - 1).all(), "rounded"


def test_no_example_is_longer_than_asked_for():
    problem = Hulls(3, 12, groups=3)
    drawn = [problem._counts(np.random.default_rng(seed), 5, 6) for seed in range(300)]
    assert {int(count) for counts, _ in drawn for count in counts} == {3, 4, 5, 6}
    assert {width for _, width in drawn} == {4, 7}
    assert {int(c) for seed in range(9) for c in problem._counts(np.random.default_rng(seed), 5, 1)[0]} == {3}


def test_batches_are_drawn_from_their_number_alone():
    source = examples(PROBLEMS["tours"], batch_size=4, seed=3)
    one, other = iter(source), iter(source)
    for _ in range(3):
        for a, b in zip(next(one).values(), next(other).values(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_long_hulls_are_cut_and_rare():
    problem = Hulls(5, 50)
    points = np.random.default_rng(0).random((4000, 50, 2))
    answers = problem.solve(points, np.full(4000, 50))
    sizes = np.array([len(answer) for answer in answers])
    assert abs(sizes.mean() - (8 / 3 * np.log(50) - 0.3)) < 0.2
    assert (sizes + 1 > problem.steps(50)).mean() < 0.003
    round_ = np.stack([0.5 + 0.5 * np.cos(np.arange(50)), 0.5 + 0.5 * np.sin(np.arange(50))], -1)[None].astype(np.float32)
    batch = problem.batch(round_, np.array([50]), problem.solve(round_, [50]))
    assert batch["mask"].all()
    assert batch["targets"][0, 0] == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Hulls(2, 5), "Hulls: expected 3 <= fewest <= most, got 2 and 5"),
        (lambda: Tours(7, 6), "Tours: expected 5 <= fewest <= most, got 7 and 6"),
        (lambda: Hulls(5, 6, groups=3), "2 numbers of points make 1 to as many groups, got 3"),
    ],
)
def test_problems_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pictures_show_what_is_wrong_in_red(tmp_path):
    rng = np.random.default_rng(0)
    points = rng.random((5, 2))
    pictures.cycles(
        tmp_path / "cycles.png", [(points, [0, 1, 2], [0, 1, 2], True, "right"), (points, [1, 2], [0, 1, 2], False, "wrong")]
    )
    true = triangulations.delaunay(points)
    pictures.triangles(tmp_path / "triangles.png", [(points, true[:1], true, False, "wrong")], columns=1)
    red = np.array(matplotlib.colors.to_rgb(pictures.WRONG))
    for name in ("cycles", "triangles"):
        image = matplotlib.image.imread(tmp_path / f"{name}.png")[..., :3]
        assert (np.abs(image - red).max(-1) < 0.02).sum() > 100


def symbols_of(problem, answer):
    """What a model says that gives this answer, and then goes on about nothing."""
    return np.concatenate([problem.symbols(np.array(answer)), [STOP, STOP]])


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_true_answer_is_worth_most(name):
    problem = PROBLEMS[name]
    batch = problem(np.random.default_rng(2), 6, exactly=problem.most)
    for points, truth in zip(batch["points"], problem.truth(batch["points"], batch["counts"]), strict=True):
        answer = problem.answer(symbols_of(problem, truth))
        assert answer.tolist() == truth.tolist()
        best = {"accuracy": 1, "area": 1, "simple": 1, "coverage": 1, "gap": 0}
        worth = problem.judge(points, answer, truth)
        worth.pop("length", None)
        assert worth == {key: pytest.approx(best[key], abs=1e-6) for key in worth}


def test_a_polygon_that_is_none_has_no_area():
    problem = PROBLEMS["hulls"]
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    assert problem.judge(points, np.array([1, 2, 3, 0]), np.arange(4))["accuracy"] == 1
    assert problem.judge(points, np.array([0, 1, 2]), np.arange(4)) == {"accuracy": 0, "area": 0.5, "simple": 1}
    worth = problem.judge(points, np.array([0, 2, 1, 3]), np.arange(4))
    assert worth["simple"] == 0
    assert np.isnan(worth["area"])


def test_a_longer_trip_is_worth_less():
    problem = PROBLEMS["tours"]
    points = np.array([[0, 0], [3, 0], [3, 4], [0, 4], [0, 2]], np.float32)
    worth = problem.judge(points, np.array([0, 2, 1, 3, 4]), np.arange(5))
    crossed = 5 + 4 + 5 + 2 + 2
    assert worth == {"accuracy": 0, "length": pytest.approx(crossed), "gap": pytest.approx(crossed / 14 - 1)}


def test_triangles_that_are_missing_are_not_covered():
    problem, truth = PROBLEMS["triangulations"], np.array([0, 1, 2, 1, 2, 3])
    said = problem.answer(np.array([3, 4, 2, 1, 2, STOP, 9]))  # 2 3 1, and a triangle that is not complete
    assert said.tolist() == [2, 3, 1]
    assert problem.judge(np.zeros((4, 2)), said, truth) == {"accuracy": 0, "coverage": 0.5}


def test_truth_is_exact_where_labels_need_not_be():
    problem = Tours(5, 14, exact=5, starts=1)
    batch = problem(np.random.default_rng(0), 4, exactly=14)
    truths = problem.truth(batch["points"], batch["counts"])
    for points, truth in zip(batch["points"], truths, strict=True):
        between = tours.distances(points)[None]
        optimal = tours.optimal_tour(between[0])
        np.testing.assert_allclose(tours.lengths(between, truth[None]), tours.lengths(between, optimal[None]))
