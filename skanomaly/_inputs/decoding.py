"""What image files hold: their sizes and pixels, as a viewer shows them."""

import stat
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112  # the EXIF tag
_TURNED = (5, 6, 7, 8)  # orientations in which the sides are swapped
_TO_UPRIGHT = {  # orientation: change of the pixels (H, W, ...)
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}
_GRAY = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_ONE_PICTURE = {"MPO"}  # formats whose further pages belong to the first, such as the depth map of a photograph
_SAMPLE_FORMAT, _BITS = 339, 258  # TIFF tags
_PILLOW = threading.Lock()


def read_header(path, max_pixels):
    """Read the size of an image file without decoding the image.

    Parameters
    ----------
    path : path-like
        Path of the file.
    max_pixels : int
        Largest number of pixels that the image may have.

    Returns
    -------
    height, width : int
        Size as a viewer shows it, in pixels.
    n_channels : int
        Number of channels without alpha: 1 (grey) or 3.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not a regular file, or holds too many pixels or several pages.
    """
    with _opened(path) as image:
        width, height = _upright_size(image)
        if width * height > max_pixels:
            raise ValueError(f"{height} x {width} pixels, which is more than max_pixels={max_pixels}")
        _check_single(image)
        return height, width, 1 if image.mode in _GRAY else 3


def decode(path):
    """Decode an image file.

    Parameters
    ----------
    path : path-like or file object
        Path of the file, or its content.

    Returns
    -------
    ndarray of shape (H, W, C)
        Pixels, turned as the EXIF orientation says, as stored: uint8, uint16, int32, uint32, float32 or bool, in the
        order red, green, blue. C is 1 (grey) or 3 (colour), or 2 or 4 with alpha.
    """
    with _opened(path) as image:
        _check_single(image)
        return pixels_of(image)


def pixels_of(image):
    """Return the pixels of a Pillow image.

    Parameters
    ----------
    image : PIL.Image.Image
        Image of any mode.

    Returns
    -------
    ndarray of shape (H, W, C)
        Pixels, as returned by `decode`.
    """
    orientation = _orientation(image)
    pixels = _as_stored(image)
    pixels = _TO_UPRIGHT.get(orientation, np.asarray)(pixels if pixels.ndim == 3 else pixels[..., None])
    return np.ascontiguousarray(pixels)


def _as_stored(image):
    if image.mode == "F":
        return np.asarray(image)
    if image.mode.startswith("I"):
        return _integers(image)
    if image.has_transparency_data:
        return np.asarray(image.convert("RGBA"))[..., -2 if image.mode in _GRAY else 0 :]
    return np.asarray(image if image.mode in _GRAY or image.mode == "RGB" else image.convert("RGB"))


def _integers(image):
    """Return the pixels of an image of 16 or 32 bits in the type that its file names."""
    pixels = np.asarray(image)
    if image.mode != "I":
        return pixels.astype(np.uint16, copy=False)
    tags = getattr(image, "tag_v2", None)
    if tags is None:  # PNG and PGM with 16 bits
        return pixels.astype(np.uint16) if image.format in ("PNG", "PPM") else pixels
    return pixels.view(np.uint32) if tags.get(_SAMPLE_FORMAT, (1,))[0] == 1 and tags.get(_BITS) == (32,) else pixels


def _upright_size(image):
    """Return the width and height of an image that is not decoded yet, as a viewer shows it."""
    size, orientation = image.size, _orientation(image)
    if image.format == "TIFF":  # of which some versions of Pillow report the size before, some that after turning
        size, orientation = (image.tag_v2[256], image.tag_v2[257]), image.tag_v2.get(_ORIENTATION, 1)
    return size[::-1] if orientation in _TURNED else size


def _orientation(image):
    """Return the EXIF orientation of an image that is not decoded yet; Pillow itself turns TIFF images."""
    if image.format == "TIFF" or not image.info.get("exif"):
        return 1
    exif = Image.Exif()
    try:
        exif.load(image.info["exif"])
        return exif.get(_ORIENTATION, 1)
    except Exception:  # damaged metadata must not make the pixels unreadable
        return 1


def _check_single(image):
    n_pages = getattr(image, "n_frames", 1)
    if n_pages > 1 and image.format not in _ONE_PICTURE:
        raise ValueError(
            f"{n_pages} pages or frames, of which only one would be seen; save each of them as a file of its own, or "
            "pass them as an array"
        )


@contextmanager
def _opened(path):
    """Open an image file; its pages and pixels are checked by the caller, and limited by `max_pixels` only."""
    if not hasattr(path, "seek"):
        mode = Path(path).stat().st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("a folder" if stat.S_ISDIR(mode) else "not a regular file")
    else:
        path.seek(0)
    with _PILLOW:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image
