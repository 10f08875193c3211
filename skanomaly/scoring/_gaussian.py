"""Mahalanobis distance to the normal patches."""

from numbers import Real

import numpy as np
from scipy.linalg import cho_solve
from sklearn.utils._param_validation import Interval

from .._kernels.checks import require
from .._kernels.gaussian import (
    Moments,
    add_samples,
    check_moments,
    empty_moments,
    factorize,
    leave_one_out,
    mahalanobis,
    merge_moments,
    pack,
    unpack,
)
from ..base import IncrementalMixin
from ._grids import GridScorer, check_rows

_ROUNDING = 10  # times the smallest relative step: deviations up to this are those of constant features


class GaussianScorer(IncrementalMixin, GridScorer):
    r"""Score rows or patch grids by their Mahalanobis distance to a Gaussian fitted to normal ones.

    Each position of the grid has its own Gaussian or, with `pooled`, all positions share one. The score of a patch e is

    .. math::

        M(e) = \sqrt{(e - \mu)^T \Sigma^{-1} (e - \mu)}, \qquad
        \Sigma = S (\hat{C} + \varepsilon I) S

    where S holds the standard deviations of the features over all samples and positions, and :math:`\hat{C}` is the
    covariance of the features in these units, divided by n - 1. The score of an image is its highest patch score. A row
    is a 1x1 grid.

    Parameters
    ----------
    pooled : bool, default=False
        If True, all positions share one Gaussian; if False, each position has its own.
    ridge : float, default=1e-6
        Share :math:`\varepsilon` of each feature's variance that is added to it, at least 0. With fewer samples than
        features (per position), it determines the weight of directions in which the samples do not vary; try 0.01 then.
        0 gives the plain Mahalanobis distance.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training sample by the Gaussians of the other samples (of the other groups, with `groups`),
          which are computed exactly from the Gaussians of all samples; the standard deviations that features are
          divided by, which matter to `ridge` only, remain those of all samples.
        - "cv" uses 10-fold cross-validation.
        - "split" holds out a random 20 % of the samples. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    location_ : ndarray of shape (n_positions, d), float64
        Means of the Gaussians; a single position for rows and with `pooled`.
    scatter_ : ndarray of shape (n_positions, d (d + 1) / 2), float64
        Sums of the outer products of deviations from the mean, as lower triangles stored row by row.
    ridge_ : float
        Value of `ridge` in `fit`.
    grid_shape_ : tuple of int
        Height and width (h, w) of the grid of Gaussians; (1, 1) for rows and with `pooled`.
    n_samples_seen_ : int
        Number of samples that each Gaussian was fitted on.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features d seen during `fit`.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    KNNScorer : Score by the distance to the nearest normal patches.
    SubspaceScorer : Score by the squared distance to the principal subspace.
    PaDiM : Detector with a Gaussian of deep features at each position of an image.
    MahalanobisAD : Detector with a Gaussian of features averaged over an image.

    Notes
    -----
    Thresholds hold for grids with at most as many cells as the grids in `fit` or `calibrate`. For larger grids,
    `predict` and `anomaly_mask` raise an error; scores and maps still work.

    Pickles hold the attributes above; Cholesky factors are recomputed on demand.

    References
    ----------
    Rippel, Mertens and Merhof, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly
    Detection", ICPR 2020, arXiv:2005.14140; Defard et al., "PaDiM", ICPR workshops 2021, arXiv:2011.08785.

    Examples
    --------
    >>> from skanomaly import GaussianScorer
    >>> scorer = GaussianScorer(ridge=0, false_alarm_rate=None).fit([[-1.0, 0.0], [1.0, 0.0], [0.0, -2.0], [0.0, 2.0]])
    >>> scorer.score_samples([[0.0, 0.0], [2.0, 0.0]]).round(3)
    array([-0.   , -2.449])
    """

    _parameter_constraints = {
        **GridScorer._parameter_constraints,
        "pooled": ["boolean"],
        "ridge": [Interval(Real, 0, None, closed="left")],
    }
    _computed_in = "float64"
    _derived = ("_gaussians", "_constants")

    def __init__(
        self,
        *,
        pooled=False,
        ridge=1e-6,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.pooled = pooled
        self.ridge = ridge
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def contributions(self, X):
        r"""Compute the share of each column in the anomaly scores of rows; they sum to ``-score_samples(X)``.

        The share of column j is

        .. math:: (x - \mu)_j \, (\Sigma^{-1} (x - \mu))_j / M(x)

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Shares of the columns, in the order of the columns of `X`. Correlated columns share their contribution, so
            a share may be negative: the column lies where the others predict it, and lowers the score.
        """
        Z = check_rows(self, X)
        self._check_grid(Z)
        units, location, factor = self._factors()
        rows = self._in_units(Z, units)
        deviations, d = (rows - location)[:, 0], rows.shape[2]
        solved = cho_solve((unpack(factor[0])[:d, :d], True), deviations.T).T
        distances = mahalanobis(rows, location, factor)
        return deviations * solved / np.where(distances > 0, distances, 1)

    def _fit(self, Z):
        moments = self._moments_of(Z)
        if moments.count < 2:
            raise ValueError(f"GaussianScorer needs at least 2 samples, got n_samples = {moments.count}.")
        self.grid_shape_ = (1, 1) if self.pooled else Z.shape[1:3]
        self._take_over(moments)
        self._factors()  # raises where there are none

    def _add(self, Z):
        moments = self._moments_of(Z)
        if hasattr(self, "scatter_"):
            self._check_grid(Z)
            moments = merge_moments(moments, _moments(self))
        else:
            self.grid_shape_ = (1, 1) if self.pooled else Z.shape[1:3]
        self._take_over(moments)

    def _absorb(self, other):
        mine, its = ((*scorer.grid_shape_, scorer.n_features_in_) for scorer in (self, other))
        if mine != its:
            raise ValueError(
                f"other has Gaussians on a grid of shape (h, w, d) = {its}, but this GaussianScorer has {mine}; the "
                "two cannot be merged."
            )
        self._take_over(merge_moments(_moments(self).copy(), _moments(other)))

    def _check_grid(self, Z):
        if not self.pooled and Z.shape[1:3] != self.grid_shape_:
            raise ValueError(
                f"X has {Z.shape[1]}x{Z.shape[2]} positions, but this GaussianScorer was fitted on "
                f"{self.grid_shape_[0]}x{self.grid_shape_[1]}; set pooled=True to accept grids of any size."
            )

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "scatter_"):
            require(0 <= self.ridge_ < np.inf, "ridge_ is negative or infinite")
            require(len(self.grid_shape_) == 2 and min(self.grid_shape_) >= 1, "grid_shape_ is not a shape")
            shape = (self.grid_shape_[0] * self.grid_shape_[1], self.features_.n_features_in_)
            require(self.location_.shape == shape, "location_ has another shape than the grid")
            check_moments(_moments(self))

    def _moments_of(self, Z):
        X = self._by_position(Z)
        return add_samples(empty_moments(X.shape[1], X.shape[2], np.float64), X)

    def _take_over(self, moments):
        self.n_samples_seen_, self.location_, self.scatter_ = moments
        self.ridge_ = self.ridge

    def _factors(self):
        """Return the units of the features, and the means and factors in these units."""
        return self._derived_state("_gaussians", self._factorize)

    def _factorize(self):
        if self.n_samples_seen_ < 2:
            raise ValueError(f"GaussianScorer needs at least 2 samples, but it has seen only {self.n_samples_seen_}.")
        units = self._units()
        factor, singular = factorize(self._scatter_in(units), 1 / (self.n_samples_seen_ - 1), self.ridge_)
        if singular.any():
            raise ValueError(
                f"The covariance of {singular.sum()} of {len(singular)} positions is singular: {self.n_samples_seen_} "
                f"samples with {self.n_features_in_} features, ridge={self.ridge_}. Raise ridge, to 0.01 for example, "
                "or remove features that are linear combinations of others."
            )
        return units, self.location_ / units, factor

    def _deviations(self):
        """Return the standard deviations over all positions; 0 for features that are constant but for rounding."""
        diagonal = pack(np.eye(self.n_features_in_)) > 0
        deviations = np.sqrt(self.scatter_[:, diagonal].mean(axis=0) / max(self.n_samples_seen_ - 1, 1))
        return np.where(deviations > self._rounding(), deviations, 0.0)

    def _rounding(self):
        return _ROUNDING * np.finfo(np.float64).eps * np.abs(self.location_).max(axis=0)

    def _constant(self):
        """Return the indices of constant features."""
        return self._derived_state("_constants", lambda: np.flatnonzero(self._deviations() == 0))

    def _in_units(self, Z, units):
        """Return samples (n, positions, d) in units; differences to constant features within rounding are dropped."""
        X, constant = self._by_position(Z), self._constant()
        if len(constant):
            own, value = X[..., constant], self.location_[:, constant]
            X = X.copy()
            X[..., constant] = np.where(np.abs(own - value) <= self._rounding()[constant], value, own)
        return X / units

    def _units(self):
        """Return the standard deviations over all positions; 1 for constant features."""
        deviations = self._deviations()
        return np.where(deviations > 0, deviations, 1.0)

    def _scatter_in(self, units):
        varies = self._deviations() > 0
        return self.scatter_ / pack(np.where(np.outer(varies, varies), np.outer(units, units), np.inf))  # 0 if constant

    def _score(self, Z, maps=True):
        self._check_grid(Z)
        units, location, factor = self._factors()
        return _summarize(mahalanobis(self._in_units(Z, units), location, factor), Z.shape)

    def _leave_one_out(self, Z, groups):
        """Score each sample by the Gaussians of the other groups, in the units of all samples."""
        units, n = self._units(), self.n_samples_seen_
        X = self._in_units(Z, units)
        groups = np.repeat(groups, len(X) // len(Z))  # pooled: the cells of an image leave together
        fewest = n - np.bincount(groups).max()
        if fewest < 2:
            raise ValueError(
                f"calibration='loo' needs at least 2 samples outside each group, but {fewest} of {n} samples are "
                "outside the largest group; set false_alarm_rate=None to fit without a threshold."
            )
        moments = Moments(n, self.location_ / units, self._scatter_in(units))
        distances = leave_one_out(X, moments, self.ridge_, groups)
        if not np.isfinite(distances).all():
            raise ValueError(
                f"calibration='loo': a covariance is singular without one group of the {n} samples, with ridge="
                f"{self.ridge_}. Fit on more samples, raise ridge, or set false_alarm_rate=None."
            )
        return _summarize(distances, Z.shape)

    def _by_position(self, Z):
        """Return the samples as (n, positions, d), float64."""
        positions = 1 if self.pooled else Z.shape[1] * Z.shape[2]
        return np.ascontiguousarray(Z, dtype=np.float64).reshape(-1, positions, Z.shape[-1])


def _moments(scorer):
    return Moments(scorer.n_samples_seen_, scorer.location_, scorer.scatter_)


def _summarize(distances, shape):
    grids = distances.reshape(shape[:3])
    return grids.max(axis=(1, 2)), grids
