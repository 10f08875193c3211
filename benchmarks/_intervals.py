"""Bootstrap intervals of the metrics, resampling normal and defective images separately."""

import numpy as np
from scipy import ndimage

_BINS = 2000
_EIGHT = np.ones((3, 3))


def intervals(y, scores, masks, maps, *, n_draws=200, random_state=0, max_fpr=0.3):
    """Return {metric: (2.5 %, 97.5 %)} for the image AUROC and, given maps, the pixel AUROC and the AU-PRO.

    Pixel scores are binned by quantiles, which makes a bootstrap sample a weighted sum of the histograms of the images.
    """
    y = np.asarray(y)
    draws = _draws(y, n_draws, random_state)
    above = (scores[y == -1][:, None] > scores[y == 1]) + 0.5 * (scores[y == -1][:, None] == scores[y == 1])
    weighted = np.einsum("bi,ij,bj->b", draws[:, y == -1], above, draws[:, y == 1])
    found = {"image_auroc": weighted / (np.sum(y == -1) * np.sum(y == 1))}
    if maps is not None:
        normal, defect, regions, n_regions = _histograms(masks, maps)
        negatives, positives, overlap = draws @ normal, draws @ defect, draws @ regions
        found["pixel_auroc"] = _area(_share(negatives), _share(positives))
        found["aupro"] = _area(_share(negatives), np.cumsum(overlap, axis=1) / (draws @ n_regions)[:, None], max_fpr)
    return {name: tuple(np.quantile(values, (0.025, 0.975))) for name, values in found.items()}


def paired_pixel_aurocs(y, masks, *maps, n_draws=200, random_state=0):
    """Return (2.5 %, 97.5 %) of the pixel AUROCs of two lists of maps, and of their difference on equal samples."""
    draws, areas = _draws(np.asarray(y), n_draws, random_state), []
    for found in maps:
        normal, defect, _, _ = _histograms(masks, found)
        areas.append(_area(_share(draws @ normal), _share(draws @ defect)))
    return [tuple(np.quantile(values, (0.025, 0.975))) for values in (*areas, areas[1] - areas[0])]


def _draws(y, n_draws, random_state):
    """Return the number of times that each image is drawn (n_draws, n)."""
    rng = np.random.default_rng(random_state)
    draws = np.zeros((n_draws, len(y)))
    for kind in (1, -1):
        indices = np.flatnonzero(y == kind)
        for row in draws:
            row += np.bincount(rng.choice(indices, len(indices)), minlength=len(y))
    return draws


def _histograms(masks, maps):
    """Return histograms of each image, from high to low scores: normal pixels, defective pixels, shares of regions."""
    sample = np.concatenate([m[np.isfinite(m)][::37] for m in maps])
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, _BINS)))
    normal, defect, regions = (np.zeros((len(maps), len(edges) + 1)) for _ in range(3))
    n_regions = np.zeros(len(maps))
    for i, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        seen = np.isfinite(score_map)
        bins = len(edges) - np.searchsorted(edges, np.where(seen, score_map, edges[0]))
        hit = np.asarray(mask, bool) & seen
        normal[i] = np.bincount(bins[seen & ~hit], minlength=len(edges) + 1)
        defect[i] = np.bincount(bins[hit], minlength=len(edges) + 1)
        labels, n_regions[i] = ndimage.label(hit, _EIGHT)
        for label in range(1, int(n_regions[i]) + 1):
            own = bins[labels == label]
            regions[i] += np.bincount(own, minlength=len(edges) + 1) / len(own)
    return normal, defect, regions, n_regions


def _share(counts):
    return np.cumsum(counts, axis=1) / counts.sum(axis=1, keepdims=True)


def _area(x, y, limit=1.0):
    grid = np.linspace(0, limit, 2001)
    return np.array([np.trapezoid(np.interp(grid, a, b), grid) / limit for a, b in zip(x, y, strict=True)])
