"""Translation: an encoder, a decoder that reads what it remembers, and the same decoder without that.

python -m experiments translation                         dates and numbers, from words to digits; generated
python -m experiments translation --preset reversal       letters in reverse, where it is known what must be read
python -m experiments translation --preset multi30k       German to English, captions of pictures, the test set of 2016
python -m experiments translation --preset multi30k_en_de English to German
python -m experiments translation --preset tatoeba        Mandarin to English, a tenth of the sentences held out

The scores of Bahdanau et al. (2015) and Luong et al. (2015) are --score; the control is --score none, whose decoder has the
final state of the encoder and no more. BLEU and chrF are sacrebleu's, their signatures are in summary.json. Multi30k is in
lower case, normalized and tokenized, and BLEU is computed on that. Numbers are in README.md. A run translates what it is
given: python -m experiments answer RUN "text".
"""

import dataclasses
import itertools

import numpy as np

from experiments import encoder_decoder, plots, training
from experiments.datasets import parallel, wording
from experiments.encoder_decoder import Task
from seqjax import metrics
from seqjax.data import Subwords


@dataclasses.dataclass(frozen=True)
class Config(encoder_decoder.Config):
    """Everything a run depends on."""

    corpus: str = "wording"
    """wording, reversal, multi30k_de_en, tatoeba_zh_en, other directions of these two, or the path of a UTF-8 file with a
    source, a tab and its target on each line."""
    source_symbols: int = 256
    """Subwords of the sources at most; all their characters, where these are more."""
    target_symbols: int = 1
    rare: int = 0
    """Characters that training has no more often are unknown."""


MULTI30K = Config(
    corpus="multi30k_de_en",
    source_symbols=2500,
    target_symbols=2500,
    embedding=192,
    features=288,
    dropout=0.25,
    word_dropout=0.1,
    label_smoothing=0.1,
    shapes=4,
    steps=3000,
    learning_rate=4e-3,
    warmup=300,
    average=0.998,
    evaluations=10,
)

PRESETS = {
    "default": Config(),
    "reversal": Config(corpus="reversal", source_symbols=64, target_symbols=64),
    "multi30k": MULTI30K,
    "multi30k_en_de": dataclasses.replace(MULTI30K, corpus="multi30k_en_de"),
    "tatoeba": dataclasses.replace(MULTI30K, corpus="tatoeba_zh_en", rare=1, dropout=0.2, steps=7000, length_penalty=1.3),
}


def subwords(corpus, config):
    """The symbols of the sources and those of the targets, learnt from the training part."""
    found = []
    for lines, size, spaces in zip(corpus.train, (config.source_symbols, config.target_symbols), corpus.spaces, strict=True):
        punctuation = corpus.tokenize != "none"  # where it is not apart already
        found.append(Subwords.of(lines, size, spaces=spaces, punctuation=punctuation, rare=config.rare))
    return found


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    units = ("sentences", config.batch_size)
    this = training.Run("translation", preset, config, units=units, record=record, quiet=quiet)
    corpus = parallel.load(config.corpus)
    task = Task(config, subwords(corpus, config))
    data = task.batches(corpus.train)
    directory = this.open(directory)
    encoder_decoder.keep(directory, task.vocabularies)
    counts = [f"{len(part.sources):,}" for part in corpus[:3]]
    sizes = f"{counts[0]} pairs to train on, {counts[1]} held out, {counts[2]} for the test"
    this.introduce(f"{corpus.origin}; {sizes}", task.weights)
    outcome = this.train(task, data, lambda weights: task.evaluate(weights, corpus.validation))
    return outcome and _finish(this, task, corpus, outcome)


def _finish(this, task, corpus, outcome):
    """The summary: scores of the answers to the test part, and what they look like."""
    config, weights, test = task.config, training.best_weights(this.directory, outcome.state), corpus.test
    answers = task.answers(weights, test.sources)
    more = {"origin": corpus.origin}
    if config.corpus in wording.GENERATED:
        found = {"exact": metrics.exact_match(answers, test.targets)}
    else:
        found, details = _scores(task, corpus, answers)
        more |= details | {
            "bleu_without_search": _bleu(corpus, task.answers(weights, test.sources, width=1), test.targets).value
        }
        plots.scores_by_length(this.directory / "bleu_by_length.png", details["bleu_by_length"], unit="BLEU")
    write_gallery(this.directory / "gallery.md", test, answers)
    if config.score != "none":
        if config.corpus == "reversal":
            found["alignment_error"] = alignment_error(task.alignments(weights, test))
        _draw(this.directory / "alignments.png", task, weights, test, answers)
    summary = this.finish(outcome, encoder_decoder.named(found, config), unit="nats per symbol", **more)
    this.say(f"{summary['minutes']:.1f} minutes; {this.directory}")
    return summary


def _scores(task, corpus, answers):
    """BLEU and chrF of all answers; their signatures, and BLEU by quarters of the lengths of the sources."""
    targets = corpus.test.targets
    bleu, chrf = _bleu(corpus, answers, targets), metrics.chrf(answers, targets)
    lengths = np.array([len(task.vocabularies[0].encode(source)) for source in corpus.test.sources])
    by_length = {}
    for low, high in _quarters(lengths):
        rows = np.flatnonzero((lengths > low) & (lengths <= high))  # each bound is a length that occurs, so there are some
        by_length[f"{low + 1}-{high}"] = _bleu(corpus, [answers[i] for i in rows], [targets[i] for i in rows]).value
    details = {"bleu_by_length": by_length, "bleu_signature": bleu.signature, "chrf_signature": chrf.signature}
    return {"bleu": bleu.value, "chrf": chrf.value}, details


def _quarters(lengths):
    """Bounds of four classes of lengths that are about equally many: (above, up to)."""
    bounds = np.unique([0, *np.quantile(lengths, (0.25, 0.5, 0.75, 1.0), method="lower")]).tolist()
    return list(itertools.pairwise(bounds))


def _bleu(corpus, answers, targets):
    return metrics.bleu(answers, targets, tokenize=corpus.tokenize)


def write_gallery(path, lines, answers, count=12):
    """The answers that are most and least like what was expected, and those between, as a text to read."""
    each = [metrics.chrf([answer], [target]).value for answer, target in zip(answers, lines.targets, strict=True)]
    order = np.argsort(each, kind="stable")[::-1]
    middle = len(order) // 2 - count // 2
    parts = {"Best": order[:count], "Middle": order[middle : middle + count], "Worst": order[-count:]}
    text = []
    for name, rows in parts.items():
        text.append(f"## {name}\n")
        for i in rows:
            text.append(f"- source: {lines.sources[i]}\n  - expected: {lines.targets[i]}\n  - answer: {answers[i]}")
            text.append(f"  - chrF {each[i]:.1f}\n")
    path.write_text("\n".join(text), encoding="utf-8")


def alignment_error(read):
    """Share of the letters that were said while another one than their own had the largest weight, stops aside."""
    found = [[(t, int(row.argmax())) for t, row in enumerate(weights[:-1])] for weights in read]
    known = [[(t, weights.shape[1] - 1 - t) for t in range(len(weights) - 1)] for weights in read]
    return metrics.alignment_error_rate(found, known)


def _draw(path, task, weights, lines, answers, count=6):
    """Pictures of what some answers, not those that were expected, have read."""
    chosen = [i for i in range(len(answers)) if 5 <= len(task.vocabularies[1].encode(answers[i])) <= 20][:count]
    some = type(lines)([lines.sources[i] for i in chosen], [answers[i] for i in chosen])
    if not chosen:
        return
    read = []
    for source, answer, each in zip(*some, task.alignments(weights, some), strict=True):
        symbols = [
            [v.symbol(c) for c in v.encode(text)] for v, text in zip(task.vocabularies, (source, answer), strict=True)
        ]
        read.append((symbols[0], [*symbols[1], "<stop>"], each))
    plots.alignments(path, read)


def restore(directory):
    """The task and the best weights of a run."""
    return encoder_decoder.restore(directory, Config)
