"""Scoring of many files into a table, in bounded memory; an interrupted run can be resumed."""

import csv
import hashlib
import json
import os
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .._inputs.images import check_images
from .._kernels.regions import label_regions
from ..persistence import load

_COLUMNS = ("path", "score", "label", "p_value", "largest_region")
_BATCH_LEN = 32


def score_files(model, paths, out, *, overlays=False, trusted=(), verbose=False):
    """Score image files with a saved detector and write the results to `out`/scores.csv.

    The columns of the table are the path, the score (higher is more normal), the label (1 or -1), the conformal p-value
    and the area in pixels of the largest anomalous region. Lines are written batch by batch; if the function is called
    again after an interruption, it scores only the images that are not in the table yet.

    Parameters
    ----------
    model : path-like
        Path of a model file written by `skanomaly.save`.
    paths : sequence of path-like
        Paths of the images.
    out : path-like
        Path of the output folder, which is created if needed.
    overlays : bool, default=False
        If True, every image is also saved with its anomaly map, as `out`/overlays/<number>_<name>.png, numbered as in
        `paths`.
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
        If the model has no threshold, or `out` holds results of another model.
    ImageReadError
        If any of the files cannot be read as images.

    See Also
    --------
    skanomaly.save : Save a fitted detector.
    """
    detector = _decider(load(model, trusted=trusted))
    if overlays and not hasattr(detector, "anomaly_map"):
        raise ValueError(f"overlays=True needs anomaly maps, but {type(detector).__name__} does not make any.")
    out = Path(out)
    check_images(paths)
    (out / "overlays" if overlays else out).mkdir(parents=True, exist_ok=True)
    _claim(out / "model.json", model)
    table = out / "scores.csv"
    done = _finished_paths(table)
    waiting = [(i, path) for i, path in enumerate(paths) if str(path) not in done]
    with (
        open(table, "a", newline="") as file,
        tqdm(total=len(paths), initial=len(paths) - len(waiting), unit="image", disable=not verbose) as bar,
    ):
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(_COLUMNS)
        for start in range(0, len(waiting), _BATCH_LEN):
            batch = waiting[start : start + _BATCH_LEN]
            verdicts = detector.iter_verdicts([path for _, path in batch])
            for (i, path), verdict in zip(batch, verdicts, strict=True):
                if overlays:
                    _save_overlay(out / "overlays" / f"{i:06d}_{Path(path).stem}.png", path, verdict, detector)
                writer.writerow([path, *_columns(verdict)])
                bar.update()
            file.flush()
            os.fsync(file.fileno())
    return table


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
        return [*numbers, ""]
    labels, count = label_regions(verdict.mask)
    return [*numbers, int(np.bincount(labels.ravel())[1:].max()) if count else 0]


def _claim(path, model):
    """Record the model that the folder belongs to; raise if it belongs to another model."""
    mine = {"model_sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest()}
    if path.is_file() and json.loads(path.read_text()) != mine:
        raise ValueError(
            f"out={str(path.parent)!r} holds results of a model other than {model}; choose another folder."
        )
    path.write_text(json.dumps(mine))


def _finished_paths(table):
    """Return the paths of all complete lines; remove a last line that was cut off when the run was killed."""
    if not table.is_file():
        return set()
    data = table.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        table.write_bytes(whole)
    return {row["path"] for row in csv.DictReader(whole.decode().splitlines())}


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
