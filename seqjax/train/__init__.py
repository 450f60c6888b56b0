"""Training: a functional state, one compiled step, a loop that can be killed at any moment, exact checkpoints."""

from seqjax.train.checkpoints import Checkpoints as Checkpoints
from seqjax.train.checkpoints import CorruptCheckpointError as CorruptCheckpointError
from seqjax.train.loop import NonFiniteLossError as NonFiniteLossError
from seqjax.train.loop import Outcome as Outcome
from seqjax.train.loop import Plan as Plan
from seqjax.train.loop import fit as fit
from seqjax.train.machine import cores as cores
from seqjax.train.machine import keep_memory as keep_memory
from seqjax.train.machine import settings as settings
from seqjax.train.machine import use_cores as use_cores
from seqjax.train.state import TrainState as TrainState
from seqjax.train.state import create as create
from seqjax.train.state import step_function as step_function
