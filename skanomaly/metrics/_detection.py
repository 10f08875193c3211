"""One score per sample."""

import numpy as np
from sklearn.metrics import precision_recall_curve, roc_auc_score
from sklearn.utils.validation import check_array, check_consistent_length

from .._inputs.labels import anomalous


def _checked(y_true, values, name):
    truth = anomalous(y_true, "y_true")
    values = check_array(values, ensure_2d=False, input_name=name)
    check_consistent_length(truth, values)
    if truth.all() or not truth.any():
        raise ValueError(f"y_true has {truth.sum()} anomalies among {len(truth)} samples; both kinds are needed.")
    return truth, values


def image_auroc(y_true, anomaly_score):
    """Return the area under the ROC curve: how often an anomaly scores above a normal sample.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        +1 and -1, or booleans (True = anomaly).
    anomaly_score : array-like of shape (n_samples,)
        Higher for anomalies: ``-detector.score_samples(X)``.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        For other labels (0/1 in particular, for which there are two opposite conventions), or one kind only.

    Examples
    --------
    >>> from skanomaly.metrics import image_auroc
    >>> image_auroc([1, 1, -1], [0.1, 0.4, 0.3])
    0.5
    """
    return float(roc_auc_score(*_checked(y_true, anomaly_score, "anomaly_score")))


def f1_max(y_true, anomaly_score):
    """Return the largest F1 of the anomalies over all thresholds.

    The threshold is chosen on the test labels, hence optimistic: for comparing scores, not for what to expect.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        +1 and -1, or booleans (True = anomaly).
    anomaly_score : array-like of shape (n_samples,)
        Higher for anomalies.

    Returns
    -------
    float

    Examples
    --------
    >>> from skanomaly.metrics import f1_max
    >>> round(f1_max([1, 1, -1], [0.1, 0.4, 0.3]), 3)
    0.667
    """
    precision, recall, _ = precision_recall_curve(*_checked(y_true, anomaly_score, "anomaly_score"))
    both = precision + recall
    return float(np.max(2 * precision * recall / np.where(both > 0, both, 1)))


def tnr_tpr(y_true, y_pred):
    """Return the share of normal samples called normal, and of anomalies called anomalies.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        +1 and -1, or booleans (True = anomaly).

    Returns
    -------
    tnr, tpr : float

    Examples
    --------
    >>> from skanomaly.metrics import tnr_tpr
    >>> tnr_tpr([1, 1, -1, -1], [1, -1, -1, -1])
    (0.5, 1.0)
    """
    truth, flagged = _checked(y_true, anomalous(y_pred, "y_pred"), "y_pred")
    return float(1 - flagged[~truth].mean()), float(flagged[truth].mean())
