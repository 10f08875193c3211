"""Columns of tables, scaled."""

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from .._inputs.arrays import check_magnitude, warn_of_columns
from .._kernels.checks import require
from ._base import BaseFeatures, check_masks

_MAX_QUANTILES = 1000
_FARTHEST = 5.199337582605575  # largest output of QuantileTransformer
_FEW_ROWS, _FEW_SHARE = 10, 0.01  # in a nearly constant column, fewer rows differ from the rest
_DUST_IS_SMALL = 100  # scale of a nearly constant column, as a multiple of the largest distance
_ROUNDING = 1e-6  # rows count as equal up to this share of the largest distance
_IQR_OF_NORMAL = 1.3489795003921634  # interquartile range over standard deviation


class Columns(OneToOneFeatureMixin, BaseFeatures, auto_wrap_output_keys=None):  # models on top take arrays only
    r"""Scale the columns of a table by statistics of the training rows.

    Column j of a row x becomes

    .. math:: z_j = \frac{x_j - m_j}{s_j}

    A constant column has s = 1. A column is nearly constant if fewer than 10 rows and less than 1 % of them differ from
    the rest. The more rows are equal, the smaller is its standard deviation, until any speck of dust counts as an
    anomaly: a single value of 1e-3 among 5,000 zeros gives a standard deviation of 1.4e-5, which turns the next such
    value into z = 70. In nearly constant columns, s is therefore 100 times the largest distance from m, so that
    deviations of the size seen in training become 0.01. However, s is at most the median s of the other columns, so
    that rare values of ordinary size (0 or 1 for a rare category) still count, and at least the largest distance.

    Parameters
    ----------
    scale : {"standard", "robust", "quantile"} or None, default="standard"
        How the columns are scaled.

        - "standard" uses the mean m and the standard deviation s.
        - "robust" uses the median m and the interquartile range divided by 1.349, its value for a normal distribution
          with standard deviation 1. Outliers hardly affect either. If the interquartile range is 0, because more than
          half of the rows are equal, s is the standard deviation.
        - "quantile" maps the quantiles of each column to a normal distribution (scikit-learn's `QuantileTransformer`);
          values outside the training range are clipped to about -5.2 or 5.2. Columns that are constant or nearly
          constant are scaled as by "standard", and clipped to the same range.
        - None leaves the values unchanged.

    Attributes
    ----------
    mean_ : ndarray of shape (d,), float64
        Location m of each column, for "quantile" before the quantile transformation. Defined only if `scale` is not
        None.
    scale_ : ndarray of shape (d,), float64
        Scale s of each column, for "quantile" before the quantile transformation. Defined only if `scale` is not None.
    steady_ : ndarray of shape (d,), bool
        True for columns that are constant or nearly constant. Defined only if `scale` is not None.
    quantiles_ : QuantileTransformer
        Transformer fitted on the standardised columns. Defined only for "quantile".
    n_features_in_ : int
        Number of features d seen during `fit`.
    n_features_out_ : int
        Number of features of the output, also d.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    Pixels : Features of whole images.

    Examples
    --------
    >>> from skanomaly import Columns
    >>> rows = [[1.0, 200.0], [3.0, 600.0]]
    >>> columns = Columns().fit(rows)
    >>> columns.transform(rows)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> columns.inverse_transform([[0.0, 2.0]])
    array([[  2., 800.]])
    """

    makes_maps, batch_len = False, None

    _parameter_constraints = {"scale": [StrOptions({"standard", "quantile", "robust"}), None]}

    def __init__(self, *, scale="standard"):
        self.scale = scale

    @property
    def learns(self):
        """Whether the features depend on the rows of `fit`."""
        return self.scale is not None

    def fit(self, X, y=None):
        """Learn the scales of the columns.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of finite numbers, at least 2.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self
            Fitted estimator.
        """
        return super().fit(X, y)

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as an array.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of finite numbers.
        reset : bool, default=False
            If True, the number and the names of the columns are set from `X`; if False, they must match.

        Returns
        -------
        ndarray of shape (n, d), float64
            Checked rows.
        """
        if isinstance(X, _CheckedRows) and not reset and X.shape[1] == self.n_features_in_:
            return X
        if reset:
            self._validate_params()
        rows = validate_data(self, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=1 + reset)
        check_magnitude(rows, self)
        if reset:
            warn_of_columns(rows, self)
        return rows.view(_CheckedRows)

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        if not hasattr(self, "n_features_out_"):
            return
        d = self.n_features_in_
        require(self.n_features_out_ == d, "n_features_out_ is not n_features_in_")
        present = [name for name in ("mean_", "scale_", "steady_") if hasattr(self, name)]
        require(len(present) == (0 if self.scale is None else 3), "the scales of the columns are missing, or too many")
        require(all(len(getattr(self, name)) == d for name in present), "there is not one scale per column")
        if self.scale is not None:
            require(np.isfinite(self.mean_).all() and np.isfinite(self.scale_).all(), "scales are not finite")
            require((self.scale_ > 0).all(), "scales are not positive")
        require(hasattr(self, "quantiles_") == (self.scale == "quantile"), "quantiles_ are missing, or too many")
        if hasattr(self, "quantiles_"):
            found = self.quantiles_.quantiles_.shape
            require(found == (len(self.quantiles_.references_), d), "quantiles_ has another number of columns")

    def fit_samples(self, samples):
        """Learn the scales of the columns from checked rows.

        Parameters
        ----------
        samples : ndarray of shape (n, d)
            Rows, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        rows = np.asarray(samples)
        for name in ("mean_", "scale_", "steady_", "quantiles_"):
            vars(self).pop(name, None)  # left from an earlier fit
        if self.scale is not None:
            self.mean_, self.scale_, self.steady_ = _standard(rows)
        if self.scale == "robust":
            self.mean_, self.scale_ = _robust(rows, self.scale_)
        if self.scale == "quantile":
            n_quantiles = min(_MAX_QUANTILES, len(rows))
            self.quantiles_ = QuantileTransformer(
                n_quantiles=n_quantiles, output_distribution="normal", subsample=None
            ).fit((rows - self.mean_) / self.scale_)  # its tolerances are absolute
        self.n_features_out_ = rows.shape[1]
        return self

    def transform(self, X):
        """Scale the columns of rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of finite numbers.

        Returns
        -------
        ndarray of shape (n, d), float64
            Scaled rows.
        """
        check_is_fitted(self)
        rows = np.asarray(self.check_samples(X))
        if self.scale is None:
            return rows
        scaled = (rows - self.mean_) / self.scale_
        if self.scale == "quantile":
            return np.where(self.steady_, scaled.clip(-_FARTHEST, _FARTHEST), self.quantiles_.transform(scaled))
        return scaled

    def inverse_transform(self, Z, samples=None):
        """Undo the scaling.

        Parameters
        ----------
        Z : array-like of shape (n, d)
            Scaled rows.
        samples : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        ndarray of shape (n, d), float64
            Rows in their original units.
        """
        check_is_fitted(self)
        Z = np.asarray(Z, np.float64)
        if self.scale is None:
            return Z
        if self.scale == "quantile":
            Z = np.where(self.steady_, Z, self.quantiles_.inverse_transform(Z))
        return Z * self.scale_ + self.mean_

    def transform_masks(self, masks, samples):
        """Return masks of rows as masks of scaled rows, which are the same.

        Parameters
        ----------
        masks : array-like of shape (n, d), bool
            Masks of the rows.
        samples : ndarray of shape (n, d)
            Rows, as returned by `check_samples`.

        Returns
        -------
        ndarray of shape (n, d), bool
            Masks of the scaled rows.
        """
        return np.stack(check_masks(masks, [samples.shape[1:]] * len(samples)))

    def fill(self, Z, samples, masks):
        """Replace the masked values of rows by the values of scaled rows.

        Parameters
        ----------
        Z : ndarray of shape (n, d)
            Scaled rows.
        samples : ndarray of shape (n, d)
            Rows, as returned by `check_samples`.
        masks : array-like of shape (n, d), bool
            Masks, True for values to be replaced.

        Returns
        -------
        ndarray of shape (n, d), float64
            Rows in their original units.
        """
        return np.where(masks, self.inverse_transform(Z), np.asarray(samples))


class _CheckedRows(np.ndarray):
    """Checked rows, which have lost their feature names and must not be checked for them again."""


def _standard(rows):
    """Return the mean and scale of each column, and whether it is constant or nearly constant."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    farthest = np.maximum(rows.max(axis=0) - mean, mean - rows.min(axis=0))
    constant = ~(scale > 10 * np.finfo(float).eps * np.abs(mean))
    rare = np.zeros_like(constant)
    for j in np.flatnonzero(~constant & (scale < farthest / 9)):  # necessary if few rows differ
        rare[j] = _few_apart(rows[:, j], farthest[j])
    ordinary = scale[~(constant | rare)]
    typical = np.median(ordinary) if len(ordinary) else np.inf
    of_rare = np.maximum(farthest, np.minimum(_DUST_IS_SMALL * farthest, typical))
    return mean, np.where(constant, 1.0, np.where(rare, of_rare, scale)), constant | rare


def _few_apart(column, farthest):
    """Return whether only few values of a column differ from its median by more than rounding errors."""
    n_apart = np.count_nonzero(np.abs(column - np.median(column)) > _ROUNDING * farthest)
    return n_apart < _FEW_ROWS and n_apart < _FEW_SHARE * len(column)


def _robust(rows, standard):
    """Return the median and the scaled interquartile range of each column; `standard` where the range is 0."""
    low, median, high = np.percentile(rows, [25, 50, 75], axis=0)
    scale = (high - low) / _IQR_OF_NORMAL
    return median, np.where(scale > 10 * np.finfo(float).eps * np.abs(median), scale, standard)
