"""Scoring of many files into a table, in bounded memory; an interrupted run can be resumed."""

import csv
import hashlib
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .._kernels.regions import label_regions
from ..exceptions import ImageReadWarning
from ..persistence import load
from ._table import RunLock, shown, write_atomically

_COLUMNS = ("path", "score", "label", "p_value", "largest_region", "error", "bytes", "modified_ns")
_BATCH_LEN = 32


def score_files(
    model, paths, out, *, overlays=False, false_alarm_rate=None, on_error="record", trusted=(), verbose=False
):
    """Score image files with a saved detector and write the results to `out`/scores.csv.

    The columns of the table are the path, the score (higher is more normal), the label (1 or -1), the conformal
    p-value, the area in pixels of the largest anomalous region, and, for an image that cannot be read, the error
    instead of these. The last two columns, the size and the time of the last change of the file, tell whether an image
    has changed. The table is encoded in UTF-8. Names with characters that would break it, such as line breaks or bytes
    that are not UTF-8, are written as JSON strings.

    Lines are written batch by batch; if the function is called again after an interruption, it scores only the images
    that are not in the table yet, have changed since, or could not be read.

    Parameters
    ----------
    model : path-like
        Path of a model file written by `skanomaly.save`.
    paths : sequence of path-like
        Paths of the images.
    out : path-like
        Path of the output folder, which is created if needed.
    overlays : bool, default=False
        If True, every image is also saved with its anomaly map, as `out`/overlays/<name>_<hash of the path>.png.
    false_alarm_rate : float, default=None
        Share of normal samples that may be flagged, in (0, 1); None is that of the model.
    on_error : {"record", "raise"}, default="record"
        What happens if an image cannot be read: "record" writes the error into the table and goes on, "raise" raises.
    trusted : sequence of str, default=()
        Full names of further types that the model file may hold; see `skanomaly.load`.
    verbose : bool, default=False
        If True, a progress bar is shown.

    Returns
    -------
    pathlib.Path
        Path of the table.

    Raises
    ------
    ValueError
        If the model has no threshold, or `out` holds results of another model or is being written by another run.
    ImageReadError
        If an image cannot be read and `on_error` is "raise".

    Warns
    -----
    ImageReadWarning
        If any images cannot be read and `on_error` is "record"; the message says how many.

    See Also
    --------
    skanomaly.save : Save a fitted detector.
    """
    detector = _decider(load(model, trusted=trusted))
    if false_alarm_rate is not None:
        detector.set_params(false_alarm_rate=false_alarm_rate)
    if overlays and not hasattr(detector, "anomaly_map"):
        raise ValueError(f"overlays=True needs anomaly maps, but {type(detector).__name__} does not make any.")
    if on_error not in ("record", "raise"):
        raise ValueError(f"on_error={on_error!r} is not accepted; it must be 'record' or 'raise'.")
    out = Path(out)
    (out / "overlays" if overlays else out).mkdir(parents=True, exist_ok=True)
    with RunLock(out / ".lock"):
        _claim(out / "model.json", model, detector.false_alarm_rate)
        folder = out / "overlays" if overlays else None
        n_errors = _score_all(detector, paths, out / "scores.csv", folder, on_error, verbose)
    if n_errors:
        warnings.warn(
            f"{n_errors} of {len(paths)} images could not be read; {out / 'scores.csv'} says why.",
            ImageReadWarning,
            stacklevel=2,
        )
    return out / "scores.csv"


def _score_all(detector, paths, table, overlays, on_error, verbose):
    """Write a row for each image that has none; return the number of images that could not be read."""
    paths = list(dict.fromkeys(map(Path, paths)))
    done = _finished_paths(table, {shown(path): path for path in paths})
    waiting = [path for path in paths if path not in done]
    n_errors = 0
    with (
        open(table, "a", newline="", encoding="utf-8") as file,
        tqdm(total=len(paths), initial=len(paths) - len(waiting), unit="image", disable=not verbose) as bar,
    ):
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(_COLUMNS)
        for start in range(0, len(waiting), _BATCH_LEN):
            for path, stamp, result in _results(detector, waiting[start : start + _BATCH_LEN], on_error):
                failed = isinstance(result, Exception)
                n_errors += failed
                if overlays and not failed:
                    _save_overlay(overlays / _overlay_name(path), path, result, detector)
                writer.writerow([shown(path), *(_error_columns(result) if failed else _columns(result)), *stamp])
                bar.update()
            file.flush()
            os.fsync(file.fileno())
    return n_errors


def _results(detector, batch, on_error):
    """Yield the path, the stamp and the verdict, or the error, of each image; a bad one does not spoil the others."""
    stamps = [_stamp(path) for path in batch]
    try:
        verdicts = list(detector.iter_verdicts(batch))
    except (ValueError, OSError) as error:
        if on_error == "raise":
            raise
        if len(batch) == 1:
            yield batch[0], stamps[0], error
            return
        for path in batch:
            yield from _results(detector, [path], on_error)
        return
    yield from zip(batch, stamps, verdicts, strict=True)


def _stamp(path):
    """Return the size and the time of the last change of a file, which tell whether it has changed."""
    try:
        status = os.stat(path)
    except OSError:
        return "", ""
    return str(status.st_size), str(status.st_mtime_ns)


def _decider(detector):
    """Return the detector, or raise if it cannot make decisions."""
    if not hasattr(detector, "iter_verdicts"):
        raise ValueError(
            f"The model is of type {type(detector).__name__}; it must be a detector with a threshold. Wrap it in "
            "ConformalDetector before fitting."
        )
    if not hasattr(detector, "offset_"):
        raise ValueError(
            f"The model is of type {type(detector).__name__} and has no threshold: fit it with a false_alarm_rate, or "
            "call calibrate(X_normal) before saving."
        )
    return detector.set_params(verbose=0) if "verbose" in detector.get_params() else detector


def _columns(verdict):
    """Return the score, the label, the p-value and the area of the largest region (empty without a map)."""
    numbers = [repr(verdict.score), verdict.label, repr(verdict.p_value)]
    if verdict.mask is None:
        return [*numbers, "", ""]
    labels, count = label_regions(verdict.mask)
    return [*numbers, int(np.bincount(labels.ravel())[1:].max()) if count else 0, ""]


def _error_columns(error):
    return ["", "", "", "", " ".join(f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode().split())]


def _claim(path, model, false_alarm_rate):
    """Record the model that the folder belongs to; raise if it belongs to another model or rate."""
    digest = hashlib.sha256()
    with open(model, "rb") as file:
        for part in iter(lambda: file.read(2**20), b""):
            digest.update(part)
    mine = {"model_sha256": digest.hexdigest(), "false_alarm_rate": false_alarm_rate}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != mine:
        raise ValueError(
            f"out={str(path.parent)!r} holds results of a model other than {model}, or with another false_alarm_rate; "
            "choose another folder."
        )
    write_atomically(path, json.dumps(mine))


def _finished_paths(table, paths):
    """Return the paths whose rows are up to date; remove rows that are not, and a line that was cut off by a kill."""
    if not table.is_file():
        return set()
    data = table.read_bytes()
    text = data[: data.rfind(b"\n") + 1].decode("utf-8")
    header, *rows = list(csv.reader(io.StringIO(text, newline=""))) or [list(_COLUMNS)]
    if tuple(header) != _COLUMNS:
        raise ValueError(f"{table} has the columns {', '.join(header)}, of another version; choose another out.")
    kept = [row for row in rows if row[0] not in paths or (not row[5] and tuple(row[6:]) == _stamp(paths[row[0]]))]
    if len(kept) < len(rows) or len(text.encode()) < len(data):
        file = io.StringIO(newline="")
        csv.writer(file).writerows([header, *kept])
        write_atomically(table, file.getvalue())
    return {paths[row[0]] for row in kept if row[0] in paths}


def _overlay_name(path):
    """Return a name for the overlay of an image that depends on its path only."""
    name = "".join(c if c.isprintable() and not "\ud800" <= c <= "\udfff" else "_" for c in path.stem)[:100]
    return f"{name}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}.png"


def _save_overlay(path, image, verdict, detector):
    from matplotlib.figure import Figure

    from ..plotting import AnomalyMapDisplay

    score_map = verdict.anomaly_map
    height, width = score_map.shape
    figure = Figure(figsize=(6, max(1.0, 6 * height / width)))
    ax = figure.add_axes((0, 0, 1, 1))
    reference = getattr(detector, "pixel_threshold_", None)
    highest = max(1.5 * (reference or 0.0), float(np.nanmax(score_map)))
    AnomalyMapDisplay.from_predictions(image, score_map, level=reference, ax=ax, vmin=0, vmax=highest)
    figure.savefig(path, dpi=100)
