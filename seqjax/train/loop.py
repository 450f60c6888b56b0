"""The training loop: evaluates, reports, saves, stops when asked, and goes on where it stopped as if nothing had been."""

import contextlib
import dataclasses
import json
import math
import pathlib
import signal
import threading
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.train.checkpoints import Checkpoints
from seqjax.train.reports import Reports
from seqjax.train.state import TrainState, check_average, step_function


class NonFiniteLossError(FloatingPointError):
    """The loss became infinite or not a number; says at which step and batch, and which checkpoint was the last good one."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long to train and what to do on the way.

    Args:
      steps: steps of the whole run, those before a resume included.
      evaluate_every: steps between evaluations on held-out data, each with a checkpoint; one follows the last step.
      checkpoint_every: further checkpoints in between; None for none.
      log_every: steps between lines of the log.
      patience: stop after this many evaluations in a row without a better one; None never stops early.
      average: decay of a moving average of the parameters, which is then what is evaluated; None for none.
      devices: over how many devices the batch is split.
      units: what a step gets through, name and number.
    """

    steps: int
    evaluate_every: int | None = None
    checkpoint_every: int | None = None
    log_every: int = 20
    patience: int | None = None
    average: float | None = None
    devices: int = 1
    units: tuple[str, int] = ("steps", 1)

    def __post_init__(self):
        for name in ("steps", "evaluate_every", "checkpoint_every", "log_every", "patience", "devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"Plan: {name} must be at least 1, got {value}.")
        if self.average is not None and not 0 < self.average < 1:
            raise ValueError(f"Plan: average is a decay in (0, 1), got {self.average}.")


class Outcome(NamedTuple):
    """What a run came to."""

    state: TrainState  # after the last step
    reason: str  # "finished", "no improvement", "end of the data" or "interrupted"
    progress: "Progress"


@dataclasses.dataclass
class Progress:
    """What the loop itself has to remember; kept with every checkpoint."""

    step: int = 0
    seconds: float = 0.0  # spent in all sessions of the run
    best: float = math.inf  # lowest evaluation loss
    best_step: int = 0
    stale: int = 0  # evaluations since then
    data: Any = None  # the position of the data iterator


def fit(loss, optimizer, state, data, plan, *, evaluate=None, directory=None, fingerprint=None, at=None, quiet=False):
    """Trains.

    Args:
      loss: ``(params, carry, batch, key) -> (loss, (carry, metrics))``, see :func:`seqjax.train.step_function`.
      optimizer: an Optax transformation: clipping, schedules and weight decay are its own.
      state: from :func:`seqjax.train.create`.
      data: a Grain data set of batches, or anything whose iterator has ``get_state`` and ``set_state``, with a state that
        JSON can hold where there is a directory; batch axis first.
        Where it ends before the plan does, the run is over, and its last step evaluated and saved if it was not yet.
      plan: a :class:`Plan`.
      evaluate: ``weights -> {"loss": ..., ...}`` on held-out data; the lowest loss is the best checkpoint.
      directory: holds ``checkpoints/``, ``log.jsonl`` and events. If checkpoints are there, the run goes on from the newest.
        None keeps everything in memory.
      fingerprint: says whose checkpoints they are, such as the configuration.
      at: ``{step: function of the state}``, called after that many steps, for samples and pictures on the way.
      quiet: nothing on the terminal.

    Returns:
      an :class:`Outcome`. SIGINT and SIGTERM finish the step, save and return with reason "interrupted"; a second one stops
      at once.

    Raises:
      ValueError: the data are empty, their position cannot be kept, or only one of plan and state has a moving average.
      NonFiniteLossError: the loss is not finite, or the parameters are not when it is time to save them.
      CorruptCheckpointError: there are checkpoints and none can be read.
    """
    loop = _Loop(step_function(loss, optimizer, devices=plan.devices, average=plan.average), plan, evaluate, at or {})
    return loop.run(state, data, directory, fingerprint, quiet)


class _Loop:
    """One call of :func:`fit`."""

    def __init__(self, advance, plan, evaluate, at):
        self.advance, self.plan, self.evaluate, self.at = advance, plan, evaluate, at
        self.checkpoints: Any = None
        self.progress = Progress()
        self.unchecked = []  # (step, loss) that nobody has looked at
        self.marked = None  # the step that was evaluated or saved last

    def run(self, state, data, directory, fingerprint, quiet):
        check_average("fit", self.plan.average, state)
        batches = iter(data)
        refusals = []
        if directory is not None:
            _check_position(batches)
            self.checkpoints = Checkpoints(pathlib.Path(directory) / "checkpoints", fingerprint=fingerprint)
            self.checkpoints.tidy()
            state, refusals = self._resume(state, batches)
        reports = Reports(self.plan.steps, self.plan.units, directory=directory, start=self.progress.step, quiet=quiet)
        try:
            for line in refusals:
                reports.say(line)
            with _interruptions() as asked:
                return self._train(state, batches, reports, asked)
        finally:
            reports.close()
            if self.checkpoints is not None:
                self.checkpoints.close()

    def _resume(self, state, batches):
        restored, about, refusals = self.checkpoints.restore_newest(state)
        if restored is None:
            return state, refusals
        self.progress = Progress(**about)
        batches.set_state(self.progress.data)
        self.marked = self.progress.step
        return restored, refusals

    def _train(self, state, batches, reports, asked):
        began = time.perf_counter() - self.progress.seconds
        pending: list[dict] = []
        while self.progress.step < self.plan.steps:
            if self.plan.patience is not None and self.progress.stale >= self.plan.patience:
                return Outcome(state, "no improvement", self.progress)
            batch = next(batches, None)
            if batch is None:
                return self._end(state, batches, reports, pending)
            state, metrics = self.advance(state, batch)
            self.progress.step += 1
            step, last = self.progress.step, self.progress.step == self.plan.steps
            pending.append(metrics)
            self.unchecked.append((step, metrics["loss"]))
            self._check_finite(but=1)  # one step late, so that the device does not wait for the host
            self.progress.seconds = time.perf_counter() - began
            if step % self.plan.log_every == 0 or last:
                self._check_finite()
                reports.train(step, _mean(pending))
                pending = []
            if step in self.at:
                self.at[step](state)
            stopping = asked.is_set()  # once: a signal may come at any moment
            self._mark(state, batches, reports, over=last, saving=stopping)
            if stopping:
                return Outcome(state, "interrupted", self.progress)
        return Outcome(state, "finished", self.progress)

    def _end(self, state, batches, reports, pending):
        """The data are over before the plan is."""
        if self.progress.step == 0:
            raise ValueError("fit: the data are empty, there is not one batch to train on.")
        if pending:
            self._check_finite()
            reports.train(self.progress.step, _mean(pending))
        if self.marked != self.progress.step:
            self._mark(state, batches, reports, over=True)
        return Outcome(state, "end of the data", self.progress)

    def _mark(self, state, batches, reports, *, over, saving=False):
        """Evaluates and saves where it is time to, both where the run is over."""
        step = self.progress.step
        evaluating = self.evaluate is not None and (over or _due(step, self.plan.evaluate_every))
        if not (evaluating or over or saving or _due(step, self.plan.checkpoint_every)):
            return
        self._check_finite()
        if not _finite(state.params):
            raise NonFiniteLossError(self._story("the parameters are not finite after", step))
        metric = self._evaluated(state, reports) if evaluating else None
        if self.checkpoints is not None:
            self.progress.data = batches.get_state()
            self.checkpoints.save(step, state, dataclasses.asdict(self.progress), metric)
        self.marked = step

    def _evaluated(self, state, reports):
        metrics = {name: float(value) for name, value in self.evaluate(state.weights).items()}
        reports.evaluation(self.progress.step, metrics)
        self.progress.stale += 1
        if metrics["loss"] < self.progress.best:
            self.progress.best, self.progress.best_step, self.progress.stale = metrics["loss"], self.progress.step, 0
        return metrics["loss"]

    def _check_finite(self, but=0):
        """Looks at the losses of all steps that were not looked at yet, but the newest ``but``."""
        while len(self.unchecked) > but:
            step, value = self.unchecked.pop(0)
            if not np.isfinite(value):
                raise NonFiniteLossError(self._story(f"the loss is {float(value)} at", step))

    def _story(self, what, step):
        saved = self.checkpoints.steps() if self.checkpoints is not None else []
        where = (
            f"the last good checkpoint is {self.checkpoints.directory / str(saved[-1])}"
            if saved
            else "there is no checkpoint"
        )
        return (
            f"{what} step {step}, batch {step - 1} of the data; {where}. "
            "Lower the learning rate, clip the gradients (optax.clip_by_global_norm) or look at that batch."
        )


def _check_position(batches):
    """Refuses data whose position no checkpoint can hold, before anything is trained on them."""
    position = batches.get_state()
    try:
        json.dumps(position)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "fit: get_state of the data's iterator must be a value that JSON can hold, got "
            f"{type(position).__name__}: {error}. With Grain use a Dataset, not a DataLoader."
        ) from error


def _due(step, every):
    return every is not None and step % every == 0


def _finite(tree):
    numbers = (leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact))
    return all(bool(jnp.isfinite(leaf).all()) for leaf in numbers)


def _mean(pending):
    return {name: float(np.mean([metrics[name] for metrics in pending])) for name in pending[-1]}


@contextlib.contextmanager
def _interruptions():
    """An event that is set by SIGINT or SIGTERM; a second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number, frame):
        del frame
        if asked.is_set():
            raise KeyboardInterrupt(signal.Signals(number).name)
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
