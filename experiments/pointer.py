"""Pointer networks (Vinyals, Fortunato, Jaitly 2015): attention that points at its input, so that answers grow with it.

python -m experiments pointer                        convex hulls of 5 to 50 points, one model for all
python -m experiments pointer --preset tour          round trips through 5 to 20 cities
python -m experiments pointer --preset delaunay      Delaunay triangulations of 5 to 10 points
python -m experiments pointer --preset sort          5 to 15 numbers in order
python -m experiments pointer --preset plain         control: hulls of 10 points, of which a decoder says the numbers
python -m experiments pointer --preset attention     control: the same, but its decoder reads the points as it goes

As in the paper points come in random order, a hull starts at the corner with the lowest index and a trip at the first city.
The paper's encoder reads the points from the first to the last, ours both ways (--no-bidirectional: as theirs), and our
decoder reads them once more before it points (--no-glimpse: as theirs). Of the hulls and trips that a beam has found we
take the largest and the shortest, which needs no knowledge of the truth, and the paper the likeliest ("likeliest" in the
results). Numbers are in README.md, from results/pointer.jsonl.
"""

import dataclasses
import functools
from typing import Literal

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import seqjax as sj
from experiments import training
from experiments.datasets import tsplib
from experiments.geometry import pictures, rules, tours
from experiments.geometry.problems import Hulls, Problem, Sorting, Tours, Triangulations
from experiments.geometry.solvers import Naming, Pointing
from seqjax import decode
from seqjax.data import examples

HELD_OUT = 10**9  # seeds of evaluation, which training never draws from
LABELS = {"hull": "hull", "tour": "tsp", "delaunay": "delaunay", "sort": "sort"}
SPARE = 8  # positions that an answer may have beyond what training keeps of it
PIECE = 250  # examples that are answered at a time
PROBLEMS: dict[str, type[Problem]] = {"hull": Hulls, "tour": Tours, "delaunay": Triangulations, "sort": Sorting}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    problem: Literal["hull", "tour", "delaunay", "sort"] = "hull"
    fewest: int = 5
    most: int = 50
    """Points of an example, drawn from ``fewest`` to ``most``."""
    groups: int = 5
    """Batches are padded to one of so many numbers of points."""
    sizes: tuple[int, ...] = (5, 10, 50, 100)
    """Numbers of points that are evaluated at the end."""
    answer: Literal["pointer", "attention", "plain"] = "pointer"
    """Pointing; or numbers of points as a fixed vocabulary, with attention or without."""
    features: int = 128
    """Of the encoder, each way; the decoder has as many as its final state."""
    layers: int = 1
    """Of the encoder."""
    bidirectional: bool = True
    score: int = 128
    """Width of the hidden layer that scores positions."""
    glimpse: bool = True
    """Whether a pointer reads the points before it points, so that it asks with what it has seen (Bello et al. 2017)."""
    batch_size: int = 128
    steps: int = 11_000
    growth: float = 0.1
    """Share of the steps over which the largest examples grow from the fewest points to the most."""
    learning_rate: float = 0.02
    """Of Muon, for matrices; that of Adam, for all else, is a fifth of it."""
    clip: float = 1.0
    average: float = 0.999
    evaluations: int = 16
    answers: int = 1000
    """Of one evaluation."""
    beam: int = 5
    """Hypotheses of the beam search at the end, of which the largest polygon is the answer, the shortest trip, or else the
    likeliest; 1 takes the likeliest position at each step."""
    tsplib: tuple[str, ...] = ()
    """Files of TSPLIB, whose cities the trained model is asked to visit too."""
    seed: int = 0

    def __post_init__(self):
        object.__setattr__(self, "sizes", tuple(self.sizes))  # JSON has lists
        object.__setattr__(self, "tsplib", tuple(self.tsplib))
        for name in ("features", "layers", "score", "batch_size", "steps", "evaluations", "answers", "beam"):
            if getattr(self, name) < 1:
                raise ValueError(f"pointer: {name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.growth <= 1:
            raise ValueError(f"pointer: growth is a share, from 0 to 1, got {self.growth}.")
        if not self.sizes or min(self.sizes) < PROBLEMS[self.problem].smallest:
            raise ValueError(f"pointer: sizes must be at least {PROBLEMS[self.problem].smallest}, got {self.sizes}.")
        if self.answer != "pointer" and max(self.sizes) > self.most:
            raise ValueError(
                f"pointer: with --answer {self.answer} numbers up to {self.most} have names, sizes are {self.sizes}."
            )
        if self.tsplib and (self.problem != "tour" or self.answer != "pointer"):
            raise ValueError("pointer: tsplib needs --problem tour and --answer pointer.")


SEVERAL = Config(steps=6000, groups=4, evaluations=10)

TEN = Config(fewest=10, most=10, groups=1, sizes=(10,), steps=6000, growth=0.0, evaluations=10)

PRESETS = {
    "default": Config(),
    "tour": dataclasses.replace(SEVERAL, problem="tour", most=20, sizes=(5, 10, 20), steps=2200, beam=16),
    "delaunay": dataclasses.replace(SEVERAL, problem="delaunay", most=10, groups=2, sizes=(5, 10), steps=4000),
    "plain": dataclasses.replace(TEN, answer="plain"),
    "attention": dataclasses.replace(TEN, answer="attention"),
    "sort": dataclasses.replace(SEVERAL, problem="sort", most=15, groups=1, sizes=(5, 10, 15), steps=2000),
}


class Task:
    """What a configuration means: the model as pure functions of its weights, and how its answers are judged."""

    def __init__(self, config):
        self.config = config
        self.problem = PROBLEMS[config.problem](config.fewest, config.most, groups=config.groups)
        self.model = training.Model(_solver(self.problem.coordinates, config))
        self.weights = self.model.weights
        self._loss = jax.jit(lambda weights, batch: self.loss(weights, (), batch, None)[0])
        self._answer = jax.jit(self._decode, static_argnames=("length", "beam"))
        self._held_out = functools.cache(self._draw)

    def loss(self, weights, carry, batch, key):
        """Mean negative log-likelihood of the positions of answers, among those that the rules allow."""
        del key
        inputs = jnp.pad(batch["targets"][:, :-1], ((0, 0), (1, 0)))
        logits = self.model(weights)(batch["points"], batch["counts"], inputs)
        may = rules.along(self.problem.ending, batch["counts"], batch["points"].shape[1], inputs.T)
        logits = jnp.where(may, jnp.swapaxes(logits, 0, 1), -jnp.inf)
        nats = sj.losses.sequence_cross_entropy(logits, batch["targets"].T, mask=batch["mask"].T)
        return nats, (carry, {"weight": batch["mask"].sum()})

    def _decode(self, weights, points, counts, *, length, beam):
        """Positions [N, B, T] that are said of points: the likeliest at every step, or all that a beam has found."""
        model, ending = self.model(weights), self.problem.ending
        read, carry = model.start(points, counts)

        def step(carry, position):
            state, said = carry
            said = rules.say(ending, said, position)
            state, logits = model.step(read, state, position)
            return (state, said), jnp.where(rules.allowed(ending, said), logits, -jnp.inf)

        opened = jnp.zeros(counts.shape, jnp.int32)
        asked = (step, (carry, rules.before(counts, points.shape[1])), opened)
        if beam == 1:
            return decode.greedy(*asked, length=length, stop=0).tokens.T[None]
        width = min(beam, read.shape[1])
        return jnp.swapaxes(decode.beam_search(*asked, width=width, length=length, stop=0, n_best=width).tokens, 1, 2)

    def found(self, weights, points, *, beam=1):
        """Answers to sets of as many points each, ``[B, N, C]``: of each all that a beam finds, the likeliest first."""
        counts = np.full(len(points), points.shape[1], np.int32)
        said = self._answer(weights, points, counts, length=self.problem.steps(points.shape[1]) + SPARE, beam=beam)
        return [[self.problem.answer(row) for row in rows] for rows in np.swapaxes(said, 0, 1)]

    def answers(self, weights, points, *, beam=1):
        """The answers that are given to sets of as many points each, ``[B, N, C]``."""
        return self._chosen(points, self.found(weights, points, beam=beam))

    def _chosen(self, points, found):
        return [self.problem.choose(*case) for case in zip(points, found, strict=True)]

    def _draw(self, size, exact):
        """Held-out problems of ``size`` points in pieces: (batch, true answers)."""
        config, problem = self.config, self.problem
        piece = min(PIECE, config.answers)
        batches = [
            problem(np.random.default_rng((HELD_OUT + config.seed, size, i)), piece, exactly=size)
            for i in range(-(-config.answers // piece))
        ]
        solve = problem.truth if exact else problem.solve
        return [(batch, solve(batch["points"], batch["counts"])) for batch in batches]

    def evaluate(self, weights, *, size=None, exact=False, beam=1):
        """Mean loss, and what answers are worth on average, on problems of ``size`` points, the most by default.

        ``exact`` judges by the best answer there is, and not by one as good as those of training. With a beam "likeliest"
        is how many would be right if the likeliest answer were given.
        """
        weights = training.on_one_device(weights)
        losses, worth = [], []
        for batch, truths in self._held_out(size or self.config.most, exact):
            losses.append(float(self._loss(weights, batch)))
            points, found = batch["points"], self.found(weights, batch["points"], beam=beam)
            for case in zip(points, self._chosen(points, found), [first for first, *_ in found], truths, strict=True):
                where, chosen, first, truth = case
                judged = self.problem.judge(where, chosen, truth)
                likeliest = {"likeliest": self.problem.judge(where, first, truth)["accuracy"]} if beam > 1 else {}
                worth.append(judged | likeliest)
        return {"loss": float(np.mean(losses))} | {name: _mean([each[name] for each in worth]) for name in worth[0]}

    def optimizer(self):
        """Muon for matrices and Adam for the rest, with a cosine schedule."""
        config = self.config

        def schedule(most):
            return optax.warmup_cosine_decay_schedule(0.0, most, min(200, config.steps // 2), config.steps, most / 50)

        muon = optax.contrib.muon(
            schedule(config.learning_rate), adam_learning_rate=schedule(config.learning_rate / 5), adam_b2=0.99
        )
        return optax.chain(optax.clip_by_global_norm(config.clip), muon)

    def state(self):
        """The state before the first step of training."""
        return sj.train.create(self.weights, self.optimizer(), jax.random.key(self.config.seed), carry=(), average=True)


def _solver(coordinates, config):
    settings = {"layers": config.layers, "bidirectional": config.bidirectional, "rngs": flax.nnx.Rngs(config.seed)}
    if config.answer == "pointer":
        return Pointing(coordinates, config.features, score=config.score, glimpse=config.glimpse, **settings)
    score = config.score if config.answer == "attention" else None
    return Naming(coordinates, config.features, names=config.most, score=score, **settings)


def _mean(values):
    """Without those of answers that have none."""
    values = [value for value in values if not np.isnan(value)]
    return float(np.mean(values)) if values else float("nan")


def longest(config, step):
    """The most points of an example at a step of training."""
    if step >= config.growth * config.steps:
        return config.most
    return config.fewest + int(step / (config.growth * config.steps) * (config.most - config.fewest + 1))


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    units = ("examples", config.batch_size)
    this = training.Run("pointer", preset, config, units=units, record=record, quiet=quiet)
    trips = [tsplib.read(path) for path in config.tsplib]  # before anything is trained
    task = Task(config)
    this.open(directory)
    this.introduce(f"{config.problem} of {config.fewest} to {config.most} points, {config.answer}", task.weights)
    data = examples(task.problem, batch_size=config.batch_size, seed=config.seed, longest=functools.partial(longest, config))
    outcome = this.train(task, data, task.evaluate)
    return outcome and _finish(this, task, outcome, trips)


def _finish(this, task, outcome, trips):
    """The summary: what the answers of the last weights are worth for each number of points, and pictures of some."""
    config, weights = task.config, outcome.state.weights
    worth = {size: task.evaluate(weights, size=size, exact=True, beam=config.beam) for size in config.sizes}
    metrics = {
        f"{LABELS[config.problem]}_{name}_{size}": value
        for size, found in worth.items()
        for name, value in found.items()
        if name != "loss"
    }
    draw(task, weights, this.directory)
    visited = {trip.name: visit(task, weights, trip) for trip in trips}
    summary = this.finish(outcome, metrics, unit="nats per position", sizes=worth, tsplib=visited)
    this.say(f"{summary['minutes']:.1f} minutes; {this.directory}")
    return summary


def draw(task, weights, directory, *, shown=12):
    """A picture of answers of each size: as many that are wrong as right, as far as there are."""
    if task.config.problem == "sort":
        return
    picture = pictures.triangles if task.config.problem == "delaunay" else pictures.cycles
    for size in task.config.sizes:
        batch, truths = task._held_out(size, True)[0]
        said = task.answers(weights, batch["points"], beam=task.config.beam)
        judged = [task.problem.judge(*each) for each in zip(batch["points"], said, truths, strict=True)]
        right = [i for i, each in enumerate(judged) if each["accuracy"]]
        wrong = [i for i, each in enumerate(judged) if not each["accuracy"]]
        chosen = right[: max(shown - len(wrong), shown // 2)]
        chosen += wrong[: shown - len(chosen)]
        drawn = [(batch["points"][i], said[i], truths[i], bool(judged[i]["accuracy"]), _caption(judged[i])) for i in chosen]
        share = len(right) / len(judged)
        title = f"{task.config.problem}, {size} points, {share:.1%} right; pale: the true one"
        picture(directory / f"answers_{size}.png", drawn, title=title)


def _caption(worth):
    return ", ".join(f"{name} {value:.3g}" for name, value in worth.items() if name in ("area", "gap", "coverage"))


def visit(task, weights, trip):
    """How long the trip is on which a model goes through the cities of a TSPLIB problem, and the shortest."""
    if trip.points is None:
        raise ValueError(f"pointer: {trip.name} has no coordinates, and this model reads nothing else.")
    (tour,) = task.answers(weights, trip.points.astype(np.float32)[None], beam=task.config.beam)
    said, least = (
        int(tours.lengths(trip.distances[None], each[None])[0]) for each in (tour, tours.optimal_tour(trip.distances))
    )
    return {"length": said, "shortest": least}
