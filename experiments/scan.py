"""SCAN (Lake, Baroni 2018): commands such as "jump twice and walk around left" are carried out, action by action.

python -m experiments scan                        the language, generated; every fifth command is asked for
python -m experiments scan --preset simple        the published split of that kind
python -m experiments scan --preset length        training up to 22 actions, test from 24 to 48
python -m experiments scan --preset jump          "jump" is learnt alone and asked for in every command

An answer counts where every action of it is right. The paper's best networks have 99.8 % on simple, 13.8 % on length (20.8 %
its best single one) and 1.2 % on jump: that networks fail there is what it shows. Numbers are in README.md.
"""

import dataclasses
from typing import Literal

import numpy as np

from experiments import encoder_decoder, plots, training
from experiments.datasets import scan
from experiments.encoder_decoder import Task
from seqjax import metrics
from seqjax.data import Subwords


@dataclasses.dataclass(frozen=True)
class Config(encoder_decoder.Config):
    """Everything a run depends on."""

    split: Literal["generated", "simple", "length", "jump"] = "generated"
    shapes: int = 4
    beam: int = 1


SIMPLE = Config(split="simple", order="feed", dropout=0.1, steps=5500, average=0.998, final_rate=0.02, evaluations=11)

PRESETS = {
    "default": Config(),
    "simple": SIMPLE,
    "length": dataclasses.replace(SIMPLE, split="length"),
    "jump": dataclasses.replace(SIMPLE, split="jump"),
}


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    units = ("commands", config.batch_size)
    this = training.Run("scan", preset, config, units=units, record=record, quiet=quiet)
    corpus = scan.load(config.split)
    # Words are few and each is a symbol: byte pairs are joined until they are whole.
    task = Task(config, [Subwords.of(lines, 1000, punctuation=False) for lines in corpus.train])
    data = task.batches(corpus.train)
    encoder_decoder.keep(this.open(directory), task.vocabularies)
    sizes = f"{len(corpus.train.sources):,} commands to train on, {len(corpus.test.sources):,} to be asked for"
    this.introduce(f"{corpus.origin}; {sizes}", task.weights)
    outcome = this.train(task, data, lambda weights: task.evaluate(weights, corpus.validation))
    return outcome and _finish(this, task, corpus, outcome)


def _finish(this, task, corpus, outcome):
    """The summary: exact answers to the commands of the test, in all and by the number of actions they take."""
    weights, test = training.best_weights(this.directory, outcome.state), corpus.test
    answers = task.answers(weights, test.sources)
    found = {f"exact_{task.config.split}": metrics.exact_match(answers, test.targets)}
    lengths = np.array([len(target.split()) for target in test.targets])
    right = np.array([answer == target for answer, target in zip(answers, test.targets, strict=True)])
    by_length = {str(length): float(right[lengths == length].mean()) for length in np.unique(lengths)}
    wrong = np.flatnonzero(~right)[:20]
    mistakes = [{"command": test.sources[i], "expected": test.targets[i], "answer": answers[i]} for i in wrong]
    if task.config.score != "none":
        _draw(this.directory / "alignments.png", task, weights, test)
    found = encoder_decoder.named(found, task.config)
    summary = this.finish(outcome, found, unit="nats per action", exact_by_actions=by_length, mistakes=mistakes)
    this.say(f"{summary['minutes']:.1f} minutes; {this.directory}")
    return summary


def _draw(path, task, weights, lines, count=3):
    """Pictures of what some commands of middle length are read for."""
    chosen = [i for i, target in enumerate(lines.targets) if 8 <= len(target.split()) <= 16][:count]
    some = type(lines)([lines.sources[i] for i in chosen], [lines.targets[i] for i in chosen])
    if not chosen:
        return
    read = task.alignments(weights, some)
    words = [(source.split(), [*target.split(), "<stop>"]) for source, target in zip(*some, strict=True)]
    plots.alignments(path, [(*pair, each) for pair, each in zip(words, read, strict=True)])


def restore(directory):
    """The task and the best weights of a run."""
    return encoder_decoder.restore(directory, Config)
