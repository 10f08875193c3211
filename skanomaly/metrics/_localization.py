"""Metrics of one anomaly score per pixel."""

from numbers import Integral

from .._kernels.localization import check_lengths, check_max_fpr, pixel_curves, with_known_masks


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
    pixel_ap : Average precision, which suits small defects.
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
    return float(_curves(masks, anomaly_maps).auroc())


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
    auspro : The same for regions that count as covered before all of their pixels are.
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
    check_max_fpr(max_fpr)
    return float(_curves(masks, anomaly_maps).aupro(max_fpr))


def pixel_ap(masks, anomaly_maps):
    """Compute the average precision of all pixels of all images.

    This is the area under the precision-recall curve, with defective pixels as the positive class. Where defects are
    small, it tells detectors apart that the area under the ROC curve does not.

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
        Average precision, in [0, 1]. That of an uninformative map is the share of the defective pixels.

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels.

    See Also
    --------
    pixel_auroc : Area under the ROC curve of all pixels.
    pixel_ap_scorer : The same metric as a scorer for model selection.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import pixel_ap
    >>> mask = np.array([[[0, 1], [0, 0]]])
    >>> pixel_ap(mask, np.array([[[0.1, 0.3], [0.2, 0.9]]]))
    0.5
    """
    return float(_curves(masks, anomaly_maps).average_precision())


def pixel_f1_max(masks, anomaly_maps):
    """Compute the largest F1 score of the defective pixels over all thresholds.

    The threshold is chosen with the true masks, so the value is optimistic.

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
        Largest F1 score, in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels.

    See Also
    --------
    f1_max : The same metric of one score per sample.
    pixel_ap : Average precision, which needs no threshold.
    pixel_f1_max_scorer : The same metric as a scorer for model selection.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import pixel_f1_max
    >>> mask = np.array([[[0, 1], [0, 0]]])
    >>> round(pixel_f1_max(mask, np.array([[[0.1, 0.3], [0.2, 0.9]]])), 3)
    0.667
    """
    return float(_curves(masks, anomaly_maps).f1_max())


def auspro(masks, anomaly_maps, *, saturation=1.0, max_fpr=0.05):
    r"""Compute the area under the saturated per-region-overlap (sPRO) curve.

    Some defects need not be covered as a whole: of a region where a part is missing, as much as the part would fill is
    enough. With the saturation area :math:`s_k` of each defect region :math:`C_k`, the pixels P above a threshold and
    the normal pixels N of all images,

    .. math::

        \frac{1}{f} \int_0^f \mathrm{sPRO} \; d\,\mathrm{FPR}, \qquad
        \mathrm{sPRO} = \frac{1}{K} \sum_k \min\left(\frac{|P \cap C_k|}{s_k}, 1\right), \qquad
        \mathrm{FPR} = \frac{|P \cap N|}{|N|}

    If every saturation area is the area of the region, this is `aupro`.

    Parameters
    ----------
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Defect masks: True (or non-zero) on defects, empty for normal images. Images whose masks are not known
        (``mask.known`` is False) are left out. The connected regions (8-connectivity) of a mask are its defect regions,
        unless it lists them with their saturation areas as ``mask.regions``, as the masks of `load_mvtec_loco` do.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are ignored.
    saturation : int or float, default=1.0
        Saturation area of the regions of masks that do not list them: an int is a number of pixels, a float a share of
        the area of the region, in (0, 1]. Smaller regions saturate at their own area.
    max_fpr : float, default=0.05
        Upper limit f of the false-positive rate, in (0, 1].

    Returns
    -------
    float
        Area under the curve up to `max_fpr`, divided by `max_fpr`; in [0, 1].

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels, or
        `saturation` or `max_fpr` is out of range.

    See Also
    --------
    aupro : The metric without saturation, and with another limit.
    auspro_scorer : The same metric as a scorer for model selection.
    skanomaly.datasets.load_mvtec_loco : Load MVTec LOCO AD, with the saturation areas of its defects.

    References
    ----------
    Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
    Localization", IJCV 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.metrics import auspro
    >>> mask = np.zeros((1, 8, 8), bool)
    >>> mask[0, 2:4, 2:4] = True
    >>> found = np.zeros((1, 8, 8))
    >>> found[0, 2, 2:4] = 1
    >>> round(auspro(mask, found), 4), auspro(mask, found, saturation=2)
    (0.5125, 1.0)
    """
    check_max_fpr(max_fpr)
    if not (saturation >= 1 if isinstance(saturation, Integral) else 0 < saturation <= 1):
        raise ValueError(
            f"saturation={saturation!r} is not accepted; it must be a number of pixels (an int of at least 1) or a "
            "share of each region (a float in (0, 1])."
        )
    return float(_curves(masks, anomaly_maps, saturation).aupro(max_fpr))


def _curves(masks, anomaly_maps, saturation=None):
    masks, anomaly_maps = with_known_masks(masks, anomaly_maps)
    check_lengths(masks, anomaly_maps)
    if not len(masks):
        raise ValueError("masks holds no known mask; at least one with a defect is needed.")
    return pixel_curves(zip(masks, anomaly_maps, strict=True), saturation)
