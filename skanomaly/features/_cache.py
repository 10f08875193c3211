"""A cache of patch grids: one file per image, keyed by its content and all settings that affect the features."""

import hashlib
import json
import os
import re
import tempfile
import time
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import numpy as np

from ..exceptions import CacheWarning

_MARKER = "skanomaly-feature-cache.txt"
_MARKER_TEXT = (
    "This folder is a feature cache of skanomaly. When it exceeds its size limit, the least recently used entries "
    "(??/*.grid) are deleted. The whole folder can be deleted at any time.\n"
)
_SUFFIX, _TEMPORARY_PREFIX = ".grid", "skanomaly-temporary-"
_SHARD = re.compile("[0-9a-f]{2}")
_ENTRY = re.compile(rf"[0-9a-f]{{64}}\{_SUFFIX}")
_TEMPORARY = re.compile(rf"{_TEMPORARY_PREFIX}\w+")
_RUN = 64  # images that are computed between two writes
_ABANDONED = 3600  # seconds after which no process can still be writing a temporary file


class FeatureCache:
    """Folder of arrays that are stored by key, safe for several processes that may be killed at any time.

    An entry is written to a temporary file and then renamed, so it is never incomplete; damaged entries are detected by
    a checksum. When the folder exceeds its size limit, the least recently used entries are deleted. No other files are
    ever deleted.

    Parameters
    ----------
    folder : path-like
        Folder with the marker file of a cache. A folder that does not exist, is empty or holds only entries is turned
        into one.
    max_bytes : int
        Largest total size of the entries, in bytes.

    Raises
    ------
    ValueError
        If the folder holds any other files.
    """

    def __init__(self, folder, max_bytes):
        self.folder, self.max_bytes = Path(folder), max_bytes
        _claim(self.folder)

    def get(self, key, shape, dtype):
        """Return the array stored under a key.

        Parameters
        ----------
        key : str
            Key, as returned by `cache_key`.
        shape : tuple of int
            Shape that the array must have.
        dtype : dtype
            Type that the array must have.

        Returns
        -------
        ndarray or None
            The array; None if there is no intact entry.

        Warns
        -----
        CacheWarning
            If the entry is damaged, or is not of this shape and type.
        """
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:  # there is none, or what is there is no file
            return None
        try:
            array = _decode(data, shape, np.dtype(dtype))
        except (KeyError, TypeError, ValueError) as error:
            warnings.warn(
                f"{path} in the feature cache is damaged ({error}); computing it again.", CacheWarning, stacklevel=2
            )
            return None
        with suppress(FileNotFoundError):  # another process made room
            os.utime(path)
        return array

    def put(self, key, array):
        """Store an array under a key, unless something that is no entry has its name.

        Parameters
        ----------
        key : str
            Key, as returned by `cache_key`.
        array : ndarray
            Array to store.
        """
        path = self._path(key)
        with suppress(FileExistsError):
            path.parent.mkdir()
        if not _is_shard(path.parent) or path.is_dir():
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY_PREFIX)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_encode(array))
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise

    def trim(self):
        """Delete the least recently used entries until the others fit, and files left behind by killed processes."""
        entries, total = [], 0
        for file in _files(self.folder):
            try:
                status = file.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process was faster
                continue
            if _is_entry(file):
                entries.append((status.st_mtime, status.st_size, Path(file)))
                total += status.st_size
            elif _is_temporary(file) and status.st_mtime < time.time() - _ABANDONED:
                Path(file).unlink(missing_ok=True)
        for _, size, path in sorted(entries):
            if total <= self.max_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size

    def _path(self, key):
        return self.folder / key[:2] / (key + _SUFFIX)


def _claim(folder):
    """Turn a folder into a cache unless it is one already; raise if it holds other files."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"memory={str(folder)!r} is a file; it must be a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    marker = folder / _MARKER
    if marker.is_file():
        return
    foreign = next(_foreign_paths(folder), None)
    if foreign is not None and not marker.is_file():  # another process may have written it by now
        raise ValueError(
            f"memory={str(folder)!r} is not a feature cache: it holds {str(foreign.relative_to(folder))!r}. Because a "
            f"cache deletes files, pass a new or empty folder, such as {str(folder / 'skanomaly-cache')!r}."
        )
    marker.write_text(_MARKER_TEXT)


def _foreign_paths(folder):
    """Yield the paths in a folder that no cache has written."""
    yield from (path for path in folder.iterdir() if not _is_shard(path))
    for file in _files(folder):
        if not (_is_entry(file) or _is_temporary(file)):
            yield Path(file)


def _files(folder):
    """Yield a `DirEntry` for each item in the subfolders of entries."""
    for shard in filter(_is_shard, folder.iterdir()):
        with os.scandir(shard) as files:
            yield from files


def _is_shard(path):
    return _SHARD.fullmatch(path.name) is not None and path.is_dir() and not path.is_symlink()


def _is_entry(file):
    shard = os.path.basename(os.path.dirname(file.path))
    return _is_own(file, _ENTRY) and file.name.startswith(shard)


def _is_temporary(file):
    return _is_own(file, _TEMPORARY)


def _is_own(file, pattern):
    return pattern.fullmatch(file.name) is not None and file.is_file(follow_symlinks=False)


def cache_key(source, i, settings):
    """Return the key of an image: a hash of its bytes and of all settings.

    Parameters
    ----------
    source : ImageSource
        Images.
    i : int
        Index of the image.
    settings : dict
        Settings that the result depends on besides the image, JSON-serialisable.

    Returns
    -------
    str
        SHA-256 hash, as 64 hexadecimal digits.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(source.name_of_view(i).encode())
    item = source.items[i]
    if isinstance(item, np.ndarray):
        digest.update(f"{item.dtype.str} {item.shape}".encode())
        digest.update(np.ascontiguousarray(item))
    else:
        digest.update(_Content(item).getbuffer())
    return digest.hexdigest()


class _Content(BytesIO):
    """Content of a file, read once, so that what is decoded is what the key stands for.

    Parameters
    ----------
    file : path-like or _Content
        Path of the file, or its content.
    """

    def __init__(self, file):
        self.name = str(file)
        super().__init__(file.getvalue() if isinstance(file, BytesIO) else Path(file).read_bytes())

    def __str__(self):
        return self.name


def recall(cache, source, settings, values, compute):
    """Get the features of images from a cache; compute and store what is missing.

    Parameters
    ----------
    cache : FeatureCache
        Cache, which also holds the digests of the images, so that they need not be decoded.
    source : ImageSource
        Images.
    settings : dict
        Settings that the features depend on besides the image; see `cache_key`.
    values : ndarray of shape (n, ...)
        Array that is filled with the features of the images.
    compute : callable
        Function of an ImageSource and of an array that it fills with the features of these images.
    """
    missing = {}
    for i in range(len(source)):
        key = cache_key(source, i, settings)
        value = None if key in missing else cache.get(key, values.shape[1:], values.dtype)
        if value is None:
            missing.setdefault(key, []).append(i)
        else:
            values[i] = value
            _recall_digest(cache, key, source, i)
    places = list(missing.values())
    for start in range(0, len(places), _RUN):
        _compute_run(cache, source, settings, values, compute, places[start : start + _RUN])
    if places:
        cache.trim()


def _compute_run(cache, source, settings, values, compute, places):
    """Compute and store the features of images; those at the places of one list had the same content a moment ago."""
    run = source[np.array([own[0] for own in places])]
    run.items = [item if isinstance(item, np.ndarray) else _Content(item) for item in run.items]
    keys = [cache_key(run, k, settings) for k in range(len(run))]  # of the content that is decoded now
    computed = np.empty((len(run), *values.shape[1:]), values.dtype)
    compute(run, computed)
    for own, key, value, digest in zip(places, keys, computed, run.digests(), strict=True):
        cache.put(key, value)
        cache.put(_digest_key(key), digest)
        values[own[0]] = value
        source.note_digest(own[0], digest)
        for place in own[1:]:
            if cache_key(source, place, settings) == key:
                values[place] = value
                source.note_digest(place, digest)
            else:
                _compute_run(cache, source, settings, values, compute, [[place]])


def _digest_key(key):
    """Return the key of the digest of an image whose features have the given key."""
    return hashlib.sha256(f"digest of {key}".encode()).hexdigest()


def _recall_digest(cache, key, source, i):
    """Pass the cached digest of an image to its source, so that the image need not be decoded."""
    digest = cache.get(_digest_key(key), (), np.uint64)
    if digest is not None:
        source.note_digest(i, digest)


def _encode(array):
    header = json.dumps({"dtype": array.dtype.str, "shape": array.shape}).encode()
    body = len(header).to_bytes(4, "little") + header + array.tobytes()
    return zlib.crc32(body).to_bytes(4, "little") + body


def _decode(data, shape, dtype):
    if len(data) < 8 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
        raise ValueError("its checksum is wrong")
    end = 8 + int.from_bytes(data[4:8], "little")
    header = json.loads(data[8:end])
    if (header["dtype"], tuple(header["shape"])) != (dtype.str, tuple(shape)):
        raise ValueError(f"it is {header['dtype']} of shape {header['shape']}, not {dtype.str} of shape {shape}")
    return np.frombuffer(data, dtype, offset=end).reshape(shape)
