"""One scale for the values of all anomaly maps of a model, on which the threshold is in the middle."""

import numpy as np


def evidence(values, threshold, span):
    """Return the evidence of values for an anomaly, in [0, 1): 0.5 at the threshold.

    With ``x = max(values - threshold + span, 0)``, it is ``x / (x + span)``; if `span` is the threshold, this is
    ``values / (values + threshold)``.

    Parameters
    ----------
    values : ndarray of float
        Values of an anomaly map.
    threshold : float
        Threshold on maps.
    span : float
        Distance below the threshold at which there is no evidence, positive.

    Returns
    -------
    ndarray of float
        Evidence; NaN where the values are.
    """
    return 1 - span / (np.maximum(values - threshold + span, 0) + span)


def values_of(shares, threshold, span):
    """Return the values whose evidence is given; the inverse of `evidence`."""
    return threshold - span + span * np.asarray(shares) / (1 - np.asarray(shares))


def span_of(threshold, peaks):
    """Return the span of a model: the threshold if it is positive, otherwise the range of the calibration peaks."""
    return float(threshold if threshold > 0 else np.ptp(peaks) or abs(threshold) or 1.0)


def pooled_max(score_map, side):
    """Return the highest values of a map (H, W) in square cells, at most `side` along each axis; NaN is -inf."""
    seen = np.where(np.isnan(score_map), -np.inf, score_map)
    cell = -(-max(seen.shape) // side)
    rows, columns = (np.linspace(0, n, -(-n // cell), endpoint=False).astype(int) for n in seen.shape)
    return np.maximum.reduceat(np.maximum.reduceat(seen, rows, axis=0), columns, axis=1)
