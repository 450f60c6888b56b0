"""Generated buildings of halls, and routes through them in a dozen phrases whose meaning is known.

Every hall has one floor from end to end, as in SAIL's maps. A phrase is only used where it has one meaning, so that an agent
which sees and understands can be right always.
"""

import numpy as np

from experiments.datasets.images import CALLED, any_of, reworded
from experiments.datasets.sail import Routes
from experiments.datasets.worlds import (
    FLOORS,
    FORWARD,
    ITEMS,
    LEFT,
    RIGHT,
    STEPS,
    WALLS,
    Example,
    Hall,
    Pose,
    World,
    one_after_the_other,
)

_TIMES = ("", "one step", "two steps", "three steps", "four steps", "five steps", "six steps", "seven steps")
_OTHERWISE = {  # what people may say instead
    "go forward": ("go forward", "walk forward", "move forward", "go straight", "walk", "move", "go"),
    "go to": ("go to", "walk to", "move to", "go down to", "go forward to", "walk until you reach", "follow this hall to"),
    "go until you see": ("go until you see", "walk until you see", "go forward until you see", "move until there is"),
    "face": ("face", "turn to face", "turn so that you face", "turn towards", "turn to"),
    "turn": ("turn", "turn to the", "take a", "go"),
    "turn around": ("turn around", "turn back", "turn around and face the other way"),
    "one step": ("one step", "once", "one time", "one segment", "one block", "one space"),
    "two steps": ("two steps", "twice", "two times", "two segments", "two blocks", "two spaces"),
    "steps": ("steps", "times", "segments", "blocks", "spaces", "segments of the hall"),
    "turn so that the wall is behind you": ("place your back against the wall", "with your back to the wall"),
    "turn so that the wall is on your": ("turn so that the wall is on your", "turn so the wall is on your"),
    "end of the hall": ("end of the hall", "end of the hallway", "dead end", "wall", "end", "far end of the path"),
    "hall": ("hall", "hallway", "path", "alley", "carpet", "floor", "corridor"),
    "and": ("and", "then", "and then", ""),
}
_PHRASES = any_of([*_OTHERWISE, *CALLED])


def generate(*, worlds=40, routes=60, sentences=3, size=5, openness=1 / 3, like_sail=False, label="", seed=0):
    """Buildings and routes through them.

    Args:
      worlds: how many buildings.
      routes: routes in each.
      sentences: of each route.
      size: places from west to east and from north to south.
      openness: share of the halls that are there besides those of a tree; the more, the longer one can go straight on.
      like_sail: whether things are said in one of the ways in which people say them, and a route that starts with what to
        face has no heading to start with.
      label: comes before the names of worlds, which are "0", "1" and so on, and of examples.
      seed: another seed makes others.

    Returns:
      :class:`Routes`; sentences are of one phrase or two.
    """
    made, single, whole = {}, [], []
    for i in range(worlds):
        rng = np.random.default_rng((seed, i))
        world = made[f"{label}{i}"] = building(rng, f"{label}{i}", size, openness)
        for j in range(routes):
            parts = _route(rng, world, f"{label}{i}.{j}", sentences, anyhow=like_sail)
            if like_sail:
                parts = [part._replace(words=otherwise(rng, part.words)) for part in parts]
            single += parts
            path = sum((part.path[1:] for part in parts), parts[0].path[:1])
            words = one_after_the_other(part.words for part in parts)
            whole.append(Example(f"{label}{i}.{j}", world.name, words, path))
    return Routes(made, single, whole)


def beside_sail(worlds, *, seed=0):
    """Routes to learn from besides those of SAIL, in larger buildings with longer halls."""
    settings = {"routes": 40, "sentences": 6, "size": 8, "openness": 0.7, "like_sail": True, "label": "generated "}
    return generate(worlds=worlds, seed=seed, **settings)


def otherwise(rng, words):
    """The same in other words."""
    return reworded(words, _PHRASES, lambda phrase: str(rng.choice(_OTHERWISE.get(phrase) or CALLED[phrase])))


def building(rng, name, size, openness=1 / 3):
    """A connected building: a random tree of halls and a share of the others, one floor to every line of halls."""
    places = [(x, y) for x in range(size) for y in range(size)]
    ways = [((x, y), (x + dx, y + dy)) for x, y in places for dx, dy in STEPS[1:3] if x + dx < size and y + dy < size]
    group = {place: place for place in places}
    halls, floors = {}, rng.choice(FLOORS, (2, size))
    for i in rng.permutation(len(ways)):
        a, b = ways[i]
        if group[a] != group[b] or rng.random() < openness:
            along_x = a[1] == b[1]
            halls[a, b] = Hall(str(floors[0, a[1]] if along_x else floors[1, a[0]]), str(rng.choice(WALLS)))
            joined = group[a]
            group = {place: group[b] if group[place] == joined else group[place] for place in places}
    return World(name, {place: str(rng.choice(["", *ITEMS])) if rng.random() < 0.6 else "" for place in places}, halls)


def _route(rng, world, name, sentences, *, anyhow=False):
    """Sentences that follow one another, from a random pose; ``anyhow`` without a heading if what to face comes first."""
    x, y = list(world.places)[rng.integers(len(world.places))]
    pose, parts = Pose(x, y, int(rng.integers(4))), []
    for i in range(sentences):
        phrases: list[str] = []
        path = [pose]
        for _ in range(rng.integers(1, 3)):
            words, further = _one(rng, list(_phrases(world, pose)))
            if anyhow and not i and not phrases and _kind(words) in ("face", "so"):
                path, further = [pose._replace(heading=None)], further[-1:]
            phrases.append(words)
            path += further
            pose = path[-1]
        parts.append(Example(f"{name}-{i + 1}", world.name, tuple(" and ".join(phrases).split()), tuple(path)))
    return parts


def _one(rng, options):
    """A phrase of a random kind."""
    kinds = [_kind(words) for words, _ in options]
    kind = sorted(set(kinds))[rng.integers(len(set(kinds)))]
    fitting = [option for option, its in zip(options, kinds, strict=True) if its == kind]
    return fitting[rng.integers(len(fitting))]


def _kind(words):
    """Turn, turn so that, face, go forward, go until, go to."""
    first, second = words.split()[:2]
    return first if first == "face" or second in ("left", "right", "around") else second


def _phrases(world, pose):
    """What can be said at a pose, each with the poses that follow."""
    turned = [pose._replace(heading=(pose.heading + turn) % 4) for turn in range(4)]
    ways = [[], [turned[1]], [turned[1], turned[2]], [turned[3]]]
    yield from (("turn right", ways[1]), ("turn left", ways[3]), ("turn around", ways[2]))
    ahead = [_ahead(world, at) for at in turned]
    for turn in range(1, 4):  # what is in one direction only
        for item in sorted(_seen(world, ahead[turn])):  # not in the order of a set, which is another in each process
            if not any(item in _seen(world, ahead[other]) for other in range(4) if other != turn):
                yield f"face the {item}", ways[turn]
        floor = _floor(world, turned[turn])
        if floor and all(_floor(world, turned[other]) != floor for other in range(4) if other != turn):
            yield f"face the {floor} hall", ways[turn]
    walls = [not _floor(world, at) for at in turned]
    for side, where in (("behind you", 2), ("on your left", 3), ("on your right", 1)):
        fitting = [turn for turn in range(4) if walls[(turn + where) % 4]]
        if len(fitting) == 1 and fitting[0]:
            yield f"turn so that the wall is {side}", ways[fitting[0]]
    crossed = {_floor(world, world.move(pose, turn)) for turn in (LEFT, RIGHT)}
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
        crossing = {_floor(world, world.move(at, turn)) for turn in (LEFT, RIGHT)} - {"", _floor(world, pose)}
        for floor in sorted(crossing - crossed):
            yield f"go to the intersection with the {floor} hall", ahead[0][:i]
        crossed |= crossing
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
