"""Images as arrays, paths or a glob pattern, read one by one as (H, W, C), float32 in [0, 1]."""

import copy
import glob
import hashlib
import warnings
from collections import Counter
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image

from ..exceptions import ImageReadError

#: Largest number of pixels of an image by default, as a protection against decompression bombs: 13,000 x 13,000.
MAX_PIXELS = 13_000**2

_ACCEPTED = (
    "an array of shape (n, H, W) or (n, H, W, C) with C in {1, 3, 4}, a sequence of such images, a sequence of "
    "paths, or a string: the path of a folder or a glob pattern"
)
_COLORS_OF_MODE = {"1": 1, "L": 1, "LA": 1, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1, "I;16N": 1}


class ImageSource:
    """Images that are decoded when needed.

    Parameters
    ----------
    items : list of (path or ndarray)
        Paths or pixels of the images.
    sizes : list of (H, W)
        Height and width of each image, in pixels.
    data_range : float or None, default=None
        Pixel value that corresponds to 1.0 in integer images, such as 4095 for a 12-bit camera; None is the largest
        value of the dtype.
    n_channels : int, default=3
        Number of channels of the first image: 1 (grey) or 3.
    """

    def __init__(self, items, sizes, data_range=None, n_channels=3):
        self.items, self.sizes, self.data_range, self.n_channels = items, sizes, data_range, n_channels
        # shared by all slices of this source, which index them by their places
        self._all_items, self._places = items, np.arange(len(items))
        self._digests, self._known = np.zeros(len(items), np.uint64), np.zeros(len(items), bool)
        self._notes = {}

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        """Return an ImageSource for a slice or an integer array, and an ImageSample for an integer."""
        chosen = np.arange(len(self))[index]
        if isinstance(index, Integral):
            return ImageSample(self, int(chosen))
        part = copy.copy(self)
        part.items, part.sizes = ([values[i] for i in chosen] for values in (self.items, self.sizes))
        part._places = self._places[chosen]
        return part

    def read(self, i):
        """Return image `i` as (H, W, C) float32 in [0, 1], C in {1, 3}."""
        item = self.items[i]
        if isinstance(item, np.ndarray):
            pixels, name = _drop_alpha(item), f"image {i} of X"
        else:
            pixels, name = self._decode(item), str(item)
        self.note_digest(i, _digest(pixels))
        return _to_unit_range(pixels, self.data_range, name)

    def name_of_view(self, i):
        """Return the name of the view of image `i`: empty, because images are seen as they are."""
        return ""

    def note(self, i, name, compute):
        """Return a value that is computed once for image `i`, whichever slice of this source it is asked of.

        Parameters
        ----------
        i : int
            Index of the image.
        name : str
            Name of the value.
        compute : callable
            Function without arguments that returns the value.

        Returns
        -------
        object
            Value.
        """
        key = int(self._places[i]), self.name_of_view(i), name
        if key not in self._notes:
            self._notes[key] = compute()
        return self._notes[key]

    def digests(self):
        """Return hashes of the decoded pixels, reading the images that were not read yet.

        Returns
        -------
        ndarray of shape (n,), uint64
            Hash of each image.
        """
        for i in np.flatnonzero(~self._known[self._places]):
            self.read(i)
        return self._digests[self._places]

    def note_digest(self, i, digest):
        """Store the hash of image `i` from an earlier run, so that the image need not be read."""
        self._digests[self._places[i]] = digest
        self._known[self._places[i]] = True

    def _decode(self, path):
        try:
            return _decode(path)
        except Exception as error:  # a damaged file can make its decoder raise anything
            raise ImageReadError(_bad_files_message(self._all_items, _decode)) from error


class ImageSample:
    """Image of a source that is decoded when needed.

    Parameters
    ----------
    source : ImageSource
        Source of the image.
    i : int
        Index of the image in the source.
    """

    def __init__(self, source, i):
        self.source, self.i = source, i

    @property
    def size(self):
        """Height and width, in pixels, without decoding the image."""
        return self.source.sizes[self.i]

    def read(self):
        """Return the image as (H, W, C) float32 in [0, 1], C in {1, 3}."""
        return self.source.read(self.i)


def check_images(X, *, data_range=None, max_pixels=MAX_PIXELS, min_samples=1):
    """Check the shapes, dtypes, headers and ranges of images and return them as an `ImageSource`.

    Parameters
    ----------
    X : array of shape (n, H, W[, C]), sequence of images or paths, str, or ImageSource
        Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a folder, or
        a glob pattern.
    data_range : float or None, default=None
        Pixel value that corresponds to 1.0 in integer images, such as 4095 for a 12-bit camera; None is the largest
        value of the dtype.
    max_pixels : int, default=169_000_000
        Largest number of pixels that an image may have.
    min_samples : int, default=1
        Smallest number of images.

    Returns
    -------
    ImageSource
        Checked images.

    Raises
    ------
    TypeError
        If `X` or its items are of a type that is not accepted.
    ValueError
        If there are too few images, or a shape, dtype or range is not accepted.
    ImageReadError
        If any files cannot be read as images; the message names all of them.
    """
    if isinstance(X, ImageSource):
        return X
    items = _expand(X)
    if len(items) < min_samples:
        shown = f" ({explain_no_match(X)})" if isinstance(X, str) else ""
        raise ValueError(f"X holds {len(items)} images{shown}; at least {min_samples} needed.")
    if all(isinstance(item, np.ndarray) for item in items):
        shapes = _check_arrays(items, max_pixels)
    elif all(isinstance(item, (str, Path)) for item in items):
        shapes = _check_files(items, max_pixels)
    else:
        kinds = ", ".join(sorted({type(item).__name__ for item in items}))
        raise TypeError(f"X holds items of type {kinds}; it must be {_ACCEPTED}.")
    colors = Counter(shape[2] for shape in shapes)
    if len(colors) > 1:
        found = " and ".join(f"{count} with {c}" for c, count in sorted(colors.items()))
        raise ValueError(f"X has images with mixed channels: {found} (without alpha); convert them to the same number.")
    return ImageSource(items, [shape[:2] for shape in shapes], data_range, shapes[0][2])


def as_pair(size):
    """Return a size that is one side or (height, width), in pixels, as a pair."""
    return (size, size) if isinstance(size, Integral) else tuple(size)


def expand_paths(pattern):
    """Return the files that a string stands for, sorted.

    The path of an existing file stands for that file, and the path of an existing folder for the files in it, whatever
    characters it contains. Any other string is a glob pattern, in which the longest prefix that is the path of an
    existing folder is taken literally.
    """
    path = Path(pattern)
    if path.is_file():
        return [path]
    folder = next((parent for parent in (path, *path.parents) if parent.is_dir()), Path(path.anchor))
    rest = "*" if folder == path else path.relative_to(folder)
    found = glob.glob(str(Path(glob.escape(str(folder))) / rest), recursive=True)
    return [Path(p) for p in sorted(found) if Path(p).is_file()]


def explain_no_match(pattern):
    """Return a part of a message that says that a string matches no file, and what to do about brackets in it."""
    text = f"{pattern!r} matches no file"
    if "[" not in pattern:
        return text
    return (
        f"{text}; in a glob pattern, brackets match one of the characters between them: if they belong to a name, pass "
        f"{pattern.replace('[', '[[]')!r}"
    )


def _expand(X):
    """Return X as a list of paths or of 3-D arrays."""
    if isinstance(X, str):
        return expand_paths(X)
    if isinstance(X, Path):
        raise TypeError(f"X is a single path, {X}; pass a sequence of paths, or a string to expand as a glob pattern.")
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUT":
        if X.ndim not in (3, 4):
            raise ValueError(f"X has shape {X.shape}; it must be {_ACCEPTED}.")
        return list(X[..., None] if X.ndim == 3 else X)
    if not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        raise TypeError(f"X is of type {type(X).__name__}; it must be {_ACCEPTED}.")
    return [_as_item(item) for item in X]


def _as_item(item):
    if isinstance(item, np.ndarray) and item.ndim == 2:
        return item[..., None]
    return Path(item) if isinstance(item, str) else item


def _check_arrays(items, max_pixels):
    for i, item in enumerate(items):
        if item.ndim != 3 or item.shape[2] not in (1, 3, 4) or 0 in item.shape:
            raise ValueError(f"image {i} of X has shape {item.shape}; X must be {_ACCEPTED}.")
        if item.shape[0] * item.shape[1] > max_pixels:
            raise ValueError(f"image {i} of X has shape {item.shape}, which is more than max_pixels={max_pixels}.")
        if item.dtype.kind not in "fb" and item.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"X has dtype {item.dtype}; it must be uint8, uint16, bool, or float in [0, 1]. "
                "Call X.astype('uint8') if the values are 8-bit grey levels."
            )
    for i, item in enumerate(items):
        if item.dtype.kind == "f":
            _check_unit_range(item, f"image {i} of X")
    return [(*item.shape[:2], 1 if item.shape[2] == 1 else 3) for item in items]


def _check_files(paths, max_pixels):
    def read_header(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
            with Image.open(path) as image:
                width, height = image.size
                colors = _COLORS_OF_MODE.get(image.mode, 3)
        if width * height > max_pixels:
            raise ValueError(f"{height} x {width} pixels, which is more than max_pixels={max_pixels}")
        return height, width, colors

    try:
        return [read_header(path) for path in paths]
    except Exception as error:
        raise ImageReadError(_bad_files_message(paths, read_header)) from error


def _bad_files_message(paths, read):
    """Return a message that names every file on which `read` fails, and why."""
    complaints = []
    for path in paths:
        try:
            read(path)
        except FileNotFoundError:
            complaints.append(f"{path} (no such file)")
        except Image.UnidentifiedImageError:
            complaints.append(f"{path} (not an image format that Pillow knows)")
        except Exception as error:  # a damaged file can make its decoder raise anything
            complaints.append(f"{path} ({error})")
    return f"{len(complaints)} of {len(paths)} files cannot be read as images: " + "; ".join(complaints)


def _decode(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels was checked before
        with Image.open(path) as image:
            if image.mode == "LA":
                image = image.getchannel("L")
            elif _COLORS_OF_MODE.get(image.mode) != 1 and image.mode != "RGB":
                image = image.convert("RGB")
            pixels = np.asarray(image)
    if pixels.dtype == np.int32:  # 16-bit files that Pillow opens in mode "I"
        pixels = pixels.astype(np.uint16)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _digest(pixels):
    """Return a 64-bit hash of decoded pixels (H, W, C)."""
    digest = hashlib.blake2b(f"{pixels.dtype.str} {pixels.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels))
    return int.from_bytes(digest.digest(), "little")


def _drop_alpha(pixels):
    return pixels[..., :3] if pixels.shape[2] == 4 else pixels


def _to_unit_range(pixels, data_range, name):
    """Return pixels as float32 in [0, 1]; 8-bit values become exactly value / 255."""
    if pixels.dtype == bool:
        return pixels.astype(np.float32)
    if pixels.dtype.kind == "f":
        _check_unit_range(pixels, name)
        return pixels.astype(np.float32)
    full = np.iinfo(pixels.dtype).max if data_range is None else data_range
    if pixels.max() > full:
        raise ValueError(f"{name} has the value {pixels.max()}, above data_range={full}.")
    return np.divide(pixels, np.float32(full), dtype=np.float32)


def _check_unit_range(pixels, name):
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinity; float images must be finite and in [0, 1].")
    if low < 0 or high > 1:
        raise ValueError(
            f"{name} has float values in [{low:g}, {high:g}]; float images must be in [0, 1]. "
            "Divide by 255 or pass uint8."
        )
