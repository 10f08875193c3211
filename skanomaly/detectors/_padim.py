"""PaDiM."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from .._kernels.checks import require
from .._kernels.gaussian import (
    Moments,
    add_samples,
    check_moments,
    empty_moments,
    factorize,
    left_out,
    mahalanobis,
    merge_moments,
    runs_of_groups,
)
from ..base import IncrementalMixin
from ..features import PretrainedPatchFeatures
from ..features._same import check_same_features
from ._features import FeatureDetector, LazyFeatures
from ._image_scores import IMAGE_SCORE, image_scores

_IMAGES_AT_A_TIME = 16
_DOUBLE_UP_TO = 200  # largest number of channels whose scatter is summed in float64


class PaDiM(IncrementalMixin, FeatureDetector):
    r"""PaDiM: a Gaussian of normal patches at each position of the patch grid.

    `n_channels` of the concatenated features are drawn at random, once. A Gaussian is fitted to the patches of all N
    training images at each position (i, j). The score of a patch is its Mahalanobis distance; the score of an image is
    the maximum of its smoothed map at the size of the network input:

    .. math::

        \Sigma_{ij} = \frac{1}{N - 1} \sum_n (e_{ij}^n - \mu_{ij}) (e_{ij}^n - \mu_{ij})^T + \varepsilon I, \qquad
        M_{ij}(x) = \sqrt{(e_{ij} - \mu_{ij})^T \Sigma_{ij}^{-1} (e_{ij} - \mu_{ij})}

    The objects must be at the same place in all images.

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into patch grids; None is
        ``PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1)``, whose grid has a quarter of the side of the
        image. Pass an object to choose or search its parameters (``features__layers``), or a `FrozenEstimator` of
        fitted features.
    n_channels : int or None, default=100
        Number d of channels that are kept; None keeps all. The paper keeps 100 of the 448 channels of ResNet18, and 550
        of the 1792 of WideResNet50.
    ridge : float, default=0.01
        Variance :math:`\varepsilon` that is added to each channel, in squared units of the features; the default is
        from the paper. With fewer images than channels, it determines the weight of directions in which the training
        images do not vary.
    image_score : {"max", "mean", "contrast"} or float, default="max"
        How the score of an image is computed from its map, at the size at which the features see images: its maximum,
        its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training image by the Gaussians of the other images (of the other groups, with `groups`),
          which are computed exactly from the Gaussians of all images. It takes a second pass over the images, which a
          feature cache avoids (`memory` of the features).
        - "cv" uses 10-fold cross-validation.
        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the channels, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    channels_ : ndarray of shape (d,), int64
        Indices of the channels that are kept, ascending.
    ridge_ : float
        Value of `ridge` in `fit`.
    location_ : ndarray of shape (h * w, d), float64
        Means of the Gaussians.
    scatter_ : ndarray of shape (h * w, d (d + 1) / 2)
        Sums of the outer products of deviations from the mean, as lower triangles stored row by row: element (i, j),
        with j <= i, is at ``i * (i + 1) // 2 + j``. float64 up to 200 channels, else float32 (1.9 GB at 56 x 56
        positions with 550 channels).
    n_samples_seen_ : int
        Number of training images N.
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

    See Also
    --------
    GaussianScorer : The same score for given patch grids or rows, in standardised units.
    MahalanobisAD : Gaussians of features averaged over the image, for objects at any place.
    PatchCore : Distance to the nearest normal patches at any position.

    Notes
    -----
    Images are read in batches and their statistics are accumulated, so memory does not grow with the number of images.
    The distance of sample i to the Gaussian of the others, where :math:`\delta` is its deviation from the mean of all
    and A is computed from the scatter over N - 2, is
    :math:`\frac{N}{N-1} \sqrt{q / (1 - c q)}` with :math:`q = \delta^T A^{-1} \delta` and
    :math:`c = \frac{N}{(N-1)(N-2)}`. For groups of samples, the Woodbury identity generalises
    this.

    The paper's variants:

    - ``PaDiM(PretrainedPatchFeatures("resnet18", layers=(1, 2, 3), neighborhood=1, image_size=256, crop=224))``;
    - the same with "wide_resnet50_2" and ``n_channels=550``;
    - EfficientNet-B5: ``PretrainedPatchFeatures("tf_efficientnet_b5", layers=("blocks.1.3", "blocks.3.6",
      "blocks.4.5"), neighborhood=1, image_size=256, crop=224)``, blocks 7, 20 and 26 counted from 1.

    Pickles hold the parameters and the attributes above; Cholesky factors are recomputed on demand.

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
        "image_score": IMAGE_SCORE,
    }
    _derived = ("_factor",)

    def __init__(
        self,
        features=None,
        *,
        n_channels=100,
        ridge=0.01,
        image_score="max",
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
        self.image_score = image_score
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        return PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1, verbose=self.verbose)

    # ----------------------------------------------------------------------------------------- images to patches

    def _prepare(self):
        """Draw the channels."""
        n_features = self.features_.n_features_out_
        kept = n_features if self.n_channels is None else self.n_channels
        if kept > n_features:
            raise ValueError(f"n_channels={kept}, but the features have {n_features} channels.")
        self.channels_ = np.sort(check_random_state(self.random_state).permutation(n_features)[:kept])

    def _embed(self, samples):
        return LazyFeatures(lambda part: self.features_.transform(part)[..., self.channels_], samples)

    # ----------------------------------------------------------------------------------------- learning

    def _fit(self, Z):
        if len(Z) < 2:
            raise ValueError(f"PaDiM needs at least 2 images, got {len(Z)}.")
        self._take_over(self._moments_of(Z))

    def _add(self, Z):
        moments = self._moments_of(Z)
        self._take_over(merge_moments(moments, _moments(self)) if hasattr(self, "scatter_") else moments)

    def _absorb(self, other):
        check_same_features(self.features_, other.features_, "PaDiM")
        if not np.array_equal(self.channels_, other.channels_):
            raise ValueError(
                "other.channels_ differ from the channels_ of this PaDiM: fit both with the same integer random_state."
            )
        self._take_over(merge_moments(_moments(self).copy(), _moments(other)))

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "scatter_"):
            require(0 <= self.ridge_ < np.inf, "ridge_ is negative or infinite")
            height, width = self.features_.grid_shape_
            require(len(self.location_) == height * width, "location_ has another number of positions than the grid")
            require((np.diff(self.channels_) > 0).all() and self.channels_[0] >= 0, "channels_ are not ascending")
            require(self.channels_[-1] < self.features_.n_features_out_, "channels_ has more than the features")
            check_moments(_moments(self))

    def _moments_of(self, Z):
        """Return the moments of all positions, accumulated batch by batch."""
        height, width = self.features_.grid_shape_
        dtype = np.float64 if len(self.channels_) <= _DOUBLE_UP_TO else np.float32
        moments = empty_moments(height * width, len(self.channels_), dtype)
        for grids in Z.batches(_IMAGES_AT_A_TIME):
            moments = add_samples(moments, _by_position(grids))
        return moments

    def _take_over(self, moments):
        self.n_samples_seen_, self.location_, self.scatter_ = moments
        self.ridge_ = self.ridge

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        factor = self._derived_state("_factor", self._factor_of_all)
        return self._summarize(mahalanobis(_by_position(Z), self.location_, factor))

    def _leave_one_out(self, Z, groups):
        """Score each image by the Gaussians of the other groups."""
        n, sizes = self.n_samples_seen_, np.bincount(groups)
        if n - sizes.max() < 2:
            raise ValueError(
                f"calibration='loo' needs at least 2 images outside each group, but {n - sizes.max()} of {n} images "
                "are outside the largest group; set false_alarm_rate=None to fit without a threshold."
            )
        distances = np.empty((n, len(self.location_)))
        for size in np.unique(sizes):
            weight = 1 / (n - size - 1)
            factor = self._factorize(weight)
            for run in runs_of_groups(groups, size, _IMAGES_AT_A_TIME):
                distances[run] = left_out(_by_position(Z[run]), size, n, self.location_, factor, weight)
        return self._summarize(distances)

    def _factor_of_all(self):
        if self.n_samples_seen_ < 2:
            raise ValueError(f"PaDiM needs at least 2 images to score, but it has seen only {self.n_samples_seen_}.")
        return self._factorize(1 / (self.n_samples_seen_ - 1))

    def _factorize(self, weight):
        factor, singular = factorize(self.scatter_, weight, self.ridge_)
        if singular.any():
            raise ValueError(
                f"ridge={self.ridge_} is too small for these features: {singular.sum()} of {len(singular)} covariances "
                "are singular. Raise it in proportion to the variance of the features."
            )
        return factor

    def _summarize(self, distances):
        """Return the scores of the images, and the distances as grids."""
        grids = distances.reshape(-1, *self.features_.grid_shape_)
        return image_scores(self, grids, self.image_score), grids


def _moments(detector):
    return Moments(detector.n_samples_seen_, detector.location_, detector.scatter_)


def _by_position(Z):
    """Return grids as (n, h * w, d)."""
    grids = np.ascontiguousarray(Z)
    return grids.reshape(len(grids), -1, grids.shape[-1])
