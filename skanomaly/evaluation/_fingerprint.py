"""Fingerprints of detectors and data sets, by which finished results are recognised."""

import hashlib
import os
from importlib.metadata import version

import joblib
import numpy as np
from sklearn.frozen import FrozenEstimator

from .._inputs.files import stamp_of
from .._inputs.reference import Reference


def fingerprint(detector, data, settings):
    """Compute a hash of everything that a result depends on.

    Parameters
    ----------
    detector : estimator
        Unfitted detector.
    data : Bunch
        Data set. Files are represented by their path, size and time of the last change.
    settings : dict
        Further settings.

    Returns
    -------
    str
        Hash, as hexadecimal digits.
    """
    digest = hashlib.sha256(f"skanomaly {version('skanomaly')} {sorted(settings.items())}".encode())
    for name, value in sorted(_parameters(detector).items()):
        digest.update(f"\n{name}=".encode())
        _add(digest, value)
    for name in ("X_train", "X_test", "y_test", "masks_test"):
        digest.update(f"\n{name}:".encode())
        _add(digest, data[name])
    return digest.hexdigest()


def _parameters(estimator):
    return {"": type(estimator), **estimator.get_params(deep=True)}


def _add(digest, value):
    """Add a value to a digest; objects by their parameters, which are added as values of their own."""
    if isinstance(value, np.ndarray) and value.dtype.kind not in "OU":
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).data)
    elif isinstance(value, (list, tuple, np.ndarray)):
        digest.update(f"{len(value)}[".encode())
        for item in value:
            _add(digest, item)
    elif isinstance(value, type):
        digest.update(f"{value.__module__}.{value.__qualname__}".encode())
    elif isinstance(value, FrozenEstimator):  # its parameters do not say what it has learnt
        digest.update(joblib.hash(value.estimator).encode())
    elif isinstance(value, Reference):
        _add(digest, [value.images, value.labels])
    elif hasattr(value, "get_params"):
        _add(digest, type(value))
    elif hasattr(value, "image_path"):  # a mask that is read later
        _add(digest, [value.label, *(str(path) for path in getattr(value, "paths", [value.path]))])
    elif hasattr(value, "__array__") and not np.isscalar(value):
        _add(digest, [getattr(value, "label", None), getattr(value, "known", None), np.asarray(value)])
    else:
        digest.update(repr(value).encode())
        if isinstance(value, (str, os.PathLike)):
            digest.update(" ".join(stamp_of(value)).encode())
