"""Settings of the whole process that make training on a CPU faster: one device a core, and memory that is kept.

Nothing here happens on import: a library must not decide for its process. Call them before JAX starts. :func:`settings` says
what each is worth.
"""

import contextlib
import ctypes
import os

import jax

from seqjax.engines.chunks import largest_divisor

# Numbers of settings in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def cores():
    """How many cores this process may use: those of the machine, unless it was told to stay on some of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(rows):
    """Lets JAX see one CPU device for each core, as long as each gets at least eight of ``rows``; says how many to use.

    Inside a recurrence's loop cores share no more than the large products of a step, so that all of them are used by
    splitting the batch. Should come before JAX starts; later, it is the devices that there are. With an accelerator the
    answer is one.

    Args:
      rows: the batch size.

    Returns:
      How many devices divide the batch: ``devices`` of :class:`Plan` and :func:`step_function`.
    """
    count = largest_divisor(rows, min(cores(), rows // 8))
    with contextlib.suppress(RuntimeError):  # JAX has started, as in the second run of a process
        jax.config.update("jax_num_cpu_devices", count)
    return largest_divisor(rows, min(count, len(jax.devices()))) if jax.default_backend() == "cpu" else 1


def keep_memory():
    """Tells the C library to keep memory that is freed instead of giving it back to the system.

    XLA on a CPU allocates the temporary results of a program at every call. What is larger than 32 MiB glibc takes fresh
    from the system and gives back at once, and the system fills every page with zeros again: on two cores of an AMD EPYC a
    fifth of the time of a training step of two LSTM layers of 320. The process then stays as large as it once was.

    Returns:
      Whether it was done: the C library is glibc, or has its ``mallopt``.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    # No allocation is a mapping of its own, and the heap is never trimmed. Threads share it: what is larger than 64 MiB does
    # not fit into an arena of their own and would be mapped all the same.
    return all([mallopt(_ARENA_MAX, 1), mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, -1)])


_WORTH = {
    "cpu": """
On two cores of an AMD EPYC, jax 0.10.1:

sj.train.use_cores(batch_size)
    One device a core, the batch split over them; XLA's flag for it is --xla_force_host_platform_device_count.
    Gradients of one layer take 0.69 to 1.06 of the time, a training step of two LSTM layers of 320 takes 0.70 to 0.89;
    on an Intel Xeon 0.57 to 1.00 and 0.70.
sj.train.keep_memory()
    Memory that is freed is kept. A training step of two LSTM layers of 320 takes 0.8 of the time; on an Intel Xeon
    gradients of one layer whose temporary results have 50 MB and more take 0.78 to 0.94, smaller ones 0.95 to 1.12.

Beside keep_memory, gradients of one layer; on the Xeon all five take 0.92 to 1.03:
    --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_RUNTIME  0.90 to 0.97, as much as the same setting differs from run to run
    --xla_cpu_multi_thread_eigen=false                0.98 to 1.00
    --xla_cpu_prefer_vector_width=512                 0.97 to 1.05
    --xla_cpu_use_xnnpack=true                        0.96 to 1.06
    --xla_cpu_use_onednn=true                         0.96 to 1.03
""".strip()
}


def settings(device="cpu"):
    """What is worth setting for the whole process on a kind of device, and what is not, as a text to print. It sets nothing.

    Args:
      device: what ``jax.default_backend()`` gives: "cpu", "gpu", "tpu".

    Raises:
      ValueError: nothing was measured on such a device.
    """
    if device not in _WORTH:
        measured = ", ".join(_WORTH)
        raise ValueError(
            f"settings: nothing was measured on {device!r}, only on {measured}; python -m benchmarks settings measures it."
        )
    return _WORTH[device]
