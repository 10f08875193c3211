"""Pixels of masks and maps as weighted scores, and the curves over all thresholds computed from them."""

from collections import namedtuple
from numbers import Integral

import numpy as np

from .ranking import area_under, average_precision, cut, f1_max, weighted_curve
from .regions import label_regions
from .score_counts import ScoreCounts


class PixelCurves(namedtuple("PixelCurves", "normal defect overlap n_regions")):
    """Pixels at or above every distinct score, from none (threshold above every score) to all.

    Parameters
    ----------
    normal : ndarray of shape (..., n_distinct + 1), float64
        Numbers of normal pixels.
    defect : ndarray of shape (..., n_distinct + 1), float64
        Numbers of defective pixels.
    overlap : ndarray of shape (..., n_distinct + 1), float64
        Covered shares of the defect regions, summed over the regions.
    n_regions : int or ndarray of shape (...)
        Number of defect regions.
    """

    __slots__ = ()

    def auroc(self):
        """Return the area under the ROC curve."""
        return area_under(self._fpr(), self.defect / self.defect[..., -1:])

    def average_precision(self):
        """Return the average precision."""
        return average_precision(self.normal, self.defect)

    def f1_max(self):
        """Return the largest F1 score."""
        return f1_max(self.normal, self.defect)

    def aupro(self, max_fpr):
        """Return the area under the curve of the mean covered share of a region, up to a false-positive rate."""
        return area_under(*self.pro_curve(), max_fpr)

    def pro_curve(self):
        """Return the false-positive rates and the mean covered shares of a region."""
        return self._fpr(), self.overlap / np.asarray(self.n_regions)[..., None]

    def _fpr(self):
        return self.normal / self.normal[..., -1:]


def pixel_curves(pairs, saturation=None, *, max_distinct=None):
    """Return the curves of the pixels of all images.

    Parameters
    ----------
    pairs : iterable of (array-like of shape (H, W), array-like of shape (H, W))
        Defect mask, True (or non-zero) on defects, and anomaly map, higher for anomalies, of each image. NaN pixels of
        maps are ignored.
    saturation : int, float or None, default=None
        Area at which a region counts as covered; see `image_pixels`.
    max_distinct : int, default=None
        Largest number of distinct scores, which are rounded as little as that allows; the maps may then come from a
        generator and are released one by one. None keeps all scores as they are.

    Returns
    -------
    PixelCurves
        Curves.

    Raises
    ------
    ValueError
        If the sizes of masks and maps differ, or there are no defective or no normal pixels.
    """
    images = _images(pairs, saturation)
    normal, defect, overlap, n_regions = (_all_at_once if max_distinct is None else _counted)(images, max_distinct)
    if not normal[-1] or not defect[-1]:
        raise ValueError(
            f"masks mark {defect[-1]:.0f} of {normal[-1] + defect[-1]:.0f} pixels; both defective and normal pixels "
            "are needed."
        )
    return PixelCurves(normal, defect, overlap, n_regions)


def _images(pairs, saturation):
    for i, (mask, score_map) in enumerate(pairs):
        score_map = np.asarray(score_map)
        shape = np.shape(mask)
        if len(shape) != 2 or shape != score_map.shape:
            raise ValueError(f"image {i}: the mask has shape {shape}, but the map has shape {score_map.shape}.")
        yield image_pixels(mask, score_map, saturation)


def _all_at_once(images, _):
    scores, weights, n_regions = zip(*images, strict=True)
    scores, weights = np.concatenate(scores), np.concatenate(weights, axis=1)
    return *weighted_curve(scores, *weights), sum(n_regions)


def _counted(images, max_distinct):
    counts, n_regions = ScoreCounts(max_distinct), 0
    for scores, weights, n in images:
        counts.add(scores, weights)
        n_regions += n
    return *counts.curves(), n_regions


def image_pixels(mask, score_map, saturation=None):
    """Return the pixels of an image that a detector looked at, as scores with weights.

    Parameters
    ----------
    mask : array-like of shape (H, W)
        Defect mask: True (or non-zero) on defects. Its connected regions (8-connectivity) are the defect regions,
        unless there is a `saturation` and it has the attribute `regions`, a sequence of (mask, saturation area in
        pixels), which may overlap.
    score_map : ndarray of shape (H, W)
        Anomaly map. NaN pixels are left out.
    saturation : int, float or None, default=None
        Area at which a region counts as covered: an int is a number of pixels (at most all), a float a share of the
        region. Not used for masks with `regions`. None is the whole connected region of every mask.

    Returns
    -------
    scores : ndarray of shape (n_pixels,)
        Anomaly scores.
    weights : ndarray of shape (3, n_pixels), float64
        1 for normal pixels, 1 for defective pixels, and what each pixel adds to the covered shares of the regions if
        they are covered from their highest score down. The last sums to 1 over each region.
    n_regions : int
        Number of regions, of which at least one pixel is seen.
    """
    seen = ~np.isnan(score_map)
    scores = score_map[seen]
    given = saturation is not None and hasattr(mask, "regions")
    regions, defect = (_given_regions if given else _connected_regions)(mask, seen, saturation)
    overlap = np.zeros(len(scores))
    for pixels, area in regions:
        ranked = pixels[np.argsort(scores[pixels], kind="stable")[::-1]]
        overlap[ranked] += np.clip(area - np.arange(len(ranked)), 0, 1) / area
    return scores, np.array([~defect, defect, overlap]), len(regions)


def _connected_regions(mask, seen, saturation):
    """Return (pixels, saturation area) of each connected region, and the defective pixels, of those that are seen."""
    labels = label_regions(np.asarray(mask) != 0)[0][seen]
    areas = np.bincount(labels, minlength=1)
    by_region = np.split(np.argsort(labels, kind="stable"), np.cumsum(areas)[:-1])[1:]
    regions = [pixels for pixels in by_region if len(pixels)]
    return [(pixels, saturated(len(pixels), saturation)) for pixels in regions], labels > 0


def _given_regions(mask, seen, _):
    defect, regions = np.zeros(np.count_nonzero(seen), bool), []
    for region, area in mask.regions:
        inside = np.asarray(region, bool)[seen]
        defect |= inside
        if inside.any():
            regions.append((np.flatnonzero(inside), min(area, np.count_nonzero(inside))))
    return regions, defect


def saturated(area, saturation):
    """Return the saturation area of a region: a number of pixels (int), a share (float) or all (None) of its area."""
    if saturation is None:
        return area
    return min(saturation, area) if isinstance(saturation, Integral) else saturation * area


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
    check_max_fpr(max_fpr)
    masks, anomaly_maps = with_known_masks(masks, anomaly_maps)
    check_lengths(masks, anomaly_maps)
    return cut(*pixel_curves(zip(masks, anomaly_maps, strict=True)).pro_curve(), max_fpr)


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


def check_max_fpr(max_fpr):
    """Raise a ValueError if an upper limit of the false-positive rate is not in (0, 1]."""
    if not 0 < max_fpr <= 1:
        raise ValueError(f"max_fpr={max_fpr} is not accepted; it must be in (0, 1].")


def check_lengths(masks, anomaly_maps):
    """Raise a ValueError if there are not as many masks as maps."""
    if len(masks) != len(anomaly_maps):
        raise ValueError(f"masks has {len(masks)} images, but anomaly_maps has {len(anomaly_maps)}.")
