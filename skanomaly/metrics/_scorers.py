"""Scorers with the signature ``scorer(estimator, X, y)``, for `GridSearchCV` and `cross_val_score`."""

import numpy as np

from ..maps import anomaly_map
from ._detection import f1_max, image_auroc, tnr_tpr
from ._localization import aupro, pixel_auroc


def _anomaly_score(estimator, X):
    score = getattr(estimator, "score_samples", None) or estimator.decision_function
    return -np.asarray(score(X))


def image_auroc_scorer(estimator, X, y):
    """Score an estimator by its `image_auroc`.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline with `score_samples` or `decision_function`.
    X : array-like of shape (n_samples, n_features), images or paths
        Test samples, in a form that the estimator accepts.
    y : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Labelled masks, such
        as those of `load_mvtec`, are accepted too.

    Returns
    -------
    float
        Area under the ROC curve, in [0, 1].

    See Also
    --------
    image_auroc : The metric itself, computed from labels and scores.
    """
    return image_auroc(y, _anomaly_score(estimator, X))


def f1_max_scorer(estimator, X, y):
    """Score an estimator by its `f1_max`.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline with `score_samples` or `decision_function`.
    X : array-like of shape (n_samples, n_features), images or paths
        Test samples, in a form that the estimator accepts.
    y : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Labelled masks, such
        as those of `load_mvtec`, are accepted too.

    Returns
    -------
    float
        Largest F1 score, in [0, 1].

    See Also
    --------
    f1_max : The metric itself, computed from labels and scores.
    """
    return f1_max(y, _anomaly_score(estimator, X))


def tnr_scorer(estimator, X, y):
    """Score an estimator by its true-negative rate.

    Parameters
    ----------
    estimator : estimator
        Fitted detector with a threshold.
    X : array-like of shape (n_samples, n_features), images or paths
        Test samples, in a form that the estimator accepts.
    y : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Labelled masks, such
        as those of `load_mvtec`, are accepted too.

    Returns
    -------
    float
        Share of the normal samples that are predicted to be normal.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """
    return tnr_tpr(y, estimator.predict(X))[0]


def tpr_scorer(estimator, X, y):
    """Score an estimator by its true-positive rate.

    Parameters
    ----------
    estimator : estimator
        Fitted detector with a threshold.
    X : array-like of shape (n_samples, n_features), images or paths
        Test samples, in a form that the estimator accepts.
    y : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Labelled masks, such
        as those of `load_mvtec`, are accepted too.

    Returns
    -------
    float
        Share of the anomalies that are predicted to be anomalies.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """
    return tnr_tpr(y, estimator.predict(X))[1]


def pixel_auroc_scorer(estimator, X, y):
    """Score an estimator by the `pixel_auroc` of its anomaly maps.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline with anomaly maps, as accepted by `skanomaly.anomaly_map`.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Test images; a str is the path of a folder, or a glob pattern.
    y : sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images; for example those of `load_mvtec`.

    Returns
    -------
    float
        Area under the ROC curve, in [0, 1].

    See Also
    --------
    pixel_auroc : The metric itself, computed from masks and maps.
    """
    return pixel_auroc(y, anomaly_map(estimator, X))


def aupro_scorer(estimator, X, y):
    """Score an estimator by the `aupro` of its anomaly maps.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline with anomaly maps, as accepted by `skanomaly.anomaly_map`.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Test images; a str is the path of a folder, or a glob pattern.
    y : sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images; for example those of `load_mvtec`.

    Returns
    -------
    float
        Area under the per-region-overlap curve up to a false-positive rate of 0.3, in [0, 1].

    See Also
    --------
    aupro : The metric itself, computed from masks and maps.
    """
    return aupro(y, anomaly_map(estimator, X))
