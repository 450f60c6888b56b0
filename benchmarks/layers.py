"""Cases of a recurrence over a batch: ours on one device and on all, and what peers make of the same weights."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import seqjax as sj
from benchmarks import measure, peers, torch_peer

OURS = "seqjax"


def case(name, recurrence, size, kind, options, *, ragged=False):
    """A case of the forward pass, or of forward and backward, of a recurrence at a size.

    Args:
      name: of the recurrence, in a word.
      recurrence: a cell, a stack or both directions; its parameters are drawn, biases too.
      size: a Size.
      kind: "forward" or "gradient".
      options: which peers.
      ragged: whether sequences have lengths from T/2 to T.
    """
    params, xs, lengths = draw(recurrence, size, ragged)
    programs = dict(ours(recurrence, params, xs, lengths, kind))
    for peer, run, arguments in theirs(recurrence, params, xs, lengths, kind, options):
        read = functools.partial(_read, kind, 0 if peer.time_major else 1)
        programs[peer.name] = measure.Program(measure.compiled(run, *arguments), read)
    programs |= torchs(recurrence, params, xs, lengths, kind, options)
    return measure.Case(f"{name} {size}", {"cell": name, **size._asdict()}, programs)


def jax_functions(recurrence, size, kind, options):
    """``(name, function, arguments)`` of ours and of each JAX peer, nothing compiled."""
    params, xs, _ = draw(recurrence, size)
    yield OURS, function(apply_of(recurrence), kind), (params, xs, None)
    for peer, run, arguments in theirs(recurrence, params, xs, None, kind, options):
        yield peer.name, run, arguments


def draw(recurrence, size, ragged=False):
    """Parameters, inputs [T, B, D] and lengths [B], or None."""
    rng = np.random.default_rng(0)
    xs = jnp.asarray(rng.normal(size=(size.T, size.B, size.D)), jnp.float32)
    params = recurrence.init(jax.random.key(0), xs)
    params = jax.tree.map(
        lambda leaf: leaf + 0.1 * rng.normal(size=leaf.shape).astype(leaf.dtype) * (leaf.ndim == 1), params
    )
    lengths = jnp.asarray(rng.integers(size.T // 2, size.T + 1, size.B)) if ragged else None
    return params, xs, lengths


def function(apply, kind):
    """What is measured of ``apply(weights, xs, lengths) -> ys``."""
    if kind == "forward":
        return apply

    def loss(weights, xs, lengths):
        return jnp.sum(apply(weights, xs, lengths) ** 2)

    return jax.grad(loss, argnums=(0, 1))


def apply_of(recurrence):
    """A recurrence as ``apply(params, xs, lengths) -> ys``."""

    def apply(params, xs, lengths):
        mask = None if lengths is None else sj.length_mask(lengths, len(xs))
        return recurrence.apply(params, recurrence.initial_carry(params, recurrence.batch_shape(xs)), xs, mask=mask)[1]

    return apply


def ours(recurrence, params, xs, lengths, kind):
    """Our programs by name: on one device, and with the batch split over all."""
    return programs_of(OURS, function(apply_of(recurrence), kind), params, xs, lengths, kind)


def programs_of(name, run, params, xs, lengths, kind):
    """Programs of what :func:`function` gives, by name: on one device, and with the batch split over all."""
    read = functools.partial(_read, kind, 0)
    yield name, measure.Program(measure.compiled(run, params, xs, lengths), read)
    devices = len(jax.devices())
    if devices > 1 and xs.shape[1] % devices == 0:
        function_of_all, places = split(run, kind, devices)
        arguments = [jax.device_put(tree, place) for tree, place in zip((params, xs, lengths), places, strict=True)]
        yield on(name, devices), measure.Program(measure.compiled(function_of_all, *arguments), read)


def on(name, devices):
    """What a program of a peer is called on so many devices."""
    return name if devices == 1 else f"{name}, {devices} devices"


def split(run, kind, devices):
    """The same with the batch split over devices, gradients of weights summed; and where its arguments belong."""
    rows, whole = PartitionSpec(None, "batch"), PartitionSpec()
    inputs = whole, rows, PartitionSpec("batch")

    def shard(weights, xs, lengths):
        result = run(weights, xs, lengths)
        return result if kind == "forward" else (_sum_over_devices(result[0]), result[1])

    return spread(shard, inputs, rows if kind == "forward" else (whole, rows), devices)


def spread(run, inputs, outputs, devices):
    """A function on so many devices, of which each has its part of the axis "batch"; and where its arguments belong."""
    mesh = jax.make_mesh((devices,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    split_up = jax.shard_map(run, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    return split_up, [NamedSharding(mesh, spec) for spec in inputs]


def _sum_over_devices(tree):
    vector, restore = jax.flatten_util.ravel_pytree(tree)
    return restore(jax.lax.psum(vector, "batch"))


def theirs(recurrence, params, xs, lengths, kind, options):
    """``(peer, function, arguments)`` of each JAX peer that is installed, wanted, and has such a recurrence."""
    for peer in peers.PEERS:
        if not (options.wants(peer.name) and peer.is_installed() and (peer.ragged or lengths is None)):
            continue
        try:
            weights, apply = peers.model(peer, recurrence, params)
        except KeyError:  # it has no such cell
            continue
        arguments = weights, xs if peer.time_major else jnp.swapaxes(xs, 0, 1), lengths
        yield peer, function(_without_padding(peer, apply), kind), arguments


def torchs(recurrence, params, xs, lengths, kind, options):
    """The program of PyTorch by its name, or none where it is not installed or not wanted."""
    if not (options.wants(torch_peer.NAME) and torch_peer.is_installed()):
        return {}
    return {torch_peer.NAME: torch_peer.program(recurrence, params, xs, lengths, kind)}


def _without_padding(peer, apply):
    """A peer's outputs, zero in the padding: what some leave there counts in no loss."""

    def padded(weights, xs, lengths):
        ys = apply(weights, xs, lengths)
        if lengths is None:
            return ys
        valid = sj.length_mask(lengths, ys.shape[0 if peer.time_major else 1])
        return jnp.where((valid if peer.time_major else valid.T)[..., None], ys, 0)

    return padded


def _read(kind, time, result):
    """Outputs, or gradients of the inputs, [T, B, ...]."""
    return np.moveaxis(np.asarray(result if kind == "forward" else result[1]), time, 0)
