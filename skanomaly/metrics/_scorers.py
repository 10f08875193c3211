"""The metrics as scorers: `scorer(estimator, X, y)`, for `GridSearchCV` and `cross_val_score`."""

import numpy as np

from ..maps import anomaly_map
from ._detection import f1_max, image_auroc, tnr_tpr
from ._localization import aupro, pixel_auroc


def _anomaly_score(estimator, X):
    score = getattr(estimator, "score_samples", None) or estimator.decision_function
    return -np.asarray(score(X))


def image_auroc_scorer(estimator, X, y):
    """Return `image_auroc` of an estimator; `y` as there, or masks with labels."""
    return image_auroc(y, _anomaly_score(estimator, X))


def f1_max_scorer(estimator, X, y):
    """Return `f1_max` of an estimator; `y` as there, or masks with labels."""
    return f1_max(y, _anomaly_score(estimator, X))


def tnr_scorer(estimator, X, y):
    """Return the share of normal samples that an estimator's `predict` calls normal."""
    return tnr_tpr(y, estimator.predict(X))[0]


def tpr_scorer(estimator, X, y):
    """Return the share of anomalies that an estimator's `predict` calls anomalies."""
    return tnr_tpr(y, estimator.predict(X))[1]


def pixel_auroc_scorer(estimator, X, y):
    """Return `pixel_auroc` of an estimator's maps; `y` are masks, such as those of `load_mvtec`."""
    return pixel_auroc(y, anomaly_map(estimator, X))


def aupro_scorer(estimator, X, y):
    """Return `aupro` of an estimator's maps; `y` are masks, such as those of `load_mvtec`."""
    return aupro(y, anomaly_map(estimator, X))
