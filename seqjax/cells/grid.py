"""Grid LSTM (Kalchbrenner et al. 2015): LSTM cells along every dimension of a grid, depth among them."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from seqjax import checks, engines
from seqjax.cells import parts
from seqjax.cells.parts import memorize
from seqjax.engines.choice import GRID, Choices
from seqjax.precision import cast, state_dtype
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
      engine: "auto" (the wavefront but for a single step), "wavefront" (layers side by side along diagonals) or "scan".
      use_bias, kernel_init, param_dtype, state_dtype: as for every cell.

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

    engines: ClassVar[tuple[str, ...]] = ("scan", "wavefront")
    choices: ClassVar[Choices] = GRID

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
        blocks = self._blocks(params)

        def layer(through, inputs):
            block, state = inputs
            return self._layer(blocks if self.tied else block, through, state)

        inputs = None if self.tied else blocks, _move(carry, -2, 0)
        through, states = jax.lax.scan(layer, GridCarry(*jnp.split(u, 2, axis=-1)), inputs)
        return _move(states, 0, -2), through.h

    def _run_wavefront(self, params, carry, inputs, options):
        state = state_dtype(carry, inputs[0].dtype)
        blocks, us = cast((self._blocks(params), self._us(params, inputs)), state)
        layers = functools.partial(self._layer if self.tied else jax.vmap(self._layer), blocks)
        through, options = GridCarry(*jnp.split(us, 2, axis=-1)), options | {"fresh": _move(options["fresh"], -2, 0)}
        carry, through = engines.wavefront(layers, _move(carry, -2, 0), through, depth=self.depth, **options)
        return _move(carry, 0, -2), through.h

    def _blocks(self, params):
        """Parameters of the layers' blocks, with an axis of layers in front where they are not tied."""
        blocks = {"kernel": params["recurrent_kernel"], "bias": params["recurrent_bias"]}
        return jax.tree.map(lambda leaf: leaf[0], blocks) if self.tied else blocks

    def _layer(self, block, through, state):
        """One layer at one step: its new depth side and time side, [..., H], or [..., S, H] for a line of places."""
        if self.dimensions == 2:
            return tuple(grid_block(block, (through, state), priority=self.priority))

        def place(beside, sides):
            *sides, beside = grid_block(block, (*sides, beside), priority=self.priority)
            return beside, tuple(sides)

        nothing = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[..., 0, :]), state)
        return _move(jax.lax.scan(place, nothing, _move((through, state), -2, 0))[1], 0, -2)


def _move(tree, source, target):
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, source, target), tree)


def grid_block(params, sides, *, priority=False):
    """One block of a grid of any number of dimensions.

    Args:
      params: kernel [NH, N4H], bias [N4H].
      sides: N states :class:`GridCarry` of [..., H], for each of which there is a new one in what is returned.
      priority: whether the first side goes last and reads the new hidden states of the others.
    """
    first = 4 * sides[0].h.shape[-1]
    hs = jnp.concatenate([side.h for side in sides], axis=-1)

    def run(hs, columns, sides):
        zs = jnp.split(hs @ params["kernel"][:, columns] + params["bias"][columns], len(sides), -1)
        return [GridCarry(*memorize(z, side.c)) for z, side in zip(zs, sides, strict=True)]

    if not priority:
        return run(hs, slice(None), sides)
    others = run(hs, slice(first, None), sides[1:])
    hs = jnp.concatenate([sides[0].h, *(side.h for side in others)], axis=-1)
    return [*run(hs, slice(0, first), sides[:1]), *others]
