"""Rows and patch grids in a common form: a row is a 1x1 grid."""

import warnings

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

from ..exceptions import DataWarning

_LARGEST = 1e100  # largest magnitude in float64; leaves room for sums of squares and for division by small scales
_FEW_ROWS = 20  # columns of fewer rows are not judged
_ABSURD = 1e4  # distance of a value from the rest, as a multiple of the extent of the rest
_ROUNDING = 1e-6  # a column whose values differ by less, relative to their size, counts as constant
_N_NAMED = 5  # largest number of columns named in a message


def check_patches(estimator, X, *, reset, min_samples=1, computed_in=None):
    """Check `X` and return it as patch grids.

    Parameters
    ----------
    estimator : BaseEstimator
        Estimator whose ``n_features_in_`` is set or compared with `X`.
    X : array-like of shape (n, d) or (n, h, w, d)
        Rows or patch grids.
    reset : bool
        If True, the number and the names of the features are set from `X`; if False, they must match.
    min_samples : int, default=1
        Smallest number of rows or images.
    computed_in : dtype, default=None
        Floating-point type of later computations, which determines the largest accepted magnitude; None is the type of
        `X`.

    Returns
    -------
    ndarray of shape (n, h, w, d), float32 or float64
        Patch grids, C-contiguous.

    Raises
    ------
    ValueError
        If `X` contains NaN, infinity or values whose squares overflow, has another rank or number of features than
        accepted, or too few samples.
    """
    options = {"dtype": [np.float64, np.float32], "order": "C", "ensure_min_samples": min_samples}
    if getattr(X, "ndim", 2) != 4:
        rows = validate_data(estimator, X, reset=reset, **options)
        check_magnitude(rows, estimator, computed_in)
        if reset:
            warn_of_columns(rows, estimator)
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
    """Raise if squared distances between rows would overflow.

    Parameters
    ----------
    X : ndarray of shape (..., d), float32 or float64
        Rows, finite.
    estimator : BaseEstimator, default=None
        Estimator whose ``feature_names_in_`` name the columns in the message.
    computed_in : dtype, default=None
        Floating-point type of the distances; None is the type of `X`.
    name : str, default="X"
        Name of `X` in the message.

    Raises
    ------
    ValueError
        If any magnitude is too large; the message names the columns, their largest magnitude and the limit.
    """
    dtype = np.dtype(X.dtype if computed_in is None else computed_in)
    limit = min(_LARGEST, np.sqrt(float(np.finfo(dtype).max) / (64 * X.shape[-1])))
    if max(float(X.max()), -float(X.min())) <= limit:
        return
    sizes = np.abs(X).max(axis=tuple(range(X.ndim - 1))).astype(np.float64)
    remedy = ", or pass float64 in fit and in scoring" if dtype == np.float32 == X.dtype else ""
    raise ValueError(
        f"{name} has magnitudes up to {sizes.max():.3g} in {_named(np.flatnonzero(sizes > limit), estimator)}, whose "
        f"squares overflow; the limit is {limit:.3g} for {X.shape[-1]} features in {dtype}. Rescale them{remedy}."
    )


def warn_of_columns(rows, estimator):
    """Warn of columns that probably ruin a fit: those with absurd values, and those that only count the rows.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Training rows, finite.
    estimator : BaseEstimator
        Estimator whose ``feature_names_in_`` name the columns in the message.

    Warns
    -----
    DataWarning
        If a column has values farther from its middle 98 % than 10,000 times their range, or rises or falls from the
        first row to the last.
    """
    if len(rows) < _FEW_ROWS:
        return
    low, median, high = np.percentile(rows.astype(np.float64, copy=False), [1, 50, 99], axis=0)
    extent = np.where(high - low > _ROUNDING * np.abs(median), high - low, np.maximum(np.abs(median), 1))
    beyond = np.maximum(rows.max(axis=0) - high, low - rows.min(axis=0))
    absurd = np.flatnonzero(beyond > _ABSURD * extent)
    if len(absurd):
        worst = np.abs(rows[:, absurd]).max()
        warnings.warn(
            f"X has magnitudes up to {worst:.3g} in {_named(absurd, estimator)}, where 98 % of the rows lie within "
            f"{extent[absurd].max():.3g} of each other; such rows decide what is learnt. Remove them, or mark missing "
            "values as NaN and impute them.",
            DataWarning,
            stacklevel=4,
        )
    monotone = np.flatnonzero(_is_monotone(rows))
    if len(monotone):
        warnings.warn(
            f"X rises or falls from the first row to the last in {_named(monotone, estimator)}, as times and row "
            "numbers do; future rows will lie outside of the training range. Drop such columns.",
            DataWarning,
            stacklevel=4,
        )


def _is_monotone(rows):
    """Return for each column (d,) whether it never changes direction and mostly changes."""
    before, after = rows[:-1], rows[1:]
    one_way = (after >= before).all(axis=0) | (after <= before).all(axis=0)
    return one_way & ((after != before).mean(axis=0) > 0.5)


def _named(columns, estimator):
    names = getattr(estimator, "feature_names_in_", None)
    shown = [str(j) if names is None else repr(str(names[j])) for j in columns[:_N_NAMED]]
    more = f" and {len(columns) - _N_NAMED} more" if len(columns) > _N_NAMED else ""
    return f"column{'s' if len(columns) > 1 else ''} {', '.join(shown)}{more}"
