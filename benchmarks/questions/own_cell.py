"""Gradients of a cell that a user wrote, peepholes and other activations, beside our LSTM, which has as many gates."""

import dataclasses

import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks import layers
from benchmarks.measure import Case, Program
from benchmarks.specs import ALL

UNIT = "ms"
SIZES = ALL[:4]


@dataclasses.dataclass(frozen=True, repr=False)
class Peephole(sj.LSTM):
    """What somebody would write: gates that see the memory, softsign in the place of tanh."""

    def init(self, key, xs):
        return super().init(key, xs) | {"peephole": jnp.full((3, self.features), 0.1)}

    def gate(self, params, carry, u, r):
        i, f, g, o = jnp.split(u + r, 4, -1)
        inward, keep, outward = params["peephole"]
        i, f = jax.nn.sigmoid(i + inward * carry.c), jax.nn.sigmoid(f + keep * carry.c)
        c = f * carry.c + i * jax.nn.soft_sign(g)
        h = jax.nn.sigmoid(o + outward * c) * jax.nn.soft_sign(c)
        return sj.LSTMCarry(c, h), h


def cases(options):
    for size in options.chosen(SIZES):
        programs: dict[str, Program] = {}
        for name, cell in ((layers.OURS, sj.LSTM(size.H)), ("own cell", Peephole(size.H))):
            params, xs, _ = layers.draw(cell, size)
            own = dict(layers.ours(cell, params, xs, None, "gradient"))
            programs |= {key.replace(layers.OURS, name): program._replace(read=None) for key, program in own.items()}
        yield Case(f"own cell {size}", {"cell": "peephole", **size._asdict()}, programs)
