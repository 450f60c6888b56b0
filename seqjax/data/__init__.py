"""Texts in, batches out: vocabularies, streams, pairs, and where data comes from. Needs ``seqjax[experiments]``."""

from seqjax.data.pairs import each_pair as each_pair
from seqjax.data.pairs import pairs as pairs
from seqjax.data.pairs import shapes_for as shapes_for
from seqjax.data.sources import Source as Source
from seqjax.data.sources import read_text as read_text
from seqjax.data.streams import chunks as chunks
from seqjax.data.streams import loader as loader
from seqjax.data.subwords import Subwords as Subwords
from seqjax.data.synthetic import Addition as Addition
from seqjax.data.synthetic import Parity as Parity
from seqjax.data.synthetic import examples as examples
from seqjax.data.vocabulary import Vocabulary as Vocabulary
