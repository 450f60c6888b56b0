"""Listen, attend and walk (Mei, Bansal, Walter 2016): people's directions are followed by an agent that sees where it is.

python -m experiments navigation                  generated buildings, a dozen phrases
python -m experiments navigation --preset sail    SAIL: three buildings, each in turn asked about and never learnt from

A sentence is followed if the agent stops at the right place with the right heading, a paragraph if at the right place.
Where it stops is the likeliest pose, or place, whatever leads there and however the instruction is cut into pieces. The
controls, agents that see nothing or are told nothing, learn beside the others. Agents of SAIL learn from images of its
buildings too, in mirrors and with other names of floors, walls and items, and from generated ones. They learn to speak
besides, and judge a walk by what they would say of it as well (Fried, Andreas, Klein 2018). Numbers are in README.md.
"""

import dataclasses
import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

import seqjax as sj
from experiments import following, routes, training
from experiments.agents import Agent, Agents
from experiments.datasets import halls, sail
from experiments.datasets.images import images
from experiments.datasets.worlds import ACTIONS
from seqjax.data import examples


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    data: Literal["halls", "sail"] = "halls"
    start: Literal["four", "quarter"] = "four"
    """The first heading of a route that has none: each of four, or, as in the paper's data, a quarter left of the next."""
    agents: int = 1
    """How many agents decide together, by the mean of their probabilities."""
    controls: bool = True
    """Whether an agent that sees nothing and one that is told nothing learn beside them."""
    near: bool = True
    """Whether agents see what is near apart from what is far, besides the paper's bags."""
    features: int = 100
    embedding: int = 64
    sight: int = 64
    """Width of what is made of a view."""
    dropout: float = 0.2
    unheard: float = 0.0
    """Share of the words of training that are replaced by the unknown one."""
    unseen: float = 0.0
    """Share of the features of views that are left out in training."""
    several: float = 0.2
    """Share of the batches of training that are of several sentences in a row."""
    mirrored: bool = True
    """Whether agents learn from mirror images too, left and right exchanged in words and worlds."""
    renamed: int = 0
    """In how many images of the buildings the names of floors, walls and items are exchanged, in words and worlds."""
    generated: int = 0
    """From how many generated buildings agents of SAIL learn besides."""
    held_out: float = 0.1
    batch_size: int = 32
    steps: int = 1500
    learning_rate: float = 4e-3
    weight_decay: float = 0.01
    average: float = 0.99
    evaluations: int = 5
    width: int = 1
    """Of the beam."""
    speaker: float = 0.0
    """How much it counts for the likeliest walks what one would say of them, beside what one would do when told; from 0, for
    which no agent learns to speak, to 1."""
    seed: int = 0

    def __post_init__(self):
        for name in ("agents", "features", "embedding", "sight", "batch_size", "steps", "evaluations", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"navigation: {name} must be at least 1, got {getattr(self, name)}.")
        for name in ("renamed", "generated"):
            if getattr(self, name) < 0:
                raise ValueError(f"navigation: {name} must be at least 0, got {getattr(self, name)}.")
        if not 0 <= self.speaker <= 1:
            raise ValueError(f"navigation: speaker is a share, from 0 to 1, got {self.speaker}.")
        if self.width > len(ACTIONS):
            raise ValueError(f"navigation: width is at most the number of actions, {len(ACTIONS)}; got {self.width}.")


PRESETS = {
    "default": Config(),
    "sail": Config(
        data="sail",
        start="quarter",
        agents=3,
        dropout=0.4,
        unheard=0.05,
        several=0.5,
        renamed=16,
        generated=60,
        steps=2500,
        width=4,
        speaker=0.5,
    ),
}


NAMES = {"sentences": "single_sentence", "paragraphs": "paragraph"}


class Task:
    """What a configuration means: all agents as pure functions of their weights, and what they are asked."""

    def __init__(self, config):
        self.config = config
        self.courses = courses(config)
        self.kinds = [Agent(i) for i in range(len(self.courses)) for _ in range(config.agents)]
        if config.controls:
            self.kinds += [Agent(i, sees, not sees) for sees in (False, True) for i in range(len(self.courses))]
        words = max(len(course.codes) for course in self.courses) + routes.UNKNOWN + 1
        self.agents = Agents(self.kinds, words, self.courses[0].atlas, config)
        self._losses = jax.jit(lambda weights, batch: self.agents.losses(weights, batch, None))

    def lessons(self):
        """Batches to learn from."""
        return routes.Lessons([self.courses[agent.course] for agent in self.kinds], several=self.config.several)

    def loss(self, weights, carry, batch, key):
        """The mean over agents, of a walker and a speaker together."""
        return sum(jnp.mean(each) for each in self.agents.losses(weights, batch, key).values()), (carry, {})

    def evaluate(self, weights):
        """Mean losses of the agents that see and hear on what is held out of their courses."""
        whole = np.array([agent.sees and agent.hears for agent in self.kinds])
        losses = {name: float(np.mean(each, where=whole)) for name, each in self._losses(weights, self._checks).items()}
        return {"loss": losses.pop("acts")} | losses

    @functools.cached_property
    def _checks(self):
        return routes.checks([self.courses[agent.course] for agent in self.kinds])

    def _stops(self, course, deciding, length, pieces):
        """Where those deciding, agents of a course, may stop after pieces, words and states: {state: nats} of each."""
        codes = [course.encode(words) for words, _ in pieces]
        found: list[dict[int, float]] = [{} for _ in pieces]
        for rows, longest in routes.by_length(codes):
            full = [rows[i % len(rows)] for i in range(routes.ROWS)]
            tokens = routes.pad([codes[i] for i in full], longest)
            states = np.array([pieces[i][1] for i in full], np.int32)
            ends, nats = (each.T.tolist() for each in self.agents.stops(deciding, tokens, states, length))
            for i, *likely in zip(rows, ends, nats, strict=False):
                for state, how in zip(*likely, strict=True):
                    if how > -np.inf:
                        following.add(found[i], state, how)
        return found

    def follow(self, weights, agents, asked, *, turned=True, length=64):
        """The last poses of agents that decide together, and which example each is of.

        Args:
          weights: of all agents.
          agents: indices of those that decide, of one course.
          asked: examples of that course.
          turned: whether the likeliest pose is wanted, else one at the likeliest place.
          length: most actions of a piece.
        """
        course, deciding = self.courses[self.kinds[agents[0]].course], self.agents.deciding(weights, agents)
        questions, which = routes.questions(course, asked)
        led = following.in_pieces(functools.partial(self._stops, course, deciding, length), questions)
        poses = []
        for i, found in zip(which, led, strict=True):
            pose = functools.partial(course.atlas.pose, asked[i].world)
            poses.append(pose(following.likeliest(found, pose if turned else lambda state, pose=pose: pose(state)[:2])))
        return poses, which

    def followed(self, weights, part, *, sees=True, hears=True, together=True):
        """The share of a part of the courses that is followed; every example counts alike.

        Args:
          weights: of all agents.
          part: "sentences", "paragraphs" or "held_out".
          sees: whether those that decide see.
          hears: whether they hear.
          together: whether agents of a course decide together; else the mean of what each follows.
        """
        shares: list[float] = []
        for i, course in enumerate(self.courses):
            agents = [j for j, agent in enumerate(self.kinds) if agent == Agent(i, sees, hears)]
            asked = getattr(course, part)
            for deciding in [agents] if together else [[agent] for agent in agents]:
                turned = part != "paragraphs"
                poses, which = self.follow(weights, deciding, asked, turned=turned)
                goals = [asked[j].path[-1] for j in which]
                hits = [right(pose, goal, turned=turned) for pose, goal in zip(poses, goals, strict=True)]
                shares += (np.bincount(which, hits) / np.bincount(which)).tolist()
        return float(np.mean(shares))

    def optimizer(self):
        """AdamW with warm-up and a cosine schedule."""
        config = self.config
        peak = config.learning_rate
        schedule = optax.warmup_cosine_decay_schedule(0.0, peak, min(100, config.steps // 2), config.steps, peak / 20)
        return optax.adamw(schedule, b2=0.99, weight_decay=config.weight_decay)

    def state(self):
        """The state before the first step of training."""
        return sj.train.create(
            self.agents.weights, self.optimizer(), jax.random.key(self.config.seed), carry=(), average=True
        )


def right(pose, goal, *, turned):
    """Whether a pose is where a path ends and, where that is asked and known, turned as it ends."""
    return (pose.x, pose.y) == (goal.x, goal.y) and (not turned or goal.heading in (None, pose.heading))


def courses(config):
    """SAIL: one for each map, which is left out. Generated buildings: one, a fifth of the buildings left out."""
    found = sail.load() if config.data == "sail" else halls.generate(seed=config.seed)
    names = list(found.worlds)
    asked = [{name} for name in names] if config.data == "sail" else [set(names[::5])]
    more = halls.beside_sail(config.generated, seed=config.seed)
    shown = images(mirror=config.mirrored, renamed=config.renamed, seed=config.seed)
    atlas = routes.Atlas(found.worlds, shown, more=more.worlds)
    settings = {"more": more.sentences, "unknown": config.start, "held_out": config.held_out, "seed": config.seed}
    return [routes.Course(atlas, found, some, **settings) for some in asked]


def run(config, preset, directory, *, record=False, quiet=False):
    """Trains, or goes on training, and ends with a summary."""
    this = training.Run("navigation", preset, config, units=("instructions", config.batch_size), record=record, quiet=quiet)
    task = Task(config)
    this.open(directory)
    this.introduce(f"{len(task.kinds)} agents, {config.data}", task.agents.weights)
    data = examples(task.lessons(), batch_size=config.batch_size, seed=config.seed)
    outcome = this.train(task, data, task.evaluate)
    return outcome and _finish(this, task, outcome)


def _finish(this, task, outcome):
    """The summary: what the last weights follow, and the controls."""
    weights = training.on_one_device(outcome.state.weights)
    metrics = {name: task.followed(weights, part) for part, name in NAMES.items()}
    if task.config.agents > 1:
        for part, name in NAMES.items():
            metrics[f"{name}_alone"] = task.followed(weights, part, together=False)
    if task.config.controls:
        for name, sees in (("without_vision", False), ("without_language", True)):
            for part, asked in NAMES.items():
                metrics[f"{asked}_{name}"] = task.followed(weights, part, sees=sees, hears=not sees)
    held_out = task.followed(weights, "held_out")
    summary = this.finish(outcome, metrics, unit="nats per action", held_out_sentences=held_out)
    this.say(f"{summary['minutes']:.1f} minutes; {this.directory}")
    return summary
