"""Noise that regularizes: on inputs, on states, on weights."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.combine.wrapper import Wrapper, only_state
from seqjax.recurrence import Cell, GatedCell, LinearCarry, LinearCell, Restarting


@dataclasses.dataclass(frozen=True, repr=False)
class Dropout(Wrapper):
    """Drops inputs of a recurrence at random, and scales those that stay by 1 / (1 - rate).

    Args:
      recurrence: what reads the inputs. Its parameters and carry are those of the whole.
      rate: share of the inputs that is dropped.
      locked: one draw for all steps of a sequence (Gal and Ghahramani 2016), instead of one for each step. Under truncated
        backpropagation a draw holds for one chunk.

    ``key=None`` means evaluation: nothing is dropped.

    Raises:
      ValueError: a rate outside of [0, 1).

    References:
      Gal, Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural Networks
      <https://arxiv.org/abs/1512.05287>`_, 2016.
    """

    rate: float = 0.5
    locked: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        checks.rate(self, "rate")

    @property
    def stochastic(self):
        return self.rate > 0 or self.recurrence.stochastic

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.sequence(self, xs)
        if key is not None:
            key, own = jax.random.split(key)
            xs = _drop(own, xs, self.rate, xs.shape[1:] if self.locked else xs.shape)
        return self.recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)


@dataclasses.dataclass(frozen=True, repr=False)
class RecurrentDropout(Wrapper, Restarting):
    """Drops entries of the state that the recurrent product reads, the same ones at all steps of a sequence.

    What stays is scaled by 1 / (1 - rate). What the gates read of the state, such as c of an :class:`LSTM` and the h that a
    :class:`GRU` keeps, is whole. Under truncated backpropagation a draw holds for one chunk.

    Args:
      recurrence: a :class:`GatedCell`. Its parameters and carry are those of the whole.
      rate: share of the entries that is dropped.

    ``key=None`` means evaluation: nothing is dropped. Keras calls it ``recurrent_dropout``; PyTorch and Flax have none.

    Raises:
      TypeError: what is inside is no gated cell, so that there is no recurrent product apart.
      ValueError: a rate outside of [0, 1).

    References:
      Gal, Ghahramani, `A Theoretically Grounded Application of Dropout in Recurrent Neural Networks
      <https://arxiv.org/abs/1512.05287>`_, 2016, section 4.
    """

    rate: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        checks.rate(self, "rate")
        if not isinstance(self.recurrence, GatedCell):
            raise TypeError(
                f"RecurrentDropout: works on the recurrent product of a gated cell, got {self.recurrence!r}; "
                "put it around each cell."
            )

    @property
    def stochastic(self):
        return self.rate > 0

    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        inner: Any = self.recurrence
        if key is None:
            return inner._apply(params, carry, xs, fresh, mask, resets, None)
        leaves, structure = jax.tree.flatten(carry)
        keys = jax.random.split(key, len(leaves))
        scales = [_drop(k, jnp.ones_like(leaf), self.rate) for k, leaf in zip(keys, leaves, strict=True)]
        scales = jax.tree.unflatten(structure, scales)
        fresh = None if fresh is None else _Scaled(fresh, scales)
        cell: Any = _Dropping(inner, engine=inner.engine)
        (carry, _), ys = cell._apply(params, _Scaled(carry, scales), xs, fresh, mask, resets, None)
        return carry, ys


class _Scaled(NamedTuple):
    """A state, and what each of its entries is multiplied by where the recurrent product reads it."""

    state: Any
    scales: Any


@dataclasses.dataclass(frozen=True, repr=False)
class _Around:
    """What a cell under noise has of the cell itself."""

    cell: Any

    @property
    def item_axes(self):
        return self.cell.item_axes

    def init(self, key, xs):
        return self.cell.init(key, xs)

    def initial_carry(self, params, batch_shape):
        return self.cell.initial_carry(params, batch_shape)


@dataclasses.dataclass(frozen=True, repr=False)
class _Dropping(_Around, GatedCell):
    """A gated cell whose carry says what its recurrent product reads of the state."""

    def _us(self, params, inputs):
        return self.cell._us(params, inputs)

    def recur(self, params, carry):
        return self.cell.recur(params, jax.tree.map(jnp.multiply, carry.state, carry.scales))

    def gate(self, params, carry, u, r):
        state, y = self.cell.gate(params, carry.state, u, r)
        return _Scaled(state, carry.scales), y


@dataclasses.dataclass(frozen=True, repr=False)
class WeightDrop(Wrapper):
    """Drops entries of every ``recurrent_kernel`` of a recurrence at random, and scales the others by 1 / (1 - rate).

    One draw a call, for all its steps and sequences: under truncated backpropagation a draw holds for one chunk.

    Args:
      recurrence: whose weights are dropped. Its parameters and carry are those of the whole.
      rate: share of the weights that is dropped.

    ``key=None`` means evaluation: nothing is dropped.

    Raises:
      ValueError: a rate outside of [0, 1), or a recurrence without a recurrent kernel.

    References:
      Merity, Keskar, Socher, `Regularizing and Optimizing LSTM Language Models <https://arxiv.org/abs/1708.02182>`_, 2018,
      section 2.
    """

    rate: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        checks.rate(self, "rate")

    @property
    def stochastic(self):
        return self.rate > 0 or self.recurrence.stochastic

    def init(self, key, xs):
        params = self.recurrence.init(key, xs)
        if not any(_is_recurrent(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)):
            raise ValueError(f"{self}: {self.recurrence} has no recurrent_kernel to drop entries of.")
        return params

    def apply(self, params, carry, xs, *, mask=None, resets=None, key=None):
        checks.parameters(self, params, xs)
        if key is not None:
            key, own = jax.random.split(key)
            leaves, structure = jax.tree_util.tree_flatten_with_path(params)
            dropped = [
                _drop(jax.random.fold_in(own, i), leaf, self.rate) if _is_recurrent(path) else leaf
                for i, (path, leaf) in enumerate(leaves)
            ]
            params = jax.tree.unflatten(structure, dropped)
        return self.recurrence.apply(params, carry, xs, mask=mask, resets=resets, key=key)


@dataclasses.dataclass(frozen=True, repr=False)
class Zoneout(Wrapper, Restarting):
    """Lets entries of the state skip a step at random: they keep what they were.

    Args:
      recurrence: a :class:`Cell`. Its parameters and carry are those of the whole.
      rate: share of the entries that skip a step; for each field of the carry its own where a tuple is given, such as
        (0.5, 0.05) for c and h of an :class:`LSTM`.

    ``key=None`` means evaluation: every entry moves by the share of steps that it takes in training, as in the paper. Where
    the output of the cell is a field of its carry, it is that field after zoneout; that of a linear cell is read from the
    state after zoneout.

    Raises:
      TypeError: what is inside is no cell, or one that reads a memory.
      ValueError: a rate outside of [0, 1), or not one for each field.

    References:
      Krueger et al., `Zoneout <https://arxiv.org/abs/1606.01305>`_, 2017, section 3.
    """

    rate: float | tuple[float, ...] = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.recurrence, Cell):
            raise TypeError(f"Zoneout: works on the steps of a cell, got {self.recurrence!r}; put it around each cell.")
        only_state(self, self.recurrence)
        for rate in self.rate if isinstance(self.rate, tuple) else (self.rate,):
            checks.in_unit_interval(self, "rate", rate)

    @property
    def stochastic(self):
        return any(jax.tree.leaves(self.rate))

    def initial_carry(self, params, batch_shape):
        carry = self.recurrence.initial_carry(params, batch_shape)
        self.rates(carry)
        return carry

    def rates(self, carry):
        """A rate for each leaf of a carry."""
        count = len(jax.tree.leaves(carry))
        rates = self.rate if isinstance(self.rate, tuple) else (self.rate,) * count
        if len(rates) != count:
            raise ValueError(f"{self}: the carry has {count} fields, got {len(rates)} rates.")
        return rates

    def _apply(self, params, carry, xs, fresh, mask, resets, key):
        inner: Any = self.recurrence
        cell: Any = _ZonedCell(inner, self)
        for contract, zoned in ((GatedCell, _ZonedGatedCell), (LinearCell, _ZonedLinearCell)):
            if isinstance(inner, contract):
                cell = zoned(inner, self, engine=inner.engine)
        return cell._apply(params, carry, xs, fresh, mask, resets, key)


@dataclasses.dataclass(frozen=True, repr=False)
class _Zoned(_Around):
    """A cell under zoneout: which entries skip a step comes with the inputs of the step."""

    zoneout: Zoneout

    def _drawn(self, carry, steps, key):
        if key is None:
            return None
        leaves, rates = jax.tree.leaves(carry), self.zoneout.rates(carry)
        keys = jax.random.split(key, len(leaves))
        return [_kept(k, 1 - rate, (steps, *leaf.shape)) for k, rate, leaf in zip(keys, rates, leaves, strict=True)]

    def _us(self, params, inputs):
        return self.cell._us(params, inputs), inputs[1]

    def skip(self, held, old, new, y):
        """The carry after a step at which some entries stayed, and the output that belongs to it."""
        leaves, structure = jax.tree.flatten(new)
        rates = self.zoneout.rates(new)
        if held is None:
            mixed = [rate * o + (1 - rate) * n for rate, o, n in zip(rates, jax.tree.leaves(old), leaves, strict=True)]
        else:
            mixed = [jnp.where(h, o, n) for h, o, n in zip(held, jax.tree.leaves(old), leaves, strict=True)]
        y = next((after for n, after in zip(leaves, mixed, strict=True) if n is y), y)
        return jax.tree.unflatten(structure, mixed), y


@dataclasses.dataclass(frozen=True, repr=False)
class _ZonedCell(_Zoned, Cell):
    def step(self, params, carry, u):
        u, held = u
        return self.skip(held, carry, *self.cell.step(params, carry, u))


@dataclasses.dataclass(frozen=True, repr=False)
class _ZonedGatedCell(_Zoned, GatedCell):
    def recur(self, params, carry):
        return self.cell.recur(params, carry)

    def gate(self, params, carry, u, r):
        u, held = u
        return self.skip(held, carry, *self.cell.gate(params, carry, u, r))


@dataclasses.dataclass(frozen=True, repr=False)
class _ZonedLinearCell(_Zoned, LinearCell):
    """An entry that stays decays by one and is driven by nothing."""

    def coefficients(self, params, u):
        u, held = u
        decay, drive = self.cell.coefficients(params, u)
        if held is None:
            (rate,) = self.zoneout.rates(LinearCarry(drive))
            return rate + (1 - rate) * decay, (1 - rate) * drive
        return jnp.where(held[0], 1, decay), jnp.where(held[0], 0, drive)

    def readout(self, params, h, u):
        return self.cell.readout(params, h, u[0])


def _is_recurrent(path):
    return "recurrent_kernel" in jax.tree_util.keystr(path)


def _drop(key, x, rate, shape=None):
    """Zeros with probability ``rate``; what stays is scaled up, so that the mean stays."""
    return jnp.where(_kept(key, rate, x.shape if shape is None else shape), x / (1 - rate), jnp.zeros((), x.dtype))


def _kept(key, rate, shape):
    """True where nothing is dropped. Without the barrier XLA on a CPU draws again wherever the result is used."""
    return jax.lax.optimization_barrier(jax.random.bernoulli(key, 1 - rate, shape))
