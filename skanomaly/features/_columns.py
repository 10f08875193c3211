"""Rows of tables, their columns brought to one scale."""

import numpy as np
from sklearn.base import OneToOneFeatureMixin
from sklearn.preprocessing import QuantileTransformer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, validate_data

from ._base import BaseFeatures

_MAX_QUANTILES = 1000
_FARTHEST = 5.199337582605575  # where QuantileTransformer stops
_FEW_ROWS, _FEW_SHARE = 10, 0.01  # fewer are apart in a column that is nearly constant
_DUST = 1e-6  # share of the largest distance up to which rows count as equal
_IQR_OF_NORMAL = 1.3489795003921634  # interquartile range over standard deviation


class Columns(OneToOneFeatureMixin, BaseFeatures):
    r"""The columns of a table, brought to one scale by statistics of the training rows.

    Column j of a row x becomes

    .. math:: z_j = \frac{x_j - m_j}{s_j}

    A column that is constant has s = 1. In one that is nearly so, in which fewer than 10 rows and less than 1 % of them
    are apart from the rest, s is the largest distance from m. The standard deviation would shrink with the number of
    equal rows until any dust counts as an anomaly: one value of 1e-3 among 5,000 equal ones gives 1.4e-5, of which the
    same value is 70 in another row. With an s of 1e-3 it is 1, and values far beyond what was seen still stand out,
    whatever the unit of the column.

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
        m and s of every column; with ``scale="quantile"`` used for those that `steady_` marks, with None absent.
    steady_ : ndarray of shape (d,), bool
        Whether a column is constant or nearly so; absent without `scale`.
    quantiles_ : QuantileTransformer
        The fitted quantiles; only with ``scale="quantile"``.
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
            ).fit(rows)
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
            by_quantiles = self.quantiles_.transform(rows)
            return np.where(self.steady_, scaled.clip(-_FARTHEST, _FARTHEST), by_quantiles)
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
        rows = Z * self.scale_ + self.mean_
        if self.scale == "quantile":
            return np.where(self.steady_, rows, self.quantiles_.inverse_transform(Z))
        return rows


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
    return mean, np.where(constant, 1.0, np.where(rare, farthest, scale)), constant | rare


def _few_apart(column, farthest):
    """Return whether few values of a column differ from its median by more than dust."""
    n_apart = np.count_nonzero(np.abs(column - np.median(column)) > _DUST * farthest)
    return n_apart < _FEW_ROWS and n_apart < _FEW_SHARE * len(column)


def _robust(rows, standard):
    """Return median and scaled interquartile range of every column, `standard` where the range is 0."""
    low, median, high = np.percentile(rows, [25, 50, 75], axis=0)
    scale = (high - low) / _IQR_OF_NORMAL
    return median, np.where(scale > 10 * np.finfo(float).eps * np.abs(median), scale, standard)
