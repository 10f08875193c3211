"""Labelled images of other classes, against which features of normal images are learnt."""

from os import PathLike
from pathlib import Path

import numpy as np

from ..exceptions import ImageReadError
from .files import image_files
from .images import MAX_PIXELS, check_images

_FORMS = (
    "the path of a folder with one subfolder of images per class, the path of an .npz file with the arrays X and y, a "
    "pair (images, labels), or a Reference"
)


class Reference:
    """Labelled images of classes other than the normal one.

    `DeepOneClass` and `MetricFeatures` also accept a pair (images, labels); a `Reference` is not copied when they are
    cloned, for example in a search.

    Parameters
    ----------
    images : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a folder, or
        a glob pattern. Sizes and numbers of channels may differ from the normal images.
    labels : array-like of shape (n,)
        Class of each image, an integer or a string.

    See Also
    --------
    DeepOneClass : Features that are compact for normal images and tell the classes of the reference apart.
    MetricFeatures : Features that tell normal images and the classes of the reference apart.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import Reference
    >>> Reference(np.zeros((4, 8, 8), np.uint8), ["cat", "cat", "dog", "dog"])
    Reference(4 images of 2 classes)
    """

    def __init__(self, images, labels):
        self.images, self.labels = images, np.asarray(labels)

    def __sklearn_clone__(self):
        return self

    def __repr__(self):
        return f"Reference({len(self.labels)} images of {len(np.unique(self.labels))} classes)"


def open_reference(reference, *, data_range=None, max_pixels=MAX_PIXELS):
    """Check a labelled reference set.

    Parameters
    ----------
    reference : str, path-like, (images, labels) or Reference
        Path of a folder with one subfolder of images per class; path of an .npz file with the arrays X and y; or images
        and labels.
    data_range : float or None, default=None
        Pixel value that corresponds to 1.0 in integer images, such as 4095 for a 12-bit camera; None is the largest
        value of the dtype.
    max_pixels : int, default=169_000_000
        Largest number of pixels that an image may have.

    Returns
    -------
    images : ImageSource
        Images, decoded when needed.
    labels : ndarray of shape (n,), int64
        Class of each image, in 0, ..., n_classes - 1.

    Raises
    ------
    TypeError
        If `reference` is of a type that is not accepted.
    ValueError
        If a file, the images or the labels are not as described, or there are fewer than two classes.
    """
    given = _as_reference(reference)
    try:
        images = check_images(given.images, data_range=data_range, max_pixels=max_pixels)
    except ImageReadError:
        raise
    except (ValueError, TypeError) as error:
        raise type(error)(f"reference: {error}") from error
    if given.labels.shape != (len(images),):
        raise ValueError(
            f"reference has {len(images)} images, but labels of shape {given.labels.shape}; one label is needed for "
            "each image."
        )
    classes, labels = np.unique(given.labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(
            f"reference has {len(classes)} class, {str(classes[0])!r}; at least 2 classes of images are needed."
        )
    return images, labels


def _as_reference(reference):
    if isinstance(reference, Reference):
        return reference
    if isinstance(reference, (str, PathLike)):
        return _read_reference(Path(reference))
    if isinstance(reference, (tuple, list)) and len(reference) == 2:
        return Reference(*reference)
    raise TypeError(f"reference is of type {type(reference).__name__}; it must be {_FORMS}.")


def _read_reference(path):
    """Return the reference in a folder or an .npz file."""
    if path.is_dir():
        files = [(str(file), folder.name) for folder in sorted(path.iterdir()) for file in _files(folder)]
        if not files:
            raise ValueError(f"reference={str(path)!r} has no subfolders with images; it must be {_FORMS}.")
        return Reference(*(list(column) for column in zip(*files, strict=True)))
    if path.suffix != ".npz" or not path.is_file():
        raise ValueError(f"reference={str(path)!r} is neither a folder nor an .npz file; it must be {_FORMS}.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Reference(arrays["X"], arrays["y"])
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"reference={str(path)!r} does not hold the arrays X and y: {error}") from error


def _files(folder):
    return image_files(folder) if folder.is_dir() else []
