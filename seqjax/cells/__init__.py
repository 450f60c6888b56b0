"""The cells: one family a file, equations and nothing else."""

from seqjax.cells.convolutional import ConvGRU as ConvGRU
from seqjax.cells.convolutional import ConvLSTM as ConvLSTM
from seqjax.cells.cornn import CoRNN as CoRNN
from seqjax.cells.cornn import CoRNNCarry as CoRNNCarry
from seqjax.cells.elman import Elman as Elman
from seqjax.cells.grid import GridCarry as GridCarry
from seqjax.cells.grid import GridLSTM as GridLSTM
from seqjax.cells.grid import grid_block as grid_block
from seqjax.cells.gru import GRU as GRU
from seqjax.cells.gru import ChoGRU as ChoGRU
from seqjax.cells.highway import RHN as RHN
from seqjax.cells.indrnn import IndRNN as IndRNN
from seqjax.cells.janet import JANET as JANET
from seqjax.cells.lstm import LSTM as LSTM
from seqjax.cells.lstm import GateRecurrentLSTMCarry as GateRecurrentLSTMCarry
from seqjax.cells.mgu import MGU as MGU
from seqjax.cells.mgu import TiedGRU as TiedGRU
from seqjax.cells.mingru import MinGRU as MinGRU
from seqjax.cells.multiplicative import MultiplicativeLSTM as MultiplicativeLSTM
from seqjax.cells.parts import HiddenCarry as HiddenCarry
from seqjax.cells.parts import LSTMCarry as LSTMCarry
from seqjax.cells.slstm import SLSTM as SLSTM
from seqjax.cells.slstm import SLSTMCarry as SLSTMCarry
from seqjax.cells.ugrnn import UGRNN as UGRNN
