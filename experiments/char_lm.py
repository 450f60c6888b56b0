"""Character language models, after Karpathy (2015): a recurrent network reads a text and predicts every next character.

python -m experiments char_lm                         the source of Python's standard library
python -m experiments char_lm --preset shakespeare    tinyshakespeare, 90/10; nanoGPT has 1.4697 nats per character
python -m experiments char_lm --preset linux          C source of the Linux kernel, 90/5/5 by file
python -m experiments char_lm --preset hello          the alphabet h, e, l, o and the sequence "hello"

Numbers, minutes and devices are in README.md, from results/char_lm.jsonl. Controls that must do worse: --restart 1
(the state starts anew at every chunk), --layers 1 --features N of equal size, and the n-gram models named there.
"""

import dataclasses
import functools
import pathlib
from typing import Literal

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments import c_source, runs, training
from experiments.datasets import texts
from seqjax.data import Vocabulary, chunks, loader
from seqjax.decode import sample as draw

WINDOW = 256  # nanoGPT evaluates on windows of this many characters, each from an empty context


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    text: str = "stdlib"
    """stdlib, shakespeare, linux, hello, or the path of a UTF-8 file."""
    cell: Literal["LSTM", "GRU", "Elman", "MinGRU"] = "LSTM"
    layers: int = 2
    features: int = 256
    embedding: int = 64
    dropout: float = 0.0
    """Share dropped before the upper layers and before the head."""
    restart: float = 0.02
    """Share of chunks at which a stream starts anew, so that the model knows how a text begins; 1 never carries a state."""
    batch_size: int = 32
    chunk: int = 64
    """Characters per stream and step: gradients reach back this far."""
    steps: int = 2000
    learning_rate: float = 4e-3
    final_rate: float = 0.01
    """Share of the learning rate that is left at the end of the cosine schedule."""
    warmup: int = 50
    weight_decay: float = 0.01
    weight_drop: float = 0.0
    """Share of the recurrent weights that is dropped, one draw a chunk (Merity et al. 2018)."""
    noise: float = 0.0
    """Share of the characters read in training that are replaced by one from elsewhere in the batch (Xie et al. 2017)."""
    skip: bool = False
    """Whether layers read the embedding too, and the head reads all layers (Graves 2013)."""
    clip: float = 1.0
    average: float | None = 0.99
    """Decay of the moving average of the weights that is evaluated; None for none."""
    evaluations: int = 8
    patience: int | None = None
    """Stop after so many evaluations without a better one."""
    seed: int = 0

    def __post_init__(self):
        for name in ("layers", "features", "embedding", "batch_size", "chunk", "steps", "evaluations"):
            if getattr(self, name) < 1:
                raise ValueError(f"char_lm: {name} must be at least 1, got {getattr(self, name)}.")
        for name in ("restart", "noise", "final_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"char_lm: {name} is a share, from 0 to 1, got {getattr(self, name)}.")


SHAKESPEARE = Config(
    text="shakespeare",
    features=320,
    skip=True,
    noise=0.03,
    dropout=0.3,
    weight_drop=0.25,
    weight_decay=0.15,
    final_rate=0.1,
    average=0.9995,
    steps=9400,
    evaluations=10,
)

PRESETS = {
    "default": Config(steps=1400),
    # A chunk of five from a circle of five letters is the whole sequence, every time.
    "hello": Config(
        text="hello", features=32, embedding=8, layers=1, batch_size=1, chunk=5, steps=400, learning_rate=2e-2, restart=1.0
    ),
    "shakespeare": SHAKESPEARE,
    # The fewer characters are read, the less the model has to be kept from learning them by heart.
    "shakespeare_7_minutes": dataclasses.replace(
        SHAKESPEARE,
        noise=0.0,
        dropout=0.12,
        weight_drop=0.05,
        weight_decay=0.1,
        learning_rate=8e-3,
        final_rate=0.03,
        average=0.998,
        steps=2300,
        evaluations=4,
    ),
    "shakespeare_1_minute": dataclasses.replace(
        SHAKESPEARE,
        features=256,
        noise=0.0,
        dropout=0.05,
        weight_drop=0.0,
        weight_decay=0.05,
        learning_rate=3e-2,
        final_rate=0.02,
        average=0.99,
        steps=400,
        evaluations=1,
    ),
    "linux": Config(
        text="linux",
        features=320,
        skip=True,
        noise=0.01,
        dropout=0.1,
        weight_drop=0.1,
        weight_decay=0.1,
        restart=0.01,
        learning_rate=5e-3,
        final_rate=0.03,
        average=0.999,
        steps=8400,
        evaluations=4,
    ),
}


class CharLM(flax.nnx.Module):
    """Embedding, recurrent layers, and a linear head over the symbols."""

    def __init__(self, symbols, config, *, rngs):
        layer = getattr(sj, config.cell)(config.features)
        if config.weight_drop:
            layer = sj.WeightDrop(layer, config.weight_drop)
        stack = sj.Stack(*[layer] * config.layers, dropout=config.dropout, skip=config.skip)
        self.embed = flax.nnx.Embed(symbols, config.embedding, rngs=rngs)
        self.rnn = sj.nnx.RNN(stack, config.embedding, rngs=rngs)
        self.dropout = flax.nnx.Dropout(config.dropout)
        self.head = flax.nnx.Linear(config.features * (config.layers if config.skip else 1), symbols, rngs=rngs)

    def __call__(self, tokens, carry=None, *, key=None):
        """tokens int [B, T] -> (carry, logits [B, T, V]); key=None means evaluation."""
        keys = training.split(key, 2)
        xs = self.embed(tokens)
        carry, ys = self.rnn(xs, initial_carry=carry, deterministic=key is None, rngs=keys[0])
        return carry, self.head(self.dropout(ys, deterministic=key is None, rngs=keys[1]))


def replace(tokens, rate, key):
    """Tokens, each with probability ``rate`` another one of the batch instead: unigram noise."""
    if rate == 0:
        return tokens
    where, order = jax.random.split(key)
    others = jax.random.permutation(order, tokens.ravel()).reshape(tokens.shape)
    return jnp.where(jax.random.bernoulli(where, rate, tokens.shape), others, tokens)


class Task:
    """What a configuration means: the model as pure functions of its weights."""

    def __init__(self, config, vocabulary):
        self.config = config
        self.vocabulary = vocabulary
        self.model = training.Model(CharLM(len(vocabulary), config, rngs=flax.nnx.Rngs(config.seed)))
        self.weights = self.model.weights

    def initial_carry(self, batch_size):
        return self.model(self.weights).rnn.initialize_carry((batch_size,))

    def loss(self, weights, carry, batch, key):
        """Mean negative log-likelihood of a chunk, nats per character."""
        restart_key, noise_key, key = jax.random.split(key, 3)
        anew = jax.random.bernoulli(restart_key, self.config.restart, (len(batch["inputs"]),))
        carry = sj.masks.restart(anew, jax.tree.map(jnp.zeros_like, carry), carry)
        inputs = replace(batch["inputs"], self.config.noise, noise_key)
        carry, logits = self.model(weights)(inputs, carry, key=key)
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["targets"]).mean(), (carry, {})

    @functools.cached_property
    def _scores(self):
        """Sum of the negative log-likelihoods of a chunk, and the state after it."""

        def scores(weights, carry, inputs, targets, mask):
            carry, logits = self.model(weights)(inputs, carry)
            each = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
            return carry, jnp.sum(jnp.where(mask, each, 0.0))

        return jax.jit(scores)

    def evaluate(self, weights, text, *, streams):
        """Nats per character of a whole text, every character but the first predicted once, the state carried.

        With one stream each prediction has all that stands before it; with more, each stream starts from nothing.
        """
        weights = training.on_one_device(weights)
        carry, total = self.initial_carry(streams), 0.0
        codes = self.vocabulary.encode(text)
        for chunk in chunks(codes, batch_size=streams, steps=1024 if streams == 1 else 128):
            carry, score = self._scores(weights, carry, chunk["inputs"], chunk["targets"], chunk["mask"])
            total += float(score)
        return total / (len(codes) - 1)

    def evaluate_windows(self, weights, text):
        """Nats per character on independent windows of 256 that tile the text, nanoGPT's terms; None if it is too short."""
        codes = self.vocabulary.encode(text)
        count = (len(codes) - 1) // WINDOW
        if count == 0:
            return None
        inputs = codes[: count * WINDOW].reshape(count, WINDOW)
        targets = codes[1 : count * WINDOW + 1].reshape(count, WINDOW)
        weights = training.on_one_device(weights)
        total = 0.0
        for rows in np.array_split(np.arange(count), -(-count // 64)):
            carry, mask = self.initial_carry(len(rows)), np.ones((len(rows), WINDOW), bool)
            total += float(self._scores(weights, carry, inputs[rows], targets[rows], mask)[1])
        return total / (count * WINDOW)

    def optimizer(self):
        config = self.config
        schedule = optax.warmup_cosine_decay_schedule(
            0.0,
            config.learning_rate,
            min(config.warmup, config.steps // 2),
            config.steps,
            config.learning_rate * config.final_rate,
        )
        return optax.chain(
            optax.clip_by_global_norm(config.clip), optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay)
        )

    def state(self):
        """The state before the first step of training."""
        config = self.config
        carry, key = self.initial_carry(config.batch_size), jax.random.key(config.seed)
        return sj.train.create(self.weights, self.optimizer(), key, carry=carry, average=config.average is not None)

    @functools.cached_property
    def _draw(self):
        """``(weights, carry, token, key, settings) -> (carry, tokens)``, compiled once for each setting and length."""

        def run(weights, carry, token, key, length, temperature, top_k, top_p):
            def step(carry, token):
                carry, logits = self.model(weights)(token[:, None], carry)
                return carry, logits[:, 0]

            drawn = draw(step, carry, token, key, length=length, temperature=temperature, top_k=top_k, top_p=top_p)
            return drawn.carry, drawn.tokens

        return jax.jit(run, static_argnums=(4, 5, 6, 7))

    def write(self, weights, prompt, length, key, *, temperature=1.0, top_k=None, top_p=None, rows=1, piece=64):
        """Yields texts that continue the prompt, a list with a piece for each of ``rows`` continuations at a time."""
        if not prompt:
            raise ValueError("char_lm: the prompt is empty; give at least one character to go on from.")
        weights = training.on_one_device(weights)
        codes = np.tile(self.vocabulary.encode(prompt), (rows, 1))
        carry, token = self.initial_carry(rows), jnp.asarray(codes[:, -1])
        if codes.shape[1] > 1:
            mask = np.ones_like(codes[:, :-1], bool)
            carry, _ = self._scores(weights, carry, codes[:, :-1], codes[:, 1:], mask)
        for start in range(0, length, piece):
            key, own = jax.random.split(key)
            carry, tokens = self._draw(weights, carry, token, own, min(piece, length - start), temperature, top_k, top_p)
            token = tokens[-1]
            yield [self.vocabulary.decode(row) for row in np.asarray(tokens).T]


def prompt_of(vocabulary):
    """What a text is continued from when nobody says: a line break if there is one."""
    return "\n" if "\n" in vocabulary.symbols else vocabulary.symbols[0]


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    units = ("characters", config.batch_size * config.chunk)
    this = training.Run("char_lm", preset, config, units=units, record=record, quiet=quiet)
    text = texts.load(config.text)
    task = Task(config, Vocabulary.of(text.train + text.validation + text.test))
    directory = this.open(directory)
    runs.keep_json(directory / "text.json", text.origin)
    runs.keep_json(directory / "vocabulary.json", task.vocabulary.symbols)
    this.say(text.origin)
    parts = f"{len(text.train):,} to train on, {len(text.validation):,} held out, {len(task.vocabulary)} symbols"
    this.introduce(parts, task.weights)
    outcome = this.train(
        task,
        loader(task.vocabulary.encode(text.train), batch_size=config.batch_size, steps=config.chunk),
        lambda w: {"loss": task.evaluate(w, text.validation, streams=_streams(text.validation))},
        at={config.steps * part // 4: functools.partial(_write_sample, task, directory) for part in (1, 2, 3, 4)},
    )
    return outcome and _finish(this, task, text, outcome)


def _streams(text):
    """Streams of the evaluations on the way: as many as leave each some thousand characters."""
    return int(np.clip(len(text) // 2000, 1, 32))


def _write_sample(task, directory, state):
    """Samples at a stage of training, into the run directory."""
    step = int(state.step)
    pieces = task.write(state.weights, prompt_of(task.vocabulary), 500, jax.random.key(step), temperature=0.8)
    path = directory / "samples" / f"step_{step:06d}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(piece[0] for piece in pieces), encoding="utf-8")


def _finish(this, task, text, outcome):
    """The summary: the best weights on the whole held-out text; and a sample."""
    weights, config = training.best_weights(this.directory, outcome.state), task.config
    metrics = {"val_nats_per_char": task.evaluate(weights, text.validation, streams=1)}
    windows = task.evaluate_windows(weights, text.validation)
    if windows is not None:
        metrics["val_nats_per_char_windows_256"] = windows
    if text.test:
        metrics["test_nats_per_char"] = task.evaluate(weights, text.test, streams=1)
        sizes, each = [len(text.validation), len(text.test)], [metrics["val_nats_per_char"], metrics["test_nats_per_char"]]
        metrics["held_out_nats_per_char"] = float(np.average(each, weights=sizes))
    if config.text == "hello":
        metrics["hello_nll"] = metrics["val_nats_per_char"]
    if config.text == "linux":
        metrics |= c_source.balance(task, weights, jax.random.key(config.seed))
    pieces = task.write(weights, prompt_of(task.vocabulary), 300, jax.random.key(0), temperature=0.8)
    sample = "".join(piece[0] for piece in pieces)
    this.say(f"\nA sample at temperature 0.8 (more: python -m experiments sample {this.directory}):\n{sample.strip()}\n")
    summary = this.finish(outcome, metrics, unit="nats per character")
    loss = f"validation loss {metrics['val_nats_per_char']:.4f} nats per character"
    this.say(f"{loss}, {summary['minutes']:.1f} minutes; {this.directory}")
    return summary


def restore(directory):
    """The task and the best weights of a run."""
    stored = runs.read_json(pathlib.Path(directory) / "config.json")
    config = Config(**stored["config"])
    task = Task(config, Vocabulary(runs.read_json(pathlib.Path(directory) / "vocabulary.json")))
    return task, training.best_weights(directory, task.state())
