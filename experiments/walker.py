"""One agent: it reads an instruction both ways, and looks at it and at the world before each action."""

import flax.nnx
import jax
import jax.numpy as jnp

import seqjax as sj
from experiments import routes, training
from experiments.datasets.worlds import ACTIONS, BAGS, FEATURES

# Where the agents' axis is in the carry of several: what steps change has the batch first, for a search to reorder.
BATCH_FIRST = sj.attention.AttendCarry(state=1, fed=1, past=1, memory=0)


class Walker(flax.nnx.Module):
    """Encoder, aligner and decoder of Mei, Bansal, Walter (2016).

    The memory is embeddings beside the outputs of the encoder, what the paper calls a multi-level aligner.
    """

    def __init__(self, words, config, *, rngs):
        width, E = config.features, config.embedding
        self.embed = flax.nnx.Embed(words, E, rngs=rngs)
        self.encoder = sj.nnx.RNN(sj.Bidirectional(sj.LSTM(width), sj.LSTM(width)), E, rngs=rngs)
        self.see = flax.nnx.Linear(FEATURES if config.near else BAGS, config.sight, rngs=rngs)
        self.did = flax.nnx.Embed(len(ACTIONS) + 1, config.sight, rngs=rngs)
        score = sj.attention.Additive(width)
        decoder = sj.attention.Attend(sj.LSTM(width), score, memory_features=E + 2 * width, feed=True)
        self.decoder = sj.nnx.RNN(decoder, config.sight, time_major=True, rngs=rngs)
        self.dropout = flax.nnx.Dropout(config.dropout)
        self.head = flax.nnx.Linear(width + config.sight, len(ACTIONS), rngs=rngs)

    def _drop(self, xs, key):
        return self.dropout(xs, deterministic=key is None, rngs=key)

    def listen(self, tokens, *, key=None):
        """tokens int [B, S] -> the carry before the first action; key=None means evaluation."""
        keys = training.split(key, 2)
        mask = tokens != routes.PADDING
        words = self._drop(self.embed(tokens), keys[0])
        read = self._drop(self.encoder(words, mask=mask)[1], keys[1])
        return self.decoder.start(jnp.concatenate([words, read], axis=-1), mask)

    def walk(self, carry, views, before, *, key=None):
        """views [T, B, F], actions of the steps before int [T, B] -> (carry, logits [T, B, 4])."""
        keys = training.split(key, 2)
        xs = self._drop(jax.nn.relu(self.see(views) + self.did(before)), keys[0])
        carry, ys = self.decoder(xs, initial_carry=carry)
        return carry, self.head(jnp.concatenate([self._drop(ys, keys[1]), xs], axis=-1))
