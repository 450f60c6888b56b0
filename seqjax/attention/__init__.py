"""Attention: what a query asks for, and what it reads of a memory.

Everything here is written for one query and one memory; ``jax.vmap`` makes it many:

>>> import jax, jax.numpy as jnp, seqjax as sj
>>> score = sj.attention.Additive(32)
>>> query, memory, mask = jnp.ones((4, 16)), jnp.ones((4, 10, 24)), jnp.ones((4, 10), bool)  # [B, Q], [B, S, M], [B, S]
>>> params = score.init(jax.random.key(0), query[0], memory[0])
>>> remembered = jax.vmap(lambda memory, mask: sj.attention.remember(score, params, memory, mask))(memory, mask)
>>> context, weights = jax.vmap(lambda memory, query: sj.attention.attend(score, params, memory, query))(remembered, query)
>>> context.shape, weights.shape
((4, 24), (4, 10))
"""

from seqjax.attention.read import Memory as Memory
from seqjax.attention.read import attend as attend
from seqjax.attention.read import remember as remember
from seqjax.attention.scores import Additive as Additive
from seqjax.attention.scores import Bilinear as Bilinear
from seqjax.attention.scores import Dot as Dot
from seqjax.attention.scores import ScaledDot as ScaledDot
from seqjax.attention.scores import Score as Score
