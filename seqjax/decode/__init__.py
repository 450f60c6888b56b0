"""Writing sequences, compiled: for anything with ``step(carry, token [B]) -> (carry, logits [B, V])``.

>>> import jax, jax.numpy as jnp, seqjax as sj
>>> table = jnp.log(jnp.array([[0.1, 0.6, 0.3], [0.2, 0.1, 0.7], [0.4, 0.3, 0.3]]))  # symbol 2 ends a sequence
>>> step = lambda carry, token: (carry, table[token])
>>> start = jnp.array([0, 1])
>>> sj.decode.greedy(step, (), start, length=4, stop=2).tokens.T
Array([[1, 2, 2, 2],
       [2, 2, 2, 2]], dtype=int32)
>>> found = sj.decode.beam_search(step, (), start, width=3, length=4, stop=2, n_best=2)
>>> found.tokens[:, :, 1], jnp.exp(found.log_probabilities[:, 1]).round(4)  # the two best that follow symbol 1
(Array([[2, 2, 2, 2],
       [0, 1, 2, 2]], dtype=int32), Array([0.7  , 0.084], dtype=float32))
"""

from seqjax.decode.beam import Hypotheses as Hypotheses
from seqjax.decode.beam import beam_search as beam_search
from seqjax.decode.constraints import Constraint as Constraint
from seqjax.decode.constraints import chain as chain
from seqjax.decode.constraints import forbid as forbid
from seqjax.decode.constraints import no_repeat as no_repeat
from seqjax.decode.constraints import within as within
from seqjax.decode.draw import Decoded as Decoded
from seqjax.decode.draw import choose as choose
from seqjax.decode.draw import greedy as greedy
from seqjax.decode.draw import sample as sample
from seqjax.decode.fixed import untouched as untouched
from seqjax.decode.forcing import force as force
