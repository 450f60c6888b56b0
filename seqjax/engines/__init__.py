"""How a recurrence runs. An engine is a function over arrays and callables; it never knows a cell by name.

``scan`` is the definition. Every other engine is held to it, values and gradients.
"""

from seqjax.engines.associative import associative as associative
from seqjax.engines.chunks import in_chunks as in_chunks
from seqjax.engines.hoisted import hoisted as hoisted
from seqjax.engines.scan import scan as scan
from seqjax.engines.wavefront import wavefront as wavefront
