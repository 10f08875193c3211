"""Metrics of one anomaly score per sample."""

import numpy as np
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from sklearn.utils.validation import check_array, check_consistent_length

from .._inputs.labels import anomalous


def _checked(y_true, values, name):
    truth = anomalous(y_true, "y_true")
    values = check_array(values, ensure_2d=False, input_name=name)
    check_consistent_length(truth, values)
    if truth.all() or not truth.any():
        raise ValueError(f"y_true has {truth.sum()} anomalies among {len(truth)} samples; both classes are needed.")
    return truth, values


def image_auroc(y_true, anomaly_score):
    """Compute the area under the ROC curve of one score per sample.

    This is the probability that a random anomaly scores higher than a random normal sample, with ties counted as one
    half.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies).
    anomaly_score : array-like of shape (n_samples,)
        Anomaly scores, higher for anomalies: ``-detector.score_samples(X)``.

    Returns
    -------
    float
        Area under the ROC curve, in [0, 1].

    Raises
    ------
    ValueError
        If the labels have any other values (0 and 1 are refused because two opposite conventions exist) or only one
        class is present.

    See Also
    --------
    image_ap : Average precision, which suits rare anomalies.
    f1_max : Largest F1 score over all thresholds.
    image_auroc_scorer : The same metric as a scorer for model selection.
    pixel_auroc : Area under the ROC curve of all pixels.

    Examples
    --------
    >>> from skanomaly.metrics import image_auroc
    >>> image_auroc([1, 1, -1], [0.1, 0.4, 0.3])
    0.5
    """
    return float(roc_auc_score(*_checked(y_true, anomaly_score, "anomaly_score")))


def image_ap(y_true, anomaly_score):
    """Compute the average precision of one score per sample.

    This is the area under the precision-recall curve, with anomalies as the positive class. Where anomalies are rare,
    it tells detectors apart that the area under the ROC curve does not.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies).
    anomaly_score : array-like of shape (n_samples,)
        Anomaly scores, higher for anomalies: ``-detector.score_samples(X)``.

    Returns
    -------
    float
        Average precision, in [0, 1]. That of an uninformative score is the share of the anomalies.

    Raises
    ------
    ValueError
        If the labels have any other values (0 and 1 are refused because two opposite conventions exist) or only one
        class is present.

    See Also
    --------
    image_auroc : Area under the ROC curve.
    image_ap_scorer : The same metric as a scorer for model selection.

    Examples
    --------
    >>> from skanomaly.metrics import image_ap
    >>> image_ap([1, 1, -1], [0.1, 0.4, 0.3])
    0.5
    """
    return float(average_precision_score(*_checked(y_true, anomaly_score, "anomaly_score")))


def f1_max(y_true, anomaly_score):
    """Compute the largest F1 score of the anomaly class over all thresholds.

    The threshold is chosen on the test labels, so the value is optimistic: use it to compare anomaly scores, not to
    predict the performance on new data.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies).
    anomaly_score : array-like of shape (n_samples,)
        Anomaly scores, higher for anomalies: ``-detector.score_samples(X)``.

    Returns
    -------
    float
        Largest F1 score, in [0, 1].

    Raises
    ------
    ValueError
        If the labels have any other values (0 and 1 are refused because two opposite conventions exist) or only one
        class is present.

    See Also
    --------
    f1_max_scorer : The same metric as a scorer for model selection.
    image_auroc : Area under the ROC curve, which needs no threshold.
    tnr_tpr : Rates at the threshold of a detector.

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
    """Compute the true-negative and the true-positive rate of predicted labels.

    Anomalies are the positive class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies).
    y_pred : array-like of shape (n_samples,)
        Predicted labels, in the same form as `y_true`.

    Returns
    -------
    tnr : float
        Share of the normal samples that are predicted to be normal.
    tpr : float
        Share of the anomalies that are predicted to be anomalies.

    Raises
    ------
    ValueError
        If the labels have any other values (0 and 1 are refused because two opposite conventions exist) or only one
        class is present.

    See Also
    --------
    f1_max : Largest F1 score over all thresholds.
    tnr_scorer : The true-negative rate as a scorer for model selection.
    tpr_scorer : The true-positive rate as a scorer for model selection.

    Examples
    --------
    >>> from skanomaly.metrics import tnr_tpr
    >>> tnr_tpr([1, 1, -1, -1], [1, -1, -1, -1])
    (0.5, 1.0)
    """
    truth, flagged = _checked(y_true, anomalous(y_pred, "y_pred"), "y_pred")
    return float(1 - flagged[~truth].mean()), float(flagged[truth].mean())
