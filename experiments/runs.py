"""Run directories: the configuration, how to read it back, the summary, and the line of a recorded result."""

import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

import jax

import seqjax as sj

RESULTS = pathlib.Path(__file__).parent / "results"


def open_run(directory, experiment, preset, config):
    """Makes a run directory that holds ``config``, or goes on with one that does.

    Raises:
      ValueError: the directory holds another configuration; names the fields that differ.
      OSError: it cannot be written.
    """
    path = directory or pathlib.Path("runs") / f"{experiment}-{preset}-{datetime.datetime.now():%Y%m%d-%H%M%S}"
    path = pathlib.Path(path)
    described = {"experiment": experiment, "preset": preset, "config": _plain(config)}
    if (path / "config.json").exists():
        found = read_json(path / "config.json")
        if {key: found.get(key) for key in described} != described:
            raise ValueError(f"{path} holds another configuration: {_differences(found, described)}. Choose another --run.")
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "config.json", described | {"command": command(), "versions": versions()})
    except OSError as error:
        raise OSError(
            f"{path}: this run directory cannot be written ({error.strerror}); choose another with --run."
        ) from error
    return path


def read_json(path):
    """A JSON file; one that is missing or broken is refused with its name."""
    try:
        return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; is {pathlib.Path(path).parent} a run directory?") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from None


def read_lines(path):
    """A file of JSON lines, such as ``log.jsonl``."""
    return [json.loads(line) for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines()]


def write_json(path, value):
    """Writes a JSON file in one piece or not at all."""
    path = pathlib.Path(path)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def keep_json(path, value):
    """Writes a JSON file, or makes sure that the one which is there says the same."""
    if not path.exists():
        write_json(path, value)
    elif (found := read_json(path)) != value:
        raise ValueError(f"{path} says {found!r}, and now it would be {value!r}. Choose another --run.")


def record(experiment, preset, config, metrics, minutes):
    """Appends a result to ``experiments/results/<experiment>.jsonl``.

    A line whose preset is a name alone is of that preset, with any seed. Other settings than its own make it "(changed)".
    """
    RESULTS.mkdir(exist_ok=True)
    changes = _changes(importlib.import_module(f"experiments.{experiment}").PRESETS[preset], config)
    line = {
        "experiment": experiment,
        "preset": f"{preset} (changed)" if changes else preset,
        "seed": config.seed,
        "changes": changes,
        "metrics": metrics,
        "minutes": round(minutes, 2),
        "device": device(),
        "versions": versions(),
        "commit": commit(),
        "command": command(directory=False),
    }
    with (RESULTS / f"{experiment}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def device():
    """What this runs on, in words."""
    first = jax.devices()[0]
    if first.platform != "cpu":
        return f"{first.device_kind} x {len(jax.devices())}"
    count = sj.train.cores()
    return f"{_processor()}, {count} core{'s' if count > 1 else ''}"


def versions():
    """Versions of what a result depends on."""
    names = ("seqjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def command(directory=True):
    """The command line as it can be typed again; where the run is kept is no part of a result."""
    line = " ".join(["python -m experiments", *sys.argv[1:]])
    return line if directory else re.sub(r" --run[ =]\S+", "", line)


class Clock:
    """Minutes since it was made."""

    def __init__(self):
        self.start = time.perf_counter()

    def minutes(self):
        return (time.perf_counter() - self.start) / 60


def _plain(config):
    """The configuration as JSON gives it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _changes(preset, config):
    """The settings other than the seed that are not the preset's."""
    own, preset = _plain(config), _plain(preset)
    return {name: value for name, value in own.items() if name != "seed" and preset[name] != value}


def _differences(found, wanted):
    pairs = [
        ("experiment", found.get("experiment"), wanted["experiment"]),
        ("preset", found.get("preset"), wanted["preset"]),
    ]
    other = found.get("config", {})
    pairs += [(name, other.get(name), value) for name, value in wanted["config"].items()]
    return ", ".join(f"{name} is {old!r} there and {new!r} here" for name, old, new in pairs if old != new)


def _processor():
    try:
        told = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        told = ""
    return processor(told) or platform.processor() or platform.machine()


def processor(cpuinfo):
    """The processor that Linux tells of, with its widest vectors: they make one of the same name several times as fast."""
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in cpuinfo.splitlines())}
    flags = told.get("flags", "").split()
    vectors = [name for flag, name in (("avx512f", " (AVX-512)"), ("avx2", " (AVX2)")) if flag in flags]
    return told.get("model name", "") + "".join(vectors[:1])


def commit():
    """The commit of the checkout, with "-dirty" where anything but recorded results was changed."""

    def git(*arguments):
        found = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=RESULTS.parent.parent)
        return found.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!*/results/*", ":!benchmarks/README.md")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
