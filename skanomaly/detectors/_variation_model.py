"""Variation model."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from .._kernels.variation import (
    Spread,
    median_and_deviation,
    merge_spreads,
    relative_deviations,
    spread_of,
    standard_deviation,
)
from ..base import BaseDetector, IncrementalMixin
from ..features._resolve import resolve_features
from ..features._same import check_same_features
from ._features import LazyFeatures
from ._image_scores import IMAGE_SCORE, image_scores


class VariationModel(IncrementalMixin, BaseDetector):
    r"""VariationModel: compare each pixel with its mean and variation in normal images.

    With :math:`\mu` the mean and v the standard deviation of each value (pixel and channel) over the training samples,
    a value c may deviate from the mean by :math:`\max(a, b v)`. The score of a value is its deviation in units of this
    limit,

    .. math:: \frac{|c - \mu|}{\max(a, b v)},

    which is above 1 for defects. A pixel scores as its highest channel. An image scores as its map, and a row as its
    highest column, so that rows are judged by their largest z-score.

    The object must be at the same place in all images; use `Aligned` if it is not.

    Parameters
    ----------
    features : estimator or None, default=None
        Features that turn samples into values to compare, such as `Pixels`, `Columns` or `Aligned`, or a
        `FrozenEstimator` of fitted features; None is ``Columns()`` for rows and ``Pixels()`` for images.
    statistics : {"mean", "median"}, default="mean"
        How the normal values are summarised. "mean" uses their mean and standard deviation. "median" uses their median
        and scaled median absolute deviation, which outliers among the training samples do not affect; it keeps all
        training samples in memory, and does not support `partial_fit` and `merge`.
    absolute : float or (float, float), default=10 / 255
        Deviation a that is always normal, in units of the features: of pixels in [0, 1], or of scaled columns. Two
        values are for bright (positive) and dark (negative) deviations; infinity ignores one of these. The default is
        HALCON's, 10 grey levels.
    relative : float or (float, float), default=2.0
        Number b of standard deviations that are normal; two values as for `absolute`. The default is HALCON's.
    image_score : {"max", "mean", "contrast"} or float, default="max"
        How the score of an image is computed from its map, at the size at which the features see images: its maximum,
        its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    sigma : float, default=2.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the training samples. Only "split" carries the guarantee of split-conformal
          prediction.
        - "cv" uses 10-fold cross-validation.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    location_ : ndarray of shape (h, w, C) or (d,), float64
        Mean or median :math:`\mu` of each value.
    spread_ : ndarray of shape (h, w, C) or (d,), float64
        Standard deviation v (divided by n - 1), or scaled median absolute deviation, of each value.
    n_samples_seen_ : int
        Number n of training samples.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Defined only if the features make maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set. None if the features make no maps.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features d seen during `fit`. Defined only if the samples are rows.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only when `X` has feature names that are all strings.

    See Also
    --------
    Aligned : Features of images that are registered first.
    PaDiM : Gaussian of deep features at each position.
    GaussianScorer : Mahalanobis distance of rows, which takes correlations into account.

    Notes
    -----
    HALCON flags every pixel whose score is above 1. Here, the thresholds follow from scores of normal samples, as in
    every detector; the map of an image shows the score itself, smoothed with `sigma`.

    With ``statistics="mean"``, samples are read in batches and their statistics are merged exactly, so memory does not
    grow with the number of samples.

    Pickles hold the parameters and the attributes above.

    References
    ----------
    Steger, Ulrich and Wiedemann, "Machine Vision Algorithms and Applications", Wiley-VCH, 2018.
    Bergmann et al., "MVTec AD", CVPR 2019, for the continuous score.

    Examples
    --------
    >>> from skanomaly import VariationModel
    >>> from skanomaly.datasets import make_parts
    >>> data = make_parts(n_train=100, n_good=3, n_anomalous=3, shift=0, rotation=0, random_state=0)
    >>> VariationModel(random_state=0).fit(data.X_train).predict(data.X_test)
    array([ 1,  1,  1, -1, -1, -1])
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform"]), None],
        "statistics": [StrOptions({"mean", "median"})],
        "absolute": [Interval(Real, 0, None, closed="neither"), tuple, list],
        "relative": [Interval(Real, 0, None, closed="left"), tuple, list],
        "image_score": IMAGE_SCORE,
        "sigma": [Interval(Real, 0, None, closed="left")],
        "calibration": [StrOptions({"split", "cv"})],
    }

    def __init__(
        self,
        features=None,
        *,
        statistics="mean",
        absolute=10 / 255,
        relative=2.0,
        image_score="max",
        sigma=2.0,
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.statistics = statistics
        self.absolute = absolute
        self.relative = relative
        self.image_score = image_score
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self, X):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : array-like
            Samples on which the detector will be fitted.

        Returns
        -------
        Columns or Pixels
            Unfitted features: `Columns` for rows, `Pixels` for images.
        """
        return resolve_features(X)

    def _prepare(self):
        for name, lowest in (("absolute", "positive"), ("relative", "non-negative")):
            values = _two_sides(getattr(self, name))
            right = len(values) == 2 and all(isinstance(value, Real) and value >= 0 for value in values)
            if not right or (lowest == "positive" and 0 in values):
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be one {lowest} number, or two: for bright and for dark "
                    "deviations."
                )

    def _embed(self, samples):
        return LazyFeatures(self.features_.transform, samples)

    # ----------------------------------------------------------------------------------------- learning

    def _fit(self, Z):
        if self.statistics == "mean":
            self._take_over(self._spread_of(Z))
        else:
            self.n_samples_seen_ = len(Z)
            self.location_, self.spread_ = median_and_deviation(np.asarray(Z))

    def _add(self, Z):
        self._check_updates("partial_fit")
        fresh = self._spread_of(Z)
        self._take_over(merge_spreads(_spread(self), fresh) if hasattr(self, "location_") else fresh)

    def _absorb(self, other):
        self._check_updates("merge")
        check_same_features(self.features_, other.features_, "VariationModel")
        self._take_over(merge_spreads(_spread(self), _spread(other)))

    def _spread_of(self, Z):
        """Return the statistics of all samples, merged batch by batch."""
        spread = None
        for batch in Z.batches(self.features_.batch_len or len(Z)):
            spread = spread_of(batch) if spread is None else merge_spreads(spread, spread_of(batch))
        return spread

    def _take_over(self, spread):
        self.n_samples_seen_, self.location_ = spread.count, spread.mean
        self.spread_ = standard_deviation(spread)

    def _check_updates(self, method):
        if self.statistics != "mean":
            raise ValueError(
                f"{method} needs statistics='mean', got statistics={self.statistics!r}, which cannot be updated; fit "
                "on all samples instead."
            )

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        deviations = relative_deviations(np.asarray(Z), self.location_, *self._limits()).max(axis=-1)
        if not self.features_.makes_maps:
            return deviations, None
        return image_scores(self, deviations, self.image_score), deviations

    def _limits(self):
        """Return max(a, b v) of bright and of dark deviations."""
        sides = zip(_two_sides(self.absolute), _two_sides(self.relative), strict=True)
        return [np.maximum(a, b * self.spread_) for a, b in sides]


def _two_sides(value):
    return (value, value) if isinstance(value, Real) else tuple(value)


def _spread(detector):
    n, deviation = detector.n_samples_seen_, detector.spread_
    return Spread(n, detector.location_, np.square(deviation) * max(n - 1, 1))
