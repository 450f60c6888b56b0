"""The matrix products that gradients of an LSTM take, and nothing else, looped as they are there: gates that cost nothing.

What is left of the time of "seqjax" is what its gates and memory take; what the products take is XLA's.
"""

import jax
import jax.numpy as jnp

import seqjax as sj
from benchmarks import layers
from benchmarks.measure import Case, Program
from benchmarks.specs import ALL

UNIT = "ms"
SIZES = ALL


def cases(options):
    for size in options.chosen(SIZES):
        lstm = sj.LSTM(size.H)
        params, xs, _ = layers.draw(lstm, size)
        programs = dict(layers.ours(lstm, params, xs, None, "gradient"))
        alone = layers.programs_of("products", products, params, xs, None, "gradient")
        programs |= {name: Program(program.run) for name, program in alone}
        programs |= layers.torchs(lstm, params, xs, None, "gradient", options)
        yield Case(f"lstm {size}", {"cell": "lstm", **size._asdict()}, programs)


def products(params, xs, lengths):
    """As many products of the same sizes, in the same order, each waiting for the one before as in an LSTM."""
    del lengths
    kernel, recurrent = params["kernel"], params["recurrent_kernel"]
    units = len(recurrent)
    us = xs @ kernel

    def forward(h, u):
        return (u + h @ recurrent)[:, :units], h

    _, hs = jax.lax.scan(forward, jnp.zeros((xs.shape[1], units), xs.dtype), us)

    turned = jax.lax.optimization_barrier(recurrent.T)  # as seqjax lays it out

    def backward(dh, u):
        dr = u + jnp.tile(dh, 4)
        return dr @ turned / 4, dr

    _, drs = jax.lax.scan(backward, hs[-1], us, reverse=True)
    gradients = {
        "kernel": jnp.einsum("tbf,tbr->fr", xs, drs),
        "recurrent_kernel": jnp.einsum("tbh,tbr->hr", hs, drs),
    }
    return gradients, drs @ kernel.T
