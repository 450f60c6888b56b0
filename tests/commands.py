"""The command line, run in this process; and what a directory holds."""

import contextlib
import io
import runpy
import sys
from typing import NamedTuple


class Said(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


def command(*arguments, package="experiments"):
    """Runs ``python -m experiments ...`` as Python would, or another package."""
    out, err, before, status = io.StringIO(), io.StringIO(), sys.argv, 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            sys.argv = [package, *map(str, arguments)]
            runpy.run_module(package, run_name="__main__")
        except SystemExit as stop:
            status = stop.code or 0
            if isinstance(status, str):  # Python prints it, and exits with status 1
                print(status, file=sys.stderr)
                status = 1
        finally:
            sys.argv = before
    return Said(status, out.getvalue(), err.getvalue())


def contents(directory):
    """All files under a directory and their bytes."""
    return {path.relative_to(directory): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}
