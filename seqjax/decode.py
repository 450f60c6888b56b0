"""Drawing sequences from a model, compiled: for anything with ``step(carry, token) -> (carry, logits)``."""

import jax
import jax.numpy as jnp
from jax import lax


def sample(step, carry, token, key, *, length, temperature=1.0, top_k=None, top_p=None):
    """Draws symbols one after the other, each fed back as the next input.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before ``token``.
      token: the symbol to start from, int ``[B]``; it is not part of what is returned.
      key: a random key.
      length: T, how many symbols to draw.
      temperature: logits are divided by it; 0 takes the likeliest symbol.
      top_k: draw among the k likeliest symbols only.
      top_p: draw among the fewest symbols that together have at least this probability (Holtzman et al. 2020).

    Returns:
      ``(carry, tokens)``: the state before the last symbol drawn, and the symbols, int ``[T, B]``; drawing goes on with
      ``carry`` and ``tokens[-1]``.

    Raises:
      ValueError: a setting is out of its range.
    """
    _check(length, temperature, top_k, top_p)

    def draw(state, key):
        carry, token = state
        carry, logits = step(carry, token)
        token = choose(key, logits, temperature=temperature, top_k=top_k, top_p=top_p).astype(token.dtype)
        return (carry, token), token

    (carry, _), tokens = lax.scan(draw, (carry, token), jax.random.split(key, length))
    return carry, tokens


def choose(key, logits, *, temperature=1.0, top_k=None, top_p=None):
    """One symbol from logits ``[B, V]``: int ``[B]``. Settings as for :func:`sample`."""
    if temperature == 0:
        return jnp.argmax(logits, axis=-1)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits = jnp.where(logits < lax.top_k(logits, top_k)[0][..., -1:], -jnp.inf, logits)
    if top_p is not None and top_p < 1:
        logits = jnp.where(_outside(logits, top_p), -jnp.inf, logits)
    return jax.random.categorical(key, logits)


def _outside(logits, top_p):
    """True for symbols outside of the nucleus: those before which the likelier ones already have probability top_p."""
    order = jnp.argsort(-logits, axis=-1)
    probabilities = jnp.take_along_axis(jax.nn.softmax(logits), order, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return jnp.take_along_axis(before >= top_p, jnp.argsort(order, axis=-1), axis=-1)


def _check(length, temperature, top_k, top_p):
    if length < 1:
        raise ValueError(f"sample: length must be at least 1, got {length}.")
    if not temperature >= 0:  # not a number is neither
        raise ValueError(f"sample: temperature must be at least 0 (0 takes the likeliest symbol), got {temperature}.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"sample: top_k must be at least 1, or None for all symbols; got {top_k}.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"sample: top_p must be in (0, 1], got {top_p}.")
