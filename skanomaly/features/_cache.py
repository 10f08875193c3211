"""A folder of patch grids, one file per image, found by the image's content and every setting that matters."""

import hashlib
import json
import os
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np

from ..exceptions import CacheWarning

_SUFFIX = ".grid"


class FeatureCache:
    """Arrays by key, safe under several processes and sudden death.

    An entry is written to a temporary file and then renamed, so it is there whole or not at all; a checksum tells a
    damaged one. The entries used longest ago are deleted when the folder outgrows its limit.

    Parameters
    ----------
    folder : path
        Made if needed.
    max_bytes : int
        Largest size of all entries together.
    """

    def __init__(self, folder, max_bytes):
        self.folder, self.max_bytes = Path(folder), max_bytes
        self.folder.mkdir(parents=True, exist_ok=True)

    def get(self, key):
        """Return the array stored under a key, or None."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            array = _decode(data)
        except ValueError as error:
            warnings.warn(
                f"{path} in the feature cache is damaged ({error}); computing it again.", CacheWarning, stacklevel=2
            )
            return None
        os.utime(path)
        return array

    def put(self, key, array):
        """Store an array under a key."""
        path = self._path(key)
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_encode(array))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def trim(self):
        """Delete the entries used longest ago until the rest fits, and what killed processes left behind."""
        entries, total = [], 0
        for path in self.folder.glob("??/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process was faster
                continue
            entries.append((status.st_mtime, status.st_size, path))
            total += status.st_size
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key):
        return self.folder / key[:2] / (key + _SUFFIX)


def cache_key(source, i, settings):
    """Return the key of image i: a hash of its bytes and of all settings.

    Parameters
    ----------
    source : ImageSource
    i : int
    settings : dict
        JSON-serialisable; everything but the image that the result depends on.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    item = source.items[i]
    if isinstance(item, np.ndarray):
        digest.update(f"{item.dtype.str} {item.shape}".encode())
        digest.update(np.ascontiguousarray(item))
    else:
        digest.update(Path(item).read_bytes())
    return digest.hexdigest()


def _encode(array):
    header = json.dumps({"dtype": array.dtype.str, "shape": array.shape}).encode()
    body = len(header).to_bytes(4, "little") + header + array.tobytes()
    return zlib.crc32(body).to_bytes(4, "little") + body


def _decode(data):
    if len(data) < 8 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise ValueError("its checksum is wrong")
    end = 8 + int.from_bytes(data[4:8], "little")
    header = json.loads(data[8:end])
    return np.frombuffer(data, header["dtype"], offset=end).reshape(header["shape"])
