"""PaDiM."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from .._kernels.gaussian import (
    Moments,
    add_samples,
    empty_moments,
    factorize,
    mahalanobis,
    merge_moments,
    without_own,
)
from ..base import all_or_nothing
from ..features import PretrainedPatchFeatures
from ._features import FeatureDetector, LazyFeatures

_IMAGES_AT_A_TIME = 16
_DOUBLE_UP_TO = 200  # channels whose scatter is summed up in float64


class PaDiM(FeatureDetector):
    r"""PaDiM: a Gaussian for every position of the patch grid.

    Of the concatenated features, `n_channels` are drawn at random, once. The patches of all N training images at
    position (i, j) make a Gaussian; a patch scores its Mahalanobis distance, an image the maximum of its smooth map at
    the size of the network's input:

    .. math::

        \Sigma_{ij} = \frac{1}{N - 1} \sum_n (e_{ij}^n - \mu_{ij}) (e_{ij}^n - \mu_{ij})^T + \varepsilon I, \qquad
        M_{ij}(x) = \sqrt{(e_{ij} - \mu_{ij})^T \Sigma_{ij}^{-1} (e_{ij} - \mu_{ij})}

    The parts must lie at the same place in all images.

    Parameters
    ----------
    features : transformer or None, default=None
        Images to patch grids; None is ``PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1)``, a quarter of the
        image's side.
    n_channels : int or None, default=100
        Channels d that are kept (the paper: 100 of ResNet18's 448, 550 of WideResNet50's 1792); None keeps all.
    ridge : float, default=0.01
        The paper's :math:`\varepsilon`, in squared units of the features. With fewer images than channels it decides
        how much the directions count in which the training images do not vary.
    sigma : float, default=4.0
        Of the Gaussian that smooths maps, in pixels of a 224-pixel side.
    false_alarm_rate : float or None, default=0.05
        Share of normal images that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        Which scores of normal images set the threshold: of each training image by the Gaussians of the others, which
        follow exactly from those of all and cost one more pass over the images (`memory` of the features saves it);
        of 10 folds; of a held-out fifth of the images.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Of the channels, and of the folds or the share.
    verbose : int, default=0
        1 shows progress bars.

    Attributes
    ----------
    features_ : transformer
        The fitted features.
    channels_ : ndarray of shape (d,), int64
        The channels kept, ascending.
    location_ : ndarray of shape (h * w, d), float64
        The means.
    scatter_ : ndarray of shape (h * w, d (d + 1) / 2)
        Sums of outer products of the deviations from the mean: lower triangles, column after column; float64 up to
        200 channels, else float32 (1.9 GB at 56 x 56 positions with 550 channels).
    n_samples_seen_ : int
        Training images N.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_, calibration_levels_ : ndarray of shape (n,)
        Anomaly scores and highest map levels that the thresholds were taken from, ascending.

    Notes
    -----
    Images are read in batches, their statistics added up: memory does not grow with their number. Without sample i, at
    deviation :math:`\delta` from the mean, and with A made of the scatter over N - 2, the distance is
    :math:`\frac{N}{N-1} \sqrt{q / (1 - c q)}` with :math:`q = \delta^T A^{-1} \delta` and
    :math:`c = \frac{N}{(N-1)(N-2)}`.

    Pickles hold the parameters and the attributes above; factors are computed again on demand.

    References
    ----------
    Defard et al., "PaDiM: a Patch Distribution Modeling Framework for Anomaly Detection and Localization", ICPR
    workshops 2021, arXiv:2011.08785.

    Examples
    --------
    >>> from skanomaly import PaDiM, PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)  # a quick control
    >>> detector = PaDiM(features, n_channels=20, random_state=0).fit(data.X_train)
    >>> detector.predict(data.X_test).shape, detector.anomaly_map(data.X_test).shape
    ((5,), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "n_channels": [Interval(Integral, 1, None, closed="left"), None],
        "ridge": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        features=None,
        *,
        n_channels=100,
        ridge=0.01,
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.n_channels = n_channels
        self.ridge = ridge
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def partial_fit(self, X, y=None):
        """Learn from further normal images; the thresholds are dropped until `calibrate` sets them again.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
        y : ignored

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            first = not hasattr(self, "scatter_")
            moments = self._moments_of(self._embed(self._check_samples(X, reset=first)))
            self._learn(moments if first else merge_moments(moments, self._moments()))
            self._forget_thresholds()
        return self

    def merge(self, other):
        """Take over what another PaDiM has learnt, exactly as if its images had been in `fit`.

        The thresholds are dropped until `calibrate` sets them again; `other` is not changed.

        Parameters
        ----------
        other : PaDiM
            Fitted with the same features and the same channels (the same integer `random_state`).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If its features, grid or channels are others.
        """
        check_is_fitted(self)
        check_is_fitted(other)
        self._check_same_features(other)
        if not np.array_equal(self.channels_, other.channels_):
            raise ValueError(
                "other.channels_ are not those of this PaDiM: fit both with the same integer random_state."
            )
        self._learn(merge_moments(self._moments().copy(), other._moments()))
        self._forget_thresholds()
        return self

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_factor"}

    def default_features(self):
        """Return the features that ``features=None`` stands for, unfitted."""
        return PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1, verbose=self.verbose)

    def _check_samples(self, X, reset):
        samples = super()._check_samples(X, reset)
        if reset:
            n_features = self.features_.n_features_out_
            kept = n_features if self.n_channels is None else self.n_channels
            if kept > n_features:
                raise ValueError(f"n_channels={kept}, but the features have {n_features} channels.")
            self.channels_ = np.sort(check_random_state(self.random_state).permutation(n_features)[:kept])
        return samples

    def _embed(self, samples):
        return LazyFeatures(lambda part: self.features_.transform(part)[..., self.channels_], samples)

    def _fit(self, Z):
        if len(Z) < 2:
            raise ValueError(f"PaDiM needs at least 2 images, got {len(Z)}.")
        self._learn(self._moments_of(Z))

    def _moments_of(self, Z):
        """Return the moments of all positions, accumulated batch by batch."""
        height, width = self.features_.grid_shape_
        dtype = np.float64 if len(self.channels_) <= _DOUBLE_UP_TO else np.float32
        moments = empty_moments(height * width, len(self.channels_), dtype)
        for grids in Z.batches(_IMAGES_AT_A_TIME):
            moments = add_samples(moments, _by_position(grids))
        return moments

    def _moments(self):
        return Moments(self.n_samples_seen_, self.location_, self.scatter_)

    def _learn(self, moments):
        self.n_samples_seen_, self.location_, self.scatter_ = moments
        vars(self).pop("_factor", None)

    def _score(self, Z):
        if not hasattr(self, "_factor"):
            if self.n_samples_seen_ < 2:
                raise ValueError(f"PaDiM needs at least 2 images to score, it has seen {self.n_samples_seen_}.")
            self._factor = self._factorize(self.n_samples_seen_ - 1)
        return self._summarize([mahalanobis(_by_position(Z), self.location_, self._factor)])

    def _leave_one_out(self, Z):
        """Score every image by the Gaussians of the others."""
        n = self.n_samples_seen_
        if n < 3:
            raise ValueError(
                f"calibration='loo' needs at least 3 images, got {n}; set false_alarm_rate=None to go without."
            )
        factor, distances = self._factorize(n - 2), []
        for grids in Z.batches(_IMAGES_AT_A_TIME):
            squared = mahalanobis(_by_position(grids), self.location_, factor) ** 2
            distances.append(without_own(squared, n, 1 / (n - 2), len(self.channels_)))
        return self._summarize(distances)

    def _factorize(self, divisor):
        factor, singular = factorize(self.scatter_, 1 / divisor, self.ridge)
        if singular.any():
            raise ValueError(
                f"ridge={self.ridge} is too small for these features: {singular.sum()} of {len(singular)} covariances "
                "are singular. Raise it in proportion to the variance of the features."
            )
        return factor

    def _summarize(self, distances):
        """Return the maxima of the maps and the distances as grids."""
        grids = np.concatenate(distances).reshape(-1, *self.features_.grid_shape_)
        size = np.broadcast_to(self.features_.image_size, 2)
        return np.array([np.nanmax(self._render(grid, size)) for grid in grids], np.float64), grids


def _by_position(Z):
    """Return grids as (n, h * w, d)."""
    grids = np.ascontiguousarray(Z)
    return grids.reshape(len(grids), -1, grids.shape[-1])
