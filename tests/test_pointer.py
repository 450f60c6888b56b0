"""The experiment of pointer networks: answers keep their rules, models learn, and a run ends with its summary."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import pointer, runs
from experiments.datasets.tsplib import Trip
from experiments.geometry import rules
from seqjax.metrics import tour_length

SMALL = pointer.Config(
    problem="hull",
    fewest=4,
    most=5,
    groups=1,
    sizes=(5, 6),
    features=8,
    score=6,
    batch_size=16,
    steps=150,
    growth=0.0,
    learning_rate=2e-2,
    average=0.9,
    evaluations=2,
    answers=40,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that has ended and was recorded: its directory and its summary."""
    directory = tmp_path_factory.mktemp("runs") / "hulls"
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):  # optax.adam relies on it
        patch.setattr(runs, "RESULTS", directory.parent / "results")
        return directory, pointer.run(SMALL, "default", directory, record=True, quiet=True)


def follow(ending, count, width, said):
    """The rules along an answer: what may follow each position, as sets."""
    inputs = jnp.array([[0], *[[position] for position in said]])
    may = rules.along(ending, jnp.array([count]), width, inputs)
    return [set(np.flatnonzero(row[0]).tolist()) for row in may]


def test_a_polygon_ends_where_it_began():
    assert follow("return", 4, 6, [2, 3, 1, 2, 0]) == [{1, 2, 3, 4}, {1, 3, 4}, {1, 4}, {4, 2}, {0}, {0}]


def test_a_trip_goes_everywhere_once():
    assert follow("all", 3, 5, [2, 3, 1, 0]) == [{1, 2, 3}, {1, 3}, {1}, {0}, {0}]


def test_triangles_have_growing_indices_and_the_list_may_end_after_each():
    may = follow("stop", 4, 6, [1, 3, 4, 2, 3, 4, 0])
    assert may == [{1, 2}, {2, 3}, {4}, {0, 1, 2}, {3}, {4}, {0, 1, 2}, {0}]


@pytest.mark.parametrize("problem", pointer.PROBLEMS)
def test_true_answers_keep_the_rules(problem):
    smallest = pointer.PROBLEMS[problem].smallest
    make = pointer.PROBLEMS[problem](smallest, smallest + 4, groups=2)
    for seed in range(5):
        batch = make(np.random.default_rng(seed), 9)
        inputs = np.pad(batch["targets"][:, :-1], ((0, 0), (1, 0)))
        may = rules.along(make.ending, batch["counts"], batch["points"].shape[1], inputs.T)
        followed = np.take_along_axis(np.asarray(may), batch["targets"].T[..., None], -1)[..., 0]
        assert followed[batch["mask"].T].all()


@pytest.mark.parametrize(("answer", "layers"), [("pointer", 2), ("attention", 1), ("plain", 1)])
def test_neither_padding_nor_place_nor_scale_changes_a_loss(answer, layers):
    task = pointer.Task(dataclasses.replace(SMALL, answer=answer, layers=layers, most=8, sizes=(5,)))
    batch = task.problem(np.random.default_rng(0), 3, longest=7)
    short = batch["counts"].max()
    points = batch["points"][:, :short]
    padded = np.pad(points, ((0, 0), (0, 8 - short), (0, 0)), constant_values=7)
    turned = points[:, ::-1]
    less, more, moved, other = (
        float(task._loss(task.weights, batch | {"points": each})) for each in (points, padded, 30 * points + 4, turned)
    )
    assert less == pytest.approx(more, rel=1e-5)
    assert less == pytest.approx(moved, rel=1e-4)
    assert less != pytest.approx(other, rel=1e-3)


def test_decoding_says_what_the_loss_scores():
    """Greedy answers are those whose every position is the likeliest one under teacher forcing."""
    task = pointer.Task(SMALL)
    points = np.random.default_rng(1).random((4, 5, 2), np.float32)
    counts = np.full(4, 5, np.int32)
    (said,) = np.asarray(task._answer(task.weights, points, counts, length=6, beam=1))
    inputs = np.pad(said[:, :-1], ((0, 0), (1, 0)))
    logits = task.model(task.weights)(points, counts, inputs)
    may = np.swapaxes(rules.along("return", jnp.array(counts), 5, inputs.T), 0, 1)
    np.testing.assert_array_equal(np.where(may, logits, -np.inf).argmax(-1), said)
    assert (said[:, 0] > 0).all()


def test_a_beam_finds_likelier_trips_and_the_shortest_is_taken():
    task = pointer.Task(dataclasses.replace(SMALL, problem="tour", fewest=5, most=5, sizes=(5,)))
    points = np.random.default_rng(2).random((40, 5, 2), np.float32)
    counts = np.full(40, 5, np.int32)

    def found(beam):
        trips = np.asarray(task._answer(task.weights, points, counts, length=5, beam=beam)) - 1
        assert (np.sort(trips) == np.arange(5)).all()
        return trips  # [N, B, T], the likeliest first

    def likelihood(trips):
        batch = {"points": points, "counts": counts, "targets": trips + 1, "mask": np.ones((40, 5), bool)}
        return -float(task._loss(task.weights, batch))

    several = found(6)
    assert likelihood(several[0]) > likelihood(found(1)[0])
    lengths = np.array([[tour_length(*case) for case in zip(points, trips, strict=True)] for trips in several])
    taken = [tour_length(*case) for case in zip(points, task.answers(task.weights, points, beam=6), strict=True)]
    np.testing.assert_array_equal(taken, lengths.min(0))
    assert (taken < lengths[0]).any()


def test_hulls_start_to_be_learnt(finished):
    directory, summary = finished
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    held_out = [line["loss"] for line in lines if line["kind"] == "evaluation"]
    task = pointer.Task(SMALL)
    before = task.evaluate(task.weights)
    assert held_out[-1] < 0.8 * before["loss"]
    assert summary["metrics"]["hull_likeliest_5"] > 2 * before["accuracy"]
    assert summary["metrics"]["hull_accuracy_5"] > summary["metrics"]["hull_likeliest_5"], "of a beam the largest is taken"


def test_a_run_ends_with_a_summary_and_pictures(finished):
    directory, summary = finished
    names = {f"hull_{name}_{size}" for name in ("accuracy", "area", "simple", "likeliest") for size in SMALL.sizes}
    assert set(summary["metrics"]) == names
    assert json.loads((directory / "summary.json").read_text())["metrics"] == summary["metrics"]
    for name in ("loss", "answers_5", "answers_6"):
        assert (directory / f"{name}.png").stat().st_size > 1000


def test_a_result_is_recorded_when_asked(finished):
    directory, summary = finished
    (line,) = (directory.parent / "results" / "pointer.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == summary["metrics"]


def test_cities_of_a_file_are_visited_at_any_scale():
    task = pointer.Task(dataclasses.replace(SMALL, problem="tour", fewest=5, most=5, sizes=(5,)))
    points = np.random.default_rng(3).random((7, 2)) * 1000
    between = np.linalg.norm(points[:, None] - points, axis=-1).round().astype(int)
    visited = pointer.visit(task, task.weights, Trip("seven", points, between))
    assert visited == pointer.visit(task, task.weights, Trip("seven", points * 64 + 2**14, between))
    assert visited["length"] >= visited["shortest"] > 0
    with pytest.raises(ValueError, match="seven has no coordinates"):
        pointer.visit(task, task.weights, Trip("seven", None, between))


def test_examples_grow_to_their_full_size_over_a_share_of_the_steps():
    config = dataclasses.replace(SMALL, fewest=5, most=8, steps=100, growth=0.5)
    assert [pointer.longest(config, step) for step in (0, 12, 13, 38, 50, 99)] == [5, 5, 6, 8, 8, 8]
    assert pointer.longest(dataclasses.replace(config, growth=0.0), 0) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beam": 0}, "pointer: beam must be at least 1, got 0"),
        ({"growth": 1.5}, "growth is a share"),
        ({"sizes": (2,)}, r"sizes must be at least 3, got \(2,\)"),
        ({"answer": "plain"}, r"numbers up to 5 have names, sizes are \(5, 6\)"),
        ({"tsplib": ("burma14.tsp",)}, "tsplib needs --problem tour"),
    ],
)
def test_settings_that_make_no_model_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)
