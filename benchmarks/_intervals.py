"""Bootstrap intervals of the metrics, resampling normal and defective images separately."""

import numpy as np

from skanomaly._kernels.localization import image_pixels
from skanomaly._kernels.score_counts import ScoreCountsByImage
from skanomaly.evaluation._bootstrap import drawn_counts, image_metrics, pixel_metrics

_BINS = 4096


def intervals(y, scores, masks, maps, *, n_draws=200, random_state=0):
    """Return {metric: (2.5 %, 97.5 %)} for the image AUROC and, given maps, the pixel AUROC and the AU-PRO."""
    anomalies = np.asarray(y) == -1
    counts = drawn_counts(anomalies, n_draws, np.random.default_rng(random_state))
    found = image_metrics(anomalies, scores, counts)
    if maps is not None:
        found |= _of_maps(masks, maps, counts)
    return {name: _interval(found[name]) for name in ("image_auroc", "pixel_auroc", "aupro") if name in found}


def paired_pixel_aurocs(y, masks, *maps, n_draws=200, random_state=0):
    """Return (2.5 %, 97.5 %) of the pixel AUROCs of two lists of maps, and of their difference on equal samples."""
    counts = drawn_counts(np.asarray(y) == -1, n_draws, np.random.default_rng(random_state))
    areas = [_of_maps(masks, found, counts)["pixel_auroc"] for found in maps]
    return [_interval(values) for values in (*areas, areas[1] - areas[0])]


def _of_maps(masks, maps, counts):
    """Return the metrics of bootstrap samples; scores are rounded, which makes a sample a sum of histograms."""
    by_image, n_regions = ScoreCountsByImage(_BINS), []
    for mask, score_map in zip(masks, maps, strict=True):
        scores, weights, n = image_pixels(mask, score_map)
        by_image.add(scores, weights)
        n_regions.append(n)
    return pixel_metrics(by_image.histograms(), np.array(n_regions), counts)


def _interval(values):
    return tuple(np.nanquantile(values, (0.025, 0.975)))
