"""SCAN (Lake, Baroni 2018): commands in a small language, and the actions that carry them out."""

import hashlib
import itertools

from experiments.datasets.corpus import Corpus, Lines, lines_of
from seqjax.data import Source

SPLITS = {
    "simple": (
        "simple_split/tasks_{part}_simple.txt",
        "941bb8a088c5f53ceff12fde902dc008933cf0c4203cc672c47b5f79d73262dd",
        "1fe1c8f5a19d0dc40e41bab94278f45f66f3dc415a978bd29855a23440610fc6",
    ),
    "length": (
        "length_split/tasks_{part}_length.txt",
        "b034212dc7cf87ce62f3a067dd6ad49c4d5cd18d51d615d13825516bcb1ebbc2",
        "0760752ed34a75116ae11dcc1ee17526b7500060da1366540730fa24894d7db3",
    ),
    "jump": (
        "add_prim_split/tasks_{part}_addprim_jump.txt",
        "e3c78485692e028eed4205e1b8b3fd0e785ef2c12d45b5b89204dadf5b239e23",
        "8147ae2651422c701162e174d9d66158daa57858a26b30317ac61797118ac7a5",
    ),
}


def load(split):
    """A split of SCAN: its own test set, and one in forty of the training commands held out for validation.

    "simple" draws the test commands at random, "length" tests on actions longer than all of training, "jump" on commands
    with a verb that training has alone only. "generated" is as simple is, from :func:`commands` and by a hash.
    """
    if split not in (*SPLITS, "generated"):
        raise ValueError(f"scan: no split {split!r}; there are {', '.join(SPLITS)} and generated.")
    train, test = _generated() if split == "generated" else _published(split)
    held_out = [_number(command) % 40 == 0 and command != "jump" for command in train.sources]
    rest = _chosen(train, [not out for out in held_out])
    return Corpus(rest, _chosen(train, held_out), test, origin=f"SCAN, split {split}", tokenize="none")


def commands():
    """All 20,910 commands of the language."""
    verbs, sides = ("walk", "look", "run", "jump"), ("left", "right")
    turned = [f"{verb}{how}{side}" for verb in (*verbs, "turn") for how in (" ", " opposite ", " around ") for side in sides]
    once = [*verbs, *turned]
    repeated = [f"{command}{times}" for command in once for times in ("", " twice", " thrice")]
    joined = [f"{one} {word} {other}" for word in ("and", "after") for one in repeated for other in repeated]
    return repeated + joined


def actions(command):
    """What a command means (Lake, Baroni 2018, figure 7)."""
    for word, step in (("and", 1), ("after", -1)):
        if f" {word} " in command:
            return list(itertools.chain(*[actions(part) for part in command.split(f" {word} ")][::step]))
    verb, *words = command.split()
    times = {"twice": 2, "thrice": 3}.get(words[-1], 1) if words else 1
    own = [] if verb == "turn" else [f"I_{verb.upper()}"]
    turn = [f"I_TURN_{side.upper()}" for side in ("left", "right") if side in words]
    if "around" in words:
        return (turn + own) * 4 * times
    return (turn * (2 if "opposite" in words else 1) + own) * times


def _generated():
    pairs = Lines(commands(), [" ".join(actions(command)) for command in commands()])
    tested = [_number(f"test {command}") % 5 == 0 for command in pairs.sources]
    return _chosen(pairs, [not out for out in tested]), _chosen(pairs, tested)


def _published(split):
    path, *digests = SPLITS[split]
    return [_read(path.format(part=part), digest) for part, digest in zip(("train", "test"), digests, strict=True)]


def _read(path, sha256):
    """Pairs of a file whose lines are ``IN: command OUT: actions``."""
    file = path.split("/")[1]
    source = Source(
        name="scan",
        file=file,
        sha256=sha256,
        url=f"https://raw.githubusercontent.com/brendenlake/SCAN/c4b756cbc010d75c912f16c42c8f15dc6b7e6c8f/{path}",
    )
    rows = [line.removeprefix("IN: ").split(" OUT: ") for line in lines_of(source.text())]
    return Lines(*(list(map(str.strip, side)) for side in zip(*rows, strict=True)))


def _number(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])


def _chosen(lines, kept):
    return Lines(*([text for text, keep in zip(side, kept, strict=True) if keep] for side in lines))
