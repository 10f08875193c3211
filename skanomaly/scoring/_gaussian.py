"""Mahalanobis distance to the normal patches."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._inputs.arrays import check_patches
from .._kernels.gaussian import (
    Moments,
    add_samples,
    empty_moments,
    factorize,
    leave_one_out,
    mahalanobis,
    merge_moments,
    pack,
)
from ..base import BaseDetector, all_or_nothing


class GaussianScorer(BaseDetector):
    r"""Score rows or patch grids by their Mahalanobis distance to a Gaussian of normal ones.

    Every position of the grid has a Gaussian of its own, or, `pooled`, all share one. A patch e scores

    .. math::

        M(e) = \sqrt{(e - \mu)^T \Sigma^{-1} (e - \mu)}, \qquad
        \Sigma = S (\hat{C} + \varepsilon I) S

    with S the standard deviations of the features over all samples and positions and :math:`\hat{C}` the covariance
    of the features in these units, divided by n - 1. An image scores its highest patch. A row is a 1x1 grid.

    Parameters
    ----------
    pooled : bool, default=False
        One Gaussian for all positions instead of one for each.
    ridge : float, default=1e-6
        :math:`\varepsilon`, a share of each feature's variance, whatever its unit. With fewer samples than features
        (per position) it decides how much the directions count in which the samples do not vary; 0.01 is a good
        start there. 0 is the plain Mahalanobis distance.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        Which scores of normal samples set the threshold: of each training sample by the Gaussians of the others,
        which follow exactly from those of all; of 10 folds; of a held-out fifth. With `pooled`, "loo" leaves out the
        patches one by one, not image by image: take "cv" for large patch grids of few images.
    min_defect_area : int, default=1
        Smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Of the folds or the share.
    verbose : int, default=0
        Not used here.

    Attributes
    ----------
    location_ : ndarray of shape (n_positions, d), float64
        The means; one position for rows and where `pooled`.
    scatter_ : ndarray of shape (n_positions, d (d + 1) / 2), float64
        Sums of outer products of deviations from the mean, as packed triangles.
    n_samples_seen_ : int
        Samples behind each Gaussian.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores the threshold was taken from, ascending.
    n_features_in_ : int
        Number of features d.

    Notes
    -----
    Pickles hold the attributes above; factors are computed again on demand.

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
        **BaseDetector._parameter_constraints,
        "pooled": ["boolean"],
        "ridge": [Interval(Real, 0, None, closed="left")],
    }

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

    def partial_fit(self, X, y=None):
        """Learn from further normal samples; the thresholds are dropped until `calibrate` sets them again.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
        y : ignored

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            first = not hasattr(self, "scatter_")
            Z = self._check_samples(X, reset=first)
            if not first:
                self._check_grid(Z)
            self._fitted_shape = Z.shape[1:3]
            moments = self._moments_of(Z)
            self._learn(moments if first else merge_moments(moments, self._moments()))
            self._forget_thresholds()
        return self

    def merge(self, other):
        """Take over what another GaussianScorer has learnt, exactly as if its samples had been in `fit`.

        The thresholds are dropped until `calibrate` sets them again; `other` is not changed.

        Parameters
        ----------
        other : GaussianScorer
            Fitted on samples of the same shape.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the Gaussians of the two are of another number or size.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        if self.location_.shape != other.location_.shape:
            raise ValueError(
                f"other has Gaussians of shape {other.location_.shape} (positions, features), this GaussianScorer "
                f"{self.location_.shape}: the two cannot be merged."
            )
        self._learn(merge_moments(self._moments().copy(), other._moments()))
        self._forget_thresholds()
        return self

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_gaussians"}

    def _check_samples(self, X, reset):
        return check_patches(self, X, reset=reset, computed_in=np.float64)

    def _check_grid(self, Z):
        if not self.pooled and Z.shape[1:3] != self._fitted_shape:
            raise ValueError(
                f"X has {Z.shape[1]}x{Z.shape[2]} positions, but this GaussianScorer was fitted on "
                f"{self._fitted_shape[0]}x{self._fitted_shape[1]}; only pooled=True accepts others."
            )

    def _fit(self, Z):
        self._fitted_shape = Z.shape[1:3]
        moments = self._moments_of(Z)
        if moments.count < 2:
            raise ValueError(f"GaussianScorer needs at least 2 samples, got n_samples = {moments.count}.")
        self._learn(moments)
        self._factors()  # raises where there are none

    def _moments_of(self, Z):
        X = self._by_position(Z)
        return add_samples(empty_moments(X.shape[1], X.shape[2], np.float64), X)

    def _moments(self):
        return Moments(self.n_samples_seen_, self.location_, self.scatter_)

    def _learn(self, moments):
        self.n_samples_seen_, self.location_, self.scatter_ = moments
        vars(self).pop("_gaussians", None)

    def _factors(self):
        """Return the units of the features, and the means and factors in these units."""
        if not hasattr(self, "_gaussians"):
            if self.n_samples_seen_ < 2:
                raise ValueError(f"GaussianScorer needs at least 2 samples, it has seen {self.n_samples_seen_}.")
            units = self._units()
            factor, singular = factorize(self._scatter_in(units), 1 / (self.n_samples_seen_ - 1), self.ridge)
            if singular.any():
                raise ValueError(
                    f"The covariance of {singular.sum()} of {len(singular)} positions is singular: "
                    f"{self.n_samples_seen_} samples with {self.n_features_in_} features, ridge={self.ridge}. Raise "
                    "ridge (0.01), or leave out features that follow from others."
                )
            self._gaussians = units, self.location_ / units, factor
        return self._gaussians

    def _units(self):
        """Return the standard deviations over all positions; 1 for constant features."""
        diagonal = pack(np.eye(self.n_features_in_)) > 0
        variances = self.scatter_[:, diagonal].mean(axis=0) / max(self.n_samples_seen_ - 1, 1)
        return np.sqrt(np.where(variances > 0, variances, 1.0))

    def _scatter_in(self, units):
        return self.scatter_ / pack(np.outer(units, units))

    def _score(self, Z):
        self._check_grid(Z)
        units, location, factor = self._factors()
        return _summarize(mahalanobis(self._by_position(Z) / units, location, factor), Z.shape)

    def _leave_one_out(self, Z):
        """Score every sample by the Gaussians of the others, in the units of all."""
        n = self.n_samples_seen_
        if n < 3:
            raise ValueError(
                f"calibration='loo' needs at least 3 samples, got {n}; set false_alarm_rate=None to go without."
            )
        units = self._units()
        moments = Moments(n, self.location_ / units, self._scatter_in(units))
        distances = leave_one_out(self._by_position(Z) / units, moments, 1 / (n - 2), self.ridge)
        if not np.isfinite(distances).all():
            raise ValueError(
                f"calibration='loo': without one of the {n} samples a covariance is singular, ridge={self.ridge}. Fit "
                "more samples, raise ridge, or set false_alarm_rate=None."
            )
        return _summarize(distances, Z.shape)

    def _by_position(self, Z):
        """Return the samples as (n, positions, d), float64."""
        positions = 1 if self.pooled else Z.shape[1] * Z.shape[2]
        return np.ascontiguousarray(Z, dtype=np.float64).reshape(-1, positions, Z.shape[-1])


def _summarize(distances, shape):
    grids = distances.reshape(shape[:3])
    return grids.max(axis=(1, 2)), grids
