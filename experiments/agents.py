"""Agents beside each other, each with weights of its own, as pure functions of these: what they hear, see, do, would say."""

import functools
from typing import NamedTuple

import flax.nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments import routes, speaker, training, walker
from experiments.datasets.worlds import ACTIONS, BAGS, STOP

START = len(ACTIONS)  # stands for the action before the first
NEVER = -1e9  # nats


class Agent(NamedTuple):
    """One of the agents that learn side by side."""

    course: int
    sees: bool = True
    hears: bool = True


class Deciding(NamedTuple):
    """Agents that decide together, by the mean of their probabilities."""

    weights: dict
    sees: jax.Array  # bool [A]
    hears: jax.Array  # bool [A]


class Agents:
    """Agents side by side.

    Args:
      kinds: what each is, M of them.
      words: how many there are.
      atlas: the worlds that they walk in.
      config: see :class:`experiments.navigation.Config`.

    Attributes:
      weights: of all, M in front: of a "walker", and of a "speaker" where one is asked.
    """

    def __init__(self, kinds, words, atlas, config):
        def made(key):
            found = {"walker": training.Model(walker.Walker(words, config, rngs=flax.nnx.Rngs(key)))}
            if config.speaker:
                rngs = flax.nnx.Rngs(jax.random.fold_in(key, 1))
                found["speaker"] = training.Model(speaker.Speaker(words, config, rngs=rngs))
            return found

        def weights(key):
            return {name: model.weights for name, model in made(key).items()}

        key = jax.random.key(config.seed)
        self.kinds, self.config, self.models = kinds, config, made(key)
        self.weights = jax.jit(jax.vmap(weights))(jax.random.split(key, len(kinds)))
        self._sees = jnp.array([agent.sees for agent in kinds])
        self._hears = jnp.array([agent.hears for agent in kinds])
        self._views = jnp.asarray(atlas.views if config.near else atlas.views[:, :BAGS])
        self._open = jnp.asarray(atlas.open)
        self._moves = jnp.asarray(np.concatenate([atlas.moves, np.arange(len(atlas.moves))[:, None]], 1), jnp.int32)

    def _model(self, name, weights):
        return self.models[name](weights[name])

    def _heard(self, hears, tokens, key=None):
        """What an agent hears: all, all but some words, or that there is something."""
        if key is not None and self.config.unheard:
            lost = jax.random.bernoulli(key, self.config.unheard, tokens.shape) & (tokens != routes.PADDING)
            tokens = jnp.where(lost, routes.UNKNOWN, tokens)
        nothing = jnp.full_like(tokens, routes.PADDING).at[:, 0].set(routes.UNKNOWN)
        return jnp.where(hears, tokens, nothing)

    def _seen(self, sees, states, key=None):
        """What an agent sees: its view, without some of its features, or nothing."""
        views = self._views[states]
        if key is not None and self.config.unseen:
            views = views * jax.random.bernoulli(key, 1 - self.config.unseen, views.shape)
        return jnp.where(sees, views, 0.0)

    def _possible(self, sees, states, logits):
        """An agent that sees a wall does not walk into it."""
        return jnp.where(self._open[states] | ~sees, logits, NEVER)

    def _acts(self, weights, sees, hears, batch, key):
        """Mean negative log-likelihood of an agent's actions."""
        keys = training.split(key, 4)
        model, (states, actions, mask) = self._model("walker", weights), (batch[n].T for n in ("states", "actions", "mask"))
        before = jnp.concatenate([jnp.full_like(actions[:1], START), actions[:-1]])
        carry = model.listen(self._heard(hears, batch["tokens"], keys[0]), key=keys[1])
        _, logits = model.walk(carry, self._seen(sees, states, keys[2]), before, key=keys[3])
        logits = self._possible(sees, states, logits)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, actions), where=mask)

    def _says(self, weights, sees, hears, batch, key):
        """Mean negative log-likelihood of the words for what is done."""
        key = None if key is None else jax.random.fold_in(key, 1)
        tokens, views = self._heard(hears, batch["tokens"]), self._seen(sees, batch["states"])
        nats = self._model("speaker", weights)(tokens, views, batch["actions"], batch["mask"], key=key)
        where = speaker.spoken(tokens) & jnp.any(batch["mask"], axis=1, keepdims=True)
        return -jnp.mean(nats, where=where)

    def losses(self, weights, batch, key):
        """Nats per action of each agent, and nats per word of what it would say where it has a speaker.

        Args:
          weights: of all agents.
          batch: what each learns from, see :class:`experiments.routes.Lessons`.
          key: of dropout; None means evaluation.

        Returns:
          ``[M]`` each: ``{"acts": ...}``, or ``{"acts": ..., "says": ...}``.
        """
        keys = None if key is None else jax.random.split(key, len(self.kinds))
        parts = {"acts": self._acts} | ({"says": self._says} if "speaker" in self.models else {})
        axes = (0, 0, 0, 1, None if key is None else 0)
        return {name: jax.vmap(part, axes)(weights, self._sees, self._hears, batch, keys) for name, part in parts.items()}

    def deciding(self, weights, agents):
        """Those of the agents, by their indices, that decide together."""
        index = np.array(agents)
        return Deciding(jax.tree.map(lambda leaf: leaf[index], weights), self._sees[index], self._hears[index])

    def stops(self, deciding, tokens, states, length):
        """Where agents may stop, and how likely that is.

        With a share w of a speaker (``config.speaker``) it is (1 - w) log p(actions | words) + w log p(words | actions), the
        rational listener of Fried, Andreas, Klein (2018).

        Args:
          deciding: :class:`Deciding`.
          tokens: int [N, S], instructions.
          states: int [N], where each begins.
          length: most actions.

        Returns:
          ``(ends, nats)``: states int [W, N], float [W, N], of the best W of a beam; -inf where nothing was found.
        """
        ends, nats, walks, actions, lengths = self._search(deciding, tokens, states, length)
        if share := self.config.speaker:
            steps = min(length, routes.rounded(int(jnp.max(lengths)), 8))  # few shapes, of which most are short
            said = self._said(deciding, tokens, walks[:, :steps], actions[:, :steps], lengths)
            nats = (1 - share) * nats + share * said
        return np.asarray(ends), np.where(lengths > 0, nats, -np.inf)

    @functools.partial(jax.jit, static_argnums=(0, 4))
    def _search(self, deciding, tokens, states, length):
        """The likeliest walks: where they end [W, N], their nats [W, N], states and actions [W, T, N], lengths [W, N]."""

        def listen(weights, hears):
            return self._model("walker", weights).listen(self._heard(hears, tokens))

        def step(carry, before):
            carries, states = carry
            states = self._moves[states, before]

            def one(weights, sees, carry):
                carry, logits = self._model("walker", weights).walk(carry, self._seen(sees, states)[None], before[None])
                return carry, jax.nn.log_softmax(self._possible(sees, states, logits[0]))

            axes = (0, 0, walker.BATCH_FIRST), (walker.BATCH_FIRST, 0)
            carries, logits = jax.vmap(one, *axes)(deciding.weights, deciding.sees, carries)
            return (carries, states), jax.nn.logsumexp(logits, axis=0)

        carry = jax.vmap(listen, out_axes=walker.BATCH_FIRST)(deciding.weights, deciding.hears)
        begin, width = jnp.full(states.shape, START), self.config.width
        settings = {"width": width, "n_best": width, "length": length, "stop": STOP}
        found = sj.decode.beam_search(step, (carry, states), begin, **settings)
        first = jnp.broadcast_to(states, found.lengths.shape)
        actions = jnp.moveaxis(found.tokens, 1, 0)
        ends, walks = jax.lax.scan(lambda at, acts: (self._moves[at, acts], at), first, actions)
        return ends, found.log_probabilities, jnp.moveaxis(walks, 0, 1), found.tokens, found.lengths

    @functools.partial(jax.jit, static_argnums=0)
    def _said(self, deciding, tokens, walks, actions, lengths):
        """How likely agents would say tokens [N, S] of walks [W, T, N]: nats [W, N]."""
        W, T, N = walks.shape
        walks, actions = (jnp.moveaxis(each, 1, 2).reshape(W * N, T) for each in (walks, actions))
        mask = jnp.arange(T) < lengths.reshape(W * N, 1)
        tokens = jnp.tile(tokens, (W, 1))

        def one(weights, sees, hears):
            return self._model("speaker", weights)(self._heard(hears, tokens), self._seen(sees, walks), actions, mask)

        each = jax.vmap(one)(deciding.weights, deciding.sees, deciding.hears)
        together = jax.nn.logsumexp(each, axis=0) - jnp.log(len(each))  # of every word, as of every action
        return jnp.sum(together, axis=1).reshape(W, N)
