"""Settings of the process: devices that divide a batch, and memory that stays."""

import os
import subprocess
import sys

import jax
import pytest

import seqjax as sj
from experiments import runs
from seqjax.train import machine

FAULTS = """
import resource, sys
import jax, jax.numpy as jnp
import seqjax as sj

if sys.argv[1] == "kept" and not sj.train.keep_memory():
    sys.exit(3)
grow = jax.jit(lambda x: jax.lax.scan(lambda c, _: (jnp.sin(c), c), x, None, length=800)[1].sum(0))
x = jnp.ones((200, 200))
for calls in (5, 20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(calls):
        grow(x).block_until_ready()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults / calls)
"""


def faults(how):
    """Pages of memory that the system had to clear for one call of a program with 128 MB of temporary results."""
    as_users_do = os.environ | {"XLA_FLAGS": ""}  # not optimized, it would take ten times as long
    result = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, env=as_users_do)
    if result.returncode == 3:
        pytest.skip("the C library is not glibc")
    assert result.returncode == 0, result.stderr
    return float(result.stdout)


def test_memory_that_is_kept_is_not_cleared_again():
    assert faults("kept") < 0.5 * faults("as it is")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be told where to run")
def test_a_process_that_may_use_one_core_sees_one():
    before = os.sched_getaffinity(0)
    assert sj.train.cores() == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert sj.train.cores() == sj.train.use_cores(64) == 1
        assert runs.device().endswith("1 core")
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("rows", "cores", "expected"), [(32, 1, 1), (32, 4, 4), (32, 3, 2), (16, 64, 2), (7, 8, 1), (9, 2, 1), (1, 9, 1)]
)
def test_a_batch_is_split_evenly_and_not_too_finely(rows, cores, expected):
    assert machine.largest_divisor(rows, min(cores, rows // 8)) == expected


def test_cores_divide_the_batch():
    for rows in (1, 7, 16, 24, 50):
        count = sj.train.use_cores(rows)
        assert rows % count == 0 and 1 <= count <= max(1, rows // 8, 1)
        assert count <= len(jax.devices())


def test_settings_are_told_and_not_made():
    before = jax.config.jax_num_cpu_devices
    text = sj.train.settings("cpu")
    for name in ("use_cores", "keep_memory"):
        assert f"sj.train.{name}(" in text
        assert hasattr(sj.train, name)
    assert jax.config.jax_num_cpu_devices == before
    with pytest.raises(ValueError, match="nothing was measured on 'tpu', only on cpu"):
        sj.train.settings("tpu")
