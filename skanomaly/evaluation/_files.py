"""Score many files into a table, one line per image, in bounded memory; a run that was stopped goes on."""

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
    """Score image files with a model file, into `out`/scores.csv.

    The columns are the path; ``score_samples`` (higher is more normal); the label, 1 or -1; the conformal p-value; and
    the area in pixels of the largest region called anomalous. Lines are written batch by batch. Called again after it
    was stopped, it scores what is not in the table yet.

    Parameters
    ----------
    model : path
        A file written by `skanomaly.save`.
    paths : sequence of paths
    out : path
        Folder, made if needed.
    overlays : bool, default=False
        Also write `out`/overlays/<number>_<name>.png for every image, numbered as in `paths`.
    trusted : sequence of str
        As for `skanomaly.load`.
    verbose : bool, default=False
        Show a progress bar.

    Returns
    -------
    pathlib.Path
        The table.

    Raises
    ------
    ValueError
        If `out` holds a table of another model, or for files that are no images.
    """
    detector = _decider(load(model, trusted=trusted))
    if overlays and not hasattr(detector, "anomaly_map"):
        raise ValueError(f"overlays=True, but a {type(detector).__name__} has no anomaly maps.")
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
    """Return a loaded detector, or raise where it cannot decide."""
    if not hasattr(detector, "iter_verdicts"):
        raise ValueError(
            f"The model is a {type(detector).__name__}, which decides nothing; accepted are detectors with a "
            "threshold. Wrap it in ConformalDetector before fitting."
        )
    if not hasattr(detector, "offset_"):
        raise ValueError(
            f"The model is a {type(detector).__name__} without a threshold: fit it with a false_alarm_rate, or call "
            "calibrate(X_normal) before saving."
        )
    return detector.set_params(verbose=0) if "verbose" in detector.get_params() else detector


def _columns(verdict):
    """Return score, label, p-value and area of the largest region; no area where there is no map."""
    numbers = [repr(verdict.score), verdict.label, repr(verdict.p_value)]
    if verdict.mask is None:
        return [*numbers, ""]
    labels, count = label_regions(verdict.mask)
    return [*numbers, int(np.bincount(labels.ravel())[1:].max()) if count else 0]


def _claim(path, model):
    """Note which model the folder belongs to; raise if it is another's."""
    mine = {"model_sha256": hashlib.sha256(Path(model).read_bytes()).hexdigest()}
    if path.is_file() and json.loads(path.read_text()) != mine:
        raise ValueError(f"out={str(path.parent)!r} holds scores of another model than {model}; choose another folder.")
    path.write_text(json.dumps(mine))


def _finished_paths(table):
    """Return the paths of all whole lines; cut off a last line that was being written when the run died."""
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
    reference = detector.pixel_threshold_
    AnomalyMapDisplay.from_predictions(
        image, score_map, level=reference, ax=ax, vmin=0, vmax=max(1.5 * reference, float(np.nanmax(score_map)))
    )
    figure.savefig(path, dpi=100)
