"""The plain scan: one step after the other. It is the definition of every recurrence and is always kept."""

from jax import lax

from seqjax import masks


def scan(step, carry, us, *, mask=None, resets=None, fresh=None):
    """Runs ``step(carry, u) -> (carry, y)`` along the first axis of ``us``.

    Args:
      step: one step of the recurrence; must return a carry of the same shapes and dtypes.
      carry: the state before the first step.
      us: inputs ``[T, B, ...]``, any tree of arrays.
      mask: bool ``[T, B]``; at an invalid step the state is held and the output is zero.
      resets: bool ``[T, B]``; where True the step starts from ``fresh``. A reset counts at an invalid step too.
      fresh: the carry of a sequence that begins; needed with ``resets``.

    Returns:
      ``(carry, ys)``: the state after the last step, the outputs ``[T, B, ...]``.
    """
    return lax.scan(masked(step, fresh), carry, (us, mask, resets))


def masked(step, fresh):
    """The step as a loop takes it: ``(carry, (u, valid, reset)) -> (carry, y)``; None where all are valid, none resets."""

    def body(carry, inputs):
        u, valid, reset = inputs
        start = masks.restart(reset, fresh, carry)
        new, y = step(start, u)
        return masks.hold(valid, new, start), masks.zero_unless(valid, y)

    return body
