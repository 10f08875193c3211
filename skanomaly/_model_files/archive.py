"""The archive of a model file: an uncompressed ZIP file of arrays and of the text that says what they are.

Everything here is checked from the directory of the archive and the headers of its arrays. Nothing is decompressed, so
that opening a file never takes more memory than the file is large.
"""

import hashlib
import json
import os
import zipfile
from contextlib import contextmanager

from numpy.lib import format as npy

from ..exceptions import ModelFileError

SCHEMA = "schema.json"
_MOST_MEMBERS = 2**15
_MOST_TEXT = 2**24  # bytes of the schema
_MOST_BRACKETS = 2**18  # lists and dicts in the schema: every one takes up to 25 times its text in memory
_END, _END64 = b"PK\x05\x06", b"PK\x06\x06"
_LONGEST_TAIL = 2**16 + 128  # bytes after the directory of a ZIP file
_MOST_AXES = 32
_SEAL = "skanomaly sha256 "
_SPARSE = {"data", "indices", "indptr", "row", "col", "offsets", "coords", "format", "shape", "_is_array"}
_SPARSE_GROWTH = 16, 2**24  # members of sparse matrices are compressed: how many times, and how many bytes


class Archive:
    """Archive of a model file, whose directory and schema have been checked.

    Parameters
    ----------
    file : binary file
        Model file, open for reading.

    Attributes
    ----------
    file : binary file
        The file.
    schema : dict
        Content of the schema, as parsed.
    names : set of str
        Names of the members.

    Raises
    ------
    ModelFileError
        If the file is not such an archive, is damaged, or is more costly to open than files written by `save`.
    """

    def __init__(self, file):
        size = os.fstat(file.fileno()).st_size
        _check_directory_size(file, size)
        self.file, self._zip = file, zipfile.ZipFile(file)
        members = self._zip.infolist()
        _check_members(members, size)
        self.names = {member.filename for member in members}
        self.schema = self._read_schema()

    def _read_schema(self):
        if SCHEMA not in self.names:
            raise ModelFileError(f"it has no {SCHEMA}")
        if self._zip.getinfo(SCHEMA).file_size > _MOST_TEXT:
            raise ModelFileError(f"{SCHEMA} is larger than {_MOST_TEXT} bytes")
        text = self._zip.read(SCHEMA)
        if text.count(b"{") + text.count(b"[") > _MOST_BRACKETS:
            raise ModelFileError(f"{SCHEMA} holds more than {_MOST_BRACKETS} objects")
        schema = json.loads(text)
        if not isinstance(schema, dict):
            raise ModelFileError(f"{SCHEMA} does not describe an object")
        return schema

    def check_array(self, name):
        """Raise unless a member is an array whose header agrees with its size.

        Parameters
        ----------
        name : str
            Name of the member.
        """
        with self._zip.open(name) as member:
            _check_array(member, self._zip.getinfo(name).file_size, name)

    def check_sparse(self, name):
        """Raise unless a member is a sparse matrix that is not much larger than the member.

        Parameters
        ----------
        name : str
            Name of the member.
        """
        times, more = _SPARSE_GROWTH
        with self._zip.open(name) as member, zipfile.ZipFile(member) as inner:
            parts = inner.infolist()
            names = [part.filename for part in parts]
            if len(set(names)) < len(names) or not set(names) <= {f"{part}.npy" for part in _SPARSE}:
                raise ModelFileError(f"its member {name!r} is not a sparse matrix")
            if sum(part.file_size for part in parts) > times * self._zip.getinfo(name).file_size + more:
                raise ModelFileError(f"its member {name!r} is compressed too strongly")
            for part in parts:
                with inner.open(part) as array:
                    _check_array(array, part.file_size, part.filename)

    def check_seal(self):
        """Raise if a member was changed since the file was written; this shows damage, not bad intentions."""
        found = self._zip.comment.decode("ascii", "replace")
        if not found.startswith(_SEAL):
            raise ModelFileError(
                "it was not written by skanomaly.save, or by a development version of skanomaly; fit and save the "
                "model again"
            )
        if found != _seal(self._zip.infolist()):
            raise ModelFileError("it was changed since it was written")


@contextmanager
def opened(path):
    """Open a model file.

    Parameters
    ----------
    path : Path
        Path of the file.

    Yields
    ------
    file : binary file
        The file, open for reading.
    archive : Archive
        Its archive.
    """
    with open(path, "rb") as file:
        yield file, Archive(file)


def seal(file):
    """Write a checksum of all members into an archive.

    Parameters
    ----------
    file : path-like or binary file
        The archive, which is changed.
    """
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = _seal(archive.infolist()).encode()


def _seal(members):
    lines = sorted(f"{member.filename} {member.file_size} {member.CRC}" for member in members)
    return _SEAL + hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def _check_directory_size(file, size):
    """Raise if the directory of the archive is too large to be read; `zipfile` would read it whole."""
    file.seek(max(0, size - _LONGEST_TAIL))
    tail = file.read(_LONGEST_TAIL)
    for mark, place, width in ((_END, 12, 4), (_END64, 40, 8)):
        start = tail.rfind(mark)
        declared = int.from_bytes(tail[start + place : start + place + width], "little")
        if start >= 0 and declared != 2**32 - 1 and declared > 128 * _MOST_MEMBERS:
            raise ModelFileError("its directory is too large")
    file.seek(0)


def _check_members(members, size):
    """Raise if members are compressed, have equal or unexpected names, or share bytes of the file."""
    if len(members) > _MOST_MEMBERS:
        raise ModelFileError(f"it has {len(members)} members, more than {_MOST_MEMBERS}")
    names = set()
    for member in members:
        name = member.filename
        if name in names:
            raise ModelFileError(f"it has two members {name!r}")
        if not name.isascii() or not name.isprintable() or {"/", "\\", ":"} & set(name) or name.startswith("."):
            raise ModelFileError(f"it has a member {name!r}, which is not written by save")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise ModelFileError(f"its member {name!r} is compressed")
        names.add(name)
    if sum(member.file_size for member in members) > size:
        raise ModelFileError("its members overlap")


def _check_array(member, size, name):
    """Raise unless an open file of a given size is an array of numbers, dates or strings."""
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(member)
    if version not in readers:
        raise ModelFileError(f"its member {name!r} has the unknown format {version}")
    shape, _, dtype = readers[version](member)
    if dtype.hasobject or not dtype.itemsize:
        raise ModelFileError(f"its member {name!r} is an array of {dtype}, which may hide code")
    n_bytes = dtype.itemsize
    for side in shape:
        n_bytes *= side
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0:
        raise ModelFileError(f"its member {name!r} has the shape {shape}")
    if n_bytes != size - member.tell():
        raise ModelFileError(f"its member {name!r} has {size - member.tell()} bytes for the shape {shape} of {dtype}")
