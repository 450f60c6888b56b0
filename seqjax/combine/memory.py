"""Less memory for gradients, at the price of a second forward pass."""

import dataclasses

import jax

from seqjax import checks, engines
from seqjax.combine.wrapper import Wrapper


@dataclasses.dataclass(frozen=True, repr=False)
class Remat(Wrapper):
    r"""Keeps the state before each chunk of steps alone, and computes a chunk again when its gradients are due.

    What is kept for gradients falls from T steps to :math:`T/n` states and n steps, least where n is about :math:`\sqrt T`;
    the forward pass is done twice. Values and gradients are those of the recurrence itself.

    Args:
      recurrence: a causal recurrence without randomness, whose parameters and carry are those of the whole. Put it around
        cells, and noise or both directions around it.
      steps: n; None for the square root of T.

    Raises:
      ValueError: ``steps`` is not positive.
      TypeError: what is inside reads from the right, or draws noise, which must not differ from chunk to chunk.

    Example:
      >>> import seqjax as sj
      >>> sj.Stack(sj.Remat(sj.LSTM(8)), sj.Remat(sj.LSTM(8)), dropout=0.2)
      Stack(Remat(recurrence=LSTM(features=8)), Remat(recurrence=LSTM(features=8)), dropout=0.2)

    References:
      Chen, Xu, Zhang, Guestrin, `Training Deep Nets with Sublinear Memory Cost <https://arxiv.org/abs/1604.06174>`_, 2016.
    """

    steps: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.steps is not None:
            checks.positive(self, "steps")
        for problem, is_so in (
            ("reads from the right", not self.recurrence.causal),
            ("draws noise", self.recurrence.stochastic),
        ):
            if is_so:
                raise TypeError(f"Remat: {self.recurrence} {problem}; put Remat around the cells in it.")

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        del key
        checks.apply(self, params, carry, xs, mask, resets)
        steps = self.steps or max(1, round(len(xs) ** 0.5))

        def run(carry, inputs):
            xs, mask, resets = inputs
            return self.recurrence.apply(params, carry, xs, mask=mask, resets=resets)

        return engines.in_chunks(jax.checkpoint(run, prevent_cse=False), steps, carry, (xs, mask, resets))
