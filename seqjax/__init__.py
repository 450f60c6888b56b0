"""seqjax: recurrent sequence models in JAX. ``import seqjax as sj``."""

import importlib

from seqjax.cells import GRU as GRU
from seqjax.cells import JANET as JANET
from seqjax.cells import LSTM as LSTM
from seqjax.cells import MGU as MGU
from seqjax.cells import RHN as RHN
from seqjax.cells import SLSTM as SLSTM
from seqjax.cells import UGRNN as UGRNN
from seqjax.cells import ChoGRU as ChoGRU
from seqjax.cells import ConvGRU as ConvGRU
from seqjax.cells import ConvLSTM as ConvLSTM
from seqjax.cells import CoRNN as CoRNN
from seqjax.cells import CoRNNCarry as CoRNNCarry
from seqjax.cells import Elman as Elman
from seqjax.cells import GateRecurrentLSTMCarry as GateRecurrentLSTMCarry
from seqjax.cells import GridCarry as GridCarry
from seqjax.cells import GridLSTM as GridLSTM
from seqjax.cells import HiddenCarry as HiddenCarry
from seqjax.cells import IndRNN as IndRNN
from seqjax.cells import LSTMCarry as LSTMCarry
from seqjax.cells import MinGRU as MinGRU
from seqjax.cells import MultiplicativeLSTM as MultiplicativeLSTM
from seqjax.cells import SLSTMCarry as SLSTMCarry
from seqjax.cells import TiedGRU as TiedGRU
from seqjax.cells import grid_block as grid_block
from seqjax.combine import Bidirectional as Bidirectional
from seqjax.combine import BidirectionalCarry as BidirectionalCarry
from seqjax.combine import BidirectionalFinal as BidirectionalFinal
from seqjax.combine import Dropout as Dropout
from seqjax.combine import Highway as Highway
from seqjax.combine import LearntCarry as LearntCarry
from seqjax.combine import RecurrentDropout as RecurrentDropout
from seqjax.combine import Remat as Remat
from seqjax.combine import Residual as Residual
from seqjax.combine import Reverse as Reverse
from seqjax.combine import Stack as Stack
from seqjax.combine import WeightDrop as WeightDrop
from seqjax.combine import Zoneout as Zoneout
from seqjax.masks import length_mask as length_mask
from seqjax.recurrence import Cell as Cell
from seqjax.recurrence import GatedCell as GatedCell
from seqjax.recurrence import LinearCarry as LinearCarry
from seqjax.recurrence import LinearCell as LinearCell
from seqjax.recurrence import Recurrence as Recurrence

__version__ = "0.1.0"

_MODULES = ("attention", "data", "decode", "interop", "linen", "losses", "metrics", "nnx", "testing", "train")


def __getattr__(name):
    """Imports the parts that need more than JAX when they are first used."""
    if name in _MODULES:
        return importlib.import_module(f"seqjax.{name}")
    raise AttributeError(f"module 'seqjax' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_MODULES])
