"""Metrics of one anomaly score per pixel."""

from .._kernels.localization import flatten_pixels, pro_curve
from .._kernels.ranking import area_under, weighted_curve


def pixel_auroc(masks, anomaly_maps):
    """Compute the area under the ROC curve of all pixels of all images.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images. Images whose masks are not known
        (``mask.known`` is False) are left out.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are ignored.

    Returns
    -------
    float
        Area under the ROC curve, in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels.

    See Also
    --------
    aupro : Area under the per-region-overlap curve, in which every defect counts the same.
    image_auroc : Area under the ROC curve of one score per image.
    pixel_auroc_scorer : The same metric as a scorer for model selection.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import pixel_auroc
    >>> mask = np.array([[[0, 1], [0, 0]]])
    >>> pixel_auroc(mask, np.array([[[0.1, 0.9], [0.2, 0.3]]]))
    1.0
    """
    scores, defect, _ = flatten_pixels(*with_known_masks(masks, anomaly_maps))
    negative_share, positive_share = weighted_curve(scores, defect / defect.sum(), ~defect / (~defect).sum())
    return area_under(negative_share, positive_share)


def aupro(masks, anomaly_maps, *, max_fpr=0.3):
    r"""Compute the exact area under the per-region-overlap (PRO) curve.

    Let P be the pixels above a threshold, :math:`C_1 \dots C_K` the connected defect regions (8-connectivity) and N
    the normal pixels of all images. As the threshold varies,

    .. math::

        \frac{1}{f} \int_0^f \mathrm{PRO} \; d\,\mathrm{FPR}, \qquad
        \mathrm{PRO} = \frac{1}{K} \sum_k \frac{|P \cap C_k|}{|C_k|}, \qquad
        \mathrm{FPR} = \frac{|P \cap N|}{|N|}

    Every region counts the same, whatever its size. The curve is interpolated linearly at f. An uninformative map
    scores f / 2.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images. Images whose masks are not known
        (``mask.known`` is False) are left out.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are ignored: a region that is cut by a centre crop counts with
        its remaining pixels, and a region outside the crop does not count.
    max_fpr : float, default=0.3
        Upper limit f of the false-positive rate, in (0, 1].

    Returns
    -------
    float
        Area under the curve up to `max_fpr`, divided by `max_fpr`; in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels, or `max_fpr` is not in
        (0, 1].

    See Also
    --------
    aupro_scorer : The same metric as a scorer for model selection.
    pixel_auroc : Area under the ROC curve of all pixels.
    skanomaly.plotting.PROCurveDisplay : Plot of the curve.

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
    return area_under(*pro_curve(*with_known_masks(masks, anomaly_maps), max_fpr), max_fpr)


def with_known_masks(masks, anomaly_maps):
    """Leave out the images whose masks say that they are not known; see `skanomaly.datasets.load_image_folder`.

    Parameters
    ----------
    masks : sequence of n masks
        Defect masks.
    anomaly_maps : sequence of n arrays
        Anomaly maps.

    Returns
    -------
    masks : sequence
        Masks of the images whose masks are known.
    anomaly_maps : sequence
        Their anomaly maps.
    """
    known = [getattr(mask, "known", True) for mask in masks]
    if all(known) or len(known) != len(anomaly_maps):
        return masks, anomaly_maps
    return tuple([value for value, kept in zip(values, known, strict=True) if kept] for values in (masks, anomaly_maps))
