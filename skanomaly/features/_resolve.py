"""The only place that decides whether `X` holds rows or images."""

from os import PathLike

from .._inputs.images import ImageSource
from ._columns import Columns
from ._pixels import Pixels


def resolve_features(X):
    """Return the features that ``features=None`` stands for: `Columns` for rows, `Pixels` for images.

    Paths, glob patterns, sequences of arrays with more than 1 axis and arrays with more than 2 axes are images. All
    other samples are rows: 2-D arrays of any dtype, data frames, sparse matrices, and lists of lists or of 1-D arrays.

    Parameters
    ----------
    X : array-like
        Samples, as passed to `fit`.

    Returns
    -------
    Columns or Pixels
        Features, unfitted.

    See Also
    --------
    Columns : Features of rows.
    Pixels : Features of images.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.features._resolve import resolve_features
    >>> resolve_features("parts/good/*.png"), resolve_features(np.zeros((5, 3), np.uint8))
    (Pixels(), Columns())
    """
    return Pixels() if _holds_images(X) else Columns()


def _holds_images(X):
    if isinstance(X, ImageSource) or _is_path(X):
        return True
    if hasattr(X, "dtype") and hasattr(X, "ndim"):
        return X.ndim > 2 or (X.ndim == 1 and len(X) > 0 and _is_path(next(iter(X))))
    if isinstance(X, (list, tuple)):
        return not X or _is_path(X[0]) or getattr(X[0], "ndim", 0) > 1
    return False


def _is_path(item):
    return isinstance(item, (str, PathLike))
