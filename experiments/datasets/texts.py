"""Texts for character language models, split into training, validation and test parts."""

import hashlib
import pathlib
import re
import sysconfig
from typing import NamedTuple

from seqjax.data import Source, read_text


class Text(NamedTuple):
    """A text in parts; ``test`` may be empty."""

    train: str
    validation: str
    test: str
    origin: str  # what it is, in words, with its SHA-256


SHAKESPEARE = Source(
    name="tinyshakespeare",
    file="input.txt",
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
)

LINUX = Source(
    name="linux_kernel",
    file="linux-4.19_kernel_ascii_shuf0.txt",
    sha256="49ef09cb6f8dfcfdc243c2259a7bb8128ed45ebd61b245d742cb08f94724b0e5",
    advice=(
        "It is made from the repository 0x88888888/linux-4.19-comments at bac950f298: all kernel/**/*.{c,h} without the "
        "lines that hold non-ASCII bytes, files shuffled with random.Random(0) and joined. Any other text: --text PATH."
    ),
)

STANDARD_LIBRARY = [
    "argparse",
    "ast",
    "base64",
    "bdb",
    "calendar",
    "cmd",
    "codecs",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "difflib",
    "dis",
    "enum",
    "fractions",
    "functools",
    "getopt",
    "glob",
    "gzip",
    "hashlib",
    "heapq",
    "inspect",
    "ipaddress",
    "json/decoder",
    "json/encoder",
    "locale",
    "logging/__init__",
    "mailbox",
    "mimetypes",
    "netrc",
    "optparse",
    "pprint",
    "profile",
    "pstats",
    "queue",
    "random",
    "selectors",
    "shelve",
    "shlex",
    "shutil",
    "smtplib",
    "socketserver",
    "statistics",
    "string",
    "textwrap",
    "threading",
    "timeit",
    "tokenize",
    "trace",
    "traceback",
    "types",
    "uuid",
    "wave",
    "weakref",
]


def load(name):
    """The text called ``name``: "stdlib", "shakespeare", "linux", "hello", or else a path."""
    named = {"stdlib": standard_library, "shakespeare": shakespeare, "linux": linux, "hello": hello}
    return named[name]() if name in named else from_file(name)


def shakespeare():
    """tinyshakespeare, nanoGPT's split: the first 90 % and the rest."""
    text = SHAKESPEARE.text()
    cut = int(len(text) * 0.9)
    return Text(text[:cut], text[cut:], "", _origin("tinyshakespeare", text))


def linux():
    """C source of the Linux 4.19 kernel, files in a fixed random order, 90/5/5; the cuts fall where a file begins."""
    text = LINUX.text()
    # Lines that stand at the top of a file and nowhere else; there is one in every few files.
    top = r"^(// SPDX-License-Identifier|/\* SPDX-License-Identifier|/\*\n \* +(linux/)?kernel/)"
    begins = [match.start() for match in re.finditer(top, text, re.MULTILINE)]
    first, second = (min(begins, key=lambda at: abs(at - share * len(text))) for share in (0.90, 0.95))
    return Text(text[:first], text[first:second], text[second:], _origin("Linux 4.19 kernel/", text))


def hello():
    """The alphabet h, e, l, o and the one sequence "hello"; what is trained on is also what is asked for."""
    return Text("hello", "hello", "", _origin("hello", "hello"))


def standard_library():
    """The source of modules of the Python that runs this, a fixed list; every tenth module is held out."""
    folder = pathlib.Path(sysconfig.get_paths()["stdlib"])
    files = [folder / f"{module}.py" for module in STANDARD_LIBRARY]
    sources = [path.read_text(encoding="utf-8") for path in files if path.exists()]
    held_out = sources[9::10]
    train = "".join(source for i, source in enumerate(sources) if i % 10 != 9)
    known = set(train)  # a symbol that only a held-out module has cannot be predicted by anything
    validation = "".join(symbol for symbol in "".join(held_out) if symbol in known)
    return Text(train, validation, "", _origin(f"{len(sources)} modules of Python's standard library", train + validation))


def from_file(path):
    """Any UTF-8 text: the first 90 % and the rest."""
    text = read_text(path)
    cut = int(len(text) * 0.9)
    if cut < 2 or len(text) - cut < 2:
        raise ValueError(f"{path}: {len(text)} symbols are too few; each part of the 90/10 split needs two.")
    return Text(text[:cut], text[cut:], "", _origin(str(path), text))


def _origin(name, text):
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{name}, {len(text):,} characters, SHA-256 {digest}"
