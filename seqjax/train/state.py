"""The state of a training run, and the one function that advances it."""

from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from seqjax.precision import at_least_float32, cast_like


class TrainState(NamedTuple):
    """Everything that the next step depends on, but the data."""

    step: jax.Array  # int32 [], steps taken
    params: Any  # what is learned
    opt_state: Any  # the optimizer's
    carry: Any  # recurrent state after the last chunk, batch first; () where nothing is carried
    average: Any  # moving average of params, or ()
    key: jax.Array  # the random key of the run; step t draws from fold_in(key, t)

    @property
    def weights(self):
        """The parameters to evaluate and to keep: the average where there is one, in their dtypes."""
        if not jax.tree.leaves(self.average):
            return self.params
        return cast_like(self.average, self.params)


def create(params, optimizer, key, *, carry=(), average=False):
    """The state before the first step.

    Args:
      params: initial parameters, any tree of arrays.
      optimizer: an Optax transformation.
      key: the random key of the run.
      carry: the recurrent state before the first chunk, batch axis first.
      average: whether to keep a moving average of the parameters, in float32 at least: steps of it are too small for less.
    """
    # The step donates its state: what the caller holds must stay alive.
    params, carry, key = jax.tree.map(jnp.copy, (params, carry, key))
    shadow = jax.tree.map(_shadow, params) if average else ()
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), carry, shadow, key)


def _shadow(p):
    return jnp.array(p, at_least_float32(p.dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p.dtype)


def step_function(loss, optimizer, *, devices=1, average=None):
    """Compiles one step of training: ``(state, batch) -> (state, metrics)``. The state given is donated.

    The batch and the carry are split over devices along their first axis; gradients, loss and metrics are averaged over
    them. A loss that is a mean over fewer items than the batch has, such as the steps that a mask leaves, says how many with
    ``metrics["weight"]``, so that the same comes out of any number of devices. Gradients reach back to the start of the
    chunk and no further; the carry goes on.

    Args:
      loss: ``(params, carry, batch, key) -> (loss, (carry, metrics))``, the mean over the batch it is given; metrics is a
        dict of scalars, of which ``"weight"``, where there is one, is the number of items that the mean is over.
      optimizer: an Optax transformation.
      devices: over how many devices to split the batch.
      average: decay of the moving average of the parameters, or None. It is ramped up, ``min(average, (1 + t) / (10 + t))``.

    Returns:
      the step; metrics has ``loss`` and ``gradient_norm`` (global, before clipping) besides those of ``loss``.

    Raises:
      ValueError: more devices are asked for than there are, or (from the step) the state has a moving average and
        ``average`` is None, or the other way round.
    """
    if not 1 <= devices <= len(jax.devices()):
        raise ValueError(
            f"step_function: devices={devices}, but there are {len(jax.devices())} ({jax.default_backend()}); on a CPU set "
            "jax.config.update('jax_num_cpu_devices', n) before JAX starts."
        )
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices])
    split, whole = PartitionSpec("batch"), PartitionSpec()

    def gradients(params, carry, batch, key):
        key = jax.random.fold_in(key, jax.lax.axis_index("batch"))
        (value, (carry, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(params, carry, batch, key)
        metrics = {"loss": value, **metrics}
        grads, metrics = _mean_over_devices((grads, metrics), metrics.pop("weight", None))
        return grads, jax.lax.stop_gradient(carry), metrics

    shared = jax.shard_map(
        gradients, mesh=mesh, in_specs=(whole, split, split, whole), out_specs=(whole, split, whole), check_vma=False
    )

    def advance(state, batch):
        check_average("step_function", average, state)
        key = jax.random.fold_in(state.key, state.step)
        grads, carry, metrics = shared(state.params, state.carry, batch, key)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        shadow = state.average
        if average is not None:
            decay = jnp.minimum(average, (1.0 + state.step) / (10.0 + state.step))
            shadow = optax.incremental_update(cast_like(params, state.average), state.average, 1.0 - decay)
        return TrainState(state.step + 1, params, opt_state, carry, shadow, state.key), metrics

    replicated, rows = NamedSharding(mesh, whole), NamedSharding(mesh, split)
    layout: Any = TrainState._make([replicated] * len(TrainState._fields))._replace(carry=rows)
    compiled = jax.jit(advance, donate_argnums=0, in_shardings=(layout, rows), out_shardings=(layout, replicated))

    one_at_a_time = devices > 1 and jax.default_backend() == "cpu"
    running: list = []

    def step(state, batch):
        _divides(devices, batch)
        if one_at_a_time:
            jax.block_until_ready(running)
        if getattr(state.step, "sharding", None) != replicated:  # else the second step would be compiled again
            state = jax.device_put(state, layout, donate=True)
        state, metrics = compiled(state, batch)
        running[:] = [metrics["loss"]]
        return state, metrics

    return step


def check_average(name, average, state):
    """Refuses a decay without a moving average, and a moving average that nothing would change."""
    kept = bool(jax.tree.leaves(state.average))
    if average is not None and not kept:
        raise ValueError(f"{name}: average={average}, but the state has no moving average; use create(..., average=True).")
    if average is None and kept:
        raise ValueError(f"{name}: the state has a moving average, but there is no decay; set average, such as 0.999.")


def _mean_over_devices(tree, weight):
    """The mean over devices, weighted where there is a weight, in one collective.

    On a CPU a collective blocks one of as many threads as there are cores. Several at once, of one step or of two steps in
    flight, can block all of them, and the devices wait for each other for ever (seen with jaxlib 0.10.1).
    """
    vector, restore = jax.flatten_util.ravel_pytree(tree)
    if weight is None:
        return restore(jax.lax.pmean(vector, "batch"))
    weight = jnp.asarray(weight, vector.dtype)
    sums = jax.lax.psum(jnp.append(vector * weight, weight), "batch")
    return restore(sums[:-1] / jnp.maximum(sums[-1], jnp.finfo(sums.dtype).tiny))


def _divides(devices, batch):
    rows = {np.shape(leaf)[0] for leaf in jax.tree.leaves(batch)}
    if any(r % devices for r in rows):
        raise ValueError(
            f"step_function: a batch of {sorted(rows)} cannot be split over {devices} devices; change one of them."
        )
