"""Worlds of halls: places on a grid with furniture, halls between them, an agent that turns, walks and sees along them.

Poses are (x, y, heading); y grows to the south, as in MacMahon's maps. Headings count quarters from the north clockwise.
"""

from typing import NamedTuple

import numpy as np

ACTIONS = ("forward", "left", "right", "stop")
FORWARD, LEFT, RIGHT, STOP = range(4)
STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # to the north, east, south, west

ITEMS = ("barstool", "chair", "easel", "hatrack", "lamp", "sofa")
FLOORS = ("blue", "brick", "concrete", "flower", "grass", "gravel", "wood", "yellow")
WALLS = ("butterfly", "fish", "tower")

PERIOD = "."  # a word, between the sentences of an instruction

_KINDS = (len(FLOORS), len(WALLS), len(ITEMS))
_FAR = 4  # halls that are counted
BAGS = len(ITEMS) + 4 * (sum(_KINDS) + 1)
FEATURES = BAGS + 4 * (2 * len(FLOORS) + len(WALLS) + 2 * len(ITEMS) + _FAR)


class Pose(NamedTuple):
    x: int
    y: int
    heading: int | None  # quarters clockwise from the north; None where it is not known


class Hall(NamedTuple):
    """What lines the way between two neighbouring places."""

    floor: str
    wall: str


_NOWHERE = (Hall("", ""), "", ["", ""])


class Example(NamedTuple):
    """An instruction and the path it describes; the first pose may have no heading."""

    name: str
    world: str
    words: tuple[str, ...]
    path: tuple[Pose, ...]


def one_after_the_other(sentences):
    """The words of sentences as those of one instruction."""
    words = [word for sentence in sentences for word in (PERIOD, *sentence)]
    return tuple(words[1:])


def apart(words):
    """The sentences of an instruction."""
    ends = [i for i, word in enumerate(words) if word == PERIOD]
    return [tuple(words[i:j]) for i, j in zip([0, *(i + 1 for i in ends)], [*ends, len(words)], strict=True)]


class World:
    """One map, as tables that compiled code can walk in.

    Args:
      name: what examples call it.
      places: ``{(x, y): item}``, "" where there is none.
      halls: ``{((x, y), (x, y)): Hall}``, each between neighbours and in one of its two orders.

    Attributes:
      moves: int ``[S, 4]``, the state after each action; walking into a wall and stopping leave it as it is.
      views: float32 ``[S, FEATURES]``, what is seen in each state; see :meth:`look`.
      open: bool ``[S, 4]``, which actions are possible.

    Raises:
      ValueError: a hall is not between two neighbouring places; an item, floor or wall is unknown.
    """

    def __init__(self, name, places, halls):
        self.name, self.places = name, dict(places)
        self.halls = dict(halls) | {(b, a): hall for (a, b), hall in halls.items()}
        self._check()
        self._index = {place: i for i, place in enumerate(self.places)}
        poses = [Pose(x, y, heading) for x, y in self.places for heading in range(4)]
        self.moves = np.array([[self.state(self.move(pose, a)) for a in range(4)] for pose in poses], np.int32)
        self.views = np.stack([self.look(pose) for pose in poses])
        self.open = np.array([[a != FORWARD or self._next(pose) is not None for a in range(4)] for pose in poses])
        self._poses = poses

    def _check(self):
        for place, item in self.places.items():
            _known(item, ("", *ITEMS), f"{self.name}: the item at {place}")
        for (a, b), hall in self.halls.items():
            if a not in self.places or b not in self.places or (b[0] - a[0], b[1] - a[1]) not in STEPS:
                raise ValueError(f"{self.name}: a hall from {a} to {b} does not join two neighbouring places.")
            _known(hall.floor, FLOORS, f"{self.name}: the floor from {a} to {b}")
            _known(hall.wall, WALLS, f"{self.name}: the wall from {a} to {b}")

    def state(self, pose):
        """The number of a pose: four to a place."""
        return 4 * self._index[pose.x, pose.y] + pose.heading

    def pose(self, state):
        """The pose of a number."""
        return self._poses[state]

    def move(self, pose, action):
        """The pose after an action."""
        if action == FORWARD:
            x, y = self._next(pose) or (pose.x, pose.y)
            return Pose(x, y, pose.heading)
        turn = {LEFT: 3, RIGHT: 1, STOP: 0}[action]
        return pose._replace(heading=(pose.heading + turn) % 4)

    def _next(self, pose):
        """The place ahead, None where there is no hall."""
        dx, dy = STEPS[pose.heading]
        place = (pose.x + dx, pose.y + dy)
        return place if ((pose.x, pose.y), place) in self.halls else None

    def look(self, pose):
        """What is seen, float32 ``[FEATURES]``.

        The item here; then for ahead, right, behind, left what Mei, Bansal, Walter (2016) have, a bag of all floors, walls
        and items along the halls in that direction, up to the first wall, and whether there is no hall at all (``BAGS`` of
        the features are these); then for each direction what is near: the first hall, the first two items, the floors that
        cross at the next place, and how far one can go.
        """
        directions = [self._line(pose._replace(heading=(pose.heading + turn) % 4)) for turn in range(4)]
        bags = [part for line in directions for part in _bag(line)]
        near = [part for line in directions for part in _near(line)]
        return np.concatenate([_hot(self.places[pose.x, pose.y], ITEMS), *bags, *near])

    def _line(self, pose):
        """Halls ahead up to the first wall, each with the item at its end and the floors that cross there."""
        line = []
        while (place := self._next(pose)) is not None:
            hall, pose = self.halls[(pose.x, pose.y), place], pose._replace(x=place[0], y=place[1])
            line.append((hall, self.places[place], [self._floor(pose, turn) for turn in (1, 3)]))
        return line

    def _floor(self, pose, turn):
        """The floor of the hall that a turn faces, "" where there is none."""
        place = self._next(pose._replace(heading=(pose.heading + turn) % 4))
        return "" if place is None else self.halls[(pose.x, pose.y), place].floor

    def actions(self, path):
        """What to do along a path, and where; a turn about is two to the right, and STOP comes last.

        Args:
          path: poses, all with headings.

        Returns:
          ``(states, actions)``: lists of equal length, where the agent is and what it does there.

        Raises:
          ValueError: a pose cannot be reached from the one before by turning or by one step.
        """
        pose, states, done = path[0], [], []

        def act(action):
            nonlocal pose
            states.append(self.state(pose))
            done.append(action)
            pose = self.move(pose, action)

        for target in path[1:]:
            if (target.x, target.y) == (pose.x, pose.y):
                for action in {0: (), 1: (RIGHT,), 2: (RIGHT, RIGHT), 3: (LEFT,)}[(target.heading - pose.heading) % 4]:
                    act(action)
            else:
                act(FORWARD)
            if pose != target:
                raise ValueError(f"{self.name}: no turn and no step leads to {tuple(target)}; it ends at {tuple(pose)}.")
        act(STOP)
        return states, done


def starts(path, unknown="four"):
    """The poses that a path may begin with.

    Args:
      path: of which the first heading may not be known.
      unknown: what it is then: each of "four", or a "quarter" left of the next one, north where there is none.
    """
    if path[0].heading is not None:
        return [path[0]]
    if unknown == "four":
        return [path[0]._replace(heading=heading) for heading in range(4)]
    return [path[0]._replace(heading=(path[1].heading - 1) % 4 if len(path) > 1 else 0)]


def _bag(line):
    """Which floors, walls and items there are along a line of halls, and whether there are none."""
    seen = [(_hot(hall.floor, FLOORS), _hot(hall.wall, WALLS), _hot(item, ITEMS)) for hall, item, _ in line]
    kinds = zip(*seen, strict=True) if seen else ([np.zeros(n, np.float32)] for n in _KINDS)
    return [*(np.max(kind, axis=0) for kind in kinds), np.array([not line], np.float32)]


def _near(line):
    """The first hall, the items at the first two places, the floors that cross at the first, and the number of halls."""
    (hall, first, crossing), (_, second, _) = (*line, _NOWHERE, _NOWHERE)[:2]
    crossed = np.max([_hot(floor, FLOORS) for floor in crossing], axis=0)
    far = np.array([min(len(line), _FAR) == n for n in range(1, _FAR + 1)], np.float32)
    return [_hot(hall.floor, FLOORS), _hot(hall.wall, WALLS), _hot(first, ITEMS), _hot(second, ITEMS), crossed, far]


def _hot(name, names):
    """One at a name's place; all zero for none."""
    return np.array([name == other for other in names], np.float32)


def _known(name, names, what):
    if name not in names:
        raise ValueError(f"{what} is {name!r}; known are {', '.join(n for n in names if n)}.")
