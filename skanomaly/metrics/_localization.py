"""One score per pixel."""

from .._kernels.localization import flatten_pixels, pro_curve
from .._kernels.ranking import area_under, weighted_curve


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
    scores, defect, _ = flatten_pixels(masks, anomaly_maps)
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
    return area_under(*pro_curve(masks, anomaly_maps, max_fpr), max_fpr)
