"""Evaluation of a detector on a labelled data set."""

import time
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from .._inputs.images import check_images
from .._inputs.labels import anomalous
from ..metrics import aupro, f1_max, image_auroc, pixel_auroc


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

        For a detector without maps, ``anomaly_maps`` is None. What cannot be computed is NaN: the pixel metrics of a
        detector without maps or of images without known masks, the shares of a detector without a threshold, and
        everything that needs both normal images and anomalies if one of them is missing.

    Raises
    ------
    ValueError
        If the size of a mask is not that of its image, or most masks mark more than half of their image and are
        therefore probably inverted. Both are found before the detector is fitted.

    See Also
    --------
    save_overlay_sheet : Save a picture of test images with their anomaly maps.
    """
    masks = _checked_masks(data)
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
    if map_size is not None:
        masks = [_nearest(mask, map_size) for mask in masks]
    known = [getattr(mask, "known", True) for mask in data.masks_test]
    anomalies = anomalous(data.y_test)
    both = anomalies.any() and not anomalies.all()
    of_pixels = [[v for v, kept in zip(values, known, strict=True) if kept] for values in (masks, maps or masks)]
    outlined = has_maps and any(mask.any() for mask in of_pixels[0])
    flagged_normal, flagged_anomalous, expected = _decided(detector, anomalies, scores)
    return Bunch(
        image_auroc=image_auroc(data.y_test, scores) if both else np.nan,
        f1_max=f1_max(data.y_test, scores) if both else np.nan,
        pixel_auroc=pixel_auroc(*of_pixels) if outlined else np.nan,
        aupro=aupro(*of_pixels) if outlined else np.nan,
        flagged_normal=flagged_normal,
        flagged_anomalous=flagged_anomalous,
        expected_flagged_normal=expected,
        fit_seconds=fitted - start,
        score_seconds=end - fitted,
        anomaly_score=scores,
        anomaly_maps=maps,
        masks=masks,
    )


def _decided(detector, anomalies, scores):
    """Return the shares of flagged normal images, of flagged anomalies, and of normal images expected to be flagged."""
    if not hasattr(detector, "offset_"):
        return np.nan, np.nan, np.nan
    flagged = scores > -detector.offset_
    shares = [float(flagged[part].mean()) if part.any() else np.nan for part in (~anomalies, anomalies)]
    return *shares, detector.calibration_.expected_rate(detector.false_alarm_rate)


def _checked_masks(data):
    """Return the masks as arrays, or raise if they do not belong to the images or are inverted."""
    masks = [np.asarray(mask) for mask in data.masks_test]
    sizes = check_images(data.X_test).sizes
    wrong = [f"{m.shape} for image {i}, {s}" for i, (m, s) in enumerate(zip(masks, sizes, strict=True)) if m.shape != s]
    if wrong:
        raise ValueError(f"{len(wrong)} masks do not have the size of their image: {'; '.join(wrong[:5])}.")
    shares = [mask.mean() for mask in masks if mask.any()]
    if shares and np.median(shares) > 0.5:
        raise ValueError(
            f"Half of the masks mark more than {np.median(shares):.0%} of their image, so they are probably inverted; "
            "they must not be 0 on the defects, and 0 elsewhere."
        )
    return masks


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
