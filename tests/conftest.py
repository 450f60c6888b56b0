"""Every test runs strict: a dtype that nobody wrote is an error, as every warning is (see pyproject.toml).

Nearly all of the time of the tests is that of XLA's compiler, over programs that run once on a few numbers: it is told not
to optimize them, and what it has compiled once is kept for the other processes of the same run, those that tests start among
them. ``XLA_FLAGS= python -m pytest`` compiles as users do, in two to three times the time.
"""

import gc
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA warns of every program that another process compiled
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # LAPACK in each process on both cores: every QR waits for the others

import jax

_UNOPTIMIZED = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"  # one piece: a tenth less
_OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false"  # they compile in half the time; newer JAX no longer has them


def _knows(flags):
    """Whether XLA knows the flags: it ends the process at one that it does not know."""
    starts = [sys.executable, "-c", "import jax; jax.devices()"]
    return not subprocess.run(starts, env=os.environ | {"XLA_FLAGS": flags}, capture_output=True, check=False).returncode


# What JAX traces is many small objects that live long: to look through them all again and again took 6 % of the time.
gc.set_threshold(200_000, 20, 50)
jax.config.update("jax_numpy_dtype_promotion", "strict")
if "XLA_FLAGS" not in os.environ:  # the workers of xdist inherit it
    both = f"{_UNOPTIMIZED} {_OLDER_EMITTERS}"
    os.environ["XLA_FLAGS"] = both if _knows(both) else _UNOPTIMIZED
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    compiled = tempfile.TemporaryDirectory(prefix="seqjax-compiled-")  # until this process ends
    kept = {"compilation_cache_dir": compiled.name, "persistent_cache_min_compile_time_secs": 0.05}
    for name, value in kept.items():
        os.environ[f"JAX_{name.upper()}"] = str(value)
        jax.config.update(f"jax_{name}", value)
