"""Evaluation of a detector on a labelled data set."""

import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

from .._inputs.images import check_images
from .._inputs.labels import anomalous
from ..exceptions import CalibrationWarning
from ..metrics import aupro, f1_max, image_auroc, pixel_auroc
from ..thresholds import false_alarms_p_value

_LEVEL = 0.01  # probability of a warning about false alarms if the promise holds


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
        - ``message``: a sentence if significantly more normal images are flagged, and None otherwise; see Warns.
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

    Warns
    -----
    CalibrationWarning
        If more normal test images are flagged than chance allows, at a level of 1 % (`false_alarms_p_value`); they are
        then not drawn like the training images, or the training images are copies of each other.

    See Also
    --------
    skanomaly.thresholds.false_alarms_p_value : Test behind the warning.
    save_overlay_sheet : Save a picture of test images with their anomaly maps.
    """
    masks = checked_masks(data)
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
        masks = [nearest(mask, map_size) for mask in masks]
    known = [getattr(mask, "known", True) for mask in data.masks_test]
    anomalies = anomalous(data.y_test)
    both = anomalies.any() and not anomalies.all()
    of_pixels = [[v for v, kept in zip(values, known, strict=True) if kept] for values in (masks, maps or masks)]
    defects = [(mask != 0) & ~np.isnan(values) for mask, values in zip(*of_pixels, strict=True)] if has_maps else []
    outlined = any(defect.any() for defect in defects)
    flagged_normal, flagged_anomalous, expected = decided(detector, anomalies, scores)
    message = too_many_flagged(detector, flagged_normal, np.count_nonzero(~anomalies))
    if message:
        warnings.warn(message, CalibrationWarning, stacklevel=2)
    return Bunch(
        image_auroc=image_auroc(data.y_test, scores) if both else np.nan,
        f1_max=f1_max(data.y_test, scores) if both else np.nan,
        pixel_auroc=pixel_auroc(*of_pixels) if outlined else np.nan,
        aupro=aupro(*of_pixels) if outlined else np.nan,
        flagged_normal=flagged_normal,
        flagged_anomalous=flagged_anomalous,
        expected_flagged_normal=expected,
        message=message,
        fit_seconds=fitted - start,
        score_seconds=end - fitted,
        anomaly_score=scores,
        anomaly_maps=maps,
        masks=masks,
    )


def decided(detector, anomalies, scores):
    """Compute the shares of flagged images.

    Parameters
    ----------
    detector : detector
        Fitted detector.
    anomalies : ndarray of shape (n,), bool
        True for anomalies.
    scores : ndarray of shape (n,), float64
        Anomaly scores.

    Returns
    -------
    tuple of float
        Shares of flagged normal images, of flagged anomalies, and of normal images expected to be flagged; NaN where
        there is no threshold, or no such image.
    """
    if not hasattr(detector, "offset_"):
        return np.nan, np.nan, np.nan
    flagged = scores > -detector.offset_
    return *shares(flagged, anomalies), detector.calibration_.expected_rate(detector.false_alarm_rate)


def shares(flagged, anomalies):
    """Compute the shares of flagged normal images and of flagged anomalies.

    Parameters
    ----------
    flagged : ndarray of shape (n,), bool
        True for flagged images.
    anomalies : ndarray of shape (n,), bool
        True for anomalies.

    Returns
    -------
    tuple of float
        Share of the normal images, and of the anomalies, that are flagged; NaN where there are none.
    """
    return tuple(float(flagged[part].mean()) if part.any() else np.nan for part in (~anomalies, anomalies))


def too_many_flagged(detector, flagged_normal, n_normal):
    """Test whether more normal images are flagged than chance allows.

    Parameters
    ----------
    detector : detector
        Fitted detector.
    flagged_normal : float
        Share of flagged normal images; NaN for a detector without a threshold.
    n_normal : int
        Number of normal images.

    Returns
    -------
    str or None
        A sentence that says so, and what it means; None if chance allows it.
    """
    if np.isnan(flagged_normal):
        return None
    calibration, rate = detector.calibration_, detector.false_alarm_rate
    n_flagged = round(flagged_normal * n_normal)
    p_value = false_alarms_p_value(n_flagged, n_normal, calibration.n, rate)
    if p_value >= _LEVEL:
        return None
    return (
        f"{n_flagged} of {n_normal} normal test images are flagged, although a share of "
        f"{calibration.expected_rate(rate):.2g} is expected, which chance explains with a probability of "
        f"{p_value:.1g}: they are not drawn like the training images. Call `calibrate` with fresh normal images of the "
        "kind to be inspected; if training images show the same part or burst, pass `groups` to `fit`."
    )


def checked_masks(data):
    """Read the masks of a data set, and check that they belong to the images.

    Parameters
    ----------
    data : Bunch
        Data set.

    Returns
    -------
    list of ndarray of shape (H, W)
        Masks.

    Raises
    ------
    ValueError
        If the size of a mask is not that of its image, or most masks are probably inverted.
    """
    masks = [np.asarray(mask) for mask in data.masks_test]
    sizes = check_images(data.X_test).sizes
    wrong = [f"{m.shape} for image {i}, {s}" for i, (m, s) in enumerate(zip(masks, sizes, strict=True)) if m.shape != s]
    if wrong:
        raise ValueError(f"{len(wrong)} masks do not have the size of their image: {'; '.join(wrong[:5])}.")
    shares = [(mask != 0).mean() for mask in masks if mask.any()]
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


def nearest(mask, size):
    """Resize a mask by nearest neighbours.

    Parameters
    ----------
    mask : ndarray of shape (H, W)
        Mask.
    size : tuple of int (h, w)
        Size of the result.

    Returns
    -------
    ndarray of shape (h, w)
        Resized mask.
    """
    rows, columns = (((np.arange(n) + 0.5) * old / n).astype(int) for n, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]
