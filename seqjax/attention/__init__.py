"""Attention: what a query asks for, and what it reads of a memory; cells that read, and cells that point.

Scores and readings are written for one query and one memory; ``jax.vmap`` makes it many:

>>> import jax, jax.numpy as jnp, seqjax as sj
>>> score = sj.attention.Additive(32)
>>> query, memory, mask = jnp.ones((4, 16)), jnp.ones((4, 10, 24)), jnp.ones((4, 10), bool)  # [B, Q], [B, S, M], [B, S]
>>> params = score.init(jax.random.key(0), query[0], memory[0])
>>> remembered = jax.vmap(lambda memory, mask: sj.attention.remember(score, params, memory, mask))(memory, mask)
>>> context, weights = jax.vmap(lambda memory, query: sj.attention.attend(score, params, memory, query))(remembered, query)
>>> context.shape, weights.shape
((4, 24), (4, 10))
"""

from seqjax.attention.attend import Attend as Attend
from seqjax.attention.attend import AttendCarry as AttendCarry
from seqjax.attention.heads import MultiHead as MultiHead
from seqjax.attention.past import LocationAware as LocationAware
from seqjax.attention.past import Monotonic as Monotonic
from seqjax.attention.past import Past as Past
from seqjax.attention.pointer import Pointer as Pointer
from seqjax.attention.pointer import PointerCarry as PointerCarry
from seqjax.attention.pointer import copy_mixture as copy_mixture
from seqjax.attention.pointer import without_visited as without_visited
from seqjax.attention.read import Memory as Memory
from seqjax.attention.read import attend as attend
from seqjax.attention.read import remember as remember
from seqjax.attention.reading import Reading as Reading
from seqjax.attention.scores import Additive as Additive
from seqjax.attention.scores import Bilinear as Bilinear
from seqjax.attention.scores import Dot as Dot
from seqjax.attention.scores import ScaledDot as ScaledDot
from seqjax.attention.scores import Score as Score
