"""Evaluation of a detector on a labelled data set."""

import time
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from ..metrics import aupro, f1_max, image_auroc, pixel_auroc, tnr_tpr


def evaluate(detector, data, *, map_size=None):
    """Fit a detector on the training images of a data set and evaluate it on the test images.

    Parameters
    ----------
    detector : detector
        Detector; it is fitted in place.
    data : Bunch
        Data set, as returned by `load_mvtec` or `make_surfaces`.
    map_size : tuple of int (H, W), default=None
        Size at which pixels are compared; masks are resized to it by nearest neighbours. None compares at the size of
        each image.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        - ``image_auroc``, ``f1_max``, ``pixel_auroc``, ``aupro``: metrics, see `skanomaly.metrics`.
        - ``flagged_normal``, ``flagged_anomalous``: shares of the normal images and of the anomalies that the detector
          flags.
        - ``expected_flagged_normal``: share of normal images that it is expected to flag.
        - ``fit_seconds``, ``score_seconds``: durations.
        - ``anomaly_score`` (n,), ``anomaly_maps`` and ``masks`` (lists of (H, W)): results and true masks of the test
          images.

        For a detector without maps, the pixel metrics are NaN and ``anomaly_maps`` is None. For a detector without a
        threshold, the shares are NaN.

    See Also
    --------
    save_overlay_sheet : Save a picture of test images with their anomaly maps.
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
    """Return TNR, TPR and the expected share of flagged normal images at the threshold; NaN if there is none."""
    if not hasattr(detector, "offset_"):
        return np.nan, np.nan, np.nan
    return *tnr_tpr(y, scores > -detector.offset_), detector.calibration_.expected_rate(detector.false_alarm_rate)


def save_overlay_sheet(path, detector, data, *, n_images=16):
    """Save a picture of test images with their anomaly maps, in which every kind of defect appears.

    Parameters
    ----------
    path : path-like
        Path of the PNG file; its folder is created if needed.
    detector : detector
        Fitted detector with a threshold and anomaly maps.
    data : Bunch
        Data set, as returned by `load_mvtec` or `make_surfaces`.
    n_images : int, default=16
        Largest number of images.

    See Also
    --------
    evaluate : Fit and evaluate a detector.
    skanomaly.plotting.plot_overlay_sheet : Plot images with given maps.
    """
    from ..plotting import plot_overlay_sheet  # matplotlib is imported only when needed

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
        level=getattr(detector, "pixel_threshold_", None),
    )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _of_every_kind(kinds, n):
    """Return up to n indices, spread evenly over the kinds and within each kind."""
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
