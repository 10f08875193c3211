"""Checked samples, which have a length and can be indexed by slices and integer arrays.

Images are an `ImageSource`, rows and patch grids are arrays, and everything else is an `Indexable`. `Grids` and `Rows`
take the place of features in estimators that have none; they follow the protocol of features.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted

from .._kernels.checks import require
from .arrays import check_patches
from .images import ImageSource

_HASHED_BYTES = 2**24  # number of bytes hashed at a time
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def begin(features):
    """Return features for a new fit: an unfitted clone, or the same features if they are in a `FrozenEstimator`.

    Parameters
    ----------
    features : estimator
        Features, or a `FrozenEstimator` of fitted features.

    Returns
    -------
    estimator
        Features for the new fit.
    """
    if isinstance(features, Mapless):
        return Mapless(begin(features.features))
    features = clone(features)
    return FrozenFeatures(features.estimator) if isinstance(features, FrozenEstimator) else features


class FrozenFeatures(FrozenEstimator):
    """Fitted features that learn nothing more: a `FrozenEstimator` that follows the protocol of features.

    Parameters
    ----------
    estimator : estimator
        Fitted features.
    """

    learns = False

    def check_samples(self, X, *, reset=False):
        """Return `X` as samples of the fitted features."""
        check_is_fitted(self.estimator)
        return self.estimator.check_samples(X)

    def fit_samples(self, samples):
        """Return self, unchanged."""
        return self


class Grids(BaseEstimator):
    """Rows and patch grids as they are, for scorers; a row is a 1x1 grid.

    Parameters
    ----------
    owner : str
        Name of the scorer, for messages.
    computed_in : {"float32", "float64"} or None, default=None
        Type of the computations of the scorer, which determines the largest accepted magnitude; None is the type of the
        samples in `fit`.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen during `fit`.
    dtype_ : str
        Type of the samples in `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.
    """

    makes_maps, learns, batch_len = True, False, None

    def __init__(self, owner, *, computed_in=None):
        self.owner = owner
        self.computed_in = computed_in

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as patch grids; see `check_patches`.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids.
        reset : bool, default=False
            If True, the number and the names of the features are set from `X`; if False, they must match.

        Returns
        -------
        ndarray of shape (n, h, w, d), float32 or float64
            Patch grids.
        """
        plate = type(self.owner, (BaseEstimator,), {})()  # scikit-learn's messages contain the name of the class
        vars(plate).update(vars(self))
        computed_in = self.computed_in or (None if reset else self.dtype_)
        grids = check_patches(plate, X, reset=reset, computed_in=computed_in)
        if reset:
            if np.may_share_memory(grids, np.asarray(X)):
                grids = grids.copy()  # what is learnt must not change with the array of the caller
            plate.dtype_ = grids.dtype.name
            vars(self).pop("feature_names_in_", None)  # left from an earlier fit
            vars(self).update(vars(plate))
        return grids

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        require(isinstance(self.owner, str) and self.owner.isidentifier(), "owner is not the name of a class")
        require(self.computed_in in (None, "float32", "float64"), "computed_in is not a dtype")
        require(getattr(self, "dtype_", "float32") in ("float32", "float64"), "dtype_ is not a dtype")

    def fit_samples(self, samples):
        """Return self: nothing is learnt."""
        return self

    def transform(self, X):
        """Return patch grids (n, h, w, d) of rows or patch grids."""
        return X if isinstance(X, np.ndarray) and X.ndim == 4 else self.check_samples(X)

    def map_to_image(self, grid, sample, sigma=0.0, *, size=None):
        """Return a score grid (h, w) as a map of the same size, float32."""
        return np.minimum(grid, np.finfo(np.float32).max).astype(np.float32)


class Rows(BaseEstimator):
    """Samples of any kind, for estimators of other libraries, which check their input themselves."""

    makes_maps, learns, batch_len = False, False, None

    def check_samples(self, X, *, reset=False):
        """Return `X` as `Indexable`; sparse matrices become CSR, and objects without an index become arrays."""
        if isinstance(X, Indexable):
            return X
        if issparse(X):
            return Indexable(X.tocsr())
        return Indexable(X if hasattr(X, "__getitem__") or hasattr(X, "__dataframe__") else np.asarray(X))

    def fit_samples(self, samples):
        """Return self: nothing is learnt."""
        return self

    def transform(self, X):
        """Return `X` as `Indexable`."""
        return self.check_samples(X)


class Mapless:
    """Features without maps, for models that score whole samples.

    Parameters
    ----------
    features : estimator
        Features that follow the protocol.
    """

    makes_maps = False

    def __init__(self, features):
        self.features = features

    def __getattr__(self, name):
        if name.startswith("__") or name == "features":
            raise AttributeError(name)
        return getattr(self.features, name)

    def __sklearn_tags__(self):
        return get_tags(self.features)

    def __sklearn_is_fitted__(self):
        try:
            check_is_fitted(self.features)
        except NotFittedError:
            return False
        return True

    def fit_samples(self, samples):
        """Fit the features; return self."""
        self.features.fit_samples(samples)
        return self


class Indexable:
    """Samples of any kind that scikit-learn can index: arrays, data frames, sparse matrices, lists.

    Parameters
    ----------
    X : array-like of n samples
        Samples.
    """

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return _num_samples(self.X)

    def __getitem__(self, index):
        """Return the samples at a slice or an integer array."""
        return Indexable(_safe_indexing(self.X, index))


def digests(samples):
    """Return a 64-bit hash of each sample; equal samples have equal hashes.

    Parameters
    ----------
    samples : ImageSource, ndarray of n samples, or Indexable
        Checked samples.

    Returns
    -------
    ndarray of shape (n,), uint64, or None
        Hashes of the decoded pixels of images, or of the bytes of numeric arrays; None for other samples.
    """
    if isinstance(samples, ImageSource):
        return samples.digests()
    if isinstance(samples, Indexable):
        return digests(samples.X)
    if isinstance(samples, np.ndarray) and samples.ndim > 0 and samples.dtype.kind in "biufc":
        return _hash_rows(samples)
    return None


def copies(samples):
    """Number images such that equal images, and only these, have equal numbers.

    Parameters
    ----------
    samples : samples
        Checked samples.

    Returns
    -------
    ndarray of shape (n,), int, or None
        Numbers; None for samples other than images, which may be equal by chance.
    """
    return np.unique(samples.digests(), return_inverse=True)[1] if isinstance(samples, ImageSource) else None


def _hash_rows(array):
    """Return a hash (n,), uint64, of the bytes of each row of an array (n, ...)."""
    n, n_bytes = len(array), array[:1].nbytes
    hashes = np.empty(n, np.uint64)
    keys = _mix(np.arange(1, -(-n_bytes // 8) + 1, dtype=np.uint64) * _GOLDEN)
    step = max(1, _HASHED_BYTES // max(n_bytes, 1))
    for start in range(0, n, step):
        part = np.ascontiguousarray(array[start : start + step])
        padded = np.zeros((len(part), 8 * len(keys)), np.uint8)
        padded[:, :n_bytes] = part.reshape(len(part), -1).view(np.uint8)
        hashes[start : start + step] = _mix(_mix(padded.view(np.uint64) ^ keys).sum(axis=1, dtype=np.uint64))
    return hashes


def _mix(words):
    """Scramble 64-bit words one to one, by the finaliser of SplitMix64."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
