"""Routes as batches: what agents learn from and are asked, in worlds that are numbered through."""

import collections
from typing import NamedTuple

import numpy as np

from experiments.datasets.worlds import FORWARD, LEFT, RIGHT, STOP, starts

PADDING, UNKNOWN = 0, 1
SIZES = ((8, 4), (16, 8), (32, 16), (64, 32))  # words and actions at most, of batches that are compiled once each
_MIRRORED = {"left": "right", "right": "left", "lefts": "rights", "rights": "lefts"}


class Atlas:
    """Several worlds, and their mirror images, with all states in one numbering.

    Args:
      worlds: ``{name: World}``.

    Attributes:
      moves: int ``[S, 4]``; open: bool ``[S, 4]``; views: float32 ``[S, F]``: see :class:`World`. The image of state s is
        S / 2 + s; in it left is right.
    """

    def __init__(self, worlds):
        self.worlds = dict(worlds)
        sizes = np.cumsum([0, *(len(world.moves) for world in worlds.values())])
        self.first = dict(zip(worlds, sizes[:-1].tolist(), strict=True))
        self.half = int(sizes[-1])
        moves = np.concatenate([self.worlds[name].moves + first for name, first in self.first.items()])
        self.moves = np.concatenate([moves, moves[:, [FORWARD, RIGHT, LEFT, STOP]] + self.half])
        self.open = np.concatenate([world.open for world in worlds.values()] * 2)
        views = [world.views for world in worlds.values()] + [world.mirrored for world in worlds.values()]
        self.views = np.concatenate(views)

    def state(self, name, pose):
        """The number of a pose in a world."""
        return self.first[name] + self.worlds[name].state(pose)

    def pose(self, name, state):
        """The pose in a world of a number."""
        return self.worlds[name].pose(state - self.first[name])


class Lesson(NamedTuple):
    """An instruction in codes, and the ways to follow it: one, or one from each heading to start with."""

    codes: list[int]
    ways: list[tuple[list[int], list[int]]]  # states and actions


class Course:
    """What one agent learns from, what it is checked with on the way, and what it is asked in the end.

    Args:
      atlas: the worlds.
      routes: sentences and paragraphs in them.
      asked: names of the worlds in which it is asked and never learns.
      held_out: share of the paragraphs of the other worlds whose sentences are held out.
      rare: words that are in fewer sentences than this are all one, as are those that are in none.
      seed: of what is held out.
    """

    def __init__(self, atlas, routes, asked, *, held_out=0.1, rare=2, seed=0):
        self.atlas, self.asked = atlas, frozenset(asked)
        groups = [group for group in _paragraphs(routes.sentences) if group[0].world not in self.asked]
        rng = np.random.default_rng(seed)
        aside = set(rng.permutation(len(groups))[: round(held_out * len(groups))].tolist())
        learnt = [group for i, group in enumerate(groups) if i not in aside]
        counts = collections.Counter(word for group in learnt for example in group for word in set(example.words))
        words = sorted({word for word, count in counts.items() if count >= rare} | set(_MIRRORED) & set(counts))
        self.codes = {word: code for code, word in enumerate(words, UNKNOWN + 1)}
        self.image = np.arange(len(words) + 2)
        for word, other in _MIRRORED.items():
            if word in self.codes and other in self.codes:
                self.image[self.codes[word]] = self.codes[other]
        self.sentences = self._sorted(example for group in learnt for example in group)
        self.several = self._sorted(example for group in learnt for example in _joined(group))
        self.held_out = [self._lesson(example) for i in aside for example in groups[i]]
        self.questions = {
            "sentences": [example for example in routes.sentences if example.world in self.asked],
            "paragraphs": [example for example in routes.paragraphs if example.world in self.asked],
        }

    def encode(self, words):
        """Codes of words."""
        return [self.codes.get(word, UNKNOWN) for word in words]

    def _sorted(self, examples):
        """Lessons by the smallest size that holds them; those that none holds are left out."""
        lessons: list[list[Lesson]] = [[] for _ in SIZES]
        for example in examples:
            lesson = self._lesson(example)
            steps = max(len(actions) for _, actions in lesson.ways)
            fitting = (i for i, (most, longest) in enumerate(SIZES) if len(lesson.codes) <= most and steps <= longest)
            if (size := next(fitting, None)) is not None:
                lessons[size].append(lesson)
        return lessons

    def _lesson(self, example):
        world, first = self.atlas.worlds[example.world], self.atlas.first[example.world]
        ways = []
        for start in starts(example.path):
            states, actions = world.actions((start, *example.path[1:]))
            ways.append(([first + state for state in states], actions))
        return Lesson(self.encode(example.words), ways)


def _paragraphs(sentences):
    """Sentences by the paragraph that they come from, which the part of their name before the last hyphen says."""
    groups: dict = {}
    for example in sentences:
        groups.setdefault(example.name.rsplit("-", 1)[0], []).append(example)
    return list(groups.values())


def _joined(group):
    """All runs of two or more sentences of a paragraph in which each goes on where the one before ended."""
    for i in range(len(group)):
        joined = group[i]
        for example in group[i + 1 :]:
            if joined.path[-1] != example.path[0] or joined.path[-1].heading is None:
                break
            joined = joined._replace(words=joined.words + example.words, path=joined.path + example.path[1:])
            yield joined


class Lessons:
    """Batches for several agents side by side: ``(rng, batch_size) -> batch``, a task for :func:`seqjax.data.examples`.

    A batch is tokens int [B, M, S], states int [B, M, T], actions int [B, M, T], mask bool [B, M, T], M agents beside each
    other; S and T are one of SIZES, the same for all.

    Args:
      courses: of each agent, M of them.
      several: share of the batches that are of several sentences.
      mirrored: share of the examples that are mirrored.
    """

    def __init__(self, courses, *, several=0.0, mirrored=0.0):
        self.courses, self.several, self.mirrored = courses, several, mirrored

    def __call__(self, rng, batch_size):
        joined = rng.random() < self.several
        pools = [course.several if joined else course.sentences for course in self.courses]
        sizes = np.array([[len(lessons) for lessons in pool] for pool in pools])
        weights = sizes.sum(0) * (sizes > 0).all(0)
        size = rng.choice(len(SIZES), p=weights / weights.sum())
        columns = []
        for course, pool in zip(self.courses, pools, strict=True):
            lessons = [pool[size][i] for i in rng.integers(len(pool[size]), size=batch_size)]
            drawn = [(lesson.codes, *lesson.ways[rng.integers(len(lesson.ways))]) for lesson in lessons]
            images = rng.random(batch_size) < self.mirrored
            columns.append(_rows([_image(course, *row) if m else row for row, m in zip(drawn, images, strict=True)], SIZES[size]))
        return {name: np.stack([column[name] for column in columns], 1) for name in columns[0]}


def _image(course, codes, states, actions):
    """A row in the mirror."""
    other = {LEFT: RIGHT, RIGHT: LEFT}
    return course.image[codes], [state + course.atlas.half for state in states], [other.get(a, a) for a in actions]


def checks(courses):
    """The sentences held out of each course, as one batch; shorter columns are padded with rows of no step."""
    columns = [[(lesson.codes, *lesson.ways[0]) for lesson in course.held_out] for course in courses]
    rows = max(map(len, columns))
    size = tuple(max(len(row[part]) for column in columns for row in column) for part in (0, 1))
    padded = [_rows(column + [([], [], [])] * (rows - len(column)), size) for column in columns]
    return {name: np.stack([column[name] for column in padded], 1) for name in padded[0]}


def questions(course, examples):
    """What is asked: tokens [N, S], the states [N] to start from, and which example each row is of, [N].

    An example whose first heading is not known is asked from all four.
    """
    rows = [(i, example, start) for i, example in enumerate(examples) for start in starts(example.path)]
    tokens = pad([course.encode(example.words) for _, example, _ in rows])
    states = np.array([course.atlas.state(example.world, start) for _, example, start in rows], np.int32)
    return tokens, states, np.array([i for i, _, _ in rows])


def pad(rows, length=None):
    """Codes of different lengths as one array."""
    padded = np.full((len(rows), length or max(map(len, rows))), PADDING, np.int32)
    for row, codes in zip(padded, rows, strict=True):
        row[: len(codes)] = codes
    return padded


def _rows(rows, size):
    """Rows of codes, states and actions as arrays of one size."""
    codes, states, actions = zip(*rows, strict=True)
    mask = np.arange(size[1]) < np.array([[len(row)] for row in actions])
    return {
        "tokens": pad(codes, size[0]),
        "states": pad(states, size[1]),
        "actions": pad(actions, size[1]),
        "mask": mask,
    }
