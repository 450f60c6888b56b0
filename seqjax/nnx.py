"""Recurrences inside ``flax.nnx`` models: one module that gives any of them parameters and runs it."""

import jax
from flax import nnx

from seqjax import _layout, checks


class RNN(nnx.Module):
    """A recurrence with parameters, in Flax's words: batch-major by default.

    Randomness is that of ``flax.nnx.Dropout``: a recurrence that is stochastic (dropout, zoneout) keeps a fork of the
    stream "dropout", draws while training (``model.train()``, the default) and not while evaluating (``model.eval()``).
    Any other recurrence keeps no random state, so that its graph definition depends on its settings only.

    Args:
      recurrence: any :class:`seqjax.Recurrence`.
      in_features: F, the width of the inputs.
      time_major: whether inputs and outputs have time as their first axis, unless a call says otherwise.
      rngs: streams "params" and, where the recurrence is stochastic, "dropout" (or "default" for either).

    Attributes:
      params: the recurrence's own nested dict, every leaf an ``nnx.Param``.
      deterministic: whether nothing is drawn at random; set by ``model.train()`` and ``model.eval()``.

    Raises:
      TypeError: ``recurrence`` is no recurrence, or ``rngs`` no ``nnx.Rngs``.
      ValueError: ``in_features`` is no positive integer.

    Example:
      >>> import jax.numpy as jnp, seqjax as sj
      >>> from flax import nnx
      >>> rnn = sj.nnx.RNN(sj.LSTM(8), 3, rngs=nnx.Rngs(0))
      >>> carry, ys = rnn(jnp.ones((2, 5, 3)), seq_lengths=jnp.array([5, 0]))
      >>> carry.h.shape, ys.shape
      ((2, 8), (2, 5, 8))
      >>> carry, ys = rnn(jnp.ones((2, 1, 3)), initial_carry=carry)  # the next step
    """

    def __init__(self, recurrence, in_features, *, time_major=False, rngs):
        _layout.require_recurrence(recurrence)
        self.recurrence = recurrence
        self.in_features = in_features
        self.time_major = time_major
        self.deterministic = False
        checks.sizes(self, "in_features")
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"RNN({recurrence}): rngs must be nnx.Rngs, got {type(rngs).__name__}; write rngs=nnx.Rngs(0).")
        params = recurrence.init(rngs.params(), _layout.inputs_like(in_features))
        self.params = nnx.data(jax.tree.map(nnx.Param, params))
        stream = _dropout_stream(rngs) if recurrence.stochastic else None
        self.rngs = nnx.data(None) if stream is None else stream.fork()

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
        rngs=None,
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
          rngs: ``nnx.Rngs``, ``nnx.RngStream`` or a random key to draw from, instead of the module's own stream.

        Returns:
          ``(carry, ys)``: the state after the last valid step, and the outputs ``[B, T, H]`` in the layout of ``xs``.

        Raises:
          TypeError: a dtype is wrong, or ``rngs`` is none of the above.
          ValueError: a shape is wrong, ``seq_lengths`` and ``mask`` are both given, or there is nothing to draw from.
        """
        return _layout.run(
            self.recurrence,
            self.values(),
            xs,
            initial_carry=initial_carry,
            seq_lengths=seq_lengths,
            mask=mask,
            resets=resets,
            reverse=reverse,
            time_major=self.time_major if time_major is None else time_major,
            key=self._key(deterministic, rngs),
        )

    def initialize_carry(self, batch_shape):
        """The state before the first step of a batch of shape ``batch_shape``, such as ``(32,)``."""
        return self.recurrence.initial_carry(self.values(), tuple(batch_shape))

    def start(self, *args, **kwargs):
        """``recurrence.start`` with the parameters: the carry of one that is given more than a batch to start from.

        Such as the memory ``[B, S, M]`` of :class:`seqjax.attention.Attend`, batch first; for ``initial_carry`` of a call.

        Raises:
          TypeError: the recurrence has nothing to be given.
        """
        if not hasattr(self.recurrence, "start"):
            raise TypeError(f"RNN({self.recurrence}): starts from nothing but initialize_carry((B,)).")
        return self.recurrence.start(self.values(), *args, **kwargs)

    def set_view(self, deterministic: bool | None = None):
        """Lets ``nnx.view(model, deterministic=...)`` reach this module.

        Args:
          deterministic: if True, nothing is drawn at random.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def values(self):
        """The parameters as the recurrence itself knows them, arrays: for its own methods, such as ``Attend.weights``."""
        return jax.tree.map(lambda param: param[...], self.params, is_leaf=lambda node: isinstance(node, nnx.Variable))

    def _key(self, deterministic, rngs):
        """A key for this call, None where nothing is to be drawn."""
        deterministic = self.deterministic if deterministic is None else deterministic
        if deterministic or not self.recurrence.stochastic:
            return None
        rngs = _dropout_stream(self.rngs if rngs is None else rngs)
        if rngs is None:
            raise ValueError(
                f"RNN({self.recurrence}): draws at random in training but has no stream to draw from; construct it with "
                "rngs=nnx.Rngs(params=0, dropout=1), call it with rngs=key, or evaluate: model.eval() or deterministic=True."
            )
        if isinstance(rngs, nnx.RngStream):
            return rngs()
        if isinstance(rngs, jax.Array):
            return rngs
        raise TypeError(
            f"RNN({self.recurrence}): rngs must be nnx.Rngs, nnx.RngStream or a random key, got {type(rngs).__name__}."
        )


def _dropout_stream(rngs):
    """The stream that ``nnx.Rngs`` hold for dropout, None where they hold none; anything else as it is."""
    if not isinstance(rngs, nnx.Rngs):
        return rngs
    return rngs["dropout"] if "dropout" in rngs or "default" in rngs else None
