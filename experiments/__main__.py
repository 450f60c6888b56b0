"""The command line: ``python -m experiments list | NAME [--preset P] [--field value ...] | COMMAND RUN``."""

import importlib
import pathlib
import sys
from typing import Annotated

import tyro

from experiments import runs

EXPERIMENTS = {
    "char_lm": "a character language model: tinyshakespeare, Linux source, Python source, any text",
    "grid_lstm": "grids of LSTM cells, along depth as along time: sums of numbers, parity of bits",
    "pointer": "pointer networks: convex hulls, round trips, Delaunay triangulations, numbers in order",
    "navigation": "directions that people gave are followed in a world that is seen: SAIL, generated buildings",
    "notes": "what five lecture notes claim, and ten of their mistakes: checks that are exact and need no training data",
    "scan": "commands of a small language, carried out: SCAN, and what networks do not generalize to",
    "translation": "encoder-decoders with attention and without: Multi30k, Tatoeba, dates in words, any pairs of sentences",
}


def main(arguments):
    commands = {"list": _list, "resume": _resume, "sample": _sample, "answer": _answer}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{__doc__}\n")
        return _list([])
    name, *rest = arguments
    if name in commands:
        return commands[name](rest)
    if name in EXPERIMENTS:
        return _run(name, rest)
    raise ValueError(f"{name!r} is no experiment and no command; there are {', '.join([*EXPERIMENTS, *commands])}.")


def _list(arguments):
    """Prints the experiments and their presets."""
    tyro.cli(_nothing, args=arguments, prog="python -m experiments list", description=_list.__doc__)
    for name, what in EXPERIMENTS.items():
        presets = ", ".join(importlib.import_module(f"experiments.{name}").PRESETS)
        print(f"{name}: {what}\n    presets: {presets}\n    python -m experiments {name} --help")


def _nothing():
    pass


def _run(name, arguments):
    """Runs an experiment. The preset is read first: it gives the defaults of all the other settings."""
    module = importlib.import_module(f"experiments.{name}")
    preset, arguments = _take(arguments, "--preset", "default")
    if preset not in module.PRESETS:
        raise ValueError(f"{name}: no preset {preset!r}; there are {', '.join(module.PRESETS)}.")

    def start(config, run=None, record=False, quiet=False):
        """Runs the experiment; the defaults are those of the preset.

        Args:
          config: the settings.
          run: the run directory, a new one under runs/ if not given; one that holds this configuration is resumed.
          record: append the result to experiments/results/.
          quiet: nothing on the terminal.
        """
        module.run(config, preset, run, record=record, quiet=quiet)

    start.__defaults__ = (module.PRESETS[preset], None, False, False)
    start.__annotations__ = {
        "config": Annotated[module.Config, tyro.conf.arg(name="")],
        "run": pathlib.Path | None,
        "record": bool,
        "quiet": bool,
    }
    presets = ",".join(module.PRESETS)
    tyro.cli(start, args=arguments, prog=f"python -m experiments {name} [--preset {{{presets}}}]")


def _resume(arguments):
    run = tyro.cli(_run_argument, args=arguments, prog="python -m experiments resume")
    stored = runs.read_json(run / "config.json")
    module = importlib.import_module(f"experiments.{stored['experiment']}")
    module.run(module.Config(**stored["config"]), stored["preset"], run)


def _run_argument(run: tyro.conf.Positional[pathlib.Path]) -> pathlib.Path:
    """Goes on with a run that was stopped, from its newest checkpoint.

    Args:
      run: the run directory.
    """
    return run


def _sample(arguments):
    def sample(
        run: tyro.conf.Positional[pathlib.Path],
        prompt: str | None = None,
        length: int = 1000,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ):
        """Writes a continuation of a prompt to the terminal as it is drawn, a few characters at a time.

        Args:
          run: the run directory.
          prompt: what to continue.
          length: characters to write.
          temperature: 0 takes the likeliest character.
          top_k: draw among the k likeliest characters only.
          top_p: draw among the fewest characters that together have this probability.
          seed: of the draws.
        """
        import jax

        module = _experiment_of(run)
        if not hasattr(module, "prompt_of"):
            raise ValueError(f"{run}: a run of {module.__name__.split('.')[-1]} has no model to sample from.")
        task, weights = module.restore(run)
        prompt = module.prompt_of(task.vocabulary) if prompt is None else prompt
        settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        pieces = task.write(weights, prompt, length, jax.random.key(seed), **settings, piece=8)
        for i, (piece,) in enumerate(pieces):  # a prompt that cannot be read is refused before anything is printed
            print((prompt.lstrip("\n") if i == 0 else "") + piece, end="", flush=True)
        print()

    tyro.cli(sample, args=arguments, prog="python -m experiments sample")


def _answer(arguments):
    run, texts = tyro.cli(_answer_arguments, args=arguments, prog="python -m experiments answer")
    module = _experiment_of(run)
    if not hasattr(module, "restore") or hasattr(module, "prompt_of"):
        raise ValueError(f"{run}: a run of {module.__name__.split('.')[-1]} has no model that answers.")
    task, weights = module.restore(run)
    print("\n".join(task.answers(weights, texts)))


def _answer_arguments(
    run: tyro.conf.Positional[pathlib.Path], texts: tyro.conf.Positional[list[str]]
) -> tuple[pathlib.Path, list[str]]:
    """Prints what a model answers to texts, such as translations of sentences, one on each line.

    Args:
      run: the run directory.
      texts: what it is asked, each in quotes.
    """
    return run, texts


def _experiment_of(run):
    """The module of the experiment that a run directory is of."""
    return importlib.import_module(f"experiments.{runs.read_json(run / 'config.json')['experiment']}")


def _take(arguments, flag, default):
    """The value of one flag, and the arguments without it."""
    for i, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.split("=", 1)[1], arguments[:i] + arguments[i + 1 :]
        if argument == flag and i + 1 < len(arguments):
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
    return default, arguments


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ValueError, OSError, FloatingPointError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
