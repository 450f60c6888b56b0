"""Pointing: outputs that are positions of a memory, and words that are said or copied."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.attention.read import Memory
from seqjax.attention.reading import APART, Reading, batched
from seqjax.engines.choice import Choices
from seqjax.precision import at_least_float32, cast


class PointerCarry(NamedTuple):
    """State of a cell that points."""

    state: Any  # of the cell inside
    memory: Memory  # never changed


@dataclasses.dataclass(frozen=True, repr=False)
class Pointer(Reading):
    r"""A cell whose outputs are logits over the positions of a memory: a dictionary as long as the input.

    .. math::
        s_t, h_t = \mathrm{cell}(x_t, s_{t-1}) \qquad y_{t,s} = a(h_t, m_s) / \tau

    and minus infinity where there is nothing, so that such positions have probability and gradient of exactly zero. Inputs
    are, as a rule, what stands at the position pointed to before. For the glimpse of Bello et al. (2017), a first reading
    whose outcome points, put :class:`Attend` inside: ``Pointer(Attend(LSTM(128), ScaledDot(), M), Additive(128), M)``.

    Args:
      cell: what steps; its outputs h are the queries.
      score: a(q, k), one that does not look at earlier weights; sharper below a temperature of one.
      memory_features: M, the width of the memory.
      engine: "auto", "scan", or "hoisted": the cell runs on its own fastest engine, and all steps point at once.

    Shapes:
      xs [T, B, F], memory [B, S, M], ys [T, B, S]; carry :class:`PointerCarry`, made by ``start``; params {"cell": ...,
      "score": ...}.

    Raises:
      TypeError: a part is no cell or no score, or the score looks at earlier weights or has several heads.

    References:
      Vinyals, Fortunato, Jaitly, `Pointer Networks <https://arxiv.org/abs/1506.03134>`_, 2015, equation 3.
      Bello et al., `Neural Combinatorial Optimization with Reinforcement Learning <https://arxiv.org/abs/1611.09940>`_,
      2017, appendix A.1.
    """

    engines: ClassVar[tuple[str, ...]] = ("scan", "hoisted")
    choices: ClassVar[Choices] = APART

    def __post_init__(self):
        super().__post_init__()
        if self.score.sequential or getattr(self.score, "heads", 1) != 1:
            raise TypeError(f"Pointer: points with one score of query and keys alone, got {self.score!r}.")

    def init(self, key, xs):
        inside, own = jax.random.split(key)
        return self._init(inside, own, xs)[0]

    def _carry(self, params, state, memory):
        del params
        return PointerCarry(state, memory)

    def step(self, params, carry, u):
        state, h = self.cell.step(params["cell"], carry.state, u)
        return carry._replace(state=state), self._look(params, carry.memory, h)

    def _look(self, params, memory, h):
        def point(memory, query):
            dtype = memory.values.dtype
            logits = self.score.tempered(cast(params["score"], dtype), memory.keys, query.astype(dtype))
            return jnp.where(memory.mask, logits.astype(query.dtype), -jnp.inf)

        return batched(point, memory.mask.ndim - 1)(memory, h)


def without_visited(logits, pointers):
    """Logits of pointers that may not come back: minus infinity at the positions of earlier steps.

    For training with teacher forcing; when decoding, the same is a constraint.

    Args:
      logits: ``[T, B, S]``.
      pointers: int ``[T, B]``, the positions pointed to.

    Returns:
      ``[T, B, S]``; step t has every position but those of steps before t.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> sj.attention.without_visited(jnp.zeros((3, 3)), jnp.array([2, 0, 1])).tolist()
      [[0.0, 0.0, 0.0], [0.0, 0.0, -inf], [-inf, 0.0, -inf]]
    """
    now = jax.nn.one_hot(pointers, logits.shape[-1], dtype=jnp.int32)
    return jnp.where(jnp.cumsum(now, axis=0) - now > 0, -jnp.inf, logits)


def copy_mixture(said, copied, gate, source, *, symbols=None):
    r"""Log-probabilities of words that are said from a vocabulary or copied from the source: a pointer-generator.

    .. math:: p(w) = \sigma(g)\, p_{\mathrm{said}}(w) + \sigma(-g) \sum_{s:\, x_s = w} p_{\mathrm{copied}}(s)

    in log space throughout, so that nothing underflows and words that neither way gives have minus infinity. For one step of
    one sequence; ``jax.vmap`` makes it many.

    Args:
      said: logits ``[V]`` over the vocabulary.
      copied: logits ``[S]`` over the source, such as those of :class:`Pointer`, minus infinity where there is nothing. Where
        there is nothing at all, all is said.
      gate: g ``[]``, the logit of saying.
      source: int ``[S]``, the word at each position, in 0..symbols-1; words outside the vocabulary are V and beyond. Where
        one that could be copied is none of these, the result is NaN.
      symbols: how many words there are, V and those outside; None for V.

    Returns:
      ``[symbols]`` log-probabilities, in float32 at least.

    Raises:
      ValueError: there are fewer symbols than the vocabulary has.

    References:
      See, Liu, Manning, `Get To The Point: Summarization with Pointer-Generator Networks
      <https://arxiv.org/abs/1704.04368>`_, 2017, equations 8 and 9.
    """
    V = said.shape[-1]
    symbols = V if symbols is None else symbols
    if symbols < V:
        raise ValueError(f"copy_mixture: symbols must be at least the {V} of the vocabulary, got {symbols}.")
    dtype = at_least_float32(said.dtype)
    said, copied, gate = said.astype(dtype), copied.astype(dtype), jnp.asarray(gate, dtype)
    there = copied > -jnp.inf
    broken = jnp.any(jnp.isnan(copied) | (there & ((source < 0) | (source >= symbols))))
    gate = jnp.where(there.any(), gate, jnp.inf)
    said = jnp.pad(jax.nn.log_softmax(said), (0, symbols - V), constant_values=-jnp.inf)
    copied = _log_sums(jnp.where(there, jax.nn.log_softmax(copied, where=there), -jnp.inf), source, symbols)
    both = _log_add(jax.nn.log_sigmoid(gate) + said, jax.nn.log_sigmoid(-gate) + copied)
    return jnp.where(broken, jnp.nan, both)


def _log_sums(logs, where, count):
    """The logarithm of the sum of exp(logs) at each place."""
    top = jax.lax.stop_gradient(jnp.full((count,), -jnp.inf, logs.dtype).at[where].max(logs))
    safe = jnp.where(top > -jnp.inf, top, 0.0)
    sums = jnp.zeros((count,), logs.dtype).at[where].add(jnp.exp(logs - safe[where]))
    return jnp.where(sums > 0, jnp.log(jnp.where(sums > 0, sums, 1.0)) + safe, -jnp.inf)


def _log_add(a, b):
    """``logaddexp`` whose gradient is zero, not NaN, where both are minus infinity."""
    nothing = jnp.maximum(a, b) == -jnp.inf
    return jnp.where(nothing, -jnp.inf, jnp.logaddexp(jnp.where(nothing, 0.0, a), jnp.where(nothing, 0.0, b)))
