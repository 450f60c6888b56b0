"""What is asked of a decoder, checked and put into one form: where it starts, when it stops, what may come."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.decode import asking, constraints
from seqjax.decode.fixed import Parts, examine
from seqjax.precision import at_least_float32


class Problem(NamedTuple):
    """Everything that drawing and searching have in common."""

    step: Callable
    carry: Any  # before the first symbol; its untouched leaves are those of every step
    token: jax.Array  # [B]
    parts: Parts
    length: int
    stop: tuple[int, ...]
    pad: int
    constraint: constraints.Constraint

    @property
    def batch(self):
        return len(self.token)

    @property
    def symbols(self):
        return self.parts.logits.shape[-1]

    @property
    def dtype(self):
        """Of scores: float32 at least."""
        return at_least_float32(self.parts.logits.dtype)

    def start(self):
        """The state of the constraints before the first symbol."""
        return self.constraint.start(self.token, self.symbols)

    def advance(self, moving, token):
        """One step: the leaves that moved, the carry as a whole, and the logits."""
        carry, logits = self.step(self.parts.whole(moving, self.carry), token)
        return self.parts.moving(carry), carry, logits

    def allowed(self, limits, step):
        """bool ``[B, V]``."""
        return jnp.broadcast_to(self.constraint.allowed(limits, step, self.symbols), (self.batch, self.symbols))

    def log_probabilities(self, logits, chosen):
        """Of symbols that have these logits ``[B, K]``, minus infinity for none, beside all those of a step ``[B, V]``."""
        top = lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True)).astype(self.dtype)
        none = top == -jnp.inf  # of a step without any symbol the logarithm were NaN
        top = jnp.where(none, 0, top)
        total = jnp.sum(jnp.exp(logits.astype(self.dtype) - top), axis=-1, keepdims=True)
        normalizer = top + jnp.log(jnp.where(none, 1, total))
        return jnp.where(chosen == -jnp.inf, -jnp.inf, chosen.astype(self.dtype) - normalizer)

    def stops(self, token):
        """Which of these symbols end their sequence."""
        return jnp.isin(token, jnp.asarray(self.stop, token.dtype))


def pose(name, step, carry, token, *, length, stop, pad, min_length, prefix, prefix_mask, constrain, alone=True):
    """Checks what was asked for; ``alone`` is whether sequences of a batch may end or branch one by one."""
    asking.whole_number(name, "length", length, 1)
    asking.whole_number(name, "min_length", min_length, 0, length)
    asking.tokens(name, "token", token, ("B",))
    carry, token = jax.tree.map(jnp.asarray, carry), jnp.asarray(token)
    stop, parts = asking.stops(name, stop), examine(name, step, carry, token)
    batch, symbols = parts.logits.shape
    asking.room(name, token.dtype, symbols)
    asking.symbols_of(name, "stop token", stop, symbols)
    asking.prefix(name, prefix, prefix_mask, batch, length, symbols, stop)
    if alone or stop:
        asking.batched(name, carry, [not fixed for fixed in parts.fixed], batch)
    pad = pad if pad is not None else stop[0] if stop else 0
    chosen = [] if constrain is None else [constrain]
    if min_length > 1 and stop:
        chosen.append(constraints.at_least(min_length, stop))
    if prefix is not None:
        mask = jnp.ones(prefix.shape, bool) if prefix_mask is None else jnp.asarray(prefix_mask)
        chosen.append(constraints.forced(jnp.asarray(prefix), mask))
    return Problem(step, carry, token, parts, length, stop, pad, constraints.chain(*chosen))
