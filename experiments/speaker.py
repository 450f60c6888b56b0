"""What someone might say who describes a route: likely words for a walk, which tell right ones from wrong ones."""

import flax.nnx
import jax
import jax.numpy as jnp

import seqjax as sj
from experiments import routes, training
from experiments.datasets.worlds import ACTIONS, BAGS, FEATURES

END = routes.PADDING  # said last, and what stands before the first word


class Speaker(flax.nnx.Module):
    """The speaker of Fried, Andreas, Klein (2018): an encoder of what is seen and done, a decoder that reads it."""

    def __init__(self, words, config, *, rngs):
        width, E, sight = config.features, config.embedding, config.sight
        self.see = flax.nnx.Linear(FEATURES if config.near else BAGS, sight, rngs=rngs)
        self.do = flax.nnx.Embed(len(ACTIONS), sight, rngs=rngs)
        self.encoder = sj.nnx.RNN(sj.Bidirectional(sj.LSTM(width), sj.LSTM(width)), sight, rngs=rngs)
        self.embed = flax.nnx.Embed(words, E, rngs=rngs)
        decoder = sj.attention.Attend(sj.LSTM(width), sj.attention.Additive(width), memory_features=sight + 2 * width)
        self.decoder = sj.nnx.RNN(decoder, E, rngs=rngs)
        self.dropout = flax.nnx.Dropout(config.dropout)
        self.head = flax.nnx.Linear(width, words, rngs=rngs)

    def _drop(self, xs, key):
        return self.dropout(xs, deterministic=key is None, rngs=key)

    def __call__(self, tokens, views, actions, mask, *, key=None):
        """Log-probabilities in nats of each word of an instruction and of its end, key=None means evaluation.

        Args:
          tokens: int [B, S], the instruction.
          views: [B, T, F], of each step of the walk.
          actions: int [B, T], what was done there.
          mask: bool [B, T], True at steps.

        Returns:
          [B, S + 1], 0 after the end.
        """
        keys = training.split(key, 4)
        xs = self._drop(jax.nn.relu(self.see(views) + self.do(actions)), keys[0])
        read = self._drop(self.encoder(xs, mask=mask)[1], keys[1])
        carry = self.decoder.start(jnp.concatenate([xs, read], axis=-1), mask)
        before, said = (jnp.pad(tokens, ((0, 0), side), constant_values=END) for side in ((1, 0), (0, 1)))
        words = self._drop(self.embed(before), keys[2])
        logits = self.head(self._drop(self.decoder(words, initial_carry=carry)[1], keys[3]))
        nats = jnp.take_along_axis(jax.nn.log_softmax(logits), said[..., None], axis=-1)[..., 0]
        return jnp.where(spoken(tokens), nats, 0.0)


def spoken(tokens):
    """Where instructions int [B, S] have words, or their end: bool [B, S + 1]."""
    return jnp.pad(tokens != routes.PADDING, ((0, 0), (1, 0)), constant_values=True)
