"""What a run tells: a progress bar or plain lines, JSON lines always, TensorBoard events where a writer is installed."""

import importlib.util
import json
import os
import pathlib
import time

import rich.console
import rich.progress


class Reports:
    """Everything a training loop says, in one place.

    Args:
      steps: how many steps the run has.
      units: what a step gets through: name and number, such as ``("characters", 4096)``.
      directory: for ``log.jsonl`` and TensorBoard's events; None writes neither.
      start: the step the run goes on from. What the log holds beyond it is written again, so it is taken out.
      quiet: nothing on the terminal.
    """

    def __init__(self, steps, units, *, directory=None, start=0, quiet=False):
        self.name, self.number = units
        self.start, self.began = start, time.perf_counter()
        self.log = self.board = None
        if directory is not None:
            self.log = _Log(pathlib.Path(directory) / "log.jsonl", start)
            self.board = _tensorboard(directory, start)
        console = rich.console.Console(quiet=quiet)
        self.view = _Bar(console, steps, start) if console.is_terminal and not quiet else _Lines(console, steps, start)

    def train(self, step, metrics):
        """Metrics of the last steps, on the training data."""
        seconds = time.perf_counter() - self.began
        rate = (step - self.start) * self.number / max(seconds, 1e-9)
        self._write("train", step, metrics | {f"{self.name}_per_second": round(rate, 1)})
        self.view.train(step, metrics["loss"], f"{rate:,.0f} {self.name}/s", seconds)

    def evaluation(self, step, metrics):
        """Metrics on held-out data."""
        self._write("evaluation", step, metrics)
        self.view.say(f"step {step}, held out: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    def say(self, text):
        """A line for the reader."""
        self.view.say(text)

    def _write(self, kind, step, metrics):
        if self.log is not None:
            self.log.write({"kind": kind, "step": step, **metrics})
        if self.board is not None:
            for name, value in metrics.items():
                self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self):
        """Ends the bar and closes the files."""
        self.view.close()
        for writer in (self.log, self.board):
            if writer is not None:
                writer.close()


class _Log:
    """JSON lines, each flushed when it is written."""

    def __init__(self, path, start):
        _keep_until(path, start)
        self.file = path.open("a", encoding="utf-8")

    def write(self, line):
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()

    def close(self):
        self.file.close()


def _keep_until(path, step):
    """Drops the lines beyond ``step``, and one that was cut off while it was written."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            continue
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def _tensorboard(directory, start):
    """A writer of TensorBoard events, from whichever package has one; None where none is installed."""
    if importlib.util.find_spec("tensorboardX"):
        from tensorboardX import SummaryWriter
    elif importlib.util.find_spec("torch") and importlib.util.find_spec("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter
    else:
        return None
    return SummaryWriter(os.fspath(directory), purge_step=start + 1 if start else None)


class _Bar:
    """A progress bar on a terminal."""

    def __init__(self, console, steps, start):
        self.progress = rich.progress.Progress(
            rich.progress.TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("loss {task.fields[loss]}"),
            rich.progress.TextColumn("{task.fields[rate]}"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=console,
        )
        self.task = self.progress.add_task("", total=steps, completed=start, loss="...", rate="compiling")
        self.progress.start()

    def train(self, step, loss, rate, seconds):
        del seconds
        self.progress.update(self.task, completed=step, loss=f"{loss:.4f}", rate=rate)

    def say(self, text):
        self.progress.console.print(text, highlight=False, markup=False)

    def close(self):
        self.progress.stop()


class _Lines:
    """A line now and then: at most one in ten seconds."""

    def __init__(self, console, steps, start):
        self.console, self.steps, self.start, self.next = console, steps, start, 0.0

    def train(self, step, loss, rate, seconds):
        if seconds < self.next:
            return
        self.next = seconds + 10
        left = seconds / max(step - self.start, 1) * (self.steps - step)
        self.say(f"step {step}/{self.steps}  loss {loss:.4f}  {rate}  {seconds:.0f} s, about {left:.0f} s left")

    def say(self, text):
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self):
        pass
