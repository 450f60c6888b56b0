"""Cells that break one law each, on purpose: what the laws are for."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import Elman

_kept = []

record = dataclasses.dataclass(frozen=True, repr=False)


@record
class Unhashable(Elman):
    """Has a field that cannot be hashed."""

    tags: list = dataclasses.field(default_factory=list, kw_only=True)


@record
class Hidden(Elman):
    """Has a setting that equality does not see."""

    gain: float = dataclasses.field(default=1.0, kw_only=True, compare=False)


@record
class Faint(Elman):
    """Starts with weights that let nearly nothing in."""

    def init(self, key, xs):
        return jax.tree.map(lambda p: 0.01 * p, super().init(key, xs))


@record
class ReadsValues(Elman):
    """Makes its first parameters from the values of the inputs."""

    def init(self, key, xs):
        params = super().init(key, xs)
        return params | {"bias": params["bias"] + (0 if isinstance(xs, jax.ShapeDtypeStruct) else xs.mean())}


@record
class Centred(Elman):
    """Subtracts the mean over time, so that a step depends on those around it."""

    def apply(self, params, carry, xs, **options):
        return super().apply(params, carry, xs - xs.mean(0), **options)


@record
class Forgetful(Elman):
    """Starts every chunk anew."""

    def apply(self, params, carry, xs, **options):
        return super().apply(params, jax.tree.map(jnp.zeros_like, carry), xs, **options)


@record
class TwoMinded(Elman):
    """Has a step that is not the gate of its recurrent product."""

    def step(self, params, carry, u):
        carry, y = super().step(params, carry, u)
        return carry, 2 * y


@record
class Squashed(Elman):
    """Has a recurrent product that is not linear in its parameters."""

    def recur(self, params, carry):
        return carry.h @ jnp.tanh(params["recurrent_kernel"])


@record
class Coupled(Elman):
    """Mixes the sequences of a batch in its recurrent product, which an engine flattens with time."""

    def recur(self, params, carry):
        r = super().recur(params, carry)
        return r - r.mean(0)


@record
class Deaf(Elman):
    """Does not listen to the mask."""

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        return super().apply(params, carry, xs, resets=resets, key=key)


@record
class HalfDeaf(Elman):
    """Zeroes masked outputs, but goes on with a state that has read the padding."""

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        carry, ys = super().apply(params, carry, jnp.nan_to_num(xs), resets=resets, key=key)
        return carry, ys if mask is None else jnp.where(mask[..., None], ys, jnp.zeros((), ys.dtype))


@record
class Unbroken(Elman):
    """Does not listen to resets."""

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        return super().apply(params, carry, xs, mask=mask, key=key)


@record
class Foresees(Elman):
    """Reads the next input along with each input."""

    def apply(self, params, carry, xs, **options):
        return super().apply(params, carry, xs + jnp.concatenate([xs[1:], jnp.zeros_like(xs[:1])]), **options)


@record
class ForeseesQuietly(Elman):
    """Reads the next input where gradients do not show it."""

    def apply(self, params, carry, xs, **options):
        later = jax.lax.stop_gradient(jnp.concatenate([xs[1:], jnp.zeros_like(xs[:1])]))
        return super().apply(params, carry, xs + later, **options)


@record
class Modest(Elman):
    """Says that it reads the future, and does not."""

    causal = False


@record
class SecretlyRandom(Elman):
    """Uses a key without saying so."""

    def apply(self, params, carry, xs, *, key=None, **options):
        xs = xs if key is None else xs + jax.random.normal(key, xs.shape, xs.dtype)
        return super().apply(params, carry, xs, **options)


@record
class SaysItIsRandom(Elman):
    """Says that it uses a key, and does not."""

    stochastic = True


@jax.custom_batching.custom_vmap
def _unit(xs):
    return jnp.ones_like(xs)


@_unit.def_vmap
def _unit_batched(axis_size, in_batched, xs):
    return jnp.zeros_like(xs), in_batched[0]


@record
class Singular(Elman):
    """Uses an operation that does something else under ``jax.vmap``."""

    def apply(self, params, carry, xs, **options):
        return super().apply(params, carry, xs * jax.lax.stop_gradient(_unit(jax.lax.stop_gradient(xs))), **options)


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class ByIdentity(Elman):
    """Is equal to itself only."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@record
class Hoards(Elman):
    """Keeps what it was called with."""

    def gate(self, params, carry, u, r):
        _kept.append(r)
        return super().gate(params, carry, u, r)


@record
class Narrow(Elman):
    """Has a state in bfloat16 that nobody asked for."""

    def initial_carry(self, params, batch_shape):
        return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), super().initial_carry(params, batch_shape))


@record
class Widens(Elman):
    """Returns float32, whatever came in."""

    def apply(self, params, carry, xs, **options):
        carry, ys = super().apply(params, carry, xs, **options)
        return carry, ys.astype(jnp.float32)


@record
class Amnesic(Elman):
    """Remembers nothing."""

    def recur(self, params, carry):
        return 0 * super().recur(params, carry)


@record
class Silent(Elman):
    """Computes nothing at all."""

    def recur(self, params, carry):
        return 0 * super().recur(params, carry)

    def gate(self, params, carry, u, r):
        return carry, 0 * u


BROKEN = {
    "record": (Unhashable, Hidden),
    "init": (Faint, ReadsValues),
    "step": (Centred, Forgetful),
    "split": (Forgetful, Centred),
    "loop": (TwoMinded, Centred, Amnesic),
    "recur": (Squashed,),
    "engines": (Coupled,),
    "axes": (Coupled,),
    "padding": (Deaf, HalfDeaf),
    "reset": (Unbroken,),
    "reverse": (Deaf,),
    "causality": (Foresees, ForeseesQuietly, Modest, Amnesic),
    "key": (SecretlyRandom, SaysItIsRandom),
    "vmap": (Singular,),
    "jit": (ByIdentity, Hoards),
    "precision": (Narrow, Widens),
    "learns": (Amnesic,),
}
