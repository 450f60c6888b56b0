"""One sequence for each start: drawn, or the likeliest symbol at every step."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax import masks
from seqjax.decode import asking
from seqjax.decode.largest import largest
from seqjax.decode.problem import pose
from seqjax.precision import at_least_float32


class Decoded(NamedTuple):
    """What was written."""

    carry: Any  # the state before the last symbol of each sequence: decoding goes on with it and that symbol
    tokens: jax.Array  # [T, B], padding after the end of a sequence
    lengths: jax.Array  # [B], symbols of each sequence, the one that stopped it among them
    scores: jax.Array  # [B], log-probability of the sequence, nats


class _State(NamedTuple):
    carry: list  # the leaves that move, [B, ...]
    token: jax.Array  # [B], the last symbol of a sequence, also where it is finished
    finished: jax.Array  # [B]
    lengths: jax.Array  # [B]
    scores: jax.Array  # [B]
    limits: Any  # of the constraints, [B, ...]


def sample(
    step,
    carry,
    token,
    key,
    *,
    length,
    temperature=1.0,
    top_k=None,
    top_p=None,
    min_p=None,
    stop=(),
    pad=None,
    min_length=0,
    prefix=None,
    prefix_mask=None,
    constrain=None,
):
    r"""Draws symbols one after the other, each fed back as the next input.

    .. math::
       y_t \sim p(y \mid y_{<t})^{1/\tau} / Z_t, \qquad \mathrm{score} = \sum_t \log p(y_t \mid y_{<t})

    Symbols are left out in this order: what a constraint does not allow, then, at the temperature given, ``top_k``,
    ``top_p`` of what is left, and ``min_p``. Scores are those of the model itself, p, whatever was left out. Their
    gradients, with respect to what the step depends on, are those of the log-probability of what was drawn.

    Once every sequence of the batch has met its ``stop``, no step is computed any more.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before ``token``.
      token: the symbol to start from, int ``[B]``; it is not part of what is returned.
      key: a random key.
      length: T, how many symbols to draw, at most if there is a ``stop``.
      temperature: logits are divided by it; 0 takes the likeliest symbol.
      top_k: draw among the k likeliest symbols only.
      top_p: draw among the fewest symbols that together have at least this probability (Holtzman et al. 2020).
      min_p: draw among the symbols with at least this share of the largest probability (Nguyen et al. 2024).
      stop: a symbol, or several, with which a sequence ends.
      pad: what stands after the end; the first of ``stop`` if not given.
      min_length: no sequence has fewer symbols, the one that stops it among them.
      prefix: the first symbols, forced, int ``[P, B]``; they count in lengths and scores.
      prefix_mask: bool ``[P, B]``, True = forced, for prefixes of different lengths (see :func:`seqjax.length_mask`).
      constrain: a :class:`Constraint`.

    Returns:
      :class:`Decoded`.

    Raises:
      ValueError: a setting is out of its range, or a shape is wrong.

    Where frameworks disagree: the temperature comes before ``top_p`` and ``min_p`` here, as in Hugging Face's generate and
    in vLLM; llama.cpp applies it after them.

    References:
      Holtzman, Buys, Du, Forbes and Choi, `The Curious Case of Neural Text Degeneration <https://arxiv.org/abs/1904.09751>`_,
      2020. Nguyen, Baker, Neo, Roush, Kirsch and Shwartz-Ziv, `Turning Up the Heat: Min-p Sampling for Creative and Coherent
      LLM Outputs <https://arxiv.org/abs/2407.01082>`_, 2024.
    """
    asking.draws(temperature, top_k, top_p, min_p)
    asked = {"prefix": prefix, "prefix_mask": prefix_mask, "min_length": min_length, "constrain": constrain}
    problem = pose("sample", step, carry, token, length=length, stop=stop, pad=pad, alone=False, **asked)
    draw = functools.partial(choose, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    return _write(problem, draw, jax.random.split(key, length))


def greedy(step, carry, token, *, length, stop=(), pad=None, min_length=0, prefix=None, prefix_mask=None, constrain=None):
    """Takes the likeliest symbol at every step: :func:`sample` at temperature 0, without a key.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before ``token``.
      token: the symbol to start from, int ``[B]``.
      length: T, the number of symbols, at most if there is a ``stop``.
      stop: as for :func:`sample`, and so are ``pad``, ``min_length``, ``prefix``, ``prefix_mask`` and ``constrain``.

    Returns:
      :class:`Decoded`.
    """
    asked = {"prefix": prefix, "prefix_mask": prefix_mask, "min_length": min_length, "constrain": constrain}
    problem = pose("greedy", step, carry, token, length=length, stop=stop, pad=pad, alone=False, **asked)
    return _write(problem, lambda key, logits: _likeliest(logits), None)


def choose(key, logits, *, temperature=1.0, top_k=None, top_p=None, min_p=None):
    """One symbol from logits ``[B, V]``: int ``[B]``. Settings as for :func:`sample`."""
    if temperature == 0:
        return _likeliest(logits)
    logits = logits.astype(at_least_float32(logits.dtype)) / temperature  # noise of bfloat16 has 128 values
    if top_k is not None and top_k < logits.shape[-1]:
        logits = jnp.where(logits < largest(logits, top_k)[0][..., -1:], -jnp.inf, logits)
    if top_p is not None and top_p < 1:
        logits = jnp.where(_outside(logits, top_p), -jnp.inf, logits)
    if min_p:
        logits = jnp.where(logits < jnp.max(logits, axis=-1, keepdims=True) + math.log(min_p), -jnp.inf, logits)
    return jax.random.categorical(key, logits)


def _likeliest(logits):
    _, token = largest(logits, 1)
    return token[..., 0]


def _outside(logits, top_p):
    """True for symbols outside of the nucleus: those before which the likelier ones already have probability top_p."""
    order = jnp.argsort(-logits, axis=-1)
    probabilities = jnp.take_along_axis(jax.nn.softmax(logits), order, axis=-1)
    before = jnp.cumsum(probabilities, axis=-1) - probabilities
    return jnp.take_along_axis(before >= top_p, jnp.argsort(order, axis=-1), axis=-1)


def _write(problem, pick, keys):
    """The loop: a step, a symbol, its score. Once all are finished it only counts."""

    def body(state, inputs):
        if not problem.stop:
            return _next(problem, pick, state, *inputs)
        go_on = functools.partial(_next, problem, pick)
        return lax.cond(jnp.all(state.finished), functools.partial(_rest, problem.pad), go_on, state, *inputs)

    zeros, nothing = jnp.zeros((problem.batch,), jnp.int32), jnp.zeros((problem.batch,), problem.dtype)
    moving = problem.parts.moving(problem.carry)
    start = _State(moving, problem.token, zeros.astype(bool), zeros, nothing, problem.start())
    last, tokens = lax.scan(body, start, (jnp.arange(problem.length), keys), length=problem.length)
    return Decoded(problem.parts.whole(last.carry, problem.carry), tokens, last.lengths, last.scores)


def _next(problem, pick, state, step, key):
    """The state after one more symbol, and what is written: of a finished sequence padding, and all else stays."""
    moving, _, logits = problem.advance(state.carry, state.token)
    allowed = jnp.where(problem.allowed(state.limits, step), logits, -jnp.inf)
    token = pick(key, allowed).astype(state.token.dtype)
    score = problem.log_probabilities(logits, jnp.take_along_axis(allowed, token[:, None], axis=-1))[:, 0]
    valid = ~state.finished if problem.stop else None
    said = masks.hold(valid, token, jnp.full_like(token, problem.pad))
    after = _State(
        [masks.hold(valid, *pair) for pair in zip(moving, state.carry, strict=True)],
        masks.hold(valid, token, state.token),
        state.finished | problem.stops(token),
        state.lengths + (~state.finished).astype(jnp.int32),
        state.scores + masks.hold(valid, score, jnp.zeros_like(score)),
        problem.constraint.after(state.limits, token),
    )
    return after, said


def _rest(pad, state, step, key):
    return state, jnp.full_like(state.token, pad)
