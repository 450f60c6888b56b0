"""What may come next: constraints that ride in the loop, and are reordered with the hypotheses of a beam."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from seqjax.decode import asking


class Constraint(NamedTuple):
    """Three functions that say which symbols may come next.

    A constraint chooses among symbols, it does not change what they are worth: scores remain log-probabilities of the model.
    Where it leaves no symbol at all a sequence is dead: a beam drops it, and a draw that must go on scores minus infinity.

    Args:
      start: ``(token [B], symbols) -> state``: the state before the first symbol, a tree of arrays ``[B, ...]``. ``token``
        is what decoding starts from and ``symbols`` is V.
      allowed: ``(state, step, symbols) -> bool [B, V]``, or what broadcasts to it: True = may be symbol number ``step``.
      after: ``(state, token [B]) -> state``: the state once that symbol has been taken.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> alternate = sj.decode.Constraint(  # even and odd symbols take turns
      ...     start=lambda token, symbols: token % 2,
      ...     allowed=lambda odd, step, symbols: jnp.arange(symbols) % 2 != odd[:, None],
      ...     after=lambda odd, token: token % 2,
      ... )
      >>> step = lambda carry, token: (carry, jnp.array([[3.0, 2.0, 1.0, 0.0]]))
      >>> sj.decode.greedy(step, (), jnp.array([0]), length=5, constrain=alternate).tokens[:, 0]
      Array([1, 0, 1, 0, 1], dtype=int32)
    """

    start: Callable[..., Any]
    allowed: Callable[..., Any]
    after: Callable[..., Any]


def _stateless(allowed, check=lambda token, symbols: None):
    def start(token, symbols):
        check(token, symbols)
        return ()

    return Constraint(start, lambda state, step, symbols: allowed(step, symbols), lambda state, token: state)


def chain(*constraints):
    """All of these constraints at once; none of them allows everything."""

    def allowed(states, step, symbols):
        every = jnp.ones((), bool)
        for constraint, state in zip(constraints, states, strict=True):
            every = every & constraint.allowed(state, step, symbols)
        return every

    return Constraint(
        lambda token, symbols: tuple(c.start(token, symbols) for c in constraints),
        allowed,
        lambda states, token: tuple(c.after(state, token) for c, state in zip(constraints, states, strict=True)),
    )


def forbid(*tokens):
    """Never one of these symbols, such as the one that stands for what is unknown."""
    return _stateless(
        lambda step, symbols: ~among(tokens, symbols),
        lambda token, symbols: asking.symbols_of("forbid", "tokens", tokens, symbols),
    )


def within(mask):
    """Only symbols that a mask marks, bool ``[B, V]`` or ``[V]``: such as the positions that an input of its length has."""

    def check(token, symbols):
        if mask.dtype != bool or tuple(mask.shape) not in ((len(token), symbols), (symbols,)):
            raise ValueError(
                f"within: expected a mask bool [{len(token)}, {symbols}] or [{symbols}], True = may come; "
                f"got {mask.dtype}{list(mask.shape)}."
            )

    return _stateless(lambda step, symbols: mask, check)


def no_repeat(*, free=(), visited=None):
    """No symbol twice, as for a tour through the positions of an input (Vinyals et al. 2015).

    Args:
      free: symbols that may be repeated, such as the one that ends a sequence.
      visited: what counts as visited before the first symbol, bool ``[B, V]``; None for nothing, so that the symbol that
        decoding starts from may come once more.

    References:
      Vinyals, Fortunato and Jaitly, `Pointer Networks <https://arxiv.org/abs/1506.03134>`_, 2015.
    """

    def start(token, symbols):
        asking.symbols_of("no_repeat", "free", free, symbols)
        shape = (len(token), symbols)
        if visited is None:
            return jnp.zeros(shape, bool)
        if tuple(visited.shape) != shape or visited.dtype != bool:
            raise ValueError(f"no_repeat: expected visited bool {list(shape)}, got {visited.dtype}{list(visited.shape)}.")
        return jnp.asarray(visited)

    return Constraint(
        start,
        lambda seen, step, symbols: ~seen | among(free, symbols),
        lambda seen, token: seen | (token[:, None] == jnp.arange(seen.shape[-1], dtype=token.dtype)),
    )


def forced(prefix, mask):
    """Exactly these symbols, int ``[P, B]``, at the steps that ``mask [P, B]`` marks."""

    def allowed(step, symbols):
        row = jnp.minimum(step, len(prefix) - 1)
        free = (step >= len(prefix)) | ~mask[row]
        return free[:, None] | (prefix[row][:, None] == jnp.arange(symbols, dtype=prefix.dtype))

    return _stateless(allowed)


def at_least(length, stop):
    """No sequence of fewer symbols than ``length``, the one that stops it among them."""
    return _stateless(lambda step, symbols: ~among(stop, symbols) | (step + 1 >= length))


def among(tokens, symbols):
    """Which of V symbols are among ``tokens``: a bool array ``[V]`` of NumPy."""
    return np.isin(np.arange(symbols), tokens)
