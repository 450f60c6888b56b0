"""Generated buildings of halls, and routes through them in a dozen phrases whose meaning is known.

Every hall has one floor from end to end, as in SAIL's maps. A phrase is only used where it has one meaning, so that an agent
which sees and understands can be right always.
"""

import numpy as np

from experiments.datasets.sail import Routes
from experiments.datasets.worlds import FLOORS, FORWARD, ITEMS, LEFT, RIGHT, STEPS, WALLS, Example, Hall, Pose, World

_TIMES = ("", "one step", "two steps", "three steps", "four steps")


def generate(*, worlds=40, routes=60, sentences=3, size=5, seed=0):
    """Buildings and routes through them.

    Args:
      worlds: how many buildings.
      routes: routes in each.
      sentences: of each route.
      size: places from west to east and from north to south.
      seed: another seed makes others.

    Returns:
      :class:`Routes`; worlds are named "0", "1" and so on, and sentences are of one phrase or two.
    """
    made, single, whole = {}, [], []
    for i in range(worlds):
        rng = np.random.default_rng((seed, i))
        world = made[str(i)] = building(rng, str(i), size)
        for j in range(routes):
            parts = _route(rng, world, f"{i}.{j}", sentences)
            single += parts
            path = sum((part.path[1:] for part in parts), parts[0].path[:1])
            whole.append(Example(f"{i}.{j}", world.name, sum((part.words for part in parts), ()), path))
    return Routes(made, single, whole)


def building(rng, name, size):
    """A connected building: a random tree of halls and a third of the others, one floor to every line of halls."""
    places = [(x, y) for x in range(size) for y in range(size)]
    ways = [((x, y), (x + dx, y + dy)) for x, y in places for dx, dy in STEPS[1:3] if x + dx < size and y + dy < size]
    group = {place: place for place in places}
    halls, floors = {}, rng.choice(FLOORS, (2, size))
    for i in rng.permutation(len(ways)):
        a, b = ways[i]
        if group[a] != group[b] or rng.random() < 1 / 3:
            along_x = a[1] == b[1]
            halls[a, b] = Hall(str(floors[0, a[1]] if along_x else floors[1, a[0]]), str(rng.choice(WALLS)))
            joined = group[a]
            group = {place: group[b] if group[place] == joined else group[place] for place in places}
    return World(name, {place: str(rng.choice(["", *ITEMS])) if rng.random() < 0.6 else "" for place in places}, halls)


def _route(rng, world, name, sentences):
    """Sentences that follow one another, from a random pose."""
    x, y = list(world.places)[rng.integers(len(world.places))]
    pose, parts = Pose(x, y, int(rng.integers(4))), []
    for i in range(sentences):
        phrases, path = [], [pose]
        for _ in range(rng.integers(1, 3)):
            words, further = _one(rng, list(_phrases(world, pose)))
            phrases.append(words)
            path += further
            pose = path[-1]
        parts.append(Example(f"{name}-{i + 1}", world.name, tuple(" and ".join(phrases).split()), tuple(path)))
    return parts


def _one(rng, options):
    """A phrase of a random kind: turn, face, go forward, go until, go to."""
    kinds = [words.split()[0 if words[0] in "tf" else 1] for words, _ in options]
    kind = sorted(set(kinds))[rng.integers(len(set(kinds)))]
    fitting = [option for option, its in zip(options, kinds, strict=True) if its == kind]
    return fitting[rng.integers(len(fitting))]


def _phrases(world, pose):
    """What can be said at a pose, each with the poses that follow."""
    turned = [pose._replace(heading=(pose.heading + turn) % 4) for turn in range(4)]
    ways = [[], [turned[1]], [turned[1], turned[2]], [turned[3]]]
    yield from (("turn right", ways[1]), ("turn left", ways[3]), ("turn around", ways[2]))
    ahead = [_ahead(world, at) for at in turned]
    for turn in range(1, 4):  # what is in one direction only
        for item in _seen(world, ahead[turn]):
            if not any(item in _seen(world, ahead[other]) for other in range(4) if other != turn):
                yield f"face the {item}", ways[turn]
        floor = _floor(world, turned[turn])
        if floor and all(_floor(world, turned[other]) != floor for other in range(4) if other != turn):
            yield f"face the {floor} hall", ways[turn]
    for i, at in enumerate(ahead[0], 1):
        if i < len(_TIMES):
            yield f"go forward {_TIMES[i]}", ahead[0][:i]
        item = world.places[at.x, at.y]
        if item and item not in _seen(world, ahead[0][: i - 1]) and item != world.places[pose.x, pose.y]:
            yield f"go to the {item}", ahead[0][:i]
        for side, turn in (("left", LEFT), ("right", RIGHT)):
            floors = [_floor(world, world.move(before, turn)) for before in [pose, *ahead[0][:i]]]
            if floors[-1] and floors[-1] not in floors[:-1]:
                yield f"go until you see the {floors[-1]} hall on your {side}", ahead[0][:i]
    if ahead[0]:
        yield "go to the end of the hall", ahead[0]


def _ahead(world, pose):
    """The poses that walking straight on leads to."""
    further = []
    while (after := world.move(pose, FORWARD)) != pose:
        further.append(after)
        pose = after
    return further


def _seen(world, poses):
    return {world.places[pose.x, pose.y] for pose in poses} - {""}


def _floor(world, pose):
    """The floor of the hall ahead, "" where there is none."""
    ahead = world.move(pose, FORWARD)
    return "" if ahead == pose else world.halls[(pose.x, pose.y), (ahead.x, ahead.y)].floor
