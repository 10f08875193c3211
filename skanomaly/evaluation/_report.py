"""One HTML page that shows images with their anomaly maps and verdicts, the most anomalous first."""

from datetime import datetime
from pathlib import Path

import numpy as np

from .._kernels.evidence import values_of
from ..maps import images_as_seen, scale_of_maps
from ._rows import COLUMNS, row_of
from ._table import path_of, shown, write_atomically
from ._thumbnails import bytes_per_image, thumbnail

_N_BINS = 40
_TICKS = (0, 1 / 3, 1 / 2, 2 / 3, 4 / 5)


def save_report(path, detector, X, *, names=None, title="Anomaly report"):
    """Write a report on images: one HTML page that needs neither other files nor a network.

    The page shows the most anomalous images first, each with its label, score, p-value and regions. A slider fades from
    the image to its anomaly map, whose colours have one scale: with the threshold t on maps, a value v has the colour
    of v / (v + t), so that the same colour is the same evidence on every image. Outlines enclose what exceeds t. Names
    are escaped. The pictures are made smaller the more images there are, so that the page of 5,000 images stays below
    60 MB.

    Parameters
    ----------
    path : path-like
        Path of the HTML file; its folder is created if needed.
    detector : detector
        Fitted detector with a threshold. Without anomaly maps, the page shows images and scores.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images; a str is the path of a folder, or a glob pattern.
    names : sequence of str, default=None
        Names of the images; None takes their paths, or else their positions in X.
    title : str, default="Anomaly report"
        Title of the page.

    Returns
    -------
    pathlib.Path
        Path of the HTML file.

    See Also
    --------
    score_files : Score many files with a saved detector, with a table and a report.
    skanomaly.plotting.AnomalyMapsDisplay : Plot of several images with their maps.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skanomaly import PatchCore, PretrainedPatchFeatures
    >>> from skanomaly.evaluation import save_report
    >>> images = np.random.default_rng(0).random((24, 48, 48))
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)
    >>> detector = PatchCore(features, false_alarm_rate=0.2, random_state=0).fit(images[:20])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = save_report(folder + "/report.html", detector, images[20:])
    ...     page.stat().st_size > 10_000
    True
    """
    source = images_as_seen(detector, X)
    if names is None:
        names = [f"image {i}" if isinstance(item, np.ndarray) else shown(item) for i, item in enumerate(source.items)]
    if len(names) != len(source):
        raise ValueError(f"names has {len(names)} values, but there are {len(source)} images.")
    scale, n_bytes = scale_of_maps(detector), bytes_per_image(len(source))
    records = []
    for i, verdict in enumerate(detector.iter_verdicts(X)):
        row = row_of(str(names[i]), verdict, detector.offset_, ("", ""))
        records.append(dict(zip(COLUMNS, row, strict=True)) | thumbnail(source.read(i), verdict, scale, n_bytes))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_report(path, records, detector, title)
    return path


def write_report(path, records, detector, title="Anomaly report", facts=()):
    """Write the page of images that were judged before.

    Parameters
    ----------
    path : Path
        Path of the HTML file.
    records : list of dict
        Row of the table for each image, with what `thumbnail` returns for it.
    detector : detector
        Detector that judged the images.
    title : str, default="Anomaly report"
        Title of the page.
    facts : sequence of (str, str), default=()
        What the page says about the detector in the first place, as pairs of a name and a text.
    """
    scores = [float(record["score"]) for record in records if not record["error"]]
    images = [_image(record) for record in sorted(records, key=lambda record: float(record["score"] or "inf"))]
    kinds = ("flagged", "passed", "unreadable")
    write_atomically(
        path,
        _template().render(
            title=title,
            counts={kind: sum(image["kind"] == kind for image in images) for kind in kinds},
            n_disagree=sum(bool(image["note"]) for image in images),
            detector=[*facts, ("Written", f"{datetime.now():%Y-%m-%d %H:%M}"), *_facts(detector)],
            histogram=_histogram(scores, detector.offset_),
            ticks=_ticks(scale_of_maps(detector)),
            has_maps=any(image["map"] for image in images),
            images=images,
        ),
    )


def _template():
    from jinja2 import Environment, PackageLoader, StrictUndefined  # imported here because few need it

    environment = Environment(
        loader=PackageLoader("skanomaly.evaluation", "page"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html")


def _image(record):
    """Return what the page shows of an image."""
    kind = "unreadable" if record["error"] else "flagged" if int(record["label"]) < 0 else "passed"
    image = {"kind": kind, "path": record["path"], "name": _short_name(record["path"]), "error": record["error"]}
    image |= {key: record.get(key) for key in ("note", "image", "map", "size")}
    if not record["error"]:
        image |= {"score": f"{float(record['score']):.4g}", "p": f"{float(record['p_value']):.3g}"}
        image |= {"n_regions": record["n_regions"], "regions": record.get("regions", [])}
    return image


def _short_name(text):
    try:
        name = path_of(text).name
    except ValueError:  # a name that was passed as such
        return text
    return shown(Path(name)) if name else text


def _facts(detector):
    """Return what the page says about the detector, as pairs of a name and a text."""
    n, rate, level = detector.calibration_.n, detector.false_alarm_rate, scale_of_maps(detector)["level"]
    expected = detector.calibration_.expected_rate(rate)
    facts = [
        ("Detector", type(detector).__name__),
        ("Flagged", f"if the score is below {detector.offset_:.4g} (higher scores are more normal)"),
        ("False alarms", f"at most {100 * rate:.3g} % of normal images allowed, {100 * expected:.3g} % expected"),
        ("p", "share of normal images expected to look at least as anomalous; small p, strong evidence"),
    ]
    if np.isfinite(n):
        facts.append(("Calibrated on", f"{n} normal images, so that no p is below {1 / (n + 1):.3g}"))
    if level is None:
        return facts
    return [*facts, ("Anomalous pixels", f"if the map is above {level:.4g} (higher values are more anomalous)")]


def _ticks(scale):
    """Return the place, in percent, and the value of the ticks of the colour bar."""
    if scale["level"] is None:
        return []
    values = values_of(_TICKS, scale["level"], scale["span"])
    return [(100 * share, f"{value:.3g}") for share, value in zip(_TICKS, values, strict=True)]


def _histogram(scores, threshold):
    """Return the bars of a histogram of scores with the threshold between two bins.

    Scores far below the threshold are counted in the first bin, so that a single one does not hide the others.
    """
    if not scores:
        return None
    highest = max(*scores, threshold)
    lowest = max(min(*scores, threshold), threshold - 5 * (highest - threshold)) if highest > threshold else min(scores)
    width = (highest - lowest) / _N_BINS or 1.0
    n_below = int(np.ceil((threshold - lowest) / width - 1e-9))
    edges = threshold + width * np.arange(-n_below, max(1, np.ceil((highest - threshold) / width - 1e-9)) + 1)
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return {
        "counts": counts.tolist(),
        "n_below": n_below,
        "highest": int(counts.max()),
        "first": f"{edges[0]:.3g}",
        "last": f"{edges[-1]:.3g}",
        "threshold": f"{threshold:.4g}",
        "cut": bool(min(scores) < edges[0] - 1e-9),
    }
