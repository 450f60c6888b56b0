"""Routes as batches: what agents learn from and are asked, in worlds that are numbered through."""

import collections
from typing import NamedTuple

import numpy as np

from experiments.datasets.worlds import PERIOD, one_after_the_other, starts

PADDING, UNKNOWN = 0, 1
ROWS = 256  # that are asked at once
SIZES = ((12, 6), (24, 12), (64, 32))  # words and actions at most, of batches that are compiled once each


class Atlas:
    """Several worlds, and images of them, with all states in one numbering.

    Args:
      worlds: ``{name: World}``.
      images: of each world; see :mod:`experiments.datasets.images`.
      more: worlds of which there are none.

    Attributes:
      moves, views, open: those of all worlds, one after the other; see :class:`World`.
    """

    def __init__(self, worlds, images=(), more=None):
        self.images = images
        seen = [image.world(world) for image in images for world in worlds.values()]
        self.worlds = dict(worlds) | {world.name: world for world in seen} | (more or {})
        sizes = np.cumsum([0, *(len(world.moves) for world in self.worlds.values())])
        self.first = dict(zip(self.worlds, sizes[:-1].tolist(), strict=True))
        self.moves = np.concatenate([world.moves + self.first[name] for name, world in self.worlds.items()])
        self.open = np.concatenate([world.open for world in self.worlds.values()])
        self.views = np.concatenate([world.views for world in self.worlds.values()])

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
      unknown: the heading to start with where a path has none, see :func:`starts`.
      held_out: share of the paragraphs of the other worlds whose sentences are held out.
      rare: words that are in fewer sentences than this are all one, as are those that are in none, images aside.
      more: examples that it learns from besides, as if they were images.
      seed: of what is held out.
    """

    def __init__(self, atlas, routes, asked, *, unknown, held_out=0.1, rare=2, more=(), seed=0):
        self.atlas, self.asked, self.unknown = atlas, frozenset(asked), unknown
        groups = [group for group in _paragraphs(routes.sentences) if group[0].world not in self.asked]
        aside = set(np.random.default_rng(seed).permutation(len(groups))[: round(held_out * len(groups))].tolist())
        learnt = [group for i, group in enumerate(groups) if i not in aside]
        images = [found for image in atlas.images for group in learnt if (found := _imaged(image, group))]
        images += _paragraphs(more)
        counts = collections.Counter(word for group in learnt for example in group for word in set(example.words))
        words = {word for word, count in counts.items() if count >= rare}
        words |= {word for group in images for example in group for word in example.words} - set(counts) | {PERIOD}
        learnt += images
        self.codes = {word: code for code, word in enumerate(sorted(words), UNKNOWN + 1)}
        self.single = self._sorted(example for group in learnt for example in group)
        self.several = self._sorted(example for group in learnt for example in joined(group))
        self.held_out = [example for i in sorted(aside) for example in groups[i]]
        self.sentences = [example for example in routes.sentences if example.world in self.asked]
        self.paragraphs = [example for example in routes.paragraphs if example.world in self.asked]

    def encode(self, words):
        """Codes of words."""
        return [self.codes.get(word, UNKNOWN) for word in words]

    def _sorted(self, examples):
        """Lessons by the smallest size that holds them; those that none holds are left out."""
        lessons: list[list[Lesson]] = [[] for _ in SIZES]
        for example in examples:
            lesson = self.lesson(example)
            steps = max(len(actions) for _, actions in lesson.ways)
            fitting = (i for i, (most, longest) in enumerate(SIZES) if len(lesson.codes) <= most and steps <= longest)
            if (size := next(fitting, None)) is not None:
                lessons[size].append(lesson)
        return lessons

    def lesson(self, example):
        """An example in codes."""
        world, first = self.atlas.worlds[example.world], self.atlas.first[example.world]
        ways = []
        for start in starts(example.path, self.unknown):
            states, actions = world.actions((start, *example.path[1:]))
            ways.append(([first + state for state in states], actions))
        return Lesson(self.encode(example.words), ways)


def _paragraphs(sentences):
    """Sentences by the paragraph that they come from, which the part of their name before the last hyphen says."""
    groups: dict = {}
    for example in sentences:
        groups.setdefault(example.name.rsplit("-", 1)[0], []).append(example)
    return list(groups.values())


def joined(group):
    """All runs of two or more sentences of a paragraph in which each goes on where the one before ended."""
    for i in range(len(group)):
        joined = group[i]
        for example in group[i + 1 :]:
            if joined.path[-1] != example.path[0] or joined.path[-1].heading is None:
                break
            words = one_after_the_other([joined.words, example.words])
            joined = joined._replace(words=words, path=joined.path + example.path[1:])
            yield joined


def _imaged(image, group):
    """The images of a group, as far as they have one."""
    return [found for found in map(image.example, group) if found is not None]


class Lessons:
    """Batches for several agents side by side: ``(rng, batch_size) -> batch``, a task for :func:`seqjax.data.examples`.

    A batch is tokens int [B, M, S], states int [B, M, T], actions int [B, M, T], mask bool [B, M, T], M agents beside each
    other; S and T are one of SIZES, the same for all.

    Args:
      courses: of each agent, M of them.
      several: share of the batches that are of several sentences.
    """

    def __init__(self, courses, *, several=0.0):
        self.courses, self.several = courses, several

    def __call__(self, rng, batch_size):
        joined = rng.random() < self.several
        pools = [course.several if joined else course.single for course in self.courses]
        counts = np.array([[len(lessons) for lessons in pool] for pool in pools])
        weights = counts.sum(0) * (counts > 0).all(0)
        size = rng.choice(len(SIZES), p=weights / weights.sum())
        columns = []
        for pool in pools:
            lessons = [pool[size][i] for i in rng.integers(len(pool[size]), size=batch_size)]
            rows = [(lesson.codes, *lesson.ways[rng.integers(len(lesson.ways))]) for lesson in lessons]
            columns.append(_rows(rows, SIZES[size]))
        return {name: np.stack([column[name] for column in columns], 1) for name in columns[0]}


def _first(lesson):
    return lesson.codes, *lesson.ways[0]


def checks(courses):
    """The sentences held out of each course, as one batch; shorter columns are padded with rows of no step."""
    columns = [[_first(course.lesson(example)) for example in course.held_out] for course in courses]
    rows = max(map(len, columns))
    size = tuple(max(len(row[part]) for column in columns for row in column) for part in (0, 1))
    padded = [_rows(column + [([], [], [])] * (rows - len(column)), size) for column in columns]
    return {name: np.stack([column[name] for column in padded], 1) for name in padded[0]}


def questions(course, examples):
    """What is asked, ``[(words, state), ...]`` with the states to start from, and which example each is of, [N]."""
    rows = [(i, example, start) for i, example in enumerate(examples) for start in starts(example.path, course.unknown)]
    asked = [(example.words, course.atlas.state(example.world, start)) for _, example, start in rows]
    return asked, np.array([i for i, _, _ in rows])


def by_length(codes):
    """Rows of about equal length, ROWS at most: their numbers, and a length, one of a few, that holds them."""
    lengths = np.array([rounded(len(row), 16) for row in codes])
    for length in np.unique(lengths).tolist():
        rows = np.flatnonzero(lengths == length).tolist()
        for begin in range(0, len(rows), ROWS):
            yield rows[begin : begin + ROWS], length


def rounded(length, least):
    """A power of two, so that there are few shapes to compile for."""
    return max(least, 1 << (length - 1).bit_length())


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
