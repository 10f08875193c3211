"""Files that survive kills, full disks, odd names and second runs."""

import hashlib
import json
import os
from pathlib import Path

_MAX_BYTES = 200  # of a stem; file systems take 255 for a name, to which a hash and suffixes are added


def shown(path):
    """Return a path as text that neither breaks a table nor is taken for a formula.

    Parameters
    ----------
    path : Path
        Path.

    Returns
    -------
    str
        The path itself, if all of its characters are printable; otherwise a JSON string. A path that begins like a
        formula of a spreadsheet is preceded by "./".
    """
    text = str(path)
    if not text.isprintable() or text.startswith('"'):
        return json.dumps(text)
    return f"./{text}" if text[:1] in ("=", "+", "-", "@") else text


def path_of(text):
    """Return the path that is written as `text`; the inverse of `shown`.

    Parameters
    ----------
    text : str
        Path as text.

    Returns
    -------
    Path
        Path.
    """
    return Path(json.loads(text) if text.startswith('"') else text)


def name_of(path):
    """Return a file name, without suffix, for what belongs to an image; it depends on the path of the image only.

    Parameters
    ----------
    path : Path
        Path of the image.

    Returns
    -------
    str
        Stem of the path, as far as it is printable, and a hash of the whole path.
    """
    stem = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in path.stem)[:100]
    stem = stem.encode()[:_MAX_BYTES].decode(errors="ignore")
    return f"{stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def write_atomically(path, text):
    """Write a file such that it holds either all of the text or what it held before.

    Parameters
    ----------
    path : Path
        Path of the file.
    text : str
        Contents, encoded in UTF-8.
    """
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class RunLock:
    """Context in which no other process may write into a folder; a killed process releases it.

    Parameters
    ----------
    path : Path
        Path of the lock file.
    """

    def __init__(self, path):
        self.path = Path(path)

    def __enter__(self):
        self._file = open(self.path, "a")
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise ValueError(
                f"out={str(self.path.parent)!r} is being written by another run; wait for it, or choose another folder."
            ) from None
        return self

    def __exit__(self, *_):
        self._file.close()


def _lock(file):
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
