"""Beam search: several hypotheses of each sequence at once, of one memory."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.decode import asking
from seqjax.decode.largest import FEW, largest
from seqjax.decode.problem import Problem, pose


class Hypotheses(NamedTuple):
    """What was found, best first."""

    tokens: jax.Array  # [N, T, B], padding after the end of a hypothesis
    lengths: jax.Array  # [N, B], symbols, the one that stopped it among them; 0 where there was nothing left to find
    scores: jax.Array  # [N, B], what they are sorted by
    log_probabilities: jax.Array  # [N, B], nats


def beam_search(
    step,
    carry,
    token,
    *,
    width,
    length,
    stop=(),
    pad=None,
    n_best=1,
    length_penalty=0.0,
    coverage_penalty=0.0,
    weights_of=None,
    min_length=0,
    prefix=None,
    prefix_mask=None,
    constrain=None,
):
    r"""Searches for the sequences of the highest score.

    .. math::
       s(Y) = \log p(Y) \,/\, \frac{(5 + |Y|)^\alpha}{(5 + 1)^\alpha}
       + \beta \sum_{i=1}^{S} \log \min\Bigl(1, \sum_{j=1}^{|Y|} a_{ji}\Bigr)

    At every step each of ``width`` live hypotheses goes on with every symbol. Of these the best ones live on, by their
    log-probability; those that end with ``stop`` leave the beam without narrowing it, and the ``n_best`` of the highest
    score are kept. A hypothesis of ``length`` symbols is finished, stopped or not, so that what is searched is all sequences
    of at most so many symbols. The search is over when no live hypothesis can beat those kept any more, which is exact: a
    log-probability never rises, and the penalty of a length is greatest at the greatest length.

    The memory of a step is not copied: leaves of the carry that it hands on untouched (:func:`untouched`) have no axis for
    hypotheses and are not moved when these are reordered. The step is written for ``[B]`` and mapped over the hypotheses.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before ``token``; leaves that a step changes have a leading batch axis.
      token: the symbol to start from, int ``[B]``; it is not part of what is returned.
      width: W, how many hypotheses live at a time, at most V.
      length: T, the largest number of symbols.
      stop: a symbol, or several, with which a hypothesis ends; without one all have ``length`` symbols.
      pad: what stands after the end; the first of ``stop`` if not given.
      n_best: N, how many to return, at most ``width``.
      length_penalty: :math:`\alpha`; 0 sorts by log-probability, which favours the short; Wu et al. take 0.2.
      coverage_penalty: :math:`\beta`; 0 does not care what was attended to; Wu et al. take 0.2.
      weights_of: ``carry -> [B, S]``, attention weights of the step just taken, for the coverage penalty. Give positions
        that hold nothing a weight of 1: what is fully covered costs nothing.
      min_length: no hypothesis has fewer symbols, the one that stops it among them.
      prefix: the first symbols, forced, int ``[P, B]``; they count in lengths and scores.
      prefix_mask: bool ``[P, B]``, True = forced, for prefixes of different lengths (see :func:`seqjax.length_mask`).
      constrain: a :class:`Constraint`; its state is reordered with the hypotheses.

    Returns:
      :class:`Hypotheses`, all different, sorted by score.

    Raises:
      ValueError: a setting is out of its range, or a shape is wrong.

    Where frameworks disagree: the length penalty is that of Wu et al., as in T5X; fairseq and Hugging Face divide by
    :math:`|Y|^\alpha`. The symbol that stops counts in :math:`|Y|`. It ends a hypothesis if it is among the ``width`` best
    continuations, as in fairseq and Hugging Face, so that a width of 1 without a length penalty is :func:`greedy`; T5X looks
    at twice as many. What has not stopped at ``length`` competes as it is, as in Hugging Face; fairseq makes it stop there,
    T5X returns it only if nothing stopped. Both penalties rank what is finished, not what lives.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> table = jnp.log(jnp.array([[0, 0.6, 0.4, 0.0], [0.3, 0.3, 0.0, 0.4], [0.1, 0.0, 0.0, 0.9], [0.2, 0.2, 0.2, 0.4]]))
      >>> step = lambda carry, token: (carry, table[token])
      >>> sj.decode.greedy(step, (), jnp.array([0]), length=3, stop=3).tokens[:, 0]  # 0.6 times 0.4
      Array([1, 3, 3], dtype=int32)
      >>> sj.decode.beam_search(step, (), jnp.array([0]), width=2, length=3, stop=3).tokens[0, :, 0]  # 0.4 times 0.9
      Array([2, 3, 3], dtype=int32)

    References:
      Wu, Schuster, Chen et al., `Google's Neural Machine Translation System <https://arxiv.org/abs/1609.08144>`_, 2016,
      equation 14. Sutskever, Vinyals and Le, `Sequence to Sequence Learning with Neural Networks
      <https://arxiv.org/abs/1409.3215>`_, 2014. Freitag and Al-Onaizan, `Beam Search Strategies for Neural Machine
      Translation <https://arxiv.org/abs/1702.01806>`_, 2017.
    """
    asked = {"prefix": prefix, "prefix_mask": prefix_mask, "min_length": min_length, "constrain": constrain}
    problem = pose("beam_search", step, carry, token, length=length, stop=stop, pad=pad, **asked)
    _check(problem, width, n_best, length_penalty, coverage_penalty, weights_of)
    weights_of = weights_of if coverage_penalty else None
    return _Search(problem, width, n_best, length_penalty, coverage_penalty, weights_of).run()


def _check(problem, width, n_best, length_penalty, coverage_penalty, weights_of):
    asking.whole_number("beam_search", "width", width, 1)
    asking.whole_number("beam_search", "n_best", n_best, 1)
    if width > problem.symbols:
        raise ValueError(
            f"beam_search: width {width} is more than the vocabulary's {problem.symbols} symbols; make it smaller."
        )
    if n_best > width:
        raise ValueError(f"beam_search: n_best {n_best} is more than the width, {width}; search with a wider beam.")
    asking.at_least_zero("beam_search", "length_penalty", length_penalty, "0 sorts by log-probability")
    asking.at_least_zero("beam_search", "coverage_penalty", coverage_penalty, "0 for none")
    if coverage_penalty and weights_of is None:
        raise ValueError(
            "beam_search: a coverage_penalty needs weights_of, a function of the carry that gives weights [B, S]."
        )


class _Live(NamedTuple):
    """Hypotheses that go on. Those of which there are fewer than W have a log-probability of minus infinity."""

    carry: list  # leaves that move, [W, B, ...]
    token: jax.Array  # [W, B]
    log_probability: jax.Array  # [W, B]
    limits: Any  # of the constraints, [W, B, ...]
    coverage: jax.Array | None  # [W, B, S]


class _Kept(NamedTuple):
    """Finished hypotheses: where the beam has them, and what they are worth."""

    score: jax.Array  # [N, B]
    log_probability: jax.Array  # [N, B]
    length: jax.Array  # [N, B]
    place: jax.Array  # [N, B], in the beam, before the last symbol
    token: jax.Array  # [N, B], the last symbol


class _State(NamedTuple):
    step: jax.Array  # []
    live: _Live
    kept: _Kept
    tokens: jax.Array  # [T, W, B], of the beam after each step
    places: jax.Array  # [T, W, B], of their hypotheses in the beam before that step


@dataclasses.dataclass(frozen=True)
class _Search:
    problem: Problem
    width: int
    n_best: int
    length_penalty: float
    coverage_penalty: float
    weights_of: Callable | None

    def run(self):
        last = lax.while_loop(self.goes_on, self.advance, self.start())
        kept = last.kept
        return Hypotheses(self.trace(last), kept.length, kept.score, kept.log_probability)

    def start(self):
        problem, shape = self.problem, (self.width, self.problem.batch)
        wide = lambda leaf: jnp.broadcast_to(leaf, (self.width, *leaf.shape))  # noqa: E731
        limits, carry, token = jax.tree.map(wide, (problem.start(), problem.parts.moving(problem.carry), problem.token))
        first = jnp.full(shape, -jnp.inf, problem.dtype).at[0].set(0.0)  # otherwise all hypotheses were the same for ever
        live = _Live(carry, token, first, limits, self.no_coverage(carry, token))
        nothing = jnp.full((self.n_best, problem.batch), -jnp.inf, problem.dtype)
        zeros = jnp.zeros(nothing.shape, jnp.int32)
        kept = _Kept(nothing, nothing, zeros, zeros, zeros.astype(token.dtype))
        trail = jnp.zeros((problem.length, *shape), token.dtype)
        return _State(jnp.zeros((), jnp.int32), live, kept, trail, trail.astype(jnp.int32))

    def no_coverage(self, carry, token):
        weights = jax.eval_shape(self.expand, carry, token)[2]
        if weights is None:
            return None
        if len(weights.shape) != 3 or weights.shape[1] != self.problem.batch:
            expected, got = f"[{self.problem.batch}, S]", list(weights.shape[1:])
            raise ValueError(f"beam_search: weights_of must return attention weights {expected}, got {got}.")
        return jnp.zeros(weights.shape, self.problem.dtype)

    def goes_on(self, state):
        """Whether some live hypothesis can still beat the worst of those kept."""
        best = jnp.max(state.live.log_probability, axis=0) / self.penalty(self.problem.length)
        return (state.step < self.problem.length) & jnp.any(best > jnp.min(state.kept.score, axis=0))

    def penalty(self, length):
        return ((5 + jnp.asarray(length, self.problem.dtype)) / 6) ** self.length_penalty

    def advance(self, state):
        """One more symbol: the best continuations live on or are kept."""
        problem, live = self.problem, state.live
        carry, logits, weights = self.expand(live.carry, live.token)
        coverage = None if weights is None else live.coverage + weights.astype(problem.dtype)
        allowed = jax.vmap(lambda limits: problem.allowed(limits, state.step), axis_size=self.width)(live.limits)
        found = self.candidates(live.log_probability, logits, allowed, state.step)
        some_end = functools.partial(self.some_end, coverage=coverage, length=state.step + 1)
        kept, going = lax.cond(jnp.any(found.ended), some_end, self.all_go_on, state.kept, found)
        live, places = self.survive(going, carry, live.limits, coverage)
        tokens, places = (
            trail.at[state.step].set(new) for trail, new in ((state.tokens, live.token), (state.places, places))
        )
        return _State(state.step + 1, live, kept, tokens, places)

    def expand(self, carry, token):
        """A step of every hypothesis; nothing that the step leaves untouched has an axis for them."""

        def one(carry, token):
            moving, whole, logits = self.problem.advance(carry, token)
            return moving, logits, None if self.weights_of is None else self.weights_of(whole)

        return jax.vmap(one)(carry, token)

    def candidates(self, so_far, logits, allowed, step):
        """The best continuations, best first: as many as leave W that go on, however many of them end."""
        W, _, V = logits.shape
        count, token = min(W * (1 + len(self.problem.stop)), W * V), None
        chosen = jnp.where(allowed, logits, -jnp.inf)
        if FEW * count <= V:  # of one hypothesis logits rank as log-probabilities do
            chosen, token = largest(chosen, count)
        scores = so_far[..., None] + self.problem.log_probabilities(logits, chosen)
        scores, index = largest(_side_by_side(scores), count)
        place, which = index // chosen.shape[-1], index % chosen.shape[-1]
        token = which if token is None else jnp.take_along_axis(_side_by_side(token), index, axis=-1)
        scores, place, token = scores.T, place.T, token.T.astype(self.problem.token.dtype)
        return _Found(scores, place, token, self.problem.stops(token) | (step + 1 == self.problem.length))

    def all_go_on(self, kept, found):
        """What is kept, and the W continuations that live on."""
        return kept, _Going(*jax.tree.map(lambda x: x[: self.width], found)[:3])

    def some_end(self, kept, found, coverage, length):
        """The same where some of them end."""
        going, order = _best(jnp.where(found.ended, -jnp.inf, found.log_probability), self.width)
        place, token = (jnp.take_along_axis(x, order, axis=0) for x in (found.place, found.token))
        return self.keep(kept, found, coverage, length), _Going(going, place, token)

    def survive(self, going, carry, limits, coverage):
        """The hypotheses that live on, and what they had been in the beam."""
        row = jnp.arange(self.problem.batch)
        carry, limits, coverage = jax.tree.map(lambda leaf: leaf[going.place, row], (carry, limits, coverage))
        limits = jax.vmap(self.problem.constraint.after)(limits, going.token)
        return _Live(carry, going.token, going.log_probability, limits, coverage), going.place

    def keep(self, kept, found, coverage, length):
        """The best finished hypotheses, old and new. Only the W best continuations may end one."""
        found = jax.tree.map(lambda x: x[: self.width], found)
        log_probability = jnp.where(found.ended, found.log_probability, -jnp.inf)
        score = log_probability / self.penalty(length)
        if coverage is not None:
            score += jnp.take_along_axis(self.uncovered(coverage), found.place, axis=0)
        lengths = jnp.where(log_probability > -jnp.inf, length, 0)
        new = _Kept(score, log_probability, lengths, found.place, found.token)
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), kept, new)
        _, order = _best(both.score, self.n_best)
        return jax.tree.map(lambda x: jnp.take_along_axis(x, order, axis=0), both)

    def uncovered(self, coverage):
        """The coverage penalty ``[W, B]``; a weight that underflowed to zero costs much, but not everything."""
        share = jnp.clip(coverage, jnp.finfo(coverage.dtype).tiny, 1.0)
        return self.coverage_penalty * jnp.sum(jnp.log(share), axis=-1)

    def trace(self, state):
        """The symbols of what is kept ``[N, T, B]``, from the last to the first."""
        kept, row = state.kept, jnp.arange(self.problem.batch)

        def back(place, inputs):
            step, tokens, places = inputs
            inside = step < kept.length - 1
            token = jnp.where(inside, tokens[place, row], self.problem.pad)
            token = jnp.where(step == kept.length - 1, kept.token, token)
            return jnp.where(inside, places[place, row], place), token

        steps = jnp.arange(self.problem.length, dtype=jnp.int32)
        _, tokens = lax.scan(back, kept.place, (steps, state.tokens, state.places), reverse=True)
        return jnp.moveaxis(tokens, 1, 0)


class _Going(NamedTuple):
    """Continuations that live on, ``[W, B]`` each."""

    log_probability: jax.Array
    place: jax.Array  # of what they continue
    token: jax.Array


class _Found(NamedTuple):
    """Continuations of the beam, ``[K, B]`` each."""

    log_probability: jax.Array
    place: jax.Array  # of what they continue
    token: jax.Array
    ended: jax.Array


def _side_by_side(x):
    """What hypotheses ``[W, B, K]`` have, as one row of each sequence, ``[B, W * K]``."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)


def _best(values, count):
    """The largest values along the first axis, and where they are."""
    values, order = lax.top_k(values.T, count)
    return values.T, order.T
