"""Grid LSTM (Kalchbrenner et al. 2015): cells along depth as along time learn to add, and to tell odd from even.

python -m experiments grid_lstm                       the sum of two numbers of 8 digits
python -m experiments grid_lstm --preset parity       the parity of 32 bits; 250: --length 250 --steps 2000

The paper adds 15 digits and tells the parity of 250 bits, with digits in the order in which one says them, which is
--no-lowest-first here. An answer counts where every symbol of it is right. The control is --cell stack: LSTMs of the same
width and depth on top of each other. Numbers are in README.md, from results/grid_lstm.jsonl.
"""

import dataclasses
import functools
from typing import Any, Literal

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

import seqjax as sj
from experiments import runs, training
from seqjax.data import Addition, Parity, examples

HELD_OUT = 10**9  # seeds of evaluation, which training never draws from


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    task: Literal["addition", "parity"] = "addition"
    length: int = 8
    """Digits of each number, or bits."""
    lowest_first: bool = True
    """Whether numbers are read and said from their lowest digit, as one adds on paper; else from the highest."""
    cell: Literal["grid", "stack"] = "grid"
    features: int = 64
    depth: int = 4
    tied: bool = True
    """Whether all layers of the grid share their weights."""
    priority: bool = False
    """Whether the depth side of a block reads what the time side has just become."""
    batch_size: int = 32
    steps: int = 30000
    growth: float = 0.3
    """Share of the steps over which the longest examples grow from one digit or bit to all."""
    learning_rate: float = 1e-2
    """Of Muon, for matrices; Adam's, for biases, is two fifths of it."""
    clip: float = 1.0
    average: float = 0.99
    evaluations: int = 30
    answers: int = 2000
    """Of one evaluation."""
    seed: int = 0

    def __post_init__(self):
        for name in ("length", "features", "depth", "batch_size", "steps", "evaluations", "answers"):
            if getattr(self, name) < 1:
                raise ValueError(f"grid_lstm: {name} must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.growth <= 1:
            raise ValueError(f"grid_lstm: growth is a share, from 0 to 1, got {self.growth}.")


PRESETS = {
    "default": Config(),
    "parity": Config(task="parity", length=32, depth=2, steps=4000, growth=0.0),
}


class Answerer(flax.nnx.Module):
    """Embedding, a grid or a stack, and a linear head over the symbols."""

    def __init__(self, symbols, config, *, rngs):
        width = config.features
        if config.cell == "grid":
            recurrence: Any = sj.GridLSTM(width, depth=config.depth, tied=config.tied, priority=config.priority)
        else:
            recurrence = sj.Stack(*[sj.LSTM(width)] * config.depth)
        self.embed = flax.nnx.Embed(symbols, width, rngs=rngs)
        self.rnn = sj.nnx.RNN(recurrence, width, rngs=rngs)
        self.head = flax.nnx.Linear(width, symbols, rngs=rngs)

    def __call__(self, tokens):
        """tokens int [B, T] -> logits [B, T, V]."""
        return self.head(self.rnn(self.embed(tokens))[1])


class Task:
    """What a configuration means: the model as pure functions of its weights, and what is asked of it."""

    def __init__(self, config):
        self.config = config
        self.make: Addition | Parity = Parity(config.length)
        if config.task == "addition":
            self.make = Addition(config.length, lowest_first=config.lowest_first)
        self.model = training.Model(Answerer(self.make.symbols, config, rngs=flax.nnx.Rngs(config.seed)))
        self.weights = self.model.weights
        self._logits = jax.jit(lambda weights, inputs: self.model(weights)(inputs))

    def loss(self, weights, carry, batch, key):
        """Mean negative log-likelihood of the symbols of the answers."""
        del key
        logits = self.model(weights)(batch["inputs"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
        return jnp.mean(each, where=batch["mask"]), (carry, {"weight": batch["mask"].sum()})

    def evaluate(self, weights, *, length=None):
        """Mean loss and share of exact answers, on numbers or strings of exactly ``length``, the longest by default."""
        config, losses, exact = self.config, [], []
        weights = training.on_one_device(weights)
        for i in range(-(-config.answers // 500)):
            rng = np.random.default_rng((HELD_OUT + config.seed, i))
            batch = self.make(rng, 500, exactly=length or config.length)
            logits = np.asarray(self._logits(weights, batch["inputs"]))
            each = optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"])
            losses.append(float(np.asarray(each)[batch["mask"]].mean()))
            exact.append(np.all((logits.argmax(-1) == batch["targets"]) | ~batch["mask"], axis=1))
        return {"loss": float(np.mean(losses)), "exact": float(np.concatenate(exact)[: config.answers].mean())}

    def optimizer(self):
        """Muon for matrices, Adam for the rest, both with one schedule."""
        config = self.config
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, config.learning_rate, min(200, config.steps // 2), config.steps, config.learning_rate / 20
        )
        muon = optax.contrib.muon(
            schedule,
            adam_learning_rate=lambda step: 0.4 * schedule(step),
            consistent_rms=0.2,
            muon_weight_dimension_numbers=_matrices,
        )
        return optax.chain(optax.clip_by_global_norm(config.clip), muon)

    def state(self):
        """The state before the first step of training."""
        return sj.train.create(self.weights, self.optimizer(), jax.random.key(self.config.seed), carry=(), average=True)


def _matrices(weights):
    """The two last axes of what is a matrix, or one for each layer."""
    numbers = optax.contrib.MuonDimensionNumbers(-2, -1)
    return jax.tree.map(lambda leaf: numbers if leaf.ndim >= 2 else None, weights)


def longest(config, step):
    """Digits or bits of the longest examples at a step of training."""
    if step >= config.growth * config.steps:
        return config.length
    return 1 + int(step / (config.growth * config.steps) * config.length)


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    units = ("samples", config.batch_size)
    this = training.Run("grid_lstm", preset, config, units=units, record=record, quiet=quiet)
    task = Task(config)
    this.open(directory)
    this.introduce(f"{config.task} of {config.length}, {config.cell}", task.weights)
    data = examples(task.make, batch_size=config.batch_size, seed=config.seed, longest=functools.partial(longest, config))
    outcome = this.train(task, data, task.evaluate)
    return outcome and _finish(this, task, outcome)


def _finish(this, task, outcome):
    """The summary: exact answers of the last weights at every length, and how many samples that took."""
    config = task.config
    lengths = list(range(1, config.length + 1))
    if config.task == "parity":
        lengths = [n for n in lengths if n == config.length or n & (n - 1) == 0]
    exact = {length: task.evaluate(outcome.state.weights, length=length)["exact"] for length in lengths}
    solved = [length for length in exact if all(share >= 0.99 for shorter, share in exact.items() if shorter <= length)]
    unit = "digits" if config.task == "addition" else "bits"
    metrics = {
        f"{config.task}_{config.length}_exact": exact[config.length],
        f"{config.task}_{unit}_at_99": max(solved, default=0),
        "samples_to_99": samples_to_99(this.directory, config),
    }
    summary = this.finish(outcome, metrics, unit="nats per symbol", exact=exact)
    this.say(f"exact answers {exact[config.length]:.4f}, {summary['minutes']:.1f} minutes; {this.directory}")
    return summary


def samples_to_99(directory, config):
    """Samples of training until an evaluation had 99 % exact answers; None if none had."""
    for line in runs.read_lines(directory / "log.jsonl"):
        if line["kind"] == "evaluation" and line["exact"] >= 0.99:
            return line["step"] * config.batch_size
    return None
