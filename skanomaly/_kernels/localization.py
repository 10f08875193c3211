"""Per-region-overlap curves, computed from the pixels of all masks and maps."""

import numpy as np

from .ranking import cut, weighted_curve
from .regions import label_regions


def flatten_pixels(masks, anomaly_maps):
    """Return the scores of the pixels of all images, with the defect region that each pixel belongs to.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are ignored.

    Returns
    -------
    scores : ndarray of shape (n_pixels,)
        Anomaly scores.
    defect : ndarray of shape (n_pixels,), bool
        True on defects.
    region : ndarray of shape (n_pixels,), int
        Number of the connected region (8-connectivity), counted over all images; 0 for normal pixels.

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels.
    """
    if len(masks) != len(anomaly_maps):
        raise ValueError(f"masks has {len(masks)} images, but anomaly_maps has {len(anomaly_maps)}.")
    scores, regions, n_regions = [], [], 0
    for i, (mask, score_map) in enumerate(zip(masks, anomaly_maps, strict=True)):
        mask, score_map = np.asarray(mask), np.asarray(score_map)
        if mask.ndim != 2 or mask.shape != score_map.shape:
            raise ValueError(f"image {i}: the mask has shape {mask.shape}, but the map has shape {score_map.shape}.")
        labels, count = label_regions(mask != 0)
        labels[labels > 0] += n_regions
        n_regions += count
        seen = ~np.isnan(score_map)
        scores.append(score_map[seen])
        regions.append(labels[seen])
    scores, regions = np.concatenate(scores), np.concatenate(regions)
    defect = regions > 0
    if defect.all() or not defect.any():
        raise ValueError(
            f"masks mark {defect.sum()} of {len(defect)} pixels; both defective and normal pixels are needed."
        )
    return scores, defect, regions


def pro_curve(masks, anomaly_maps, max_fpr=1.0):
    """Return the curve of the mean share of a defect region against the share of normal pixels above a threshold.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are ignored.
    max_fpr : float, default=1.0
        Upper limit of the false-positive rate, in (0, 1], at which the curve is interpolated linearly.

    Returns
    -------
    fpr : ndarray of shape (n_points,), float64
        False-positive rates, from 0 (threshold above every score) to `max_fpr`.
    pro : ndarray of shape (n_points,), float64
        Per-region overlaps.

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, there are no defective or no normal pixels, or `max_fpr` is not in
        (0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly._kernels.localization import pro_curve
    >>> fpr, pro = pro_curve(np.array([[[1, 1, 0, 0]]]), np.array([[[4, 2, 3, 1]]]))
    >>> fpr.tolist(), pro.tolist()
    ([0.0, 0.0, 0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0, 1.0])
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr={max_fpr} is not accepted; it must be in (0, 1].")
    scores, defect, region = flatten_pixels(masks, anomaly_maps)
    area = np.bincount(region)
    n_regions = np.count_nonzero(area[1:])
    weight = np.where(defect, 1 / (np.maximum(area, 1)[region] * n_regions), 0)
    fpr, pro = weighted_curve(scores, weight, ~defect / (~defect).sum())
    return cut(fpr, pro, max_fpr)
