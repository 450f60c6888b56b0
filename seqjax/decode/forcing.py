"""Training a decoder on given sequences: what it reads are the targets, or, now and then, what it would have said itself."""

import jax
import jax.numpy as jnp
from jax import lax

from seqjax.decode import asking
from seqjax.decode.draw import choose
from seqjax.decode.fixed import examine


def force(step, carry, tokens, key=None, *, rate=0.0, temperature=1.0):
    r"""Runs a decoder over given symbols: teacher forcing, or scheduled sampling.

    .. math::
       x_0 = y_0, \qquad x_t = \begin{cases} \hat y_t \sim p_{t-1}^{1/\tau} / Z & \text{with probability } \epsilon \\
       y_t & \text{otherwise} \end{cases} \qquad (s_t, p_t) = \mathrm{step}(s_{t-1}, x_t)

    Each input of each sequence is replaced on its own. Gradients flow through the logits, not through what is drawn.

    Args:
      step: ``(carry, token [B]) -> (carry, logits [B, V])``.
      carry: the state before the first symbol.
      tokens: what teacher forcing reads, int ``[T, B]``: the symbol to start from, then the targets but the last. Logits t
        say what comes after ``tokens[t]``.
      key: a random key; needed unless ``rate`` is 0.
      rate: the probability with which an input is the model's own instead, a number or, as it grows during training, an
        array. 0 is teacher forcing, 1 is a model that hears nothing but itself after the first symbol.
      temperature: of the draws; 0 takes the likeliest symbol.

    Returns:
      ``(carry, logits)``: the state after the last symbol, and ``[T, B, V]``.

    Raises:
      ValueError: a shape is wrong, ``rate`` is no probability, or a key is missing.

    Where papers disagree: Bengio et al. give the probability of the target, 1 - rate here, and let it fall.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> step = lambda carry, token: (carry + token, jax.nn.one_hot(carry + token, 5))
      >>> carry, logits = force(step, jnp.array([0]), jnp.array([[1], [0], [2]]))
      >>> carry, logits.argmax(-1)[:, 0]
      (Array([3], dtype=int32), Array([1, 1, 3], dtype=int32))

    References:
      Bengio, Vinyals, Jaitly and Shazeer, `Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks
      <https://arxiv.org/abs/1506.03099>`_, 2015.
    """
    _check(tokens, key, rate, temperature)
    carry, tokens = jax.tree.map(jnp.asarray, carry), jnp.asarray(tokens)
    parts = examine("force", step, carry, tokens[0])
    asking.room("force", tokens.dtype, parts.logits.shape[-1])
    teacher = not isinstance(rate, jax.Array) and rate == 0

    def body(state, inputs):
        moving, said = state
        target, own, key = inputs
        token = target if teacher else jnp.where(own, said, target)
        after, logits = step(parts.whole(moving, carry), token)
        if not teacher:
            said = choose(key, lax.stop_gradient(logits), temperature=temperature).astype(token.dtype)
        return (parts.moving(after), said), logits

    own = keys = None
    if not teacher:
        where, key = jax.random.split(key)
        own = jax.random.bernoulli(where, jnp.asarray(rate, float), tokens.shape).at[0].set(False)
        keys = jax.random.split(key, len(tokens))
    (moving, _), logits = lax.scan(body, (parts.moving(carry), tokens[0]), (tokens, own, keys))
    return parts.whole(moving, carry), logits


def _check(tokens, key, rate, temperature):
    asking.tokens("force", "tokens", tokens, ("T", "B"))
    asking.at_least_zero("force", "temperature", temperature, "0 takes the likeliest symbol")
    known = not isinstance(rate, jax.core.Tracer)
    if jnp.shape(rate) != () or (known and not 0 <= rate <= 1):
        raise ValueError(f"force: rate must be a probability, from 0 to 1; got {rate}.")
    if key is None and not (known and rate == 0):
        raise ValueError(f"force: a rate of {rate} needs a random key; give key=, or rate=0 for teacher forcing.")
