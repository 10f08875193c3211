"""Images as arrays, paths or a glob pattern, read one by one as (H, W, C), float32 in [0, 1]."""

import copy
import hashlib
import os
import warnings
from numbers import Integral
from pathlib import Path

import numpy as np
from PIL import Image

from ..exceptions import DataWarning, ImageReadError
from .decoding import decode, pixels_of, read_header
from .files import explain_no_match, find_images

#: Largest number of pixels of an image by default, as a protection against decompression bombs: 13,000 x 13,000.
MAX_PIXELS = 13_000**2

_ACCEPTED = (
    "an array of shape (n, H, W) or (n, H, W, C) with C in {1, 3, 4}, a sequence of such images, of Pillow images or "
    "of paths, or a string: the path of a folder or a glob pattern"
)
_DARK = 2**12  # a 16-bit image without any value from here on is probably one of 12 bits


class ImageSource:
    """Images that are decoded when needed.

    Parameters
    ----------
    items : list of (path or ndarray)
        Paths or pixels of the images.
    sizes : list of (H, W)
        Height and width of each image, in pixels.
    data_range : float, (float, float) or None, default=None
        Value in integer images that corresponds to 1.0, such as 4095 for a 12-bit camera, or the two values, in images
        of any type, that correspond to 0.0 and 1.0. None is the largest value of uint8 and uint16, and [0, 1] for
        floats.
    n_channels : int, default=3
        Number of channels: 1 if all images are grey, otherwise 3.
    channels : {"rgb", "bgr"}, default="rgb"
        Order of the channels of arrays.
    left_aside : list of Path, default=()
        Files in the folder that are not images.
    """

    def __init__(self, items, sizes, data_range=None, n_channels=3, channels="rgb", left_aside=()):
        self.items, self.sizes, self.data_range, self.n_channels = items, sizes, data_range, n_channels
        self.channels, self.left_aside = channels, left_aside
        # shared by all slices of this source, which index them by their places
        self._all_items, self._places = items, np.arange(len(items))
        self._digests, self._known = np.zeros(len(items), np.uint64), np.zeros(len(items), bool)
        self._warned = set()
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
        """Return image `i` as (H, W, C) float32 in [0, 1], C in {1, 3}.

        Transparent pixels are shown on white.
        """
        item = self.items[i]
        if isinstance(item, np.ndarray):
            pixels, name = _in_rgb_order(item, self.channels), f"image {i} of X"
        else:
            pixels, name = self._decode(item), str(item)
        pixels = _on_white(pixels, self.data_range)
        self.note_digest(i, _digest(pixels))
        if pixels.dtype == np.uint16 and self.data_range is None:
            self._warn_if_dark(pixels.max(), name)
        return _to_unit_range(pixels, self.data_range, name)

    def _warn_if_dark(self, largest, name):
        """Warn, once, of an image that is nearly black because its camera has 12 bits."""
        if largest < _DARK and "dark" not in self._warned:
            self._warned.add("dark")  # shared by all slices
            warnings.warn(
                f"{name} has 16 bits per value, but no value above {largest}, and is therefore nearly black: 65535 is "
                "read as 1.0. Set data_range=4095 on the features if the camera has 12 bits.",
                DataWarning,
                stacklevel=2,
            )

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
            return decode(path)
        except Exception as error:  # a damaged file can make its decoder raise anything
            raise ImageReadError(_bad_files_message(self._all_items, decode)) from error


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


def check_images(X, *, data_range=None, max_pixels=MAX_PIXELS, min_samples=1, channels="rgb"):
    """Check the shapes, dtypes, headers and ranges of images and return them as an `ImageSource`.

    Parameters
    ----------
    X : array of shape (n, H, W[, C]), sequence of images or paths, str, or ImageSource
        Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}, or of another range or integer
        type if `data_range` is given; a str is the path of a folder, or a glob pattern. Grey and colour images may be
        mixed.
    data_range : float, (float, float) or None, default=None
        Value in integer images that corresponds to 1.0, such as 4095 for a 12-bit camera, or the two values, in images
        of any type, that correspond to 0.0 and 1.0. None is the largest value of uint8 and uint16, and [0, 1] for
        floats.
    max_pixels : int, default=169_000_000
        Largest number of pixels that an image may have.
    min_samples : int, default=1
        Smallest number of images.
    channels : {"rgb", "bgr"}, default="rgb"
        Order of the channels of arrays.

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
    items, left_aside = _expand(X, channels)
    if len(items) < min_samples:
        shown = f" ({explain_no_match(X)})" if isinstance(X, str) else ""
        raise ValueError(f"X holds {len(items)} images{shown}; at least {min_samples} needed.")
    if all(isinstance(item, np.ndarray) for item in items):
        shapes = _check_arrays(items, max_pixels, data_range)
    elif all(isinstance(item, (str, Path)) for item in items):
        shapes = _check_files(items, max_pixels)
    else:
        kinds = ", ".join(sorted({type(item).__name__ for item in items}))
        raise TypeError(f"X holds items of type {kinds}; it must be {_ACCEPTED}.")
    n_channels = max(shape[2] for shape in shapes)
    return ImageSource(items, [shape[:2] for shape in shapes], data_range, n_channels, channels, left_aside)


def as_pair(size):
    """Return a size that is one side or (height, width), in pixels, as a pair."""
    return (size, size) if isinstance(size, Integral) else tuple(size)


def _expand(X, channels):
    """Return X as a list of paths or of 3-D arrays, and the files that were left aside."""
    if isinstance(X, str):
        return find_images(X)
    if isinstance(X, Path):
        raise TypeError(f"X is a single path, {X}; pass a sequence of paths, or a string to expand as a glob pattern.")
    if isinstance(X, Image.Image):
        raise TypeError("X is a single image; pass a sequence of images, [image].")
    if _is_tensor(X):
        X = _channels_last(X) if X.ndim == 4 else X.detach().cpu().numpy()
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OUT":
        return list(_check_stack(_native(X))), ()
    if not hasattr(X, "__len__") or not hasattr(X, "__iter__"):
        hint = " Pass list(X) if X yields paths or images." if hasattr(X, "__iter__") else ""
        raise TypeError(f"X is of type {type(X).__name__}; it must be {_ACCEPTED}.{hint}")
    return [_as_item(item, channels) for item in X], ()


def _check_stack(X):
    """Return an array of images as (n, H, W, C), or raise if it is probably a single image or has channels first."""
    if X.ndim == 2 or (X.ndim == 3 and X.shape[2] in (3, 4)):
        raise ValueError(
            f"X has shape {X.shape}, which is that of a single image: pass a sequence of images, [image]. X must be "
            f"{_ACCEPTED}."
        )
    if X.ndim not in (3, 4):
        raise ValueError(f"X has shape {X.shape}; it must be {_ACCEPTED}.")
    if X.ndim == 4 and X.shape[1] in (1, 3, 4) and X.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"X has shape {X.shape}, with the channels first; pass X.transpose(0, 2, 3, 1), because X must be "
            f"{_ACCEPTED}."
        )
    return X[..., None] if X.ndim == 3 else X


def _is_tensor(X):
    return type(X).__module__.split(".")[0] == "torch" and hasattr(X, "detach")


def _channels_last(tensor):
    """Return a tensor (..., C, H, W) or (..., H, W, C) as an array (..., H, W, C), others as an array."""
    array = tensor.detach().cpu().numpy()
    if array.ndim not in (3, 4):
        return array
    first, last = array.shape[-3] in (1, 3, 4), array.shape[-1] in (1, 3, 4)
    if first and last and array.ndim == 4:
        raise ValueError(
            f"X is a tensor of shape {tuple(array.shape)}, whose channels may be the first or the last axis of an "
            "image; pass a NumPy array of shape (n, H, W, C)."
        )
    return np.moveaxis(array, -3, -1) if first else array


def _as_item(item, channels):
    if isinstance(item, Image.Image):  # whose channels are in the order of RGB; arrays are taken to be in that given
        return _in_rgb_order(_on_white(pixels_of(item), None), channels)
    if _is_tensor(item):
        item = _channels_last(item)
    if isinstance(item, np.ndarray):
        item = _native(item)
        return item[..., None] if item.ndim == 2 else item
    return Path(item) if isinstance(item, str) else item


def _native(array):
    """Return an array in the byte order of the machine."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_arrays(items, max_pixels, data_range):
    for i, item in enumerate(items):
        if item.ndim != 3 or item.shape[2] not in (1, 3, 4) or 0 in item.shape:
            raise ValueError(f"image {i} of X has shape {item.shape}; X must be {_ACCEPTED}.")
        if item.shape[0] * item.shape[1] > max_pixels:
            raise ValueError(f"image {i} of X has shape {item.shape}, which is more than max_pixels={max_pixels}.")
        _check_dtype(item, data_range, f"image {i} of X")
    for i, item in enumerate(items):
        if item.dtype.kind == "f":
            _check_range(item, data_range, f"image {i} of X")
    return [(*item.shape[:2], 1 if item.shape[2] == 1 else 3) for item in items]


def _check_files(paths, max_pixels):
    def read(path):
        return read_header(path, max_pixels)

    try:
        return [read(path) for path in paths]
    except Exception as error:
        raise ImageReadError(_bad_files_message(paths, read)) from error


def _bad_files_message(paths, read):
    """Return a message that names every file on which `read` fails, and why."""
    complaints = []
    for path in paths:
        try:
            read(path)
        except FileNotFoundError:
            complaints.append(f"{path} (no such file)")
        except Image.UnidentifiedImageError:
            known = "not an image format that Pillow knows" if os.path.getsize(path) else "an empty file"
            complaints.append(f"{path} ({known})")
        except Exception as error:  # a damaged file can make its decoder raise anything
            complaints.append(f"{path} ({error})")
    if len(paths) == 1:
        return f"The file cannot be read as an image: {complaints[0]}"
    return f"{len(complaints)} of {len(paths)} files cannot be read as images: " + "; ".join(complaints)


def _digest(pixels):
    """Return a 64-bit hash of decoded pixels (H, W, C)."""
    digest = hashlib.blake2b(f"{pixels.dtype.str} {pixels.shape}".encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels))
    return int.from_bytes(digest.digest(), "little")


def _in_rgb_order(pixels, channels):
    if channels == "rgb" or pixels.shape[2] < 3:
        return pixels
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _on_white(pixels, data_range):
    """Return pixels (H, W, C) with alpha, C in {2, 4}, as they look on white; others as they are."""
    if pixels.shape[2] in (1, 3):
        return pixels
    colors, alpha = pixels[..., :-1], pixels[..., -1:]
    if pixels.dtype == bool:
        return colors | ~alpha
    low, high = _limits(pixels.dtype, data_range)
    if alpha.min() >= high:
        return colors
    share = ((alpha.astype(np.float64) - low) / (high - low)).clip(0, 1)
    shown = share * colors + (1 - share) * high
    return (np.rint(shown) if pixels.dtype.kind in "iu" else shown).astype(pixels.dtype)


def _limits(dtype, data_range):
    """Return the values that become 0 and 1."""
    if isinstance(data_range, (tuple, list)):
        return tuple(float(value) for value in data_range)  # differences of NumPy integers may overflow
    if dtype.kind not in "iu":
        return 0, 1
    return 0, np.iinfo(dtype).max if data_range is None else data_range


def _to_unit_range(pixels, data_range, name):
    """Return pixels as float32 in [0, 1]; 8-bit values become exactly value / 255."""
    if pixels.dtype == bool:
        return pixels.astype(np.float32)
    _check_dtype(pixels, data_range, name)
    _check_range(pixels, data_range, name)
    low, high = _limits(pixels.dtype, data_range)
    if low == 0:
        return pixels.astype(np.float32) if high == 1 else np.divide(pixels, np.float32(high), dtype=np.float32)
    return ((pixels - np.float64(low)) / (high - low)).astype(np.float32)


def _check_dtype(pixels, data_range, name):
    if pixels.dtype.kind in "fb" or pixels.dtype in (np.uint8, np.uint16):
        return
    if pixels.dtype.kind not in "iu":
        raise ValueError(f"{name} has dtype {pixels.dtype}; it must be an integer type, bool, or float in [0, 1].")
    if data_range is None:
        raise ValueError(
            f"{name} has dtype {pixels.dtype}, whose range is not that of a camera; set data_range=(low, high) on the "
            "features, the values of black and white, or call X.astype('uint8') if the values are 8-bit grey levels."
        )


def _check_range(pixels, data_range, name):
    low, high = pixels.min(), pixels.max()
    least, most = _limits(pixels.dtype, data_range)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{name} contains NaN or infinity; its values must be finite.")
    if least <= low and high <= most:
        return
    if pixels.dtype.kind in "iu" or isinstance(data_range, (tuple, list)):
        raise ValueError(f"{name} has values in [{low:g}, {high:g}], outside data_range={data_range}.")
    raise ValueError(
        f"{name} has float values in [{low:g}, {high:g}]; float images must be in [0, 1]. Divide by 255, pass uint8, "
        "or set data_range=(low, high) on the features."
    )
