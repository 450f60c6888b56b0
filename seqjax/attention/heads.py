"""Several queries at once of one memory."""

import dataclasses

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.attention.scores import Score
from seqjax.cells import parts


@dataclasses.dataclass(frozen=True)
class MultiHead(Score):
    r"""K heads, each with a score, a part of the query, and a view of the memory of its own.

    .. math::
        c = [c_1, \ldots, c_K] W_o, \qquad
        c_k = \sum_s \mathrm{softmax}_s\left(a_k(q W_k^q, m_s W_k^m)\right) m_s W_k^v

    Args:
      inner: the score of each head; its temperature is theirs.
      heads: K.
      features: width of the queries, keys and values of all heads together.

    Shapes:
      params query_kernel [Q, features], memory_kernel and value_kernel [M, features], output_kernel [features, M], "score"
      those of the inner score with a leading axis K; weights [K, S].

    Raises:
      TypeError: ``inner`` is no score, or is itself one of several heads.
      ValueError: ``features`` cannot be divided by ``heads``, or a temperature of its own.

    References:
      Vaswani et al., `Attention Is All You Need <https://arxiv.org/abs/1706.03762>`_, 2017, section 3.2.2.
    """

    inner: Score
    heads: int
    features: int

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "heads", "features")
        if not isinstance(self.inner, Score) or isinstance(self.inner, MultiHead):
            raise TypeError(f"MultiHead: expected a score of one head, such as ScaledDot(), got {self.inner!r}.")
        if self.features % self.heads:
            raise ValueError(f"MultiHead: features {self.features} cannot be divided by {self.heads} heads.")
        if self.temperature != 1:
            raise ValueError(f"MultiHead: the temperature is that of the heads; write it as one of {self.inner!r}.")

    @property
    def sequential(self):
        return self.inner.sequential

    def init(self, key, query, memory):
        if len(query.shape) != 1 or len(memory.shape) != 2:
            return self.inner.init(key, query, memory)  # which refuses them
        Q, M, H, D = query.shape[0], memory.shape[1], self.features, self.features // self.heads
        own, *keys = jax.random.split(key, 5)
        shapes = {"query_kernel": (Q, H), "memory_kernel": (M, H), "value_kernel": (M, H), "output_kernel": (H, M)}
        params = {
            name: parts.blocks("lecun_normal", k, shape, 1, self.param_dtype)
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        query, memory = jax.ShapeDtypeStruct((D,), jnp.float32), jax.ShapeDtypeStruct((len(memory), D), jnp.float32)
        params["score"] = jax.vmap(lambda k: self.inner.init(k, query, memory))(jax.random.split(own, self.heads))
        return params

    def prepare(self, params, memory):
        """Keys and values of all heads, ``[K, S, ...]`` each."""
        keys, values = (self._heads(memory @ params[name]) for name in ("memory_kernel", "value_kernel"))
        return jax.vmap(self.inner.prepare)(params["score"], keys), values

    def score(self, params, keys, query):
        """Scores ``[K, S]``."""
        return jax.vmap(self.inner.score)(params["score"], keys[0], self._heads(query @ params["query_kernel"]))

    def before(self, mask, dtype):
        past = self.inner.before(mask, dtype)
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.heads, *leaf.shape)), past)

    def after(self, past, weights):
        return jax.vmap(self.inner.after)(past, weights)

    def weigh(self, params, keys, query, mask, past):
        queries = self._heads(query @ params["query_kernel"])
        each = jax.vmap(self.inner.weigh, in_axes=(0, 0, 0, None, 0))
        return each(params["score"], keys[0], queries, mask, past)

    def read(self, params, keys, values, weights):
        contexts = jnp.einsum("ks,ksd->kd", weights.astype(values.dtype), keys[1])
        return contexts.reshape(-1) @ params["output_kernel"]

    def _heads(self, x):
        """``[..., K * D]`` -> ``[K, ..., D]``."""
        return jnp.moveaxis(x.reshape((*x.shape[:-1], self.heads, self.features // self.heads)), -2, 0)
