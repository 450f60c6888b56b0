"""Losses of sequences: time-major, in nats, exactly zero where a mask says so, whatever stands there.

``reduce="token"`` is the mean over valid steps. ``"sequence"`` is the sum over the steps of a sequence, and the mean over
sequences that have a valid step. ``None`` reduces nothing. Where nothing is valid a mean is zero.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from seqjax.masks import zero_unless
from seqjax.precision import at_least_float32

# Optax's own stand-in for the logarithm of zero: exp(-1e5) is zero in every dtype.
_LOG_ZERO = -1e5


def sequence_cross_entropy(logits, targets, *, mask=None, label_smoothing=0.0, reduce="token"):
    r"""Cross-entropy of what was predicted and what came, step by step.

    .. math::
       \ell_t = -(1 - \epsilon) \log p_t(y_t) - \frac{\epsilon}{|A_t|} \sum_{v \in A_t} \log p_t(v),
       \qquad p_t = \mathrm{softmax}(x_t)

    This is the loss of a language model and of a decoder, and that of a pointer too: there the V symbols are the S positions
    of a memory, with logits of ``-inf`` where there is nothing to point to. A logit of ``-inf`` forbids a symbol: its
    probability and the gradient through its logit are exactly zero, and it is not among the allowed symbols A. A target that
    is forbidden costs ``inf``.

    Args:
      logits: ``[T, B, V]``, floating point, any number of batch axes. Computed in float32 at least.
      targets: int ``[T, B]``, each in ``0..V-1``; anything at invalid steps.
      mask: bool ``[T, B]``, True where a step counts; None for everywhere. Elsewhere loss and gradient are exactly zero.
      label_smoothing: epsilon in [0, 1), the share of the target that is spread evenly over the allowed symbols.
      reduce: ``"token"``, ``"sequence"`` or None, see :mod:`seqjax.losses`.

    Returns:
      nats: a number, or ``[T, B]`` if nothing is reduced.

    Raises:
      TypeError: logits are not floating point, targets not integers, or the mask is not bool.
      ValueError: a shape or a setting is wrong, or a valid target is no symbol (checked when the values are known, that is
        outside of ``jit``; inside, the loss is NaN).

    Frameworks differ: PyTorch and Optax smooth over all V symbols, so that a single forbidden one makes the loss infinite.
    PyTorch's ``ignore_index`` is the mask here.

    Example:
      >>> import jax.numpy as jnp
      >>> from seqjax.losses import sequence_cross_entropy
      >>> logits = jnp.zeros((3, 2, 5)).at[..., 4].set(-jnp.inf)  # a pointer into memories of 4, padded to 5
      >>> nats = sequence_cross_entropy(logits, jnp.array([[0, 1], [2, 3], [1, 1]]))
      >>> print(f"{jnp.exp(nats):.4f}")
      4.0000

    References:
      Szegedy et al., `Rethinking the Inception Architecture for Computer Vision <https://arxiv.org/abs/1512.00567>`_, 2015
      (label smoothing); Vinyals et al., `Pointer Networks <https://arxiv.org/abs/1506.03134>`_, 2015
    """
    name = "sequence_cross_entropy"
    _check_logits(name, logits)
    _check_targets(name, targets, logits.shape[:-1])
    _check_mask(name, mask, logits.shape[:-1])
    _check_reduce(name, reduce, ("token", "sequence", None))
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"{name}: label_smoothing must be a share in [0, 1), got {label_smoothing!r}.")
    _check_known(name, targets, mask, logits.shape[-1])
    mask = jnp.ones(logits.shape[:-1], bool) if mask is None else jnp.asarray(mask)
    logits, targets = _widened(zero_unless(mask, jnp.asarray(logits))), jnp.asarray(targets).astype(jnp.int32)
    inside = (targets >= 0) & (targets < logits.shape[-1])
    targets = jnp.where(mask & inside, targets, 0)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    if label_smoothing:
        nats = (1 - label_smoothing) * nats + label_smoothing * _of_all_allowed(logits)
    return _reduced(jnp.where(inside, nats, jnp.nan), mask, reduce)


def coverage_loss(weights, *, mask=None, reduce="token"):
    r"""What a decoder attends to although it has attended to it before.

    .. math::
       \ell_t = \sum_s \min(a_{ts}, c_{ts}), \qquad c_t = \sum_{t' < t} a_{t'}

    It is zero at the first step, and at most one.

    Args:
      weights: attention ``[T, B, S]``, floating point, any number of batch axes: not scores, but what their softmax gave.
      mask: bool ``[T, B]``, True where a step counts; None for everywhere. Other steps cover nothing and cost nothing.
      reduce: ``"token"``, ``"sequence"`` or None, see :mod:`seqjax.losses`.

    Returns:
      a number, or ``[T, B]`` if nothing is reduced; reduced alike it adds to :func:`sequence_cross_entropy`, with a factor.

    Raises:
      TypeError: weights are not floating point, or the mask is not bool.
      ValueError: a shape or a setting is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from seqjax.losses import coverage_loss
      >>> print(coverage_loss(jnp.array([[0.5, 0.5], [0.5, 0.5], [0.25, 0.75]]), reduce=None))
      [0. 1. 1.]

    References:
      See et al., `Get To The Point: Summarization with Pointer-Generator Networks <https://arxiv.org/abs/1704.04368>`_, 2017
      (equations 10, 12 and 13)
    """
    name = "coverage_loss"
    _check_logits(name, weights, "weights", "[T, B, S]")
    _check_mask(name, mask, weights.shape[:-1], "weights")
    _check_reduce(name, reduce, ("token", "sequence", None))
    mask = jnp.ones(weights.shape[:-1], bool) if mask is None else jnp.asarray(mask)
    weights = _widened(zero_unless(mask, jnp.asarray(weights)))
    covered = jnp.cumsum(weights, axis=0)[:-1]
    before = jnp.concatenate([jnp.zeros_like(weights[:1]), covered])
    return _reduced(jnp.minimum(weights, before).sum(-1), mask, reduce)


def ctc(logits, targets, *, mask=None, target_lengths=None, blank=0, reduce="sequence"):
    r"""Connectionist temporal classification: the symbols are known, the steps at which they are said are not.

    .. math::
       \ell = -\log \sum_{\pi \in \mathcal{B}^{-1}(y)} \prod_t p_t(\pi_t), \quad p_t = \mathrm{softmax}(x_t)

    B merges what is repeated and then removes blanks, so that y of L symbols needs at least L steps, and one more for every
    symbol that is the same as the one before. Computed by ``optax.ctc_loss``.

    Args:
      logits: ``[T, B, V]``, floating point, any number of batch axes, the blank among the V symbols. Computed in float32 at
        least. A logit of ``-inf`` forbids a symbol: it is given -1e5 instead, so that targets that need it cost as much.
      targets: int ``[B, L]``, without blanks; anything beyond their lengths.
      mask: bool ``[T, B]``, True where a step counts, ``length_mask(lengths, T)`` for padded inputs; None for everywhere.
      target_lengths: int ``[B]``; None for L.
      blank: its index; 0 is the default of PyTorch and Optax too.
      reduce: ``"sequence"`` or None. PyTorch's mean divides by the number of targets first.

    Returns:
      nats per sequence: a number, or ``[B]`` if nothing is reduced.

    Raises:
      TypeError: logits are not floating point, targets or their lengths not integers, or the mask is not bool.
      ValueError: a shape or a setting is wrong, a target is no symbol or a blank, or there are more targets than the steps
        can say (checked when the values are known, that is outside of ``jit``; inside, the loss of the former is NaN, that
        of the latter ``inf``, and the gradient zero).

    Example:
      >>> import jax.numpy as jnp
      >>> from seqjax.losses import ctc
      >>> logits = jnp.zeros((2, 1, 3))  # of 9 equally likely paths, 11, 01 and 10 mean "1"
      >>> print(f"{jnp.exp(-ctc(logits, jnp.array([[1]]))):.4f}")
      0.3333

    References:
      Graves et al., `Connectionist Temporal Classification <https://dl.acm.org/doi/10.1145/1143844.1143891>`_, 2006
    """
    _check_ctc(logits, targets, mask, target_lengths, blank, reduce)
    (T, *batch, V), L = logits.shape, targets.shape[-1]
    mask = jnp.ones((T, *batch), bool) if mask is None else jnp.asarray(mask)
    lengths = jnp.full(tuple(batch), L) if target_lengths is None else jnp.asarray(target_lengths)
    targets, lengths = jnp.asarray(targets).astype(jnp.int32), lengths.astype(jnp.int32)
    valid = jnp.arange(L, dtype=jnp.int32) < lengths[..., None]
    possible = mask.sum(0) >= _steps_needed(jnp, targets, valid)
    logits = _widened(zero_unless(mask, jnp.asarray(logits)))
    nats = _optax_ctc(logits, mask, targets, valid, blank)
    nats = jnp.where(possible, nats, jnp.inf)
    right = (targets >= 0) & (targets < V) & (targets != blank) | ~valid
    nats = jnp.where(right.all(-1) & (lengths >= 0) & (lengths <= L), nats, jnp.nan)
    return nats if reduce is None else _mean(nats, mask.any(0) | valid.any(-1))


def _optax_ctc(logits, mask, targets, valid, blank):
    """``optax.ctc_loss`` of time-major logits with any number of batch axes: nats [B]."""
    T, *batch, V = logits.shape
    logits = jnp.where(jnp.isneginf(logits), _LOG_ZERO, logits)  # Optax multiplies by one-hot vectors, and 0 * inf is NaN
    B, L, dtype = int(np.prod(batch)), targets.shape[-1], logits.dtype
    with jax.numpy_dtype_promotion("standard"):  # Optax adds float32 to whatever logits are
        nats = optax.ctc_loss(
            logits.reshape(T, B, V).swapaxes(0, 1),
            (~mask).reshape(T, B).T.astype(dtype),
            targets.reshape(B, L),
            (~valid).reshape(B, L).astype(dtype),
            blank_id=blank,
        )
    return nats.reshape(tuple(batch)).astype(dtype)


def _steps_needed(library, targets, valid):
    """The fewest steps that say the targets: one for each, and a blank between two that are the same."""
    repeated = (targets[..., 1:] == targets[..., :-1]) & valid[..., 1:]
    return library.sum(valid, -1) + library.sum(repeated, -1)


def _of_all_allowed(logits):
    """The mean cross-entropy over the symbols that are not forbidden: [T, B]."""
    allowed = logits > -jnp.inf
    total = jnp.where(allowed, logits, 0).sum(-1)
    return jax.nn.logsumexp(logits, axis=-1) - total / jnp.maximum(allowed.sum(-1), 1).astype(logits.dtype)


def _widened(values):
    return values.astype(at_least_float32(values.dtype))


def _reduced(each, mask, reduce):
    """Loss [T, B] as asked for, and zero where the mask is False."""
    each = zero_unless(mask, each)
    if reduce == "token":
        return _mean(each, mask)
    return _mean(each.sum(0), mask.any(0)) if reduce == "sequence" else each


def _mean(values, mask):
    """The mean of the values that count; zero if none does."""
    return zero_unless(mask, values).sum() / jnp.maximum(mask.sum(), 1).astype(values.dtype)


def _array(name, what, values):
    if not hasattr(values, "shape") or not hasattr(values, "dtype"):
        raise TypeError(f"{name}: {what} must be an array, got {type(values).__name__}.")


def _check_logits(name, values, what="logits", axes="[T, B, V]"):
    _array(name, what, values)
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise TypeError(f"{name}: {what} must be floating point, got {values.dtype}{list(values.shape)}.")
    if len(values.shape) < 2 or not values.shape[-1]:
        raise ValueError(f"{name}: {what} must be {axes} with a last axis that is not empty, got {list(values.shape)}.")


def _check_integers(name, what, values):
    _array(name, what, values)
    if not jnp.issubdtype(values.dtype, jnp.integer):
        raise TypeError(f"{name}: {what} must be integers, got {values.dtype}{list(values.shape)}.")


def _check_targets(name, targets, expected):
    _check_integers(name, "targets", targets)
    if tuple(targets.shape) != tuple(expected):
        raise ValueError(
            f"{name}: targets have shape {list(targets.shape)}, expected {list(expected)}, that of the logits without their "
            "last axis; give indices (not one-hot vectors), and transpose one of the two if only one is time-major."
        )


def _check_mask(name, mask, expected, of="logits"):
    if mask is None:
        return
    _array(name, "mask", mask)
    if tuple(mask.shape) != tuple(expected):
        raise ValueError(
            f"{name}: mask has shape {list(mask.shape)}, expected {list(expected)}, that of the {of} without their last "
            f"axis; transpose it, or use length_mask(lengths, {expected[0]})."
        )
    if mask.dtype != jnp.bool_:
        raise TypeError(f"{name}: mask must be bool, True where a step counts, got {mask.dtype}; write `mask != 0`.")


def _check_reduce(name, reduce, allowed):
    if reduce not in allowed:
        raise ValueError(f"{name}: reduce must be one of {', '.join(map(repr, allowed))}; got {reduce!r}.")


def _known(*values):
    return not any(isinstance(value, jax.core.Tracer) for value in values)


def _check_known(name, targets, valid, symbols):
    """Valid targets must be symbols, if it can be seen."""
    if not _known(targets, valid):
        return
    counted = np.asarray(targets) if valid is None else np.asarray(targets)[np.asarray(valid)]
    if counted.size and (counted.min() < 0 or counted.max() >= symbols):
        raise ValueError(
            f"{name}: targets must lie in 0..{symbols - 1}, for there are {symbols} logits; got "
            f"{counted.min()}..{counted.max()}; mark padding as invalid instead of giving it a symbol of its own."
        )


def _check_ctc(logits, targets, mask, target_lengths, blank, reduce):
    _check_logits("ctc", logits)
    _check_integers("ctc", "targets", targets)
    _check_mask("ctc", mask, logits.shape[:-1])
    _check_reduce("ctc", reduce, ("sequence", None))
    (T, *batch, V) = logits.shape
    if len(targets.shape) != len(batch) + 1 or list(targets.shape[:-1]) != batch:
        raise ValueError(f"ctc: targets have shape {list(targets.shape)}, expected batch first, {[*batch, 'L']}.")
    if not T:
        raise ValueError("ctc: expected at least one step, got none; mark steps as invalid where a sequence has none.")
    if not isinstance(blank, int) or not 0 <= blank < V:
        raise ValueError(f"ctc: blank must be the index of a symbol, in 0..{V - 1}; got {blank!r}.")
    if target_lengths is not None:
        _check_integers("ctc", "target_lengths", target_lengths)
        if list(target_lengths.shape) != batch:
            raise ValueError(f"ctc: target_lengths have shape {list(target_lengths.shape)}, expected {batch}.")
    if _known(targets, target_lengths, mask):
        lengths = np.full(batch, targets.shape[-1]) if target_lengths is None else np.asarray(target_lengths)
        mask = np.full((T, *batch), True) if mask is None else np.asarray(mask)
        _check_alignments(np.asarray(targets), lengths, mask, blank, V)


def _check_alignments(targets, lengths, mask, blank, symbols):
    """What only values can tell: whether the targets can be said in the steps there are."""
    L = targets.shape[-1]
    if lengths.size and (lengths.min() < 0 or lengths.max() > L):
        raise ValueError(f"ctc: target_lengths must lie in 0..{L}, got {lengths.min()}..{lengths.max()}.")
    valid = np.arange(L) < lengths[..., None]
    _check_known("ctc", targets, valid, symbols)
    if (targets[valid] == blank).any():
        raise ValueError(
            f"ctc: targets have no blanks, but some are {blank}, which is the blank; set blank or target_lengths."
        )
    steps, needed = mask.sum(0), _steps_needed(np, targets, valid)
    if (steps < needed).any():
        where = tuple(int(i) for i in np.argwhere(steps < needed)[0])
        raise ValueError(
            f"ctc: no alignment: sequence {where} has {steps[where]} valid steps, but its {lengths[where]} targets need "
            f"{needed[where]}, a blank between equal neighbours counted; drop it, or give the model more steps."
        )
