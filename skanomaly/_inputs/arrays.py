"""Rows and patch grids, in one form: a row is a 1x1 grid."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

_LARGEST = 1e100  # accepted magnitude in float64: leaves room for sums of squares, and for dividing by small spreads
_N_NAMED = 5  # columns named in a message


def check_patches(estimator, X, *, reset, min_samples=1, computed_in=None):
    """Return `X` as a patch grid of shape (n, h, w, d), float32 or float64, C-contiguous.

    Parameters
    ----------
    estimator : BaseEstimator
        Its ``n_features_in_`` is set (`reset`) or held against `X`.
    X : array-like of shape (n, d) or (n, h, w, d)
        Rows or patch grids.
    reset : bool
    min_samples : int
        Fewest rows or images.
    computed_in : dtype, optional
        Floating-point type of the computations, by default that of `X`: decides which values are too large.

    Raises
    ------
    ValueError
        For NaN, infinity or values whose squares overflow, another rank, another number of features than in fit, or
        too few samples.
    """
    options = {"dtype": [np.float64, np.float32], "order": "C", "ensure_min_samples": min_samples}
    if getattr(X, "ndim", 2) != 4:
        rows = validate_data(estimator, X, reset=reset, **options)
        check_magnitude(rows, estimator, computed_in)
        return rows[:, None, None, :]
    grid = check_array(X, allow_nd=True, input_name="X", estimator=estimator, **options)
    if min(grid.shape) < 1:
        raise ValueError(f"X must be a patch grid (n, h, w, d) without empty axes, got shape {grid.shape}.")
    if reset:
        estimator.n_features_in_ = grid.shape[-1]
    elif grid.shape[-1] != estimator.n_features_in_:
        raise ValueError(
            f"X has {grid.shape[-1]} features, but {type(estimator).__name__} is expecting "
            f"{estimator.n_features_in_} features as input."
        )
    check_magnitude(grid, estimator, computed_in)
    return grid


def check_magnitude(X, estimator=None, computed_in=None, name="X"):
    """Raise where squared distances between rows would overflow.

    Parameters
    ----------
    X : ndarray of shape (..., d), float32 or float64
        Finite.
    estimator : BaseEstimator, optional
        Its ``feature_names_in_`` name the columns.
    computed_in : dtype, optional
        Floating-point type of the distances, by default that of `X`.
    name : str
        Name of `X` in the message.

    Raises
    ------
    ValueError
        The message names the columns, their largest magnitude, and what is accepted.
    """
    dtype = np.dtype(X.dtype if computed_in is None else computed_in)
    limit = min(_LARGEST, np.sqrt(float(np.finfo(dtype).max) / (64 * X.shape[-1])))
    if max(float(X.max()), -float(X.min())) <= limit:
        return
    sizes = np.abs(X).max(axis=tuple(range(X.ndim - 1))).astype(np.float64)
    remedy = ", or pass float64 in fit and in scoring" if dtype == np.float32 == X.dtype else ""
    raise ValueError(
        f"{name} has magnitudes up to {sizes.max():.3g} in {_named(np.flatnonzero(sizes > limit), estimator)}, whose "
        f"squares overflow; accepted is up to {limit:.3g} for {X.shape[-1]} features in {dtype}. Rescale them{remedy}."
    )


def _named(columns, estimator):
    names = getattr(estimator, "feature_names_in_", None)
    shown = [str(j) if names is None else repr(str(names[j])) for j in columns[:_N_NAMED]]
    more = f" and {len(columns) - _N_NAMED} more" if len(columns) > _N_NAMED else ""
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(shown)}{more}"
