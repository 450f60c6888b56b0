"""A cell that reads a memory at every step."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.attention.read import Memory, attend
from seqjax.attention.reading import APART, Reading, batched, innermost
from seqjax.cells import parts
from seqjax.engines.choice import ANY
from seqjax.precision import at_least_float32, state_dtype


class AttendCarry(NamedTuple):
    """State of a cell that reads a memory."""

    state: Any  # of the cell inside
    fed: Any  # [B, A], the outputs of the step before where they are fed back, else ()
    past: Any  # what earlier steps have read where the score looks at it, else ()
    memory: Memory  # never changed


@dataclasses.dataclass(frozen=True, repr=False)
class Attend(Reading):
    r"""A cell that reads a memory at every step: the decoder of an encoder-decoder with attention.

    .. math::
        s_t, h_t &= \mathrm{cell}(x_t, s_{t-1}) \qquad c_t = \sum_s \mathrm{softmax}_s(a(h_t, m_s))\, m_s \\
        y_t &= \tanh([h_t, c_t] W_o)

    Args:
      cell: what steps; its outputs h are the queries.
      score: a(q, k), one of the scores.
      memory_features: M, the width of the memory.
      features: A, the width of the outputs; None for that of the outputs of the cell.
      feed: whether the cell reads y of the step before beside x (input feeding, Luong et al. 2015, section 3.3).
      before: whether the memory is read before the cell steps, by the state h of the step before, and the cell reads c
        beside x (Bahdanau et al. 2015), instead of after it.
      engine: "auto", "scan" or, where no step waits for what was read, "hoisted": the cell runs on its own fastest
        engine, and all steps read at once. That is so without ``feed``, without ``before``, and with a score that does not
        look at earlier weights.

    What is fed enters through a kernel of its own, added to what the cell makes of x, as the papers write it: with C for
    ``feed_kernel``, z = x W + b + c C + h R.

    Shapes:
      xs [T, B, F], memory [B, S, M], ys [T, B, A]; carry :class:`AttendCarry`, made by ``start``; params {"cell": ...,
      "score": ..., "output_kernel": [H + M, A]} and, where something is fed, "feed_kernel": [A or M, K*H], a kernel for each
      array that the cell projects inputs to.

    Raises:
      TypeError: a part is no cell or no score.
      ValueError: ``feed`` and ``before`` together, which would feed the memory twice; ``before`` with a cell whose state has
        no h.

    Keras and PyTorch have attention as a layer over whole sequences; a cell that reads was in TensorFlow Addons
    (``AttentionWrapper``), which starts from zero attention and is no longer maintained.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> decoder = sj.attention.Attend(sj.LSTM(16), sj.attention.Additive(16), memory_features=24)
      >>> xs, memory = jnp.ones((5, 2, 8)), jnp.ones((2, 7, 24))  # [T, B, F], [B, S, M]
      >>> params = decoder.init(jax.random.key(0), xs)
      >>> carry = decoder.start(params, memory, mask=jnp.arange(7) < jnp.array([[7], [4]]))
      >>> carry, ys = decoder.apply(params, carry, xs)
      >>> ys.shape, decoder.weights(params, carry, xs).shape
      ((5, 2, 16), (5, 2, 7))

    References:
      Bahdanau, Cho, Bengio, `Neural Machine Translation by Jointly Learning to Align and Translate
      <https://arxiv.org/abs/1409.0473>`_, 2015, equations 4 to 6.
      Luong, Pham, Manning, `Effective Approaches to Attention-based Neural Machine Translation
      <https://arxiv.org/abs/1508.04025>`_, 2015, equation 5.
    """

    features: int | None = None
    feed: bool = dataclasses.field(default=False, kw_only=True)
    before: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, *(() if self.features is None else ("features",)))
        if self.feed and self.before:
            raise ValueError(f"{self}: before feeds what was read already; leave feed out.")

    @property
    def engines(self):  # type: ignore[override]
        return ("scan",) if self._waits else ("scan", "hoisted")

    @property
    def choices(self):  # type: ignore[override]
        return ANY if self._waits else APART

    @property
    def _waits(self):
        """Whether a step needs what the step before has read."""
        return self.feed or self.before or self.score.sequential

    def init(self, key, xs):
        keys = jax.random.split(key, 4)
        params, hidden = self._init(keys[0], keys[1], xs)
        M, dtype, width = self.memory_features, self.score.param_dtype, self.features or hidden
        params["output_kernel"] = parts.blocks("lecun_normal", keys[2], (hidden + M, width), 1, dtype)
        if self.feed or self.before:
            params["feed_kernel"] = self._feed_kernels(keys[3], params["cell"], xs, M if self.before else width)
        return params

    def _feed_kernels(self, key, params, xs, width):
        us = jax.eval_shape(self.cell.project, params, jax.ShapeDtypeStruct((1, xs.shape[-1]), jnp.float32))
        leaves, structure = jax.tree.flatten(us)
        keys = jax.random.split(key, len(leaves))
        dtype = self.score.param_dtype
        kernels = [
            parts.blocks("lecun_normal", k, (width, u.shape[-1]), 1, dtype) for k, u in zip(keys, leaves, strict=True)
        ]
        return jax.tree.unflatten(structure, kernels)

    def initial_carry(self, params, batch_shape):
        if self.before:
            self._shown(self.cell.initial_carry(params["cell"], ()))
        return super().initial_carry(params, batch_shape)

    def _shown(self, state):
        """What is asked with before the first step: the h of a state."""
        if not hasattr(state, "h"):
            raise ValueError(
                f"{self}: before asks with the h of a state, and {type(state).__name__} has none; leave it out."
            )
        return state.h

    def _carry(self, params, state, memory):
        batch, dtype = memory.mask.shape[:-1], state_dtype(innermost(state), at_least_float32(memory.values.dtype))
        fed = jnp.zeros((*batch, params["output_kernel"].shape[-1]), dtype) if self.feed else ()
        past = batched(lambda mask: self.score.before(mask, dtype), len(batch))(memory.mask)
        return AttendCarry(state, fed, past, memory)

    def step(self, params, carry, u):
        carry, y, _ = self._observe(params, carry, u)
        return carry, y

    def _observe(self, params, carry, u):
        """A step, and the weights with which it read."""
        state, fed, past, memory = carry
        if self.before:
            context, weights, past = self._read(params, memory, past, self._shown(state))
            state, h = self.cell.step(params["cell"], state, self._beside(params, u, context))
        else:
            state, h = self.cell.step(params["cell"], state, self._beside(params, u, fed) if self.feed else u)
            context, weights, past = self._read(params, memory, past, h)
        y = self._output(params, h, context)
        return AttendCarry(state, y if self.feed else (), past, memory), y, weights

    def _read(self, params, memory, past, query):
        def read(memory, past, query):
            context, weights = attend(self.score, params["score"], memory, query, past)
            return context.astype(query.dtype), weights, self.score.after(past, weights)

        return batched(read, memory.mask.ndim - 1)(memory, past, query)

    def _look(self, params, memory, h):
        return self._output(params, h, self._read(params, memory, (), h)[0])

    def _output(self, params, h, context):
        return jnp.tanh(jnp.concatenate([h, context], axis=-1) @ params["output_kernel"])

    def _beside(self, params, u, fed):
        return jax.tree.map(lambda u, kernel: u + fed @ kernel, u, params["feed_kernel"])

    def weights(self, params, carry, xs, *, mask=None, resets=None):
        """The weights ``[T, B, S]`` with which each step reads, ``[T, B, K, S]`` with K heads: what pictures are made of."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {"engine": "scan"}
        return _Watching(**fields).apply(params, carry, xs, mask=mask, resets=resets)[1]


class _Watching(Attend):
    """Gives the weights in the place of outputs."""

    def step(self, params, carry, u):
        carry, _, weights = self._observe(params, carry, u)
        return carry, weights
