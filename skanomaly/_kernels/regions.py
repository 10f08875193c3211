"""Connected regions of score maps (8-connectivity)."""

import numpy as np
from scipy import ndimage

from .compiled import compiled

_EIGHT = np.ones((3, 3), int)


def remove_small_regions(mask, min_area):
    """Return `mask` (H, W), bool, without its connected regions of fewer than `min_area` pixels."""
    if min_area <= 1:
        return mask
    labels, _ = ndimage.label(mask, _EIGHT)
    large = np.bincount(labels.ravel()) >= min_area
    large[0] = False
    return large[labels]


def label_regions(mask):
    """Return the number of the region of every pixel of `mask` (H, W), 0 for background, and the number of regions."""
    return ndimage.label(mask, _EIGHT)


def measure_regions(score_map, mask, min_area):
    """Measure the connected regions of a mask, the largest first.

    Parameters
    ----------
    score_map : ndarray of shape (H, W), float
        Score map; in the mask, it is not NaN.
    mask : ndarray of shape (H, W), bool
        Mask.
    min_area : int
        Area for the level of a region, in pixels.

    Returns
    -------
    list of tuple (box, center, area, peak, peak_position, level)
        Of each region: rows and columns as (top, left, bottom, right), half-open; mean (row, column) of the pixels;
        number of pixels; highest value; (row, column) of the first pixel with this value; highest level at which
        `min_area` connected pixels remain.
    """
    labels, count = label_regions(mask)
    found = [
        _measure(score_map, labels, number, box, min_area) for number, box in enumerate(ndimage.find_objects(labels), 1)
    ]
    return sorted(found, key=lambda region: (-region[2], -region[3])) if count else []


def _measure(score_map, labels, number, box, min_area):
    rows, columns = box
    inside = labels[box] == number
    values = np.where(inside, score_map[box], -np.inf)
    peak = np.unravel_index(values.argmax(), values.shape)
    center = [float(part.mean()) + start.start for part, start in zip(np.nonzero(inside), box, strict=True)]
    return (
        (rows.start, columns.start, rows.stop, columns.stop),
        tuple(center),
        int(inside.sum()),
        float(values[peak]),
        (rows.start + int(peak[0]), columns.start + int(peak[1])),
        largest_level(values, min_area),
    )


def largest_level(score_map, min_area):
    """Return the highest level t at which {map >= t} has a connected region of at least `min_area` pixels.

    Parameters
    ----------
    score_map : ndarray of shape (H, W), float
        Score map; NaN pixels belong to no region.
    min_area : int
        Smallest area, in pixels; with 1, the level is the maximum of the map.

    Returns
    -------
    float
        Highest level; ``-inf`` if the map is too small for such a region.
    """
    seen = np.where(np.isnan(score_map), -np.inf, score_map)
    if min_area <= 1:
        return float(seen.max())
    order = np.argsort(-seen, axis=None, kind="stable")
    return float(_flood(seen, order, min_area))


@compiled()
def _flood(score_map, order, min_area):
    """Add pixels from the highest score down, merging adjacent regions, until a region is large enough."""
    height, width = score_map.shape
    parent = np.full(score_map.size, -1, np.int64)
    area = np.zeros(score_map.size, np.int64)
    for pixel in order:
        row, column = divmod(pixel, width)
        if score_map[row, column] == -np.inf:
            break
        parent[pixel] = pixel
        area[pixel] = 1
        root = pixel
        for r in range(max(row - 1, 0), min(row + 2, height)):
            for c in range(max(column - 1, 0), min(column + 2, width)):
                if parent[r * width + c] < 0:
                    continue
                other = _root(parent, r * width + c)
                if other != root:
                    parent[other] = root
                    area[root] += area[other]
        if area[root] >= min_area:
            return score_map[row, column]
    return -np.inf


@compiled()
def _root(parent, pixel):
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel
