"""What experiments that train share: a model as a function of its weights, the run from its directory to its summary."""

import pathlib
from typing import Any

import flax.nnx
import jax
import jax.numpy as jnp

import seqjax as sj
from experiments import plots, runs


class Model:
    """A Flax module as a function of its weights: ``model(weights)`` is the module with those; ``weights`` are its own."""

    def __init__(self, module):
        parts: tuple[Any, Any, Any] = flax.nnx.split(module, flax.nnx.Param, ...)  # type: ignore[assignment]
        self._graph, self.weights, self._rest = parts

    def __call__(self, weights):
        return flax.nnx.merge(self._graph, weights, self._rest)


class Run:
    """One run of an experiment: its directory, its training, its minutes, its summary.

    ``units`` is what a step gets through, name and number. ``config`` has ``batch_size``, ``steps``, ``evaluations``,
    ``average`` and ``seed``, and ``patience`` if it likes.
    """

    def __init__(self, experiment, preset, config, *, units, record=False, quiet=False):
        self._clock = runs.Clock()
        sj.train.keep_memory()
        self._plan = sj.train.Plan(
            steps=config.steps,
            evaluate_every=-(-config.steps // config.evaluations),
            log_every=max(1, min(20, config.steps // 100)),
            patience=getattr(config, "patience", None),
            average=config.average,
            devices=sj.train.use_cores(config.batch_size),
            units=units,
        )
        self._named = {"experiment": experiment, "preset": preset}
        self._config, self._record, self._quiet = config, record, quiet
        self._fitted = 0.0  # minutes of training, those of sessions that were interrupted among them

    def open(self, directory):
        """Makes or finds the run directory, after all that could be wrong with what the experiment reads."""
        self.directory = runs.open_run(directory, **self._named, config=self._config)
        return self.directory

    def introduce(self, what, weights):
        """Says what is trained, on what, and where it is kept."""
        size = sum(leaf.size for leaf in jax.tree.leaves(weights))
        self.say(f"{what}; {size:,} parameters; {runs.device()}; run {self.directory}")

    def say(self, *words):
        if not self._quiet:
            print(*words, flush=True)

    def train(self, task, data, evaluate, *, at=None):
        """Trains, or goes on training. The outcome, or None where it was interrupted."""
        before = self._clock.minutes()
        outcome = sj.train.fit(
            task.loss,
            task.optimizer(),
            task.state(),
            data,
            self._plan,
            evaluate=evaluate,
            directory=self.directory,
            fingerprint=runs.read_json(self.directory / "config.json")["config"],
            at=at,
            quiet=self._quiet,
        )
        if outcome.reason == "interrupted":
            at_step = f"step {outcome.progress.step} of {self._plan.steps}"
            self.say(f"stopped at {at_step}; go on with: python -m experiments resume {self.directory}")
            return None
        self._fitted = before + outcome.progress.seconds / 60
        self._clock = runs.Clock()
        return outcome

    def finish(self, outcome, metrics, *, unit, **more):
        """Writes the loss curve and the summary, which it gives back, and records the metrics if that was asked for."""
        plots.loss_curve(self.directory, unit=unit)
        minutes = self._fitted + self._clock.minutes()
        summary = self._named | {
            "metrics": metrics,
            "best_step": outcome.progress.best_step,
            "steps": outcome.progress.step,
            "reason": outcome.reason,
            **more,
            "minutes": round(minutes, 2),
            "device": runs.device(),
        }
        runs.write_json(self.directory / "summary.json", summary)
        if self._record:
            runs.record(**self._named, config=self._config, metrics=metrics, minutes=minutes)
        for name, value in metrics.items():
            self.say(f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}")
        return summary


def on_one_device(weights):
    """The weights where evaluations run: training has them on all devices."""
    return jax.device_put(weights, jax.devices()[0])


def split(key, count):
    """So many keys of one, each None where it is: evaluation."""
    return (None,) * count if key is None else jax.random.split(key, count)


def best_weights(directory, state):
    """The weights of the best checkpoint of a run, ``state`` being one of the same kind."""
    checkpoints = sj.train.Checkpoints(pathlib.Path(directory) / "checkpoints")
    try:
        restored, _ = checkpoints.restore(state, checkpoints.best())
        return jax.tree.map(jnp.asarray, restored.weights)
    finally:
        checkpoints.close()
