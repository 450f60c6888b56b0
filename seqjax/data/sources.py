"""Where data comes from: a folder of the user's, the cache, or the network; and texts from files."""

import dataclasses
import gzip
import hashlib
import os
import pathlib
import zlib

import pooch


@dataclasses.dataclass(frozen=True)
class Source:
    """A file that everybody has the same copy of.

    It is looked for as ``$SEQJAX_DATA/<name>/<file>`` (or ``<file>.gz``), then in the user's cache, and is downloaded else.

    Args:
      name: the folder.
      file: the file in it.
      sha256: of the uncompressed file; a copy with another one is refused.
      url: where it is downloaded from; None where it has to be got by hand.
      advice: what to do where it can be neither found nor downloaded.
    """

    name: str
    file: str
    sha256: str
    url: str | None = None
    advice: str = ""

    def text(self):
        """The text of the file.

        Raises:
          FileNotFoundError: it is in no folder and cannot be downloaded; says what to do.
          ValueError: a copy has another content.
        """
        path = self.path()
        data = _read(path)
        found = hashlib.sha256(data).hexdigest()
        if found != self.sha256:
            raise ValueError(f"{path}: SHA-256 is {found}, expected {self.sha256}; remove this copy and fetch it again.")
        return _decode(data, path)

    def path(self):
        """Path of a local copy, downloaded if need be."""
        folder = os.environ.get("SEQJAX_DATA")
        places = [pathlib.Path(folder)] if folder else []
        places.append(pathlib.Path(pooch.os_cache("seqjax")))
        for place in places:
            for path in (place / self.name / self.file, place / self.name / f"{self.file}.gz"):
                if path.exists():
                    return path
        return self._download(places)

    def _download(self, places):
        where = " or ".join(str(place / self.name / self.file) for place in places)
        if self.url is None:
            raise FileNotFoundError(f"{self.name}: {self.file} is not at {where}. {self.advice}")
        try:
            folder = places[-1] / self.name
            return pathlib.Path(pooch.retrieve(self.url, f"sha256:{self.sha256}", fname=self.file, path=folder))
        except OSError as error:
            raise FileNotFoundError(
                f"{self.name}: {self.file} is not at {where}, and {self.url} cannot be reached ({error}). Fetch it where "
                f"there is a network, put it there, or set SEQJAX_DATA to the folder that holds {self.name}/. {self.advice}"
            ) from error


def read_text(path):
    """The text of a UTF-8 file, compressed with gzip or not.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is empty, cut off, or not UTF-8: the first bad byte's offset is named.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    text = _decode(_read(path), path)
    if not text:
        raise ValueError(f"{path}: the file is empty.")
    return text


def _read(path):
    data = path.read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: this gzip file is damaged ({error}); fetch it again.") from None


def _decode(data, path):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        bad = data[error.start]
        raise ValueError(
            f"{path}: not UTF-8, byte {bad:#04x} at offset {error.start} ({error.reason}); "
            "convert it first, for example with `iconv -f latin1 -t utf-8`."
        ) from None
