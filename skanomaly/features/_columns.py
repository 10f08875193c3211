"""Rows of tables, their columns brought to one scale."""

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import BaseFeatures, check_masks

_MAX_QUANTILES = 1000
_FARTHEST = 5.199337582605575  # where QuantileTransformer stops
_FEW_ROWS, _FEW_SHARE = 10, 0.01  # fewer are apart in a column that is nearly constant
_DUST_IS_SMALL = 100  # times the largest distance in a nearly constant column is its scale
_ROUNDING = 1e-6  # share of the largest distance up to which rows count as equal
_IQR_OF_NORMAL = 1.3489795003921634  # interquartile range over standard deviation


class Columns(OneToOneFeatureMixin, BaseFeatures, auto_wrap_output_keys=None):  # models behind it take arrays only
    r"""The columns of a table, brought to one scale by statistics of the training rows.

    Column j of a row x becomes

    .. math:: z_j = \frac{x_j - m_j}{s_j}

    A column that is constant has s = 1. One that is nearly so, with fewer than 10 rows and less than 1 % of them apart
    from the rest, has a standard deviation that shrinks with the number of equal rows, until any dust counts as an
    anomaly: one value of 1e-3 among 5,000 equal ones gives 1.4e-5, of which the same value is 70 in another row. There
    s is 100 times the largest distance from m, so that dust of the size that was seen is 0.01; but not more than the
    median s of the other columns, so that rare values of their size (a category of few rows, 0 or 1) still count, and
    not less than the largest distance.

    Parameters
    ----------
    scale : {"standard", "robust", "quantile"} or None, default="standard"
        Scale of the columns.

        - "standard": m and s are mean and standard deviation.
        - "robust": m is the median, and s the interquartile range divided by 1.349, its value for a normal
          distribution of standard deviation 1. Rows that do not belong hardly move either. Where more than half of
          the rows are equal and the range is 0, s is the standard deviation.
        - "quantile": every column is made normal by its quantiles (scikit-learn's `QuantileTransformer`), and values
          beyond those seen stop at about -5.2 or 5.2. Columns that are constant or nearly so have no quantiles to
          speak of; they are scaled as by "standard", and stop there too.
        - None: values stay as they are.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (d,), float64
        m and s of every column, with ``scale="quantile"`` before the quantiles; absent without `scale`.
    steady_ : ndarray of shape (d,), bool
        Whether a column is constant or nearly so; absent without `scale`.
    quantiles_ : QuantileTransformer
        The fitted quantiles of the standardised columns; only with ``scale="quantile"``.
    n_features_in_, n_features_out_ : int
        Number of columns d.
    feature_names_in_ : ndarray of shape (d,)
        Names of the columns, where they all are strings.

    See Also
    --------
    Pixels : The same for images.

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
        """Whether the values depend on the rows of `fit`."""
        return self.scale is not None

    def fit(self, X, y=None):
        """Learn the scales of the columns.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of finite numbers; n is at least 2.
        y : ignored

        Returns
        -------
        self
        """
        return super().fit(X, y)

    def check_samples(self, X, *, reset=False):
        """Return `X` as checked rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
        reset : bool, default=False
            If True, learn number and names of the columns; else they must be the same.

        Returns
        -------
        ndarray of shape (n, d), float64
        """
        if isinstance(X, _CheckedRows) and not reset and X.shape[1] == self.n_features_in_:
            return X
        if reset:
            self._validate_params()
        rows = validate_data(self, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=1 + reset)
        return rows.view(_CheckedRows)

    def fit_samples(self, samples):
        """Learn the scales of the columns from checked rows.

        Parameters
        ----------
        samples : ndarray of shape (n, d)
            As returned by `check_samples`.

        Returns
        -------
        self
        """
        rows = np.asarray(samples)
        for name in ("mean_", "scale_", "steady_", "quantiles_"):
            vars(self).pop(name, None)  # of an earlier fit
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
        """Return rows with their columns brought to one scale.

        Parameters
        ----------
        X : array-like of shape (n, d)

        Returns
        -------
        ndarray of shape (n, d), float64
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
        """Return rows in the units that they had before `transform`.

        Parameters
        ----------
        Z : array-like of shape (n, d)
        samples : ignored
            For consistency with the features of images.

        Returns
        -------
        ndarray of shape (n, d), float64
        """
        check_is_fitted(self)
        Z = np.asarray(Z, np.float64)
        if self.scale is None:
            return Z
        if self.scale == "quantile":
            Z = np.where(self.steady_, Z, self.quantiles_.inverse_transform(Z))
        return Z * self.scale_ + self.mean_

    def transform_masks(self, masks, samples):
        """Return where masks of rows lie in transformed rows.

        Parameters
        ----------
        masks : array-like of shape (n, d), bool
            Masks of the rows.
        samples : ndarray of shape (n, d)
            The rows.

        Returns
        -------
        ndarray of shape (n, d), bool
        """
        return np.stack(check_masks(masks, [samples.shape[1:]] * len(samples)))

    def fill(self, Z, samples, masks):
        """Return rows whose masked values are taken from transformed rows, the others as they are.

        Parameters
        ----------
        Z : ndarray of shape (n, d)
            Transformed rows.
        samples : ndarray of shape (n, d)
            The rows.
        masks : array-like of shape (n, d), bool
            True for values that are replaced.

        Returns
        -------
        ndarray of shape (n, d), float64
        """
        return np.where(masks, self.inverse_transform(Z), np.asarray(samples))


class _CheckedRows(np.ndarray):
    """Rows that have passed the door: they have lost their names, and are not asked for them again."""


def _standard(rows):
    """Return mean and scale of every column, and whether it is constant or nearly so."""
    mean, scale = rows.mean(axis=0), rows.std(axis=0)
    farthest = np.maximum(rows.max(axis=0) - mean, mean - rows.min(axis=0))
    constant = ~(scale > 10 * np.finfo(float).eps * np.abs(mean))
    rare = np.zeros_like(constant)
    for j in np.flatnonzero(~constant & (scale < farthest / 9)):  # where few rows are apart, a tenth or less
        rare[j] = _few_apart(rows[:, j], farthest[j])
    ordinary = scale[~(constant | rare)]
    typical = np.median(ordinary) if len(ordinary) else np.inf
    of_rare = np.maximum(farthest, np.minimum(_DUST_IS_SMALL * farthest, typical))
    return mean, np.where(constant, 1.0, np.where(rare, of_rare, scale)), constant | rare


def _few_apart(column, farthest):
    """Return whether few values of a column differ from its median by more than rounding."""
    n_apart = np.count_nonzero(np.abs(column - np.median(column)) > _ROUNDING * farthest)
    return n_apart < _FEW_ROWS and n_apart < _FEW_SHARE * len(column)


def _robust(rows, standard):
    """Return median and scaled interquartile range of every column, `standard` where the range is 0."""
    low, median, high = np.percentile(rows, [25, 50, 75], axis=0)
    scale = (high - low) / _IQR_OF_NORMAL
    return median, np.where(scale > 10 * np.finfo(float).eps * np.abs(median), scale, standard)
