"""Scores of queries that come one after the other, and look at what those before have read."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, engines
from seqjax.attention.scores import Additive, Score
from seqjax.cells import parts
from seqjax.precision import cast


class Past(NamedTuple):
    """What earlier queries have read."""

    weights: jax.Array  # [S], of the query before
    total: jax.Array  # [S], the sum over all queries so far: the coverage


@dataclasses.dataclass(frozen=True)
class _Remembering(Score):
    """A score whose weights depend on earlier ones; before the first query nothing was read."""

    @property
    def sequential(self):
        return True

    def before(self, mask, dtype):
        nothing = jnp.zeros(mask.shape, dtype)
        return Past(nothing, nothing)

    def after(self, past, weights):
        weights = weights.astype(past.total.dtype)
        return Past(weights, past.total + weights)


@dataclasses.dataclass(frozen=True)
class LocationAware(_Remembering, Additive):
    r"""An additive score that sees where the query before has read.

    .. math:: a(q, k_s) = v^\top \tanh(W_q q + W_k k_s + U f_s + b), \qquad f = F * \alpha

    with :math:`\alpha` the weights of the query before, and F a convolution along the memory. ``cumulative=True`` takes the
    sum of all earlier weights for them; with one filter of width one that is the coverage of See et al. (2017).

    Args:
      features: H, the width of the hidden layer.
      filters: N, how many features of its surroundings each position has.
      width: how many positions a filter reaches over, an odd number.
      cumulative: whether it sees all earlier weights, not only the last.
      use_bias: whether it has b.

    Shapes:
      params query_kernel [Q, H], memory_kernel [M, H], scale [H], filters [width, N], location_kernel [N, H].

    Raises:
      ValueError: an even width, or a size that is not positive.

    References:
      Chorowski et al., `Attention-Based Models for Speech Recognition <https://arxiv.org/abs/1506.07503>`_, 2015,
      equations 8 and 9.
      See, Liu, Manning, `Get To The Point <https://arxiv.org/abs/1704.04368>`_, 2017, equations 10 and 11.
    """

    filters: int = dataclasses.field(default=10, kw_only=True)
    width: int = dataclasses.field(default=31, kw_only=True)
    cumulative: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "filters", "width")
        if self.width % 2 == 0:
            raise ValueError(f"{type(self).__name__}: width must be odd, so that a filter has a middle; got {self.width}.")

    def init(self, key, query, memory):
        rest, filters, kernel = jax.random.split(key, 3)
        params = super().init(rest, query, memory)
        params["filters"] = parts.blocks("lecun_normal", filters, (self.width, self.filters), 1, self.param_dtype)
        params["location_kernel"] = parts.blocks("lecun_normal", kernel, (self.filters, self.features), 1, self.param_dtype)
        return params

    def weigh(self, params, keys, query, mask, past):
        seen = cast(past.total if self.cumulative else past.weights, keys.dtype)
        padded = jnp.pad(seen, self.width // 2)
        around = jnp.stack([padded[i : i + len(seen)] for i in range(self.width)], axis=-1)
        location = around @ params["filters"] @ params["location_kernel"]
        return super().weigh(params, keys + location, query, mask, past)


@dataclasses.dataclass(frozen=True)
class Monotonic(_Remembering):
    r"""Reads from left to right: a query goes on where the query before was, position by position, and stops by chance.

    .. math::
        p_s = \sigma(a(q, k_s) / \tau + r), \qquad w_s = p_s \sum_{j \le s} \alpha_j \prod_{l=j}^{s-1} (1 - p_l)

    with :math:`\alpha` the weights of the query before, all at the first position at the start: w is the expectation of
    where the query stops. Weights sum to one less the probability of running off the end. The sum is a linear recurrence
    along the memory and computed as one, without the quotients of the paper's parallel form, which underflow.

    Args:
      inner: another score, whose scores decide where to stop.
      offset: where r starts: the more negative, the farther a fresh query goes.
      hard: whether a query stops at the first position with p above one half, as in decoding; there are no gradients then.

    The paper adds noise to the scores while training, which is left to the caller: no cell draws at random.

    Shapes:
      params {"score": ..., "offset": []}.

    Raises:
      TypeError: ``inner`` looks at earlier weights itself, or is no score.

    References:
      Raffel et al., `Online and Linear-Time Attention by Enforcing Monotonic Alignments
      <https://arxiv.org/abs/1704.00784>`_, 2017, section 2.
    """

    inner: Score
    offset: float = dataclasses.field(default=-1.0, kw_only=True)
    hard: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.inner, Score) or self.inner.sequential:
            raise TypeError(f"Monotonic: expected a score that looks at query and keys alone, got {self.inner!r}.")

    def init(self, key, query, memory):
        return {"score": self.inner.init(key, query, memory), "offset": jnp.asarray(self.offset, self.param_dtype)}

    def prepare(self, params, memory):
        return self.inner.prepare(params["score"], memory)

    def score(self, params, keys, query):
        return self.inner.score(params["score"], keys, query)

    def before(self, mask, dtype):
        return super().before(mask, dtype)._replace(weights=(jnp.arange(len(mask)) == 0).astype(dtype))

    def weigh(self, params, keys, query, mask, past):
        scores = self.tempered(params, keys, query)
        stop = jax.nn.sigmoid(scores + params["offset"].astype(scores.dtype))
        stop = jnp.where(mask, (stop > 0.5).astype(stop.dtype) if self.hard else stop, 0.0)
        going_on = jnp.concatenate([jnp.ones_like(stop[:1]), 1 - stop[:-1]])
        if not len(stop):
            return stop
        return stop * engines.associative(going_on, past.weights.astype(stop.dtype), jnp.zeros((), stop.dtype))
