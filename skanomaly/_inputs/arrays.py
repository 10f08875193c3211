"""Rows and patch grids, in one form: a row is a 1x1 grid."""

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data


def check_patches(estimator, X, *, reset, min_samples=1):
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

    Raises
    ------
    ValueError
        For NaN or infinity, another rank, another number of features than in fit, or too few samples.
    """
    options = {"dtype": [np.float64, np.float32], "order": "C", "ensure_min_samples": min_samples}
    if getattr(X, "ndim", 2) != 4:
        rows = validate_data(estimator, X, reset=reset, **options)
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
    return grid
