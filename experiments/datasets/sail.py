"""SAIL: routes through three virtual buildings as people described them (MacMahon 2006; Chen and Mooney 2011).

Chen and Mooney cut the 706 descriptions into 3,237 sentences and gave each its part of the path.
"""

import ast
import re
from typing import NamedTuple
from xml.etree import ElementTree

from experiments.datasets.worlds import Example, Hall, Pose, World, one_after_the_other
from seqjax.data import Source

_ADVICE = (
    "The corpus was published at https://www.cs.utexas.edu/users/ml/clamp/navigation/; the repository "
    "PadmajaVB/listen-attend-and-walk (commit 57ad0971f3) holds a copy of these five files."
)


def _source(file, sha256):
    return Source(name="sail", file=file, sha256=sha256, advice=_ADVICE)


SENTENCES = _source("SingleSentence.xml", "a99feaa7a7289ed26708995eba1673a805431ec3316cc7867eb7dfdc350dc2dd")
PARAGRAPHS = _source("Paragraph.xml", "2af5b728eccc5b85121e7f84457dcaf2f0037e5bec5c87c4db2d6c02d40c86ef")
MAPS = (
    _source("map-grid.xml", "46b632ab58f60b5a82bab1fdd3aab9b9ae3f71abd8f79f63656a15eee24d4aba"),
    _source("map-jelly.xml", "e39234e81a1665e6ed439a7a71318deefefe09c55603aefe5bfabb6b2323323e"),
    _source("map-l.xml", "8f85c83dcc6d0d36374be0d71710528ad2497c4864701abc9a239e42dce44a87"),
)


class Routes(NamedTuple):
    """Instructions and where they are to be followed."""

    worlds: dict[str, World]
    sentences: list[Example]  # in the order of their paragraphs, named "paragraph-sentence"
    paragraphs: list[Example]


def load():
    """The three maps, the sentences and the paragraphs.

    Raises:
      FileNotFoundError: a file is not there; says where it was looked for.
      ValueError: a file is another one, or malformed.
    """
    worlds = {world.name: world for world in (read_map(source.text(), source.file) for source in MAPS)}
    sentences = read_examples(SENTENCES.text(), SENTENCES.file, worlds)
    return Routes(worlds, sentences, read_examples(PARAGRAPHS.text(), PARAGRAPHS.file, worlds))


def read_map(text, file):
    """A map from its XML.

    Raises:
      ValueError: it is malformed; names the file and the line or the element.
    """
    root = _parse(text, file)
    places, halls = {}, {}
    for i, node in enumerate(root.iter("node"), 1):
        where = f"{file}, node {i}"
        place = (_integer(node, "x", where), _integer(node, "y", where))
        if place in places:
            raise ValueError(f"{where}: there are two nodes at {place}.")
        places[place] = _attribute(node, "item", where)
    for i, edge in enumerate(root.iter("edge"), 1):
        where = f"{file}, edge {i}"
        ends = (_place(edge, "node1", where), _place(edge, "node2", where))
        if ends in halls or ends[::-1] in halls:
            raise ValueError(f"{where}: there are two edges between {ends[0]} and {ends[1]}.")
        halls[ends] = Hall(_attribute(edge, "floor", where), _attribute(edge, "wall", where))
    try:
        return World(_attribute(root, "name", f"{file}, the root"), places, halls)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None


def read_examples(text, file, worlds):
    """Instructions with their paths, in order.

    Raises:
      ValueError: it is malformed, or a path leaves its map; names the file and the line or the example.
    """
    examples = []
    for i, element in enumerate(_parse(text, file).iter("example"), 1):
        name = _attribute(element, "id", f"{file}, example {i}")
        where = f"{file}, example {name}"
        world = _attribute(element, "map", where)
        if world not in worlds:
            raise ValueError(f"{where}: no map is called {world!r}; there are {', '.join(worlds)}.")
        path = _path(_child(element, "path", where), where)
        for pose in path:
            if (pose.x, pose.y) not in worlds[world].places:
                raise ValueError(f"{where}: {world} has no place {(pose.x, pose.y)}, which is on the path.")
        examples.append(Example(name, world, words(_child(element, "instruction", where)), path))
    return examples


def words(text):
    """The words of a text in lower case, figures among them, with a period between sentences; all else parts words."""
    sentences = (re.findall(r"[a-z0-9']+", sentence) for sentence in re.split(r"[.;!?\n]", text.lower()))
    return one_after_the_other(filter(None, sentences))


def _path(text, where):
    """Poses from ``[(x, y, degrees), ...]``; -1 degrees, not known, may only come first."""
    try:
        triples = [(int(x), int(y), int(degrees)) for x, y, degrees in ast.literal_eval(text.strip())]
    except (ValueError, TypeError, SyntaxError):
        raise ValueError(f"{where}: expected a path [(x, y, degrees), ...], got {text.strip()[:60]!r}.") from None
    if not triples:
        raise ValueError(f"{where}: the path is empty.")
    for i, triple in enumerate(triples):
        if triple[2] not in (0, 90, 180, 270) and not (i == 0 and triple[2] == -1):
            raise ValueError(f"{where}: pose {i + 1} of the path, {triple}, has no heading; 0, 90, 180 and 270 are.")
    return tuple(Pose(x, y, None if degrees == -1 else degrees // 90) for x, y, degrees in triples)


def _parse(text, file):
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file}, line {error.position[0]}: not XML ({error}).") from None


def _child(element, tag, where):
    child = element.find(tag)
    if child is None or not (child.text or "").strip():
        raise ValueError(f"{where}: expected a <{tag}> with text.")
    return child.text


def _attribute(element, name, where):
    value = element.get(name)
    if value is None:
        raise ValueError(f"{where}: <{element.tag}> has no {name}.")
    return value


def _integer(element, name, where):
    return _place(element, name, where, count=1)[0]


def _place(element, name, where, count=2):
    value = _attribute(element, name, where)
    found = re.findall(r"-?\d+", value)
    if len(found) != count or re.sub(r"[-\d,\s]", "", value):
        raise ValueError(f"{where}: {name} is {value!r}, expected {'an integer' if count == 1 else 'two integers x,y'}.")
    return tuple(int(number) for number in found)
