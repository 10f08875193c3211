"""Thresholds and p-values for any detector or pipeline."""

import copy
from numbers import Real

from sklearn.base import MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .base import BaseDetector
from .maps import as_detector

__all__ = ["ConformalDetector"]


class ConformalDetector(MetaEstimatorMixin, BaseDetector):
    r"""Give any detector or pipeline a threshold with a stated false-alarm rate, p-values and masks.

    The estimator is fitted on one part of the normal samples and scores the rest. Let :math:`A_1 \le \dots \le A_n` be
    the resulting anomaly scores. A sample is called an anomaly if its score A exceeds :math:`A_k`,
    :math:`k = \lceil (n + 1)(1 - \alpha) \rceil`, and its p-value is :math:`(1 + \#\{i: A_i \ge A\}) / (n + 1)`.

    Parameters
    ----------
    estimator : estimator
        Outlier detector of skanomaly or scikit-learn, with `score_samples` or `decision_function`, or a pipeline that
        ends in one. Pretrained features at the head of a pipeline are computed only once, whatever the number of folds.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the samples. The false-alarm rate is guaranteed on average over the draw of
          these samples.
        - "cv" uses 10-fold cross-validation and fits the final estimator on all samples. No samples are lost, and the
          threshold errs on the safe side if more training samples lower the scores. It does not suit estimators whose
          scores grow with the number of training samples, such as `OneClassSVM`.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image. Used only for
        pipelines, since a detector has its own.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the split or the folds.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    detector_ : estimator
        Fitted estimator as a detector.
    estimator_ : estimator
        Fitted estimator.
    features_ : estimator
        Fitted features through which the estimator sees samples.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps. Defined only if the estimator has maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set. None if the estimator has no maps.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.
    n_features_in_ : int
        Number of features seen during `fit`. Defined only if the estimator defines it.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of features seen during `fit`. Defined only if the estimator defines it.

    See Also
    --------
    FitOnNormal : Fit an estimator on the normal samples among labelled samples.

    Notes
    -----
    Labels and masks are calibrated separately: of fresh normal images, a share of `false_alarm_rate` gets the label -1,
    and the same share has any pixel in its mask. For either of the two, nothing more is promised than the sum; 0.059 of
    the images were measured for 0.05 (50 seeds, "split", `benchmarks/bench_conformal_rates.py`).

    References
    ----------
    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005.
    Laxhammar, Falkman, "Conformal prediction for distribution-independent anomaly detection in streaming vessel data",
    2010.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.ensemble import IsolationForest
    >>> from skanomaly import ConformalDetector
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> detector = ConformalDetector(IsolationForest(random_state=0), random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0], [6.0, 6.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        **BaseDetector._parameter_constraints,
        "estimator": [HasMethods(["fit"])],
        "calibration": [StrOptions({"split", "cv"})],
        "sigma": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator,
        *,
        calibration="split",
        false_alarm_rate=0.05,
        sigma=4.0,
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.calibration = calibration
        self.false_alarm_rate = false_alarm_rate
        self.sigma = sigma
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    @property
    def features_(self):
        """Fitted features through which the estimator sees samples."""
        return self._fitted.features_

    @property
    def estimator_(self):
        """Fitted estimator."""
        return getattr(self._fitted, "estimator_", self._fitted)

    @property
    def n_features_in_(self):
        """Number of features seen during `fit`, if the estimator defines it."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self):
        """Feature names seen during `fit`, if the estimator defines it."""
        return self.estimator_.feature_names_in_

    @property
    def _calibrates_maps(self):
        return self._detector()._calibrates_maps

    @property
    def _fitted(self):
        if "detector_" not in vars(self):
            raise AttributeError("this ConformalDetector is not fitted")
        return self.detector_

    @available_if(lambda self: self._detector().contributions is not None)
    def contributions(self, X):
        """Compute the contribution of each column to the anomaly score of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, d)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, d), float64
            Contributions, which sum to ``-score_samples(X)`` along each row. Those of a pipeline are of the
            columns that its last step sees.
        """
        check_is_fitted(self)
        return self.detector_.contributions(X)

    @available_if(lambda self: hasattr(getattr(self, "estimator_", self.estimator), "reconstruct"))
    def reconstruct(self, X):
        """Reconstruct samples with the fitted estimator.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the estimator accepts.

        Returns
        -------
        ndarray or list of ndarray
            Reconstructions, as returned by the estimator.
        """
        check_is_fitted(self)
        return self.estimator_.reconstruct(X)

    def _detector(self):
        """Return the fitted detector, or else an unfitted one that has the same methods."""
        return vars(self).get("detector_") or as_detector(self.estimator)

    def _features(self):
        return self._detector()._features()

    def _open(self, X):
        self.detector_ = as_detector(_without_threshold(clone(self.estimator)), sigma=self.sigma)
        samples = self.detector_._open(X)
        self._keep_settings()
        return samples

    def _keep_settings(self):
        super()._keep_settings()
        self.sigma_ = self.detector_.sigma_

    def _prepare(self):
        self.detector_._prepare()

    def _embed(self, samples):
        return self.detector_._embed(samples)

    def _learn(self, samples, Z=None, groups=None):
        self.detector_ = copy.copy(self.detector_)
        self.detector_._learn(samples, Z, groups)

    def _score(self, Z, maps=True):
        return self.detector_._score(Z, maps)


def _without_threshold(estimator):
    """Disable the calibration of the inner detector."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, BaseDetector):
        last.set_params(false_alarm_rate=None)
        last._validate_params()
    return estimator
