"""What translation and SCAN share: an encoder, a decoder that reads its memory, and what is asked of the two."""

import dataclasses
import json
import pathlib
from typing import Any, Literal

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments import runs, training
from seqjax.data import Subwords, each_pair, pairs, shapes_for
from seqjax.decode import beam_search, greedy
from seqjax.losses import sequence_cross_entropy

SIDES = ("source", "target")
SCORES = {
    "additive": lambda width: sj.attention.Additive(width),
    "bilinear": lambda width: sj.attention.Bilinear(scaled=True),
    # Between the two scales: products of bounded states over the root of their width are too alike for the softmax to choose
    # from, and without it they change by several nats in a step of Adam.
    "dot": lambda width: sj.attention.Dot(temperature=4.0),
    "scaled_dot": lambda width: sj.attention.ScaledDot(temperature=0.25),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run of an encoder-decoder depends on, but its data."""

    score: Literal["additive", "bilinear", "dot", "scaled_dot", "none"] = "additive"
    """none: the decoder starts from the final state of the encoder, and sees nothing else of the source."""
    order: Literal["after", "feed", "before"] = "after"
    """after: the memory is read after the step; feed: what was read is also fed to the next step (Luong); before: it is read
    before the step (Bahdanau). With after all steps read at once, which is the fastest."""
    cell: Literal["LSTM", "GRU"] = "LSTM"
    layers: int = 1
    """Of the encoder, and of the decoder."""
    embedding: int = 128
    features: int = 128
    """Width of the decoder, and of both directions of the encoder together."""
    dropout: float = 0.0
    word_dropout: float = 0.0
    """Share of the symbols of a batch whose embeddings are dropped as a whole."""
    label_smoothing: float = 0.0
    batch_size: int = 64
    shapes: int = 3
    """How many shapes batches may have; each is a program that is compiled."""
    longest: int = 64
    """Symbols of the longest source, and of the longest answer."""
    steps: int = 1500
    learning_rate: float = 4e-3
    warmup: int = 100
    final_rate: float = 0.05
    """Share of the learning rate that is left at the end of the cosine schedule."""
    weight_decay: float = 0.0
    clip: float = 1.0
    average: float | None = 0.99
    """Decay of the moving average of the weights that is evaluated; None for none."""
    evaluations: int = 5
    beam: int = 5
    """How many hypotheses are kept at each step of the search for an answer; 1 takes the likeliest symbol."""
    length_penalty: float = 1.0
    """How much longer hypotheses are favoured (Wu et al. 2016)."""
    patience: int | None = None
    seed: int = 0

    def __post_init__(self):
        name = type(self).__module__.split(".")[-1]
        for field in ("layers", "embedding", "batch_size", "shapes", "longest", "steps", "evaluations", "beam"):
            if getattr(self, field) < 1:
                raise ValueError(f"{name}: {field} must be at least 1, got {getattr(self, field)}.")
        if self.features < 2 or self.features % 2:
            raise ValueError(f"{name}: features must be even, half of them are for each direction; got {self.features}.")
        for field in ("dropout", "word_dropout", "label_smoothing"):
            if not 0 <= getattr(self, field) < 1:
                raise ValueError(f"{name}: {field} is a share, at least 0 and below 1, got {getattr(self, field)}.")


def named(found, config):
    """Metrics by the names under which they are recorded: those of the control say that it is one."""
    return {f"{name}_no_attention": value for name, value in found.items()} if config.score == "none" else found


class EncoderDecoder(flax.nnx.Module):
    """Both directions of the source, a decoder that starts from their final states, and the words it can say.

    The embeddings of the target are also the weights of its logits (Press, Wolf 2017).
    """

    def __init__(self, symbols, config, *, rngs):
        E, H = config.embedding, config.features
        cell, half = (getattr(sj, config.cell)(width) for width in (H, H // 2))
        encoder = [sj.Bidirectional(half, half)] * config.layers
        decoder: list[Any] = [cell] * config.layers
        if config.score != "none":
            order = {} if config.order == "after" else {config.order: True}
            decoder[-1] = sj.attention.Attend(cell, SCORES[config.score](H), memory_features=H, features=E, **order)
        self.project = flax.nnx.Linear(H, E, rngs=rngs) if config.score == "none" else None
        normal = flax.nnx.initializers.normal(E**-0.5)
        self.source = flax.nnx.Embed(symbols[0], E, embedding_init=normal, rngs=rngs)
        self.target = flax.nnx.Embed(symbols[1], E, embedding_init=normal, rngs=rngs)
        self.bias = flax.nnx.Param(jnp.zeros(symbols[1]))
        self.encoder = sj.nnx.RNN(sj.Stack(*encoder, dropout=config.dropout), E, rngs=rngs)
        self.decoder = sj.nnx.RNN(sj.Stack(*decoder, dropout=config.dropout), E, rngs=rngs)
        self.dropout = flax.nnx.Dropout(config.dropout)
        self.word_dropout = flax.nnx.Dropout(config.word_dropout, broadcast_dims=(-1,))

    def encode(self, source, mask, *, key=None):
        """source int [B, S], mask bool [B, S] -> the carry that the decoder starts from."""
        keys = training.split(key, 3)
        xs = self._embed(self.source, source, keys[0])
        finals, memory = self.encoder(xs, mask=mask, deterministic=key is None, rngs=keys[1])
        states = [jax.tree.map(lambda *sides: jnp.concatenate(sides, -1), *final) for final in finals]
        if self.project is None:
            memory = self._drop(memory, keys[2])
            top = self.decoder.recurrence.layers[-1]
            states[-1] = top.start(self._top(), memory, mask, states[-1])
        return tuple(states)

    def decode(self, carry, tokens, *, mask=None, key=None):
        """tokens int [B, T] -> (carry, logits [B, T, V])."""
        keys = training.split(key, 3)
        xs = self._embed(self.target, tokens, keys[0])
        carry, ys = self.decoder(xs, initial_carry=carry, mask=mask, deterministic=key is None, rngs=keys[1])
        if self.project is not None:
            ys = jnp.tanh(self.project(ys))
        return carry, self.target.attend(self._drop(ys, keys[2])) + self.bias[...]

    def weights(self, carry, tokens):
        """With which weights the decoder reads while it says tokens [B, T]: [B, T, S]."""
        recurrence, params = self.decoder.recurrence, self.decoder.values()
        ys = jnp.moveaxis(self._embed(self.target, tokens, None), 1, 0)
        for i, layer in enumerate(recurrence.layers[:-1]):
            _, ys = layer.apply(params[str(i)], carry[i], ys)
        return jnp.moveaxis(recurrence.layers[-1].weights(self._top(), carry[-1], ys), 0, 1)

    def _embed(self, embedding, tokens, key):
        keys = training.split(key, 2)
        xs = embedding(tokens) * embedding.features**0.5
        xs = self.word_dropout(xs, deterministic=key is None, rngs=keys[0])
        return self._drop(xs, keys[1])

    def _drop(self, xs, key):
        return self.dropout(xs, deterministic=key is None, rngs=key)

    def _top(self):
        return self.decoder.values()[str(len(self.decoder.recurrence.layers) - 1)]


class Task:
    """What a configuration means: the model as pure functions of its weights, and what is asked of it."""

    def __init__(self, config, vocabularies):
        self.config, self.vocabularies = config, vocabularies
        symbols = [len(vocabulary) for vocabulary in vocabularies]
        self.model = training.Model(EncoderDecoder(symbols, config, rngs=flax.nnx.Rngs(config.seed)))
        self.weights = self.model.weights
        self._nats = jax.jit(self._nats_of)
        self._search = jax.jit(self._search_for, static_argnames="width")
        self._read = jax.jit(self._read_for)

    def batches(self, lines):
        """An endless Grain data set of batches of a corpus' part."""
        sources, targets = self._codes(lines)
        return pairs(sources, targets, **self._shape(sources, targets, self.config.shapes), seed=self.config.seed)

    def loss(self, weights, carry, batch, key):
        """Mean cross-entropy of the symbols of the targets, and of their stops."""
        logits = self._logits(weights, batch, key)
        smoothing = self.config.label_smoothing
        nats = sequence_cross_entropy(logits, batch["targets"], mask=batch["mask"], label_smoothing=smoothing)
        return nats, (carry, {"weight": batch["mask"].sum()})

    def evaluate(self, weights, lines):
        """Mean negative log-likelihood of the symbols of a part, in nats."""
        weights, total, count = training.on_one_device(weights), 0.0, 0
        sources, targets = self._codes(lines)
        for _, batch in each_pair(sources, targets, **self._shape(sources, targets)):
            total += float(self._nats(weights, batch))
            count += int(batch["mask"].sum())
        return {"loss": total / count}

    def answers(self, weights, sources, *, width=None):
        """What the model says to texts: a list of texts."""
        weights, found = training.on_one_device(weights), [""] * len(sources)
        codes = [self.vocabularies[0].encode(source) for source in sources]
        self._check_lengths(codes, codes)
        nothing = [np.zeros(0, np.int32)] * len(codes)
        for places, batch in each_pair(codes, nothing, **self._shape(codes, nothing)):
            tokens = self._search(weights, batch["source"], batch["source_mask"], width=width or self.config.beam)
            for place, row in zip(places, np.asarray(tokens), strict=False):
                found[place] = self.vocabularies[1].decode(row)
        return found

    def alignments(self, weights, lines):
        """For each pair the weights with which it was read: [targets and stop, sources]."""
        weights, found = training.on_one_device(weights), [np.zeros(())] * len(lines.sources)
        sources, targets = self._codes(lines)
        for places, batch in each_pair(sources, targets, **self._shape(sources, targets)):
            read = np.asarray(self._read(weights, batch))
            for place, row in zip(places, read, strict=False):
                found[place] = row[: len(targets[place]) + 1, : len(sources[place])]
        return found

    def optimizer(self):
        """AdamW with a cosine schedule."""
        config = self.config
        warmup = min(config.warmup, config.steps // 2)
        rates = (0.0, config.learning_rate, warmup, config.steps, config.final_rate * config.learning_rate)
        schedule = optax.warmup_cosine_decay_schedule(*rates)
        adam = optax.adamw(schedule, b2=0.98, weight_decay=config.weight_decay)
        return optax.chain(optax.clip_by_global_norm(config.clip), adam)

    def state(self):
        """The state before the first step of training."""
        average = self.config.average is not None
        return sj.train.create(self.weights, self.optimizer(), jax.random.key(self.config.seed), carry=(), average=average)

    def _logits(self, weights, batch, key=None):
        """[B, T, V], each symbol predicted from those of the target before it."""
        model, keys = self.model(weights), training.split(key, 2)
        carry = model.encode(batch["source"], batch["source_mask"], key=keys[0])
        return model.decode(carry, batch["inputs"], mask=batch["mask"], key=keys[1])[1]

    def _nats_of(self, weights, batch):
        logits = self._logits(weights, batch)
        return sequence_cross_entropy(logits, batch["targets"], mask=batch["mask"], reduce=None).sum()

    def _search_for(self, weights, source, mask, *, width):
        model, target = self.model(weights), self.vocabularies[1]

        def step(carry, token):
            carry, logits = model.decode(carry, token[:, None])
            return carry, logits[:, 0]

        carry, start = model.encode(source, mask), jnp.full(len(source), target.start)
        settings = {"length": self.config.longest, "stop": target.stop}
        if width == 1:
            return greedy(step, carry, start, **settings).tokens.T
        penalty = self.config.length_penalty
        return beam_search(step, carry, start, width=width, length_penalty=penalty, **settings).tokens[0].T

    def _read_for(self, weights, batch):
        model = self.model(weights)
        return model.weights(model.encode(batch["source"], batch["source_mask"]), batch["inputs"])

    def _codes(self, lines):
        sources, targets = ([v.encode(text) for text in side] for v, side in zip(self.vocabularies, lines, strict=True))
        self._check_lengths(sources, targets)
        return sources, targets

    def _check_lengths(self, sources, targets):
        limit = self.config.longest
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
            if max(len(source), len(target)) > limit:
                raise ValueError(
                    f"line {number} has {len(source)} source and {len(target)} target symbols, the limit is {limit}; "
                    "leave it out, or set --longest."
                )

    def _shape(self, sources, targets, count=2):
        """How pairs are made into batches; where they are few, to compile for more shapes takes longer than padding."""
        shapes = shapes_for(sources, targets, count)
        return {"shapes": shapes, "batch_size": self.config.batch_size, "start": Subwords.start, "stop": Subwords.stop}


def keep(directory, vocabularies):
    """Writes the symbols into a run directory, or makes sure that those which are there are the same."""
    for side, vocabulary in zip(SIDES, vocabularies, strict=True):
        runs.keep_json(directory / f"{side}_subwords.json", json.loads(vocabulary.json))


def restore(directory, config):
    """The task of a run and its best weights; ``config`` makes a configuration of what the run directory holds."""
    directory = pathlib.Path(directory)
    found = config(**runs.read_json(directory / "config.json")["config"])
    vocabularies = [Subwords(json.dumps(runs.read_json(directory / f"{side}_subwords.json"))) for side in SIDES]
    task = Task(found, vocabularies)
    return task, training.best_weights(directory, task.state())
