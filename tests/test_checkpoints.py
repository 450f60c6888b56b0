"""Checkpoints: what comes back is what was saved, or nothing comes back and the one before is taken."""

import pathlib
import random
import shutil
import traceback
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax.train import Checkpoints, CorruptCheckpointError

FINGERPRINT = {"features": 3, "cells": ["LSTM"], "rate": 0.1}


class State(NamedTuple):
    params: Any
    carry: Any
    key: Any


def tree(seed=0):
    rng = np.random.default_rng(seed)
    params = {
        "kernel": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32),
        "low": jnp.asarray(rng.normal(size=3), jnp.bfloat16),
        "count": jnp.asarray(rng.integers(0, 100), jnp.int32),
    }
    return State(params, (jnp.asarray(rng.normal(size=(4, 2)), jnp.float32), ()), jax.random.key(seed))


def about(step):
    return {"step": step, "data": {"next_index": 10 * step}, "best": float("inf"), "name": "κ"}


def contents(state):
    """All that a tree holds, bit for bit."""

    def words(x):
        x = np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        return x.dtype.name, x.shape, x.tobytes()

    return [(jax.tree_util.keystr(path), words(x)) for path, x in jax.tree_util.tree_leaves_with_path(state)]


def files(directory):
    return sorted(path.relative_to(directory) for path in pathlib.Path(directory).rglob("*") if path.is_file())


@pytest.fixture
def opened():
    """Opens checkpoints and closes them in the end."""
    made = []

    def open_them(directory, fingerprint=FINGERPRINT, **settings):
        made.append(Checkpoints(directory, fingerprint=fingerprint, **settings))
        return made[-1]

    yield open_them
    for checkpoints in made:
        checkpoints.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A directory with the checkpoints 1 (the best), 3 and 4."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    checkpoints = Checkpoints(directory, fingerprint=FINGERPRINT)
    for step, metric in ((1, 0.5), (2, 0.7), (3, 0.6), (4, 0.9)):
        checkpoints.save(step, tree(step), about(step), metric)
    checkpoints.close()
    return directory


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_the_best_and_the_last_two_are_kept(run, opened):
    checkpoints = opened(run)
    assert (checkpoints.steps(), checkpoints.best()) == ([1, 3, 4], 1)
    assert sorted(path.name for path in run.iterdir()) == ["1", "3", "4"]


def test_how_many_are_kept_is_a_choice(tmp_path, opened):
    checkpoints = opened(tmp_path, last=1)
    for step, metric in ((1, 3.0), (2, 1.0), (3, 2.0), (4, None), (5, None)):
        checkpoints.save(step, tree(), {}, metric)
    assert (checkpoints.steps(), checkpoints.best()) == ([2, 5], 2)


def test_what_was_saved_comes_back_bit_for_bit(run, opened):
    for step in (1, 3, 4):
        restored, told = opened(run).restore(tree(9), step)
        assert contents(restored) == contents(tree(step)) and contents(restored) != contents(tree(9))
        assert told == about(step)
        assert isinstance(restored, State) and restored.params["low"].dtype == jnp.bfloat16
    assert contents(opened(run).restore(tree(9))[0]) == contents(tree(4)), "the newest, when nobody says which"


@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg"])
def test_random_keys_go_on_as_before(tmp_path, opened, implementation):
    checkpoints = opened(tmp_path)
    keys = {
        "one": jax.random.key(3, impl=implementation),
        "many": jax.random.split(jax.random.key(4, impl=implementation), 2),
    }
    checkpoints.save(1, keys, {})
    restored, _ = checkpoints.restore(keys | {"one": jax.random.key(0, impl=implementation)})
    for name, key in keys.items():
        assert restored[name].dtype == key.dtype and restored[name].shape == key.shape
        draws = [jax.random.bits(jnp.ravel(k)[0], (3,)) for k in (key, restored[name])]
        assert jnp.array_equal(*draws)


def test_a_checkpoint_that_is_there_stays(copy, opened):
    checkpoints = opened(copy)
    checkpoints.save(4, tree(8), {}, 0.1)
    assert contents(checkpoints.restore(tree(), 4)[0]) == contents(tree(4))
    assert checkpoints.best() == 1


def test_one_that_is_not_there_is_named(run, opened):
    with pytest.raises(CorruptCheckpointError, match=r"checkpoints/2: no such checkpoint; there are \[1, 3, 4\]"):
        opened(run).restore(tree(), 2)


def test_where_there_never_was_one_there_is_none(tmp_path, opened):
    checkpoints = opened(tmp_path / "new" / "checkpoints")
    assert checkpoints.restore_newest(tree()) == (None, None, [])
    assert (checkpoints.steps(), checkpoints.best()) == ([], None)
    with pytest.raises(CorruptCheckpointError, match="no such checkpoint"):
        checkpoints.restore(tree())


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def flip(data, rng):
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]


def swap(data, rng):
    """One letter or digit for another: JSON that still is JSON."""
    at = rng.choice([i for i, byte in enumerate(data) if chr(byte).isalnum()] or [0])
    return data[:at] + (b"1" if data[at : at + 1] != b"1" else b"2") + data[at + 1 :]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("damage", [cut, flip, swap])
def test_a_damaged_file_is_noticed_or_did_not_matter(run, copy, opened, damage, seed):
    """Every file of the newest checkpoint in turn; whatever is given back is exactly what was saved."""
    rng = random.Random(seed)
    refused = []
    for file in files(run / "4"):
        (copy / "4" / file).write_bytes(damage((run / "4" / file).read_bytes(), rng))
        checkpoints = opened(copy)
        try:
            restored, told = checkpoints.restore(tree(9), 4)
        except CorruptCheckpointError as error:
            assert str(copy / "4") in str(error)
            refused.append(file.as_posix())
        else:
            assert contents(restored) == contents(tree(4)) and told == about(4), file
        assert contents(checkpoints.restore(tree(9), 3)[0]) == contents(tree(3)), "the others are not lost with it"
        shutil.copyfile(run / "4" / file, copy / "4" / file)
    assert {"about/metadata", "metrics/metrics", "tree/manifest.ocdbt"} <= set(refused)
    assert any(name.startswith("tree/d/") for name in refused), "the arrays themselves"
    opened(copy).restore(tree(9), 4)  # all is as it was


@pytest.mark.parametrize("missing", ["about", "tree", "tree/manifest.ocdbt", "about/metadata"])
def test_a_missing_part_is_noticed(copy, opened, missing):
    path = copy / "4" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CorruptCheckpointError, match="checkpoints/4: this checkpoint is refused"):
        opened(copy).restore(tree(), 4)


FOREIGN = {
    "a parameter too many": lambda params: params | {"bias": jnp.zeros(3)},
    "a parameter too few": lambda params: {name: params[name] for name in ("kernel", "low")},
    "other names": lambda params: {f"{name}s": x for name, x in params.items()},
    "a larger shape": lambda params: params | {"kernel": jnp.zeros((2, 4))},
    "a smaller shape": lambda params: params | {"kernel": jnp.zeros((2, 2))},
    "another dtype": lambda params: params | {"kernel": jnp.zeros((2, 3), jnp.bfloat16)},
    "nothing": lambda params: (),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_checkpoint_of_another_structure_is_refused(run, opened, what):
    like = tree()._replace(params=FOREIGN[what](tree().params))
    with pytest.raises(CorruptCheckpointError, match="checkpoints/4: this checkpoint is refused"):
        opened(run).restore(like, 4)


def test_a_refusal_does_not_print_arrays(run, opened):
    like = tree()._replace(params={"layers": {f"{i}": jnp.full((30, 30), i / 7) for i in range(50)}})
    with pytest.raises(CorruptCheckpointError) as found:
        opened(run).restore(like, 4)
    assert len("".join(traceback.format_exception(found.value))) < 10_000


def test_a_checkpoint_of_another_configuration_is_refused(run, opened):
    with pytest.raises(CorruptCheckpointError, match=r"checkpoints/4: .* another configuration"):
        opened(run, fingerprint=FINGERPRINT | {"rate": 0.2}).restore(tree(), 4)
    restored, _ = opened(run, fingerprint=None).restore(tree(), 4)
    assert contents(restored) == contents(tree(4)), "who asks for none gets any"


def test_a_configuration_may_hold_what_json_writes_otherwise(tmp_path, opened):
    settings = {"shape": (2, 3), "by number": {1: "one"}}
    opened(tmp_path, fingerprint=settings).save(1, tree(), {})
    restored, _ = opened(tmp_path, fingerprint=settings).restore(tree())
    assert contents(restored) == contents(tree())


def test_a_step_before_the_newest_is_refused(copy, opened):
    checkpoints = opened(copy)
    with pytest.raises(ValueError, match=r"expected a step after the newest checkpoint, 4; got 2"):
        checkpoints.save(2, tree(), {})


def spoil(directory, *steps):
    for step in steps:
        (directory / str(step) / "tree" / "manifest.ocdbt").write_bytes(b"")


def test_the_one_before_is_taken_and_nothing_is_deleted(copy, opened):
    spoil(copy, 4)
    damaged = {file: (copy / "4" / file).read_bytes() for file in files(copy / "4")}
    checkpoints = opened(copy)
    restored, told, refusals = checkpoints.restore_newest(tree(9))
    assert contents(restored) == contents(tree(3)) and told == about(3)
    assert len(refusals) == 1 and str(copy / "4") in refusals[0]
    assert (checkpoints.steps(), checkpoints.best()) == ([1, 3], 1)
    aside = copy.parent / "refused" / "4"
    assert {file: (aside / file).read_bytes() for file in files(aside)} == damaged
    checkpoints.save(4, tree(6), about(4), 0.1)  # the run goes on, and comes by the same step again
    assert contents(opened(copy).restore_newest(tree(9))[0]) == contents(tree(6))


def test_what_was_set_aside_before_stays(copy, opened):
    spoil(copy, 4)
    opened(copy).restore_newest(tree(9))
    opened(copy).save(4, tree(6), about(4), 0.1)
    spoil(copy, 4)
    opened(copy).restore_newest(tree(9))
    assert sorted(path.name for path in (copy.parent / "refused").iterdir()) == ["4", "4.1"]


def test_a_best_one_that_is_damaged_does_not_stop_the_run(copy, opened):
    (copy / "1" / "metrics" / "metrics").write_text('{"metric": ')
    checkpoints = opened(copy)
    restored, _, refusals = checkpoints.restore_newest(tree(9))
    assert contents(restored) == contents(tree(4)) and refusals == []
    assert checkpoints.best() == 3
    checkpoints.save(5, tree(5), about(5), 0.2)
    assert (checkpoints.best(), checkpoints.steps()[-1]) == (5, 5)


def test_when_all_are_refused_each_is_named_and_none_is_touched(copy, opened):
    spoil(copy, 1, 3, 4)
    before = {file: (copy / file).read_bytes() for file in files(copy)}
    with pytest.raises(CorruptCheckpointError, match="no checkpoint can be read") as caught:
        opened(copy).restore_newest(tree(9))
    assert all(str(copy / step) in str(caught.value) for step in ("1", "3", "4"))
    assert {file: (copy / file).read_bytes() for file in files(copy)} == before
    assert not (copy.parent / "refused").exists()


def test_a_write_that_was_cut_off_is_no_checkpoint_and_is_removed(copy, opened):
    for name in ("5.orbax-checkpoint-tmp", "6.orbax-checkpoint-tmp-1700000000"):
        shutil.copytree(copy / "4", copy / name)
    (copy / "5.orbax-checkpoint-tmp" / "commit_success.txt").unlink()
    checkpoints = opened(copy)
    assert checkpoints.steps() == [1, 3, 4]
    assert contents(checkpoints.restore_newest(tree(9))[0]) == contents(tree(4))
    assert (copy / "5.orbax-checkpoint-tmp").exists(), "only the writer tidies up"
    checkpoints.tidy()
    assert sorted(path.name for path in copy.iterdir()) == ["1", "3", "4"]
    checkpoints.save(5, tree(5), about(5), 0.8)
    assert contents(opened(copy).restore_newest(tree(9))[0]) == contents(tree(5))


@pytest.mark.parametrize("seed", range(3))
def test_a_deletion_that_was_cut_off_does_no_harm(copy, opened, seed):
    """An old checkpoint of which some files are gone."""
    rng = random.Random(seed)
    for file in files(copy / "3"):
        if rng.random() < 0.5:
            (copy / "3" / file).unlink()
    checkpoints = opened(copy)
    assert contents(checkpoints.restore_newest(tree(9))[0]) == contents(tree(4))
    checkpoints.save(5, tree(5), about(5), 0.8)
    checkpoints.save(6, tree(6), about(6), 0.8)
    assert contents(opened(copy).restore_newest(tree(9))[0]) == contents(tree(6))
    assert opened(copy).best() == 1 and not (copy / "3").exists()
