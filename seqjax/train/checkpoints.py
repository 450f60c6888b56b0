"""Checkpoints that are whole or not there: written by Orbax, proved by a digest, kept to the best and the last few."""

import hashlib
import itertools
import json
import math
import pathlib
import shutil
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers


class CorruptCheckpointError(RuntimeError):
    """No checkpoint of a run can be read; says which were tried and why each was refused."""


class Checkpoints:
    """The checkpoints of a run.

    A checkpoint holds a tree of arrays and a JSON-able dict ``about`` it. It appears under its final name only when all of
    it is written. Its content's digest is stored with it and verified when it is read: one that was truncated, changed or
    made by another run is refused, moved aside, and the one before is taken.

    Args:
      directory: where they are; made if need be.
      last: how many of the newest are kept.
      fingerprint: any JSON-able value that says whose they are, such as the configuration; None accepts any.

    The checkpoint with the lowest metric is kept besides the newest ones.
    """

    def __init__(self, directory, *, last=2, fingerprint=None):
        self.directory = pathlib.Path(directory).resolve()
        self.fingerprint = json.loads(json.dumps(fingerprint))  # as it will be read: tuples become lists
        keep = [
            checkpoint_managers.LatestN(last),
            checkpoint_managers.BestN(get_metric_fn=_metric, reverse=True, n=1, keep_checkpoints_without_metrics=False),
        ]
        self.options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            best_fn=_metric,
            best_mode="min",
            enable_async_checkpointing=False,
        )
        self._manager = _Manager(self.directory, options=self.options)

    def tidy(self):
        """Removes what writes that were cut off have left. For the one process that writes here, before it does."""
        for path in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def steps(self):
        """The steps of which there is a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def best(self):
        """The step with the lowest metric, or None."""
        return self._manager.best_step()

    def save(self, step, tree, about, metric=None):
        """Writes a checkpoint; one that is already there stays. A metric that is not a number is never the best.

        Raises:
          ValueError: there is a checkpoint of a later step.
        """
        if step in self._manager.all_steps():
            return
        newest = self._manager.latest_step()
        if newest is not None and step < newest:
            raise ValueError(f"{self.directory}: expected a step after the newest checkpoint, {newest}; got {step}.")
        arrays = _to_host(tree)
        metrics = None if metric is None or math.isnan(metric) else {"metric": float(metric)}
        record = {"about": about, "fingerprint": self.fingerprint, "digest": _digest(arrays)}
        record["seal"] = _seal(record, metrics)
        items = ocp.args.Composite(tree=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(record))
        self._manager.save(step, args=items, metrics=metrics)

    def restore(self, like, step=None):
        """Reads one checkpoint.

        Args:
          like: a tree of the structure, shapes and dtypes that is expected.
          step: which; the newest if None.

        Returns:
          ``(tree, about)``, with host arrays.

        Raises:
          CorruptCheckpointError: it is not there, cannot be read, or is not what was saved; names its path.
        """
        step = self._manager.latest_step() if step is None else step
        path = self.directory / str(step)
        if step is None or step not in self._manager.all_steps():
            raise CorruptCheckpointError(f"{path}: no such checkpoint; there are {self.steps()}.")
        example = _to_host(like)
        _hush_closed_loops()
        items = ocp.args.Composite(tree=ocp.args.StandardRestore(example), about=ocp.args.JsonRestore())
        try:
            read = self._manager.restore(step, args=items)
            tree, record = read["tree"], read["about"]
            if record["fingerprint"] != self.fingerprint and self.fingerprint is not None:
                raise ValueError("it was made with another configuration")
            seal = _seal(record, self._manager.metrics(step))
            if record["digest"] != _digest(tree) or record["seal"] != seal:
                raise ValueError("its content is not what was saved")
            _same_shapes(tree, example)
        except Exception as error:  # whatever the file system and the decoders come up with
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            # Of a tree that is not the expected one Orbax prints all arrays.
            cause = error if len(str(error)) < 2000 else None
            raise CorruptCheckpointError(f"{path}: this checkpoint is refused: {reason}") from cause
        return _from_host(tree, like), record["about"]

    def restore_newest(self, like):
        """Reads the newest checkpoint that is whole; those refused are moved to ``<directory>/../refused``.

        Returns:
          ``(tree, about, refusals)``: refusals are the messages about newer checkpoints. ``(None, None, [])`` if none
          was ever written.

        Raises:
          CorruptCheckpointError: there are checkpoints, and none can be read.
        """
        refusals = []
        for step in reversed(self.steps()):
            try:
                tree, about = self.restore(like, step)
            except CorruptCheckpointError as error:
                refusals.append((step, str(error)))
                continue
            self._set_aside([step for step, _ in refusals])
            return tree, about, [message for _, message in refusals]
        if refusals:
            raise CorruptCheckpointError("\n".join(["no checkpoint can be read:", *(message for _, message in refusals)]))
        return None, None, []

    def _set_aside(self, steps):
        if not steps:
            return
        self._manager.close()
        refused = self.directory.parent / "refused"
        refused.mkdir(exist_ok=True)
        for step in steps:
            names = (f"{step}.{again}" if again else f"{step}" for again in itertools.count())
            target = next(refused / name for name in names if not (refused / name).exists())
            shutil.move(self.directory / str(step), target)
        self._manager = _Manager(self.directory, options=self.options)

    def close(self):
        """Waits for what is being written."""
        self._manager.close()


class _Manager(ocp.CheckpointManager):
    """Orbax's, which reads the metrics of all checkpoints when it is made."""

    def metrics(self, step):
        """None where they cannot be read: one damaged file must not keep the other checkpoints from being opened."""
        try:
            return {"metric": float(super().metrics(step)["metric"])}
        except (ValueError, TypeError, KeyError):
            return None


def _metric(metrics):
    return metrics["metric"]


def _is_key(x):
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(tree):
    """Arrays as NumPy has them; random keys as their words."""
    return jax.tree.map(lambda x: np.asarray(jax.random.key_data(x) if _is_key(x) else x), tree)


def _from_host(tree, like):
    def wrap(x, other):
        return jax.random.wrap_key_data(x, impl=jax.random.key_impl(other)) if _is_key(other) else x

    return jax.tree.map(wrap, tree, like)


def _hush_closed_loops():
    """Keeps TensorStore's threads quiet about an event loop that is gone.

    Orbax reads all arrays at once and gives up at the first that is damaged. Each of the others would write a traceback.
    """
    before = sys.unraisablehook
    if getattr(before, "hushed", False):
        return

    def hook(unraisable):
        if "Event loop is closed" not in str(unraisable.exc_value):
            before(unraisable)

    hook.hushed = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


def _same_shapes(found, expected):
    """Orbax gives NumPy arrays in the shape that they have in the checkpoint."""
    for (path, x), other in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        if x.shape != other.shape:
            name = jax.tree_util.keystr(path)
            raise ValueError(f"it was made with other sizes: {name} is {x.shape} there and {other.shape} here")


def _digest(tree):
    """SHA-256 of all names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape};".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def _seal(record, metrics):
    """SHA-256 of all that is kept about a checkpoint, the digest of its arrays included."""
    sealed = [record["about"], record["fingerprint"], record["digest"], metrics]
    return hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
