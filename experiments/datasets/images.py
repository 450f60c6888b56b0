"""Images of worlds and of what is said in them: in a mirror, and with the names of things exchanged.

Someone who understands directions follows them in a building whose brick floors have become wooden ones, and whose lamps
sofas, if the directions say so too. An agent that learns from such images cannot know its buildings by heart.
"""

import re
from typing import NamedTuple

import numpy as np

from experiments.datasets.worlds import FLOORS, ITEMS, WALLS, Example, Hall, Pose, World

# What people call things, in SAIL and in generated buildings.
CALLED = {
    "blue": ("blue",),
    "brick": ("brick", "red brick", "red"),
    "concrete": ("bare concrete", "concrete", "plain cement", "cement", "plain", "bare"),
    "flower": ("pink flowered", "flowered", "pink", "rose", "flower"),
    "grass": ("grassy", "grass", "green"),
    "gravel": ("black", "stone", "gravel", "black stone"),
    "wood": ("wood", "wooden", "brown"),
    "yellow": ("yellow",),
    "barstool": ("stool", "barstool"),
    "chair": ("chair",),
    "easel": ("easel",),
    "hatrack": ("hatrack", "coat rack", "hat rack"),
    "lamp": ("lamp",),
    "sofa": ("bench", "sofa"),
    "butterfly": ("butterflies", "butterfly"),
    "fish": ("fish",),
    "tower": ("eiffel tower", "tower", "towers", "eiffel"),
}


def any_of(phrases):
    """A pattern for each of the phrases, of which the longest is found first."""
    return re.compile(rf"\b(?:{'|'.join(sorted(phrases, key=len, reverse=True))})\b")


def reworded(words, pattern, instead):
    """Words in which ``instead(phrase)`` is said for every phrase that the pattern finds."""
    return tuple(pattern.sub(lambda found: instead(found[0]), " ".join(words)).split())


UNCLEAR = {"grey", "gray", "octagon", "octagons"}  # concrete or gravel; and "the green octagon carpet" is a yellow floor
_IN_A_MIRROR = {"left": "right", "right": "left", "lefts": "rights", "rights": "lefts"}
_NAMES = any_of(word for words in CALLED.values() for word in words)


class Image(NamedTuple):
    """What a world, and an example in it, have otherwise in an image.

    Attributes:
      label: comes before the names of worlds.
      mirror: whether there is a mirror, which stands north to south.
      names: what each floor, wall and item becomes; empty if they stay.
      words: what is said for each of the words that are said for them.
    """

    label: str
    mirror: bool
    names: dict[str, str]
    words: dict[str, str]

    def world(self, world):
        """The image of a world, under its label and its name."""
        places, halls = world.places, world.halls
        if self.mirror:
            places = {(-x, y): item for (x, y), item in places.items()}
            halls = {((-a, b), (-c, d)): hall for ((a, b), (c, d)), hall in halls.items()}
        if self.names:
            places = {place: self.names.get(item, "") for place, item in places.items()}
            halls = {ends: Hall(self.names[hall.floor], self.names[hall.wall]) for ends, hall in halls.items()}
        return World(self.label + world.name, places, halls)

    def example(self, example):
        """The image of an example, None where it is not clear what its words name."""
        if self.names and UNCLEAR & set(example.words):
            return None
        words, path = example.words, example.path
        if self.mirror:
            words = tuple(_IN_A_MIRROR.get(word, word) for word in words)
            path = tuple(Pose(-x, y, None if heading is None else -heading % 4) for x, y, heading in path)
        if self.names:
            words = reworded(words, _NAMES, self.words.__getitem__)
        return Example(example.name, self.label + example.world, words, path)


def images(*, mirror, renamed, seed=0):
    """All images: none, the one in the mirror, and so many with other names of each.

    Args:
      mirror: whether there are mirrors.
      renamed: how many times names are exchanged.
      seed: of how.
    """
    found = [Image("mirrored ", True, {}, {})] if mirror else []
    for i in range(renamed):
        rng = np.random.default_rng((seed, i))
        names: dict[str, str] = {}
        for kinds in (FLOORS, WALLS, ITEMS):
            names |= dict(zip(kinds, [str(each) for each in rng.permutation(kinds)], strict=True))
        words = {word: str(rng.choice(CALLED[names[kind]])) for kind in names for word in CALLED[kind]}
        found.append(Image(f"renamed {i} ", bool(mirror and i % 2), names, words))
    return found
