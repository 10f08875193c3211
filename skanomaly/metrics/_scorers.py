"""Scorers with the signature ``scorer(estimator, X, y)``, for `GridSearchCV` and `cross_val_score`."""

import numpy as np

from ..maps import anomaly_map
from ._detection import f1_max, image_auroc, tnr_tpr
from ._localization import aupro, pixel_auroc


class Scorer:
    """Base class of scorers: each class has one instance, without state, which copies, pickles and model files yield.

    Model files may hold objects of known classes, but no functions. A subclass implements ``_score(estimator, X, y)``.
    """

    __slots__ = ()
    _name, _instance = None, None

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __reduce__(self):
        return self._name  # of the instance in this module

    def __repr__(self):
        return self._name

    def __call__(self, estimator, X, y):
        """Score an estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted detector or pipeline with the method that the scorer needs: `score_samples` or `decision_function`,
            `predict`, or anomaly maps, as accepted by `skanomaly.anomaly_map`.
        X : array-like of shape (n_samples, n_features), images or paths
            Test samples, in a form that the estimator accepts.
        y : array-like of shape (n_samples,), or sequence of array-like of shape (H, W)
            True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). For scorers of
            maps, defect masks: True (or non-zero) on defects, empty for normal images. Labelled masks, such as those of
            `load_mvtec`, are accepted by all scorers.

        Returns
        -------
        float
            Value of the metric, in [0, 1].
        """
        return self._score(estimator, X, y)


def _anomaly_score(estimator, X):
    score = getattr(estimator, "score_samples", None) or estimator.decision_function
    return -np.asarray(score(X))


class ImageAUROCScorer(Scorer):
    """Score an estimator by its `image_auroc`.

    See Also
    --------
    image_auroc : The metric itself, computed from labels and scores.
    """

    __slots__ = ()
    _name = "image_auroc_scorer"

    def _score(self, estimator, X, y):
        return image_auroc(y, _anomaly_score(estimator, X))


class F1MaxScorer(Scorer):
    """Score an estimator by its `f1_max`.

    See Also
    --------
    f1_max : The metric itself, computed from labels and scores.
    """

    __slots__ = ()
    _name = "f1_max_scorer"

    def _score(self, estimator, X, y):
        return f1_max(y, _anomaly_score(estimator, X))


class TNRScorer(Scorer):
    """Score an estimator by its true-negative rate: the share of the normal samples that are predicted to be normal.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """

    __slots__ = ()
    _name = "tnr_scorer"

    def _score(self, estimator, X, y):
        return tnr_tpr(y, estimator.predict(X))[0]


class TPRScorer(Scorer):
    """Score an estimator by its true-positive rate: the share of the anomalies that are predicted to be anomalies.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """

    __slots__ = ()
    _name = "tpr_scorer"

    def _score(self, estimator, X, y):
        return tnr_tpr(y, estimator.predict(X))[1]


class PixelAUROCScorer(Scorer):
    """Score an estimator by the `pixel_auroc` of its anomaly maps.

    See Also
    --------
    pixel_auroc : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "pixel_auroc_scorer"

    def _score(self, estimator, X, y):
        return pixel_auroc(y, anomaly_map(estimator, X))


class AUPROScorer(Scorer):
    """Score an estimator by the `aupro` of its anomaly maps, up to a false-positive rate of 0.3.

    See Also
    --------
    aupro : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "aupro_scorer"

    def _score(self, estimator, X, y):
        return aupro(y, anomaly_map(estimator, X))


image_auroc_scorer = ImageAUROCScorer()
f1_max_scorer = F1MaxScorer()
tnr_scorer = TNRScorer()
tpr_scorer = TPRScorer()
pixel_auroc_scorer = PixelAUROCScorer()
aupro_scorer = AUPROScorer()
