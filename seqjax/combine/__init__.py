"""Recurrences made of recurrences: stacks, both directions, ways around a layer, noise, learnt starts, less memory.

They work layer by layer on whole sequences, so that every projection stays one product, and pass masks and resets on.
"""

from seqjax.combine.connections import Highway as Highway
from seqjax.combine.connections import Residual as Residual
from seqjax.combine.directions import Bidirectional as Bidirectional
from seqjax.combine.directions import BidirectionalCarry as BidirectionalCarry
from seqjax.combine.directions import BidirectionalFinal as BidirectionalFinal
from seqjax.combine.directions import Reverse as Reverse
from seqjax.combine.memory import Remat as Remat
from seqjax.combine.noise import Dropout as Dropout
from seqjax.combine.noise import RecurrentDropout as RecurrentDropout
from seqjax.combine.noise import WeightDrop as WeightDrop
from seqjax.combine.noise import Zoneout as Zoneout
from seqjax.combine.stack import Stack as Stack
from seqjax.combine.start import LearntCarry as LearntCarry
