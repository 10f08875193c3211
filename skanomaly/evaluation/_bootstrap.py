"""Metrics of bootstrap samples of the test images of a data set."""

import numpy as np

from .._kernels.localization import PixelCurves

_CHUNK = 100  # bootstrap samples whose curves are in memory at a time


def drawn_counts(anomalies, n_draws, rng):
    """Draw images with replacement, normal images and anomalies separately.

    Parameters
    ----------
    anomalies : ndarray of shape (n,), bool
        True for anomalies.
    n_draws : int
        Number of bootstrap samples.
    rng : numpy.random.Generator
        Source of the draws.

    Returns
    -------
    ndarray of shape (n_draws, n), float64
        Number of times that each image is drawn.
    """
    counts = np.zeros((n_draws, len(anomalies)))
    for kind in (np.flatnonzero(~anomalies), np.flatnonzero(anomalies)):
        if len(kind):
            counts[:, kind] = rng.multinomial(len(kind), np.full(len(kind), 1 / len(kind)), size=n_draws)
    return counts


def image_metrics(anomalies, scores, counts):
    """Compute the metrics of one score per image, of bootstrap samples.

    Parameters
    ----------
    anomalies : ndarray of shape (n,), bool
        True for anomalies; both kinds are present.
    scores : ndarray of shape (n,), float64
        Anomaly scores.
    counts : ndarray of shape (n_draws, n), float64
        Number of times that each image is drawn.

    Returns
    -------
    dict of ndarray of shape (n_draws,), float64
        Metrics by name.
    """
    distinct, place = np.unique(-scores, return_inverse=True)
    bins = np.zeros((len(scores), len(distinct)))
    bins[np.arange(len(scores)), place] = 1
    return _by_chunk(counts, lambda drawn: _of_images(drawn, bins, anomalies))


def _of_images(drawn, bins, anomalies):
    normal, defect = (_cumulated(drawn[:, kind] @ bins[kind]) for kind in (~anomalies, anomalies))
    curves = PixelCurves(normal, defect, None, None)
    return {"image_auroc": curves.auroc(), "image_ap": curves.average_precision(), "f1_max": curves.f1_max()}


def pixel_metrics(histograms, n_regions, counts):
    """Compute the metrics of anomaly maps, of bootstrap samples.

    Parameters
    ----------
    histograms : ndarray of shape (3, n, n_distinct), float64
        Numbers of normal and of defective pixels, and covered shares of regions, for each image and rounded score, from
        the highest score down; see `ScoreCountsByImage`.
    n_regions : ndarray of shape (n,)
        Number of defect regions of each image.
    counts : ndarray of shape (n_draws, n), float64
        Number of times that each image is drawn.

    Returns
    -------
    dict of ndarray of shape (n_draws,), float64
        Metrics by name; NaN for samples without defective pixels.
    """
    return _by_chunk(counts, lambda drawn: _of_pixels(drawn, histograms, n_regions))


def _of_pixels(drawn, histograms, n_regions):
    with np.errstate(invalid="ignore", divide="ignore"):  # samples without defective pixels
        return values_of(PixelCurves(*(_cumulated(drawn @ part) for part in histograms), drawn @ n_regions))


def values_of(curves):
    """Compute all metrics of anomaly maps.

    Parameters
    ----------
    curves : PixelCurves
        Curves of all pixels.

    Returns
    -------
    dict of float or ndarray
        Metrics by name.
    """
    return {
        "pixel_auroc": curves.auroc(),
        "pixel_ap": curves.average_precision(),
        "pixel_f1_max": curves.f1_max(),
        "aupro": curves.aupro(0.3),
    }


def rates(anomalies, flagged, counts):
    """Compute the true-negative and the true-positive rate, of bootstrap samples.

    Parameters
    ----------
    anomalies : ndarray of shape (n,), bool
        True for anomalies.
    flagged : ndarray of shape (n,), bool
        True for flagged images.
    counts : ndarray of shape (n_draws, n), float64
        Number of times that each image is drawn.

    Returns
    -------
    tnr : ndarray of shape (n_draws,), float64
        Shares of the normal images that are not flagged; NaN if there are none.
    tpr : ndarray of shape (n_draws,), float64
        Shares of the anomalies that are flagged; NaN if there are none.
    """
    right = np.where(anomalies, flagged, ~flagged)
    kinds = (~anomalies, anomalies)
    with np.errstate(invalid="ignore"):
        return tuple(counts[:, kind] @ right[kind] / np.count_nonzero(kind) for kind in kinds)


def _by_chunk(counts, function):
    parts = [function(counts[start : start + _CHUNK]) for start in range(0, len(counts), _CHUNK)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _cumulated(histogram):
    return np.concatenate([np.zeros((len(histogram), 1)), np.cumsum(histogram, axis=1)], axis=1)
