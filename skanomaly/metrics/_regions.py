"""Metrics of predicted masks, region by region."""

import numpy as np

from .._kernels.localization import check_lengths, with_known_masks
from .._kernels.regions import label_regions


def region_hit_rate(masks, predicted_masks, *, min_overlap=0.0):
    """Compute the share of the defect regions that predicted masks hit.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images. Images whose masks are not known
        (``mask.known`` is False) are left out. Their connected regions (8-connectivity) are the defect regions.
    predicted_masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Predicted masks: ``detector.anomaly_mask(X)``.
    min_overlap : float, default=0.0
        Share of the pixels of a region that must be in the predicted mask, in [0, 1]; for 0, one pixel is enough.

    Returns
    -------
    float
        Share of the regions that are hit, in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of the masks differ, there are no defective pixels, or `min_overlap` is not in [0, 1].

    See Also
    --------
    region_iou : Agreement of the regions with what is predicted there, which also counts what is too much.
    region_hit_rate_scorer : The same metric as a scorer for model selection.

    Examples
    --------
    >>> from skanomaly.metrics import region_hit_rate
    >>> region_hit_rate([[[1, 1, 0, 1]]], [[[0, 1, 0, 0]]])
    0.5
    """
    if not 0 <= min_overlap <= 1:
        raise ValueError(f"min_overlap={min_overlap} is not accepted; it must be in [0, 1].")
    return _mean_over_regions(masks, predicted_masks, lambda *images: _hits(*images, min_overlap))


def region_iou(masks, predicted_masks):
    r"""Compute the mean intersection over union of each defect region with what is predicted there.

    Let :math:`C_1 \dots C_K` be the connected defect regions (8-connectivity) of an image, and :math:`P_k` the
    union of the connected predicted regions that share a pixel with :math:`C_k`. The mean, over the regions of all
    images, is that of

    .. math:: \frac{|C_k \cap P_k|}{|C_k \cup P_k \setminus \bigcup_{j \ne k} C_j|}

    so that a predicted region that covers two defects is not wrong for either of them. Every region counts the same,
    whatever its size; predicted regions that touch no defect do not count.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images. Images whose masks are not known
        (``mask.known`` is False) are left out.
    predicted_masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Predicted masks: ``detector.anomaly_mask(X)``.

    Returns
    -------
    float
        Mean intersection over union, in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of the masks differ, or there are no defective pixels.

    See Also
    --------
    region_hit_rate : Share of the regions that are hit at all.
    region_iou_scorer : The same metric as a scorer for model selection.

    References
    ----------
    Chan et al., "SegmentMeIfYouCan: A Benchmark for Anomaly Segmentation", NeurIPS 2021, whose adjusted intersection
    over union this is.

    Examples
    --------
    >>> from skanomaly.metrics import region_iou
    >>> region_iou([[[1, 1, 0, 1]]], [[[0, 1, 1, 0]]])  # 1 of 3 pixels, and the second region is missed
    0.16666666666666666
    """
    return _mean_over_regions(masks, predicted_masks, _ious)


def _mean_over_regions(masks, predicted_masks, values_of):
    masks, predicted_masks = with_known_masks(masks, predicted_masks)
    check_lengths(masks, predicted_masks)
    return mean_over_regions(zip(masks, predicted_masks, strict=True), values_of)


def mean_over_regions(pairs, values_of):
    """Return the mean of a value of every defect region of all images.

    Parameters
    ----------
    pairs : iterable of (array-like of shape (H, W), array-like of shape (H, W))
        Defect mask and predicted mask of each image, which are released one by one.
    values_of : callable
        Function of the numbers of the region of each pixel, the number of regions and a predicted mask, that returns
        the values of the regions.

    Returns
    -------
    float
        Mean over the regions.

    Raises
    ------
    ValueError
        If the sizes of the masks differ, or there are no defective pixels.
    """
    values = []
    for i, (mask, predicted) in enumerate(pairs):
        mask, predicted = np.asarray(mask) != 0, np.asarray(predicted) != 0
        if mask.ndim != 2 or mask.shape != predicted.shape:
            raise ValueError(
                f"image {i}: the mask has shape {mask.shape}, but the predicted mask has shape {predicted.shape}."
            )
        values.extend(values_of(*label_regions(mask), predicted))
    if not values:
        raise ValueError("masks mark no pixels; defective pixels are needed.")
    return float(np.mean(values))


def _hits(labels, n_regions, predicted, min_overlap=0.0):
    area, covered = (np.bincount(part, minlength=n_regions + 1)[1:] for part in (labels.ravel(), labels[predicted]))
    return covered >= np.maximum(np.ceil(min_overlap * area - 1e-9), 1)  # 0.55 * 100 is a hair above 55


def _ious(labels, n_regions, predicted):
    found, n_found = label_regions(predicted)
    both = labels.ravel() * (n_found + 1) + found.ravel()
    pairs = np.bincount(both, minlength=(n_regions + 1) * (n_found + 1)).reshape(n_regions + 1, n_found + 1)
    common, outside = pairs[1:, 1:], pairs[0, 1:]
    excess = (common > 0) @ outside  # predicted pixels of the regions that touch, on no defect
    return common.sum(axis=1) / (pairs[1:].sum(axis=1) + excess)


VALUES = {"region_hit_rate": _hits, "region_iou": _ious}
