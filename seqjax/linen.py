"""Recurrences inside ``flax.linen`` models: one module that gives any of them parameters and runs it."""

import jax
from flax import core, linen

from seqjax import _layout
from seqjax.recurrence import Recurrence


class RNN(linen.Module):
    """A recurrence with parameters, in Flax's words: batch-major by default.

    ``variables["params"]`` is the recurrence's own nested dict, the same that :class:`seqjax.nnx.RNN` holds.

    Args:
      recurrence: any :class:`seqjax.Recurrence`.
      time_major: whether inputs and outputs have time as their first axis, unless a call says otherwise.
      deterministic: whether nothing is drawn at random, unless a call says otherwise. Where the recurrence is stochastic
        (dropout, zoneout), either must say it; False draws from the stream "dropout". Not needed by ``init``.

    Raises:
      TypeError: ``recurrence`` is no recurrence.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> rnn = sj.linen.RNN(sj.LSTM(8))
      >>> xs = jnp.ones((2, 5, 3))
      >>> variables = rnn.init(jax.random.key(0), xs)
      >>> carry, ys = rnn.apply(variables, xs, seq_lengths=jnp.array([5, 0]))
      >>> carry.h.shape, ys.shape
      ((2, 8), (2, 5, 8))
      >>> carry, ys = rnn.apply(variables, xs[:, :1], initial_carry=carry)  # the next step
    """

    recurrence: Recurrence
    time_major: bool = False
    deterministic: bool | None = None

    def __post_init__(self):
        _layout.require_recurrence(self.recurrence)
        super().__post_init__()

    @linen.compact
    def __call__(
        self,
        xs,
        *,
        initial_carry=None,
        seq_lengths=None,
        mask=None,
        resets=None,
        reverse=False,
        time_major=None,
        deterministic=None,
    ):
        """Runs along the time axis.

        Args:
          xs: ``[B, T, F]``, or ``[T, B, F]`` where ``time_major``; floating point, zero or more batch axes.
          initial_carry: the state before the first step, such as the carry of the chunk before; None starts anew.
          seq_lengths: integers ``[B]`` in 0..T; steps beyond are padding. A sequence of length 0 keeps its initial carry.
          mask: bool ``[B, T]`` in the layout of ``xs``, True = valid; instead of ``seq_lengths``. At an invalid step the
            state is held, the output is zero and every gradient is zero, whatever the padding holds.
          resets: bool ``[B, T]`` in the layout of ``xs``, True = the state starts anew before this step.
          reverse: whether to read each sequence from its last valid step to its first. Output t stays at step t.
          time_major: overrides the attribute for this call.
          deterministic: overrides the attribute for this call.

        Returns:
          ``(carry, ys)``: the state after the last valid step, and the outputs ``[B, T, H]`` in the layout of ``xs``.

        Raises:
          TypeError: a dtype is wrong.
          ValueError: a shape is wrong, ``seq_lengths`` and ``mask`` are both given, or it is not said whether to draw.
        """
        time_major = self.time_major if time_major is None else time_major
        _layout.check_sequence(self.recurrence, xs, time_major)
        return _layout.run(
            self.recurrence,
            self._params(xs.shape[xs.ndim - self.recurrence.item_axes :]),
            xs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            reverse=reverse,
            time_major=time_major,
            key=self._key(deterministic),
        )

    def initialize_carry(self, batch_shape):
        """The state before the first step of a batch of shape ``batch_shape``, such as ``(32,)``.

        Of an unbound module: ``rnn.apply(variables, (32,), method="initialize_carry")``.
        """
        return self.recurrence.initial_carry(self.variables.get("params", {}), tuple(batch_shape))

    def _params(self, features):
        """The parameters, made where there are none yet: by one key, as ``recurrence.init`` makes them."""
        if stored := self.variables.get("params"):
            return core.FrozenDict(stored).unfreeze()
        xs = _layout.inputs_like(features)
        if self.is_mutable_collection("params"):
            params = self.recurrence.init(self.make_rng("params"), xs)
        else:  # only their names: `param` finds them missing and says so
            params = jax.eval_shape(self.recurrence.init, jax.random.key(0), xs)
        return {name: self.param(name, lambda _, value=value: value) for name, value in params.items()}

    def _key(self, deterministic):
        """A key for this call, None where nothing is to be drawn."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not self.recurrence.stochastic or (deterministic is None and self.is_initializing()):
            return None
        if deterministic is None:
            raise ValueError(f"RNN({self.recurrence}): draws at random in training; say deterministic=True or False.")
        if not (self.has_rng("dropout") or self.has_rng("params")):
            raise ValueError(
                f"RNN({self.recurrence}): draws at random but has no stream to draw from; "
                'apply it with rngs={"dropout": key}, or evaluate: deterministic=True.'
            )
        return self.make_rng("dropout")
