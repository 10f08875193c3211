"""Calibrated decisions around any detector or pipeline."""

import copy
from numbers import Real

import numpy as np
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _num_samples

from .base import BaseDetector

__all__ = ["ConformalDetector"]


class ConformalDetector(MetaEstimatorMixin, BaseDetector):
    r"""Give any detector or pipeline a threshold with a stated false-alarm rate, p-values and masks.

    The estimator is fitted on one part of the normal samples and scores the rest. With :math:`A_1 \le \dots \le A_n`
    these anomaly scores, a sample is called an anomaly if its own exceeds :math:`A_k`,
    :math:`k = \lceil (n + 1)(1 - \alpha) \rceil`, and its p-value is :math:`(1 + \#\{i: A_i \ge A\}) / (n + 1)`.

    Parameters
    ----------
    estimator : estimator
        Any outlier detector with `score_samples` or `decision_function`, of skanomaly or scikit-learn, or a pipeline
        that ends in one. Pretrained features at the head of a pipeline are computed once, however many folds there are.
    calibration : {"split", "cv"}, default="split"
        "split": a random fifth of the samples is held out; the false-alarm rate is guaranteed, marginally over the draw
        of that fifth. "cv": 10 folds are scored by estimators fitted without them, the final one is fitted on all; this
        wastes nothing, and errs on the safe side where more training samples lower the scores. It does not suit
        estimators whose scores grow with the number of training samples, such as `OneClassSVM`.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    sigma : float, default=4.0
        Smoothing of a pipeline's maps, in pixels of a 224-pixel side.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Of the split or the folds.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps, where the estimator has maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores the threshold was taken from, ascending.

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
    _batch_len = 256

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
    def n_features_in_(self):
        """Number of features seen by the fitted estimator, where it counts them."""
        if not hasattr(self, "estimator_"):
            raise AttributeError("this ConformalDetector is not fitted")
        return self.estimator_.n_features_in_

    def _check_samples(self, X, reset):
        if reset:
            self.estimator_ = _without_threshold(clone(self.estimator))
        if isinstance(self.estimator_, BaseDetector):
            return self.estimator_._check_samples(X, reset=reset)
        if self._features is None:
            return _Rows(X)
        if reset:
            self._features.fit(X)
        return self._features.check_samples(X)

    @property
    def _features(self):
        """The image features at the head of a pipeline, or None."""
        head = self.estimator_[0] if isinstance(self.estimator_, Pipeline) else None
        return head if hasattr(head, "map_to_image") else None

    def _embed(self, samples):
        if isinstance(self.estimator_, BaseDetector):
            return self.estimator_._embed(samples)
        return samples if self._features is None else self._features.transform(samples)

    def _fit(self, Z):
        if isinstance(self.estimator_, BaseDetector):
            self.estimator_ = copy.copy(self.estimator_)
            self.estimator_._fit(Z)
        elif self._features is None:
            self.estimator_ = clone(self.estimator_).fit(Z.X)
        else:
            rest = clone(self.estimator_[1:]).fit(Z)
            self.estimator_ = Pipeline([self.estimator_.steps[0], *rest.steps])

    def _score(self, Z):
        if isinstance(self.estimator_, BaseDetector):
            return self.estimator_._score(Z)
        if self._features is None:
            return _scores_and_grids(self.estimator_, Z.X)
        return _scores_and_grids(self.estimator_[1:], Z)

    def _render(self, grid, size):
        if self._features is not None:
            return self._features.map_to_image(grid, size, self.sigma)
        return self.estimator_._render(grid, size)


class _Rows:
    """Samples of any indexable kind: arrays, data frames, lists."""

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return _num_samples(self.X)

    def __getitem__(self, index):
        return _Rows(_safe_indexing(self.X, np.arange(len(self))[index]))

    @property
    def sizes(self):
        """Rows have no height and width."""
        return [None] * len(self)


def _without_threshold(estimator):
    """Spare the inner detector its own calibration."""
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    if isinstance(last, BaseDetector):
        last.set_params(false_alarm_rate=None)
        last._validate_params()
    return estimator


def _scores_and_grids(model, X):
    """Return anomaly scores and, where the model has maps, score grids."""
    if isinstance(model, Pipeline):
        return _scores_and_grids(model[-1], model[:-1].transform(X) if len(model) > 1 else X)
    if isinstance(model, BaseDetector):
        return model._score(model._embed(model._check_samples(X, reset=False)))
    score = getattr(model, "score_samples", None) or model.decision_function
    return -np.asarray(score(X), dtype=np.float64), None
