"""python -m benchmarks [question ...]: how fast seqjax is here, beside what else is installed.

Without a question it lists them. Peers are measured in one process, in turn, after their results were seen to agree. A CPU
is given one device a core, and memory that is freed is kept, for all peers alike.
"""

import sys
from typing import Annotated

import jax
import tyro

import seqjax as sj
from benchmarks import peers, torch_peer
from benchmarks.asking import ask, names, question_of, what
from benchmarks.specs import Options


def main(
    asked: tyro.conf.Positional[tuple[str, ...]] = (),
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    device: str | None = None,
):
    """Measures seqjax beside its peers.

    Args:
      asked: questions, or "all"; none lists them.
      options: how.
      device: cpu, gpu or tpu; JAX's own choice if not given.
    """
    if not asked:
        return list_questions()
    asked = tuple(names()) if asked == ("all",) else asked
    if unknown := [name for name in asked if name not in names()]:
        raise ValueError(f"no questions {unknown}; there are {', '.join(names())}.")
    if unknown := [name for name in options.peers if name not in _peers()]:
        raise ValueError(f"no peers {unknown}; there are {', '.join(_peers())}.")
    start(device)
    _say_missing()
    for name in asked:
        ask(name, options)
    return None


def list_questions():
    """Which there are, their sizes, and which peers are installed."""
    for name in names():
        question = question_of(name)
        print(f"{name}: {what(question)}\n    {'  '.join(map(str, question.SIZES))}")
    print(f"sizes are T,B,D,H; installed: {', '.join(name for name, there in _peers().items() if there)}")
    _say_missing()


def start(device):
    """Settings of the process, before JAX starts."""
    if device:
        jax.config.update("jax_platforms", device)
    sj.train.use_cores(8 * sj.train.cores())  # rows enough for a device on every core
    sj.train.keep_memory()


def _peers():
    """Whether each peer is installed."""
    return {peer.name: peer.is_installed() for peer in peers.PEERS} | {torch_peer.NAME: torch_peer.is_installed()}


def _say_missing():
    if missing := [name for name, there in _peers().items() if not there]:
        print(f"not installed and left out: {', '.join(missing)}")


if __name__ == "__main__":
    try:
        tyro.cli(main, prog="python -m benchmarks", description=__doc__)
    except ValueError as error:
        sys.exit(f"error: {error}")
