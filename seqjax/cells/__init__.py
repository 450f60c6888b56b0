"""The cells: one family a file, equations and nothing else."""

from seqjax.cells.elman import Elman as Elman
from seqjax.cells.elman import ElmanCarry as ElmanCarry
from seqjax.cells.gru import GRU as GRU
from seqjax.cells.gru import ChoGRU as ChoGRU
from seqjax.cells.gru import GRUCarry as GRUCarry
from seqjax.cells.lstm import LSTM as LSTM
from seqjax.cells.lstm import LSTMCarry as LSTMCarry
from seqjax.cells.mingru import MinGRU as MinGRU
