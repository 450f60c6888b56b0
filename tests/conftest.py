"""Every test runs strict: a dtype that nobody wrote is an error, as every warning is (see pyproject.toml).

Nearly all of the time of the tests is that of XLA's compiler, over programs that run once on a few numbers: it is told not
to optimize them. ``XLA_FLAGS= python -m pytest`` compiles them as users do, in two to three times the time.
"""

import mmap
import os
import pathlib

import jax
import jaxlib

_QUICKLY_COMPILED = "--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"


def _known(flag):
    """Whether this jaxlib has heard of the flag: XLA ends the process at one that it does not know."""
    name = flag.removeprefix("--").partition("=")[0].encode()
    for library in pathlib.Path(jaxlib.__file__).parent.glob("*.so"):
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(name) >= 0:
                return True
    return False


jax.config.update("jax_numpy_dtype_promotion", "strict")
if "XLA_FLAGS" not in os.environ:  # the workers of xdist inherit it
    os.environ["XLA_FLAGS"] = " ".join(filter(_known, _QUICKLY_COMPILED))
