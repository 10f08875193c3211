"""Fit on good images, score a labelled test set, and say how well it went."""

import time
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..metrics import aupro, f1_max, image_auroc, pixel_auroc, tnr_tpr


def evaluate(detector, data, *, map_size=None):
    """Fit a detector on the training images of a set and measure it on the test images.

    Parameters
    ----------
    detector : detector
        Is fitted.
    data : Bunch
        As returned by `load_mvtec` or `make_surfaces`.
    map_size : tuple of int (H, W), optional
        Size at which pixels are compared (masks resized to the nearest pixel); by default that of each image.

    Returns
    -------
    Bunch
        ``image_auroc``, ``f1_max``, ``pixel_auroc``, ``aupro``; ``flagged_normal`` and ``flagged_anomalous``, shares
        below the calibrated threshold; ``expected_flagged_normal``; ``fit_seconds``, ``score_seconds``;
        ``anomaly_score`` (n,) and ``anomaly_maps``, list of (H, W), of the test images, with their ``masks``. For a
        detector without maps the pixel metrics are NaN and the maps None.
    """
    start = time.perf_counter()
    detector.fit(data.X_train)
    fitted = time.perf_counter()
    has_maps = hasattr(detector, "anomaly_map")
    if has_maps:
        normality, maps = zip(*detector.iter_scores_and_maps(data.X_test, size=map_size), strict=True)
    else:
        normality, maps = detector.score_samples(data.X_test), None
    end = time.perf_counter()
    scores = -np.array(normality)
    masks = [np.asarray(mask) for mask in data.masks_test]
    if map_size is not None:
        masks = [_nearest(mask, map_size) for mask in masks]
    tnr, tpr, expected = _decided(detector, data.y_test, scores)
    return Bunch(
        image_auroc=image_auroc(data.y_test, scores),
        f1_max=f1_max(data.y_test, scores),
        pixel_auroc=pixel_auroc(masks, maps) if has_maps else np.nan,
        aupro=aupro(masks, maps) if has_maps else np.nan,
        flagged_normal=1 - tnr,
        flagged_anomalous=tpr,
        expected_flagged_normal=expected,
        fit_seconds=fitted - start,
        score_seconds=end - fitted,
        anomaly_score=scores,
        anomaly_maps=maps,
        masks=masks,
    )


def _decided(detector, y, scores):
    """Return TNR and TPR at the calibrated threshold and the share of normals it should flag; NaN without one."""
    if not hasattr(detector, "offset_"):
        return np.nan, np.nan, np.nan
    return *tnr_tpr(y, scores > -detector.offset_), detector.calibration_.expected_rate(detector.false_alarm_rate)


def save_overlay_sheet(path, detector, data, *, n_images=16):
    """Write a PNG with test images above their anomaly maps, every kind of defect among them.

    Parameters
    ----------
    path : path
        Its folder is made if needed.
    detector : fitted detector
    data : Bunch
        As for `evaluate`.
    n_images : int, default=16
    """
    from ..plotting import plot_overlay_sheet  # matplotlib loads only for pictures

    chosen = _of_every_kind(data.kinds_test, n_images)
    images = data.X_test[chosen]
    verdicts = list(detector.iter_verdicts(images))
    figure = plot_overlay_sheet(
        images,
        [verdict.anomaly_map for verdict in verdicts],
        masks=[data.masks_test[i] for i in chosen],
        titles=[
            f"{data.kinds_test[i]}\n{'flagged' if verdict.label < 0 else 'passed'}"
            for i, verdict in zip(chosen, verdicts, strict=True)
        ],
        level=detector.pixel_threshold_,
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _of_every_kind(kinds, n):
    """Return n indices, spread over the kinds in turn and within each kind."""
    by_kind = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    shares = np.diff(np.linspace(0, n, len(by_kind) + 1).astype(int))
    spread = [
        indices[np.unique(np.linspace(0, len(indices) - 1, share).astype(int))]
        for indices, share in zip(by_kind, shares, strict=True)
    ]
    return np.concatenate(spread)


def _nearest(mask, size):
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]
