"""Mahalanobis distance from Gaussians of normal patches."""

import warnings
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._inputs.arrays import check_patches
from .._kernels.gaussian import (
    Moments,
    NormMoments,
    add_norm_moments,
    add_samples,
    empty_moments,
    factorize,
    leave_groups_out,
    leave_one_out,
    ledoit_wolf_shrinkage,
    mahalanobis,
    merge_moments,
    norm_moments,
    variances,
)
from ..base import BaseDetector, all_or_nothing


class GaussianScorer(BaseDetector):
    r"""Score rows or patch grids by their Mahalanobis distance from a Gaussian of the normal ones.

    Every grid position ij has a Gaussian of its own, of the patches that n normal images have there (or with `pooled`,
    all patches share one). A patch scores its Mahalanobis (not squared) distance, an image its highest patch:

    .. math::

        M_{ij}(x) = \sqrt{(x - \mu_{ij})^T A_{ij}^{-1} (x - \mu_{ij})}, \qquad
        A_{ij} = \frac{1}{n - 1} \sum_{k=1}^n (x_k - \mu_{ij}) (x_k - \mu_{ij})^T + \epsilon I, \qquad
        s = \max_{ij} M_{ij}

    Parameters
    ----------
    ridge : float, default=0.01
        The :math:`\epsilon`, in squared units of the features; the default is PaDiM's. Small beside the variances, it
        only makes the covariance invertible where there are fewer samples than features; large beside them, it turns
        the distance into a Euclidean one. So scale tables first (`StandardScaler`: then it is 1 % of a variance),
        or, with many more rows than columns, set 0: the distance does not depend on scales then.
    covariance : {"empirical", "ledoit_wolf"}, default="empirical"
        "ledoit_wolf" shrinks the covariance towards a multiple of the identity, as far as the samples suggest, before
        the ridge is added. It needs a single Gaussian: rows, or ``pooled=True``.
    pooled : bool, default=False
        One Gaussian for all grid positions, for images that are not aligned. Grids of any size can then be scored.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        Which scores of normal samples set the threshold: of each training sample (image) by the Gaussians of all the
        others, in closed form (the shrinkage of "ledoit_wolf" stays that of all); of 10 folds; of a held-out fifth of
        the samples.
    min_defect_area : int, default=1
        Smallest region in masks, in grid cells.
    random_state : int, RandomState instance or None, default=None
        Of the folds or the share.
    verbose : int, default=0
        Not used here.

    Attributes
    ----------
    location_ : ndarray of shape (n_gaussians, d), float64
        Means, the grid read row by row.
    scatter_ : ndarray of shape (n_gaussians, d (d + 1) / 2)
        Sums of the outer products of deviations from the mean: lower triangles, packed row by row. float64 for a single
        Gaussian, else in the precision that was fitted.
    n_samples_seen_ : int
        Patches behind each Gaussian.
    grid_shape_ : tuple of int (h, w)
        Of the fitted grids.
    shrinkage_ : float
        With "ledoit_wolf": weight of the identity, in [0, 1].
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
    Pickles hold the attributes above. The triangular factors of the covariances, as large as `scatter_`, are kept in
    memory only, and computed again when they are first needed.

    References
    ----------
    Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR
    workshops 2021, arXiv:2011.08785. Rippel, Mertens, Merhof, "Modeling the Distribution of Normal Data in Pre-Trained
    Deep Features for Anomaly Detection", ICPR 2020, arXiv:2005.14140. Ledoit, Wolf, "A well-conditioned estimator for
    large-dimensional covariance matrices", Journal of Multivariate Analysis 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.scoring import GaussianScorer
    >>> X = [[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]]  # variances 8/3 and 2/3
    >>> scorer = GaussianScorer(ridge=0, false_alarm_rate=None).fit(X)
    >>> (-scorer.score_samples([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])).round(3)
    array([0.   , 1.225, 2.449])
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "ridge": [Interval(Real, 0, None, closed="left")],
        "covariance": [StrOptions({"empirical", "ledoit_wolf"})],
        "pooled": ["boolean"],
    }

    def __init__(
        self,
        ridge=0.01,
        *,
        covariance="empirical",
        pooled=False,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.ridge = ridge
        self.covariance = covariance
        self.pooled = pooled
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def partial_fit(self, X, y=None):
        """Learn from more normal samples; the result is that of all at once.

        Drops the thresholds: call `calibrate` with normal samples that were not learned from.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Normal samples only, any number.
        y : ignored
            For API consistency.

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            first = not hasattr(self, "scatter_")
            Z = self._check_samples(X, reset=first)
            if first:
                self._start(Z)
            self._add(Z)
            self._forget_fit()
        return self

    def merge(self, other):
        """Take over what another scorer has learned; the result is that of all samples at once.

        Drops the thresholds: call `calibrate` with normal samples that were not learned from.

        Parameters
        ----------
        other : GaussianScorer
            Fitted on grids of the same shape, with the same `pooled`. It is not changed.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        if not isinstance(other, GaussianScorer):
            raise TypeError(f"other must be a GaussianScorer, got {type(other).__name__}.")
        check_is_fitted(other)
        mine, theirs = (
            f"{'one Gaussian' if len(scorer.location_) == 1 else 'Gaussians on a grid of {}x{}'.format(*scorer.grid_shape_)}"
            f" of {scorer.n_features_in_} features"
            for scorer in (self, other)
        )
        if mine != theirs:
            raise ValueError(f"other has {theirs}, this GaussianScorer {mine}: they cannot be merged.")
        self._merge(other._moments, other._norm_moments)
        self._forget_fit()
        return self
