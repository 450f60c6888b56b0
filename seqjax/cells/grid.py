"""Grid LSTM (Kalchbrenner et al. 2015): LSTM cells along every dimension of a grid, depth among them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks
from seqjax.cells import parts
from seqjax.cells.parts import memorize
from seqjax.recurrence import Cell


class GridCarry(NamedTuple):
    """State of a grid along time, for each layer (and place, in three dimensions)."""

    c: jax.Array  # [B, L, H], or [B, S, L, H]; Kalchbrenner et al. write m
    h: jax.Array  # [B, L, H], or [B, S, L, H]


@dataclasses.dataclass(frozen=True, repr=False)
class GridLSTM(parts.Projecting, Cell):
    r"""Grid long short-term memory of two dimensions, time and depth, or of three, with a line of places beside.

    A block has a memory cell and a hidden state on each of its N sides, and an LSTM for each side that reads all hidden
    states:

    .. math::
        \mathbf{h} &= [h_{depth}, h_{time}, \ldots] \\
        (c_k', h_k') &= \mathrm{LSTM}_k(\mathbf{h} R_k + b_k,\; c_k) \quad\text{for each side } k

    A step enters as c and h of the depth side of the first layer, x W + b; the output is h of the depth side of the last.
    In three dimensions a step is a line of S places, and blocks pass a third state from each place to the next, from zero at
    the first.

    Args:
      features: H, the width of every state.
      depth: L, the number of blocks between input and output.
      dimensions: 2, or 3 with ``places``.
      places: S, the number of places of a step in three dimensions.
      tied: whether all layers share their weights.
      priority: whether the depth side goes last and reads the new hidden states of the others (section 3.2).
      forget_bias: initial value of all forget gates' biases.
      recurrent_init: initializer of each block [H, H] of the recurrent kernel, by name, over the square root of N: a gate
        sums over N hidden states.
      use_bias, kernel_init, param_dtype, state_dtype, engine: as for every cell.

    Shapes:
      xs [T, B, F], or [T, B, S, F]; ys [T, B, H], or [T, B, S, H]; params kernel [F, 2H] and bias [2H] (c, then h),
      recurrent_kernel [L, NH, N4H] and recurrent_bias [L, N4H], with 1 in the place of L where tied; sides in the order
      depth, time, places, gates of a side in the order i, f, g, o.

    Raises:
      ValueError: a setting is not one of those named above, or ``places`` are given in two dimensions.

    One dimension, depth alone, has no state along time: :func:`grid_block` over layers is all there is to it.

    Example:
      >>> import jax, jax.numpy as jnp, seqjax as sj
      >>> cell = sj.GridLSTM(8, depth=3, tied=True)
      >>> xs = jnp.zeros((5, 2, 3))
      >>> params = cell.init(jax.random.key(0), xs)
      >>> carry, ys = cell.apply(params, cell.initial_carry(params, (2,)), xs)
      >>> carry.c.shape, ys.shape
      ((2, 3, 8), (5, 2, 8))

    References:
      Kalchbrenner, Danihelka, Graves, `Grid Long Short-Term Memory <https://arxiv.org/abs/1507.01526>`_, 2015, section 3.
    """

    _: dataclasses.KW_ONLY
    depth: int = 2
    dimensions: int = 2
    places: int | None = None
    tied: bool = False
    priority: bool = False
    forget_bias: float = 1.0
    recurrent_init: str = "orthogonal"

    def __post_init__(self):
        super().__post_init__()
        checks.positive(self, "depth")
        checks.one_of(self, "dimensions", (2, 3))
        checks.one_of(self, "recurrent_init", parts.INITIALIZERS)
        if self.dimensions == 3:
            checks.positive(self, "places")
        elif self.places is not None:
            raise ValueError(f"{self}: places belong to three dimensions.")

    @property
    def item_axes(self):
        return self.dimensions - 1

    def init(self, key, xs):
        input_key, *keys = jax.random.split(key, 1 + (1 if self.tied else self.depth))
        params = self.input_params(input_key, xs, gates=2)
        H, N, dtype = self.features, self.dimensions, self.param_dtype
        layers = []
        for layer_key in keys:
            sides = jax.random.split(layer_key, N)
            rows = [parts.blocks(self.recurrent_init, k, (H, H), 4 * N, dtype) / N**0.5 for k in sides]
            layers.append(jnp.concatenate(rows))
        forget = jnp.arange(4 * N * H) // H % 4 == 1
        bias = jnp.where(forget, self.forget_bias, 0.0).astype(dtype)
        return params | {"recurrent_kernel": jnp.stack(layers), "recurrent_bias": jnp.tile(bias, (len(keys), 1))}

    def initial_carry(self, params, batch_shape):
        del params
        shape = (*batch_shape, *((self.places,) if self.dimensions == 3 else ()), self.depth)
        return GridCarry(c=self.zero_state(shape), h=self.zero_state(shape))

    def step(self, params, carry, u):
        if self.dimensions == 2:
            y, (side,) = self._layers(params, u, (carry,))
            return side, y
        along_places = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[..., 0, :, :]), carry)

        def place(beside, inputs):
            state, u = inputs
            y, (state, beside) = self._layers(params, u, (state, beside))
            return beside, (state, y)

        state, us = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -3, 0), carry), jnp.moveaxis(u, -2, 0)
        _, (state, ys) = jax.lax.scan(place, along_places, (state, us))
        return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -3), state), jnp.moveaxis(ys, 0, -2)

    def _layers(self, params, u, sides):
        """Through all layers: the output, and the new states of the other sides ``[..., L, H]``."""
        blocks = {"kernel": params["recurrent_kernel"], "bias": params["recurrent_bias"]}
        shared = jax.tree.map(lambda leaf: leaf[0], blocks) if self.tied else None

        def layer(through, inputs):
            block, others = inputs
            through, *others = grid_block(block if shared is None else shared, (through, *others), priority=self.priority)
            return through, tuple(others)

        sides = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, -2, 0), sides)
        c, h = jnp.split(u, 2, axis=-1)
        through, sides = jax.lax.scan(layer, GridCarry(c, h), (None if self.tied else blocks, sides))
        return through.h, jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -2), sides)


def grid_block(params, sides, *, priority=False):
    """One block of a grid of any number of dimensions.

    Args:
      params: kernel [NH, N4H], bias [N4H].
      sides: N states :class:`GridCarry` of [..., H]; the first one is the side that goes last where ``priority``.
      priority: whether the first side reads the new hidden states of the others.

    Returns:
      The new state of each side.
    """
    first = 4 * sides[0].h.shape[-1]
    hs = jnp.concatenate([side.h for side in sides], axis=-1)

    def run(hs, columns, sides):
        z = hs @ params["kernel"][:, columns] + params["bias"][columns]
        return [GridCarry(*memorize(part, side.c)) for part, side in zip(jnp.split(z, len(sides), -1), sides, strict=True)]

    if not priority:
        return run(hs, slice(None), sides)
    others = run(hs, slice(first, None), sides[1:])
    hs = jnp.concatenate([sides[0].h, *(side.h for side in others)], axis=-1)
    return [*run(hs, slice(0, first), sides[:1]), *others]
