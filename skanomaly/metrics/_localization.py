"""One score per pixel."""

import numpy as np

from .._kernels.ranking import area_under, weighted_curve
from .._kernels.regions import label_regions


def pixel_auroc(masks, anomaly_maps):
    """Return the area under the ROC curve over all pixels of all images.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like (H, W)
        True (or non-zero) on defects; those of normal images are empty.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like (H, W)
        Higher for anomalies; NaN pixels are left out.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import pixel_auroc
    >>> mask = np.array([[[0, 1], [0, 0]]])
    >>> pixel_auroc(mask, np.array([[[0.1, 0.9], [0.2, 0.3]]]))
    1.0
    """
    scores, defect, _ = _flatten(masks, anomaly_maps)
    negative_share, positive_share = weighted_curve(scores, defect / defect.sum(), ~defect / (~defect).sum())
    return area_under(negative_share, positive_share)


def aupro(masks, anomaly_maps, *, max_fpr=0.3):
    r"""Return the area under the per-region-overlap curve, exactly.

    With P the pixels above a threshold, :math:`C_1 \dots C_K` the connected defect regions (8 neighbours) and N the
    normal pixels of all images, over all thresholds:

    .. math::

        \frac{1}{f} \int_0^f \mathrm{PRO} \; d\,\mathrm{FPR}, \qquad
        \mathrm{PRO} = \frac{1}{K} \sum_k \frac{|P \cap C_k|}{|C_k|}, \qquad
        \mathrm{FPR} = \frac{|P \cap N|}{|N|}

    Every region counts the same, whatever its size. The curve is interpolated linearly at f. A map that knows nothing
    scores f / 2.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like (H, W)
        True (or non-zero) on defects; those of normal images are empty.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like (H, W)
        Higher for anomalies. NaN pixels are left out: a region that a centre crop cuts counts with the rest of its
        pixels, one that lies outside does not count.
    max_fpr : float, default=0.3
        The limit f, in (0, 1].

    Returns
    -------
    float
        In [0, 1].

    References
    ----------
    Bergmann et al., "Uninformed Students", CVPR 2020; "The MVTec Anomaly Detection Dataset", IJCV 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import aupro
    >>> mask = np.zeros((1, 8, 8), bool)
    >>> mask[0, 2:4, 2:4] = True
    >>> aupro(mask, mask.astype(float))
    1.0
    >>> round(aupro(mask, np.zeros((1, 8, 8))), 3)
    0.15
    """
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr={max_fpr} is not accepted; it must be in (0, 1].")
    scores, defect, region = _flatten(masks, anomaly_maps)
    area = np.bincount(region)
    n_regions = np.count_nonzero(area[1:])
    weight = np.where(defect, 1 / (np.maximum(area, 1)[region] * n_regions), 0)
    fpr, pro = weighted_curve(scores, weight, ~defect / (~defect).sum())
    return area_under(fpr, pro, max_fpr)


def _flatten(masks, anomaly_maps):
    """Return scores, defect flags and region numbers (0 for none) of all pixels seen."""
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
