"""Pixels of masks and maps in one row, and the per-region-overlap curve over them."""

import numpy as np

from .ranking import cut, weighted_curve
from .regions import label_regions


def flatten_pixels(masks, anomaly_maps):
    """Return all pixels seen, of all images, with the defect region each belongs to.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like (H, W)
        True (or non-zero) on defects.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like (H, W)
        Higher for anomalies; NaN pixels are left out.

    Returns
    -------
    scores : ndarray of shape (n_pixels,)
    defect : ndarray of shape (n_pixels,), bool
    region : ndarray of shape (n_pixels,), int
        Number of the connected region (8 neighbours), counted over all images; 0 for normal pixels.

    Raises
    ------
    ValueError
        For sizes that differ, or pixels of one kind only.
    """
    if len(masks) != len(anomaly_maps):
        raise ValueError(f"masks has {len(masks)} images, anomaly_maps has {len(anomaly_maps)}.")
    scores, regions, n_regions = [], [], 0
    for i, (mask, score_map) in enumerate(zip(masks, anomaly_maps, strict=True)):
        mask, score_map = np.asarray(mask), np.asarray(score_map)
        if mask.ndim != 2 or mask.shape != score_map.shape:
            raise ValueError(f"image {i}: masks has shape {mask.shape}, anomaly_maps {score_map.shape}.")
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
            f"masks mark {defect.sum()} of {len(defect)} pixels; both defects and normal pixels are needed."
        )
    return scores, defect, regions


def pro_curve(masks, anomaly_maps, max_fpr=1.0):
    """Return the mean share of a defect region above a threshold against the share of normal pixels above it.

    Parameters
    ----------
    masks, anomaly_maps
        As in `flatten_pixels`.
    max_fpr : float, default=1.0
        Where the curve ends, interpolated linearly; in (0, 1].

    Returns
    -------
    fpr, pro : ndarray of shape (n_points,), float64
        From fpr 0 (threshold above every score) to `max_fpr`.

    Raises
    ------
    ValueError
        For sizes that differ, pixels of one kind only, or another `max_fpr`.

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
