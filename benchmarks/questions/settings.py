"""Gradients of one layer under settings of the whole process, each in a process of its own.

What is set is named by the column: nothing at first, then memory that is kept, one device a core, and flags of XLA's beside
memory that is kept. A flag that this version of XLA does not know is named and left out. What came of it stands in
``sj.train.settings``.
"""

import contextlib
import os
import subprocess
import sys

import jax

import seqjax as sj
from benchmarks import layers
from benchmarks.measure import Case, Program
from benchmarks.specs import CELLS, FEW, parse

UNIT = "ms"
SIZES = FEW
KEPT, CORES = "keep_memory", "use_cores"

FLAGS = {
    "cpu": (
        "--xla_cpu_multi_thread_eigen=false",
        "--xla_cpu_prefer_vector_width=512",
        "--xla_cpu_use_xnnpack=true",
        "--xla_cpu_use_onednn=true",
        "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_RUNTIME",
    ),
    "gpu": (
        "--xla_gpu_enable_command_buffer=FUSION,CUBLAS,CUBLASLT,CUDNN,CUSTOM_CALL,DYNAMIC_SLICE_FUSION,WHILE",
        "--xla_gpu_enable_triton_gemm=false",
        "--xla_gpu_enable_latency_hiding_scheduler=true",
    ),
}


def cases(options):
    for size in options.chosen(SIZES):
        with contextlib.ExitStack() as processes:
            yield _case(size, processes)


def _case(size, processes):
    device = jax.default_backend()
    programs = {layers.OURS: _program(size, processes)}
    if device == "cpu":
        programs[KEPT] = _program(size, processes, KEPT)
        programs[f"{KEPT}, {CORES}"] = _program(size, processes, KEPT, CORES)
    for flag in FLAGS.get(device, ()):
        try:
            programs[flag] = _program(size, processes, KEPT, flags=flag)
        except BrokenPipeError:
            print(f"not known here and left out: {flag}", file=sys.stderr)
    return Case(f"lstm {size}", {"cell": "lstm", **size._asdict()}, programs)


def _program(size, processes, *settings, flags=""):
    """The gradients of one layer in a process of its own, which runs them whenever it is told."""
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(size), *settings],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()},
    )
    processes.enter_context(process)

    def run():
        print("again", file=process.stdin, flush=True)
        if not (process.stdout and process.stdout.readline()):
            raise BrokenPipeError(f"the process with {settings} and flags {flags!r} has ended")

    run()
    return Program(run)


def _serve(size, settings):
    """Runs the gradients once for each line that comes."""
    if KEPT in settings:
        sj.train.keep_memory()
    devices = sj.train.use_cores(size.B) if CORES in settings else 1
    cell = CELLS["lstm"](size.H)
    params, xs, lengths = layers.draw(cell, size)
    programs = dict(layers.ours(cell, params, xs, lengths, "gradient"))
    program = programs[layers.on(layers.OURS, devices)]
    for _ in sys.stdin:
        program.run()
        print("done", flush=True)


if __name__ == "__main__":
    _serve(parse(sys.argv[1]), sys.argv[2:])
