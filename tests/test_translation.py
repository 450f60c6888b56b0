"""Encoder-decoders and the experiment of translation: what they read, what they answer, and what a run leaves."""

import dataclasses
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import encoder_decoder, runs, translation
from experiments.datasets.corpus import Lines
from seqjax.data import Subwords, each_pair
from tests.commands import command

SMALL = translation.Config(features=12, embedding=10, batch_size=8, shapes=2, longest=20, steps=3, evaluations=1, beam=2)


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam is not written for the strict one
        yield


def lines(count, seed, longest=6):
    """Letters and the same in capitals, in reverse."""
    draw = random.Random(seed)
    sources = [" ".join(draw.choices("abcde", k=draw.randrange(1, longest + 1))) for _ in range(count)]
    return Lines(sources, [source[::-1].upper() for source in sources])


def task_of(config, seed=0):
    """A task whose weights, biases among them, are drawn at random."""
    task = encoder_decoder.Task(config, [Subwords.of(side, 40) for side in lines(50, seed)])
    rng = np.random.default_rng(seed)
    return task, jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(0, 0.3, leaf.shape).astype(np.float32), task.weights
    )


ORDERS = [
    {"score": "none", "layers": 2},
    {"score": "dot", "order": "feed", "cell": "GRU"},
    {"score": "additive", "order": "before"},
]


@pytest.mark.parametrize("settings", [{"score": "none"}, {"score": "additive"}], ids=str)
def test_padding_changes_no_prediction(settings):
    task, weights = task_of(dataclasses.replace(SMALL, **settings))
    some = lines(5, 3)
    codes = task._codes(some)
    each = []
    for shape in ((7, 8), (11, 13)):
        settings = {"shapes": [shape], "batch_size": 6, "start": Subwords.start, "stop": Subwords.stop}
        ((places, batch),) = each_pair(*codes, **settings)
        logits = jax.jit(task._logits)(weights, batch | {"source": np.where(batch["source_mask"], batch["source"], 3)})
        each.append([np.asarray(logits[row])[batch["mask"][row]] for row in range(len(places))])
    for one, other in zip(*each, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", ORDERS, ids=str)
def test_decoding_step_by_step_is_decoding_at_once(settings):
    task, weights = task_of(dataclasses.replace(SMALL, **settings))
    rng = np.random.default_rng(0)
    source, tokens = jnp.asarray(rng.integers(4, 9, (3, 5))), jnp.asarray(rng.integers(4, 9, (3, 4)))
    encode, decode = (
        jax.jit(lambda w, *inputs, name=name: getattr(task.model(w), name)(*inputs)) for name in ("encode", "decode")
    )
    carry = encode(weights, source, jnp.asarray(rng.random((3, 5)) < 0.8))
    _, expected = decode(weights, carry, tokens)
    for t in range(tokens.shape[1]):
        carry, logits = decode(weights, carry, tokens[:, t : t + 1])
        np.testing.assert_allclose(logits[:, 0], expected[:, t], rtol=1e-4, atol=1e-5)


def test_alignments_are_shares_of_the_source():
    task, weights = task_of(dataclasses.replace(SMALL, shapes=1, layers=2))
    some = lines(9, 5)
    for source, target, read in zip(*some, task.alignments(weights, some), strict=True):
        assert read.shape == (len(target.split()) + 1, len(source.split()))
        assert (read >= 0).all()
        np.testing.assert_allclose(read.sum(1), 1, rtol=1e-5)


def test_without_attention_the_source_reaches_the_decoder_through_one_state():
    task, weights = task_of(dataclasses.replace(SMALL, score="none"))
    model = task.model(weights)
    carry = model.encode(jnp.array([[4, 5, 6], [4, 5, 7]]), jnp.ones((2, 3), bool))
    assert jax.tree.leaves(jax.tree.map(jnp.shape, carry)) == [2, 12, 2, 12]  # c and h
    assert not np.allclose(carry[0].h[0], carry[0].h[1])


def test_loss_is_the_cross_entropy_of_targets_and_stops():
    task, weights = task_of(dataclasses.replace(SMALL, shapes=1))
    some = lines(7, 2)
    expected, count = 0.0, 0
    settings = {"shapes": [(6, 7)], "batch_size": 7, "start": Subwords.start, "stop": Subwords.stop}
    ((places, batch),) = each_pair(*task._codes(some), **settings)
    logits = np.asarray(jax.jit(task._logits)(weights, batch), np.float64)
    for place, row in zip(places, logits, strict=True):
        target = [*task.vocabularies[1].encode(some.targets[place]), Subwords.stop]
        nats = np.log(np.exp(row).sum(-1)) - row[range(len(row)), [*target, *[0] * (len(row) - len(target))]]
        expected, count = expected + nats[: len(target)].sum(), count + len(target)
    np.testing.assert_allclose(task.evaluate(weights, some)["loss"], expected / count, rtol=1e-5)


def test_dropout_is_drawn_in_training_and_not_in_evaluation():
    task, weights = task_of(dataclasses.replace(SMALL, dropout=0.3, word_dropout=0.2, shapes=1))
    batch = next(iter(task.batches(lines(9, 1))))
    loss = jax.jit(lambda key: task.loss(weights, (), batch, key)[0])
    assert loss(jax.random.key(0)) != loss(jax.random.key(1))
    assert loss(jax.random.key(0)) == loss(jax.random.key(0))


def test_sources_and_answers_beyond_the_limit_are_refused_with_their_line():
    task, weights = task_of(dataclasses.replace(SMALL, longest=4))
    long = Lines(["a b", "a b c d e"], ["B A", "E D C B A"])
    for ask in (task.batches, lambda some: task.evaluate(weights, some), lambda some: task.answers(weights, some.sources)):
        with pytest.raises(ValueError, match="line 2 has 5 source and 5 target symbols, the limit is 4"):
            ask(long)


@pytest.mark.parametrize(("settings", "message"), [
    ({"features": 7}, "translation: features must be even"),
    ({"beam": 0}, "translation: beam must be at least 1, got 0"),
    ({"dropout": 1.0}, "translation: dropout is a share"),
])  # fmt: skip
def test_settings_that_make_no_model_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **settings)


def test_alignment_error_counts_letters_that_read_another_place():
    right = np.eye(4)[::-1] * 0.6 + 0.1
    stop = np.full((1, 4), 0.25)
    wrong = right.copy()
    wrong[[0, 2]] = wrong[[2, 0]]
    assert translation.alignment_error([np.vstack([right, stop])]) == 0
    assert translation.alignment_error([np.vstack([right, stop]), np.vstack([wrong, stop])]) == 2 / 8


def test_quarters_of_lengths_are_about_equally_many():
    lengths = np.random.default_rng(0).integers(3, 40, 1000)
    bounds = translation._quarters(lengths)
    counts = [((lengths > low) & (lengths <= high)).sum() for low, high in bounds]
    assert sum(counts) == 1000 and len(counts) == 4 and min(counts) > 180


def test_gallery_shows_the_best_and_the_worst(tmp_path):
    expected = [f"the {word} cat" for word in "one two three four five six".split()]  # noqa: SIM905
    answers = [*expected[:5], "zzz"]
    translation.write_gallery(tmp_path / "gallery.md", Lines(list("uvwxyz"), expected), answers, count=2)
    best, worst = (tmp_path / "gallery.md").read_text().split("## Worst")
    assert "zzz" not in best and "answer: zzz\n  - chrF 0.0" in worst
    assert "- source: z\n  - expected: the six cat" in worst


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on a file of pairs, from the command line to its end."""
    directory = tmp_path_factory.mktemp("translation")
    path, run = directory / "pairs.tsv", directory / "run"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in sorted(set(zip(*lines(400, 8, longest=8), strict=True)))))
    settings = {
        "corpus": path,
        "steps": 60,
        "evaluations": 2,
        "features": 16,
        "embedding": 12,
        "batch-size": 16,
        "shapes": 1,
    }
    settings |= {"source-symbols": 40, "target-symbols": 40, "longest": 10, "learning-rate": 0.02, "beam": 2}
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(runs, "RESULTS", directory / "results")
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        status, _, err = command("translation", *arguments, "--run", run, "--record")
        assert status == 0, err
    return run, directory / "results", json.loads((run / "summary.json").read_text()), path


def test_a_run_leaves_all_that_is_needed(finished):
    run, results, summary, _ = finished
    names = {path.name for path in run.iterdir() if not path.name.startswith("events")}
    assert names == {
        "alignments.png", "bleu_by_length.png", "checkpoints", "config.json", "gallery.md", "log.jsonl", "loss.png",
        "source_subwords.json", "summary.json", "target_subwords.json",
    }  # fmt: skip
    assert set(summary["metrics"]) == {"bleu", "chrf"} and "tok:13a" in summary["bleu_signature"]
    (line,) = (results / "translation.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == summary["metrics"]
    assert (run / "alignments.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    losses = [json.loads(text)["loss"] for text in (run / "log.jsonl").read_text().splitlines() if '"evaluation"' in text]
    assert losses[-1] < 2.0  # nats; five letters and the stop at random have at least 1.8


def test_the_best_weights_of_a_run_give_its_answers_again(finished):
    run, _, summary, path = finished
    task, weights = translation.restore(run)
    corpus = translation.parallel.load(str(path))
    answers = task.answers(weights, corpus.test.sources)
    assert translation._bleu(corpus, answers, corpus.test.targets).value == pytest.approx(summary["metrics"]["bleu"])
    status, out, err = command("answer", run, *corpus.test.sources)
    assert status == 0, err
    assert out.splitlines() == answers


def test_the_control_has_metrics_of_its_own():
    found = {"bleu": 30.0, "chrf": 50.0}
    assert encoder_decoder.named(found, SMALL) == found
    control = encoder_decoder.named(found, dataclasses.replace(SMALL, score="none"))
    assert control == {"bleu_no_attention": 30.0, "chrf_no_attention": 50.0}
