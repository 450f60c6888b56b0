"""Scores: how much a query asks for each position of a memory."""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.precision import at_least_float32


@dataclasses.dataclass(frozen=True)
class Score(abc.ABC):
    """A score a(q, k) of a query and the positions of a memory; a value, whose parameters live outside.

    ``init``, ``prepare`` and ``score`` are what a score is. What it is used for has a plain form that only few change:
    ``weigh`` makes weights of scores, ``read`` sums values, ``before`` is what weights may depend on besides.

    Args:
      temperature: what scores are divided by before the softmax: below one sharpens, above one flattens.
      param_dtype: dtype of the parameters.
    """

    temperature: float = dataclasses.field(default=1.0, kw_only=True)
    param_dtype: str = dataclasses.field(default="float32", kw_only=True)

    def __post_init__(self):
        checks.floating(self, "param_dtype")
        if not isinstance(self.temperature, int | float) or not self.temperature > 0:
            raise ValueError(f"{type(self).__name__}: temperature must be positive, got {self.temperature!r}.")

    @property
    def sequential(self) -> bool:
        """Whether weights depend on those of earlier queries."""
        return False

    @abc.abstractmethod
    def init(self, key, query, memory):
        """Parameters for queries ``[Q]`` and memories ``[S, M]``, of which only shapes are read.

        Args:
          key: a JAX random key.
          query: an array or ``jax.ShapeDtypeStruct`` ``[Q]``.
          memory: an array or ``jax.ShapeDtypeStruct`` ``[S, M]``.

        Returns:
          A dict of arrays in ``param_dtype``, empty where a score has none.

        Raises:
          ValueError: the axes are others, or Q and M do not fit each other.
        """

    def prepare(self, params, memory):
        """What does not depend on the query, once for a memory ``[S, M]``: keys ``[S, ...]``."""
        del params
        return memory

    @abc.abstractmethod
    def score(self, params, keys, query):
        """Scores ``[S]`` of prepared keys ``[S, ...]`` for a query ``[Q]``.

        Raises:
          ValueError: the query has another width than that of ``init``.
        """

    def before(self, mask, dtype) -> Any:
        """What weights depend on besides query and keys, before anything was read: ``()``, nothing, for most scores.

        Args:
          mask: bool ``[S]``, True where there is something.
          dtype: of earlier weights.
        """
        del mask, dtype
        return ()

    def after(self, past, weights):
        """What ``past`` is once a query had these weights."""
        del weights
        return past

    def weigh(self, params, keys, query, mask, past):
        r"""Weights ``[S]``, :math:`\mathrm{softmax}_s(a(q, k_s) / \tau)`, float32 at least; exactly zero where mask is not.

        Args:
          params: the parameters.
          keys: from :meth:`prepare`.
          query: ``[Q]``.
          mask: bool ``[S]``.
          past: from :meth:`before` or :meth:`after`.
        """
        del past
        return jax.nn.softmax(self.tempered(params, keys, query), where=mask)

    def tempered(self, params, keys, query):
        """Scores ``[S]`` over the temperature, in float32 at least."""
        scores = self.score(params, keys, query)
        return scores.astype(at_least_float32(scores.dtype)) / self.temperature

    def read(self, params, keys, values, weights):
        """What is read of values ``[S, M]`` with such weights: the context ``[M]``."""
        del params, keys
        return weights.astype(values.dtype) @ values


@dataclasses.dataclass(frozen=True)
class Additive(Score):
    r"""The score of a perceptron with one hidden layer.

    .. math:: a(q, k) = v^\top \tanh(W_q q + W_k k + b)

    Args:
      features: H, the width of the hidden layer.
      use_bias: whether it has b, which the paper leaves out.

    Luong et al. (2015) call it ``concat``. Keras' ``AdditiveAttention`` has v alone: its queries and keys come projected.

    References:
      Bahdanau, Cho, Bengio, `Neural Machine Translation by Jointly Learning to Align and Translate
      <https://arxiv.org/abs/1409.0473>`_, 2015, appendix A.1.2.
    """

    features: int
    use_bias: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "features")

    def init(self, key, query, memory):
        Q, M = _widths(self, query, memory)
        hidden, last = jax.random.split(key)
        kernel = parts.blocks("lecun_normal", hidden, (Q + M, self.features), 1, self.param_dtype)
        params = {
            "query_kernel": kernel[:Q],
            "memory_kernel": kernel[Q:],
            "scale": parts.blocks("lecun_normal", last, (self.features, 1), 1, self.param_dtype)[:, 0],
        }
        return params | {"bias": jnp.zeros((self.features,), self.param_dtype)} if self.use_bias else params

    def prepare(self, params, memory):
        keys = memory @ params["memory_kernel"]
        return keys + params["bias"] if self.use_bias else keys

    def score(self, params, keys, query):
        _check_width(self, query, len(params["query_kernel"]))
        return jnp.tanh(keys + query @ params["query_kernel"]) @ params["scale"]


@dataclasses.dataclass(frozen=True)
class _Product(Score):
    """A product of queries with keys that are as wide."""

    def score(self, params, keys, query):
        del params
        _check_width(self, query, keys.shape[-1])
        return keys @ query


@dataclasses.dataclass(frozen=True)
class Bilinear(_Product):
    r"""A product of query and key through a matrix.

    .. math:: a(q, k) = q^\top W k \qquad \text{or, scaled,} \qquad q^\top W k / \sqrt{M}

    Scores of unit normal queries and memories start with variance one: entries of W with variance 1 / (Q M), or, scaled,
    with 1 / Q.

    Args:
      scaled: whether scores are divided by the root of M. What can be learnt is the same; optimizers whose steps do not
        depend on the size of gradients, such as Adam, move scores the root of M times as far in one step where they are
        not scaled, which was too far in translation.

    References:
      Luong, Pham, Manning, `Effective Approaches to Attention-based Neural Machine Translation
      <https://arxiv.org/abs/1508.04025>`_, 2015, section 3.1, "general", which is not scaled.
    """

    scaled: bool = dataclasses.field(default=False, kw_only=True)

    def init(self, key, query, memory):
        Q, M = _widths(self, query, memory)
        kernel = parts.blocks("lecun_normal", key, (Q, M), 1, self.param_dtype)
        return {"kernel": kernel if self.scaled else kernel / M**0.5}

    def prepare(self, params, memory):
        keys = memory @ params["kernel"].T
        return keys / memory.shape[-1] ** 0.5 if self.scaled else keys


@dataclasses.dataclass(frozen=True)
class Dot(_Product):
    r"""The product of query and key, which must be equally wide.

    .. math:: a(q, k) = q^\top k

    References:
      Luong, Pham, Manning, `Effective Approaches to Attention-based Neural Machine Translation
      <https://arxiv.org/abs/1508.04025>`_, 2015, section 3.1, "dot".
    """

    def init(self, key, query, memory):
        del key
        Q, M = _widths(self, query, memory)
        if Q != M:
            raise ValueError(
                f"{self}: queries have {Q} features and the memory has {M}, but their product needs equally many; "
                "project one of them, or use Bilinear()."
            )
        return {}


@dataclasses.dataclass(frozen=True)
class ScaledDot(Dot):
    r"""The product of query and key over the root of their width, which keeps its variance whatever the width.

    .. math:: a(q, k) = q^\top k / \sqrt{|k|}

    References:
      Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017, equation 1.
    """

    def prepare(self, params, memory):
        del params
        return memory / memory.shape[-1] ** 0.5


def _widths(score, query, memory):
    """(Q, M), of a query [Q] and a memory [S, M]."""
    if len(query.shape) != 1 or len(memory.shape) != 2:
        raise ValueError(
            f"{score}: expected one query [Q] and one memory [S, M], got shapes {list(query.shape)} and "
            f"{list(memory.shape)}; use jax.vmap for several."
        )
    return query.shape[0], memory.shape[1]


def _check_width(score, query, expected):
    if query.shape[-1] != expected:
        raise ValueError(f"{score}: the query has {query.shape[-1]} features, expected {expected}; init with such a query.")
