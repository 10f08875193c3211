"""Scoring of many files into a table, in bounded memory; an interrupted run can be resumed."""

import time
import warnings

from .._inputs.files import check_watchable, find_images, name_files, stamp_of
from ..exceptions import ImageReadWarning
from ._run import ScoringRun

_MANY = 5_000  # images that a watched folder is expected to receive, which bounds the size of the report


def score_files(
    model,
    paths,
    out,
    *,
    overlays=False,
    report=None,
    false_alarm_rate=None,
    on_error="record",
    trusted=(),
    verbose=False,
):
    """Score image files with a saved detector and write the results to `out`/scores.csv.

    The table is encoded in UTF-8 and has one row for each image:

    - ``path``, written as a JSON string if it contains characters that would break the table, such as line breaks or
      bytes that are not UTF-8;
    - ``score`` (higher is more normal) and ``threshold``, the score below which images are flagged;
    - ``label``, 1 or -1, and ``p_value``, the conformal p-value;
    - ``n_regions``, the number of regions of anomalous pixels; for the largest, ``largest_area`` (area in pixels),
      ``largest_top``, ``largest_left``, ``largest_bottom``, ``largest_right`` (box, half-open), ``largest_row`` and
      ``largest_column`` (centre), ``largest_peak`` (value of the map) and ``largest_p_value``; empty for a detector
      without masks;
    - ``note``, why the label and the regions do not agree, if they do not;
    - ``error``, why an image could not be read, in place of the columns above;
    - ``bytes`` and ``modified_ns``, the size and the time of the last change of the file, which tell whether it has
      changed.

    Lines are written batch by batch; if the function is called again after an interruption, it scores only the images
    that are not in the table yet, have changed since, could not be read, or lack an overlay or a picture for the report
    if these are asked for.

    Parameters
    ----------
    model : path-like
        Path of a model file written by `skanomaly.save`.
    paths : iterable of path-like, or str
        Paths of the images; a str is the path of a folder, or a glob pattern.
    out : path-like
        Path of the output folder, which is created if needed.
    overlays : bool, default=False
        If True, every image is also saved with its anomaly map, as `out`/overlays/<name>_<hash of the path>.png. The
        same colour is the same evidence on all of them.
    report : path-like, default=None
        Path of an HTML page with all images of the table, the most anomalous first; see `save_report`. Its folder must
        exist. The pictures on it are kept in `out`/thumbnails.
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
        If the model has no threshold or was fitted on rows, or `out` holds results of another model or is being written
        by another run.
    ImageReadError
        If an image cannot be read and `on_error` is "raise".

    Warns
    -----
    ImageReadWarning
        If any images cannot be read and `on_error` is "record"; the message names some of them.

    See Also
    --------
    save_report : Write a report on images from a fitted detector.
    watch_files : Score the files of a folder as they arrive.
    skanomaly.save : Save a fitted detector.
    """
    options = {"overlays": overlays, "report": report, "false_alarm_rate": false_alarm_rate, "on_error": on_error}
    paths = find_images(paths)[0] if isinstance(paths, str) else list(paths)
    with ScoringRun(model, out, len(paths), trusted=trusted, verbose=verbose, **options) as run:
        unreadable = run.score(paths)
    if unreadable:
        warnings.warn(
            f"{len(unreadable)} of {len(paths)} images could not be read: {name_files(unreadable)}; {run.table} says "
            "why.",
            ImageReadWarning,
            stacklevel=2,
        )
    return run.table


def watch_files(
    model,
    patterns,
    out,
    *,
    interval=2.0,
    overlays=False,
    report=None,
    false_alarm_rate=None,
    on_error="record",
    trusted=(),
):
    """Score image files as they arrive, until the caller stops.

    The folders are looked at every `interval` seconds. A file is scored once its size and the time of its last change
    have stayed the same between two looks, so that files that are still being written are left alone, and again
    whenever it has changed. The results are those of `score_files`, and either goes on where the other has stopped.

    Parameters
    ----------
    model : path-like
        Path of a model file written by `skanomaly.save`.
    patterns : sequence of str
        Folders, glob patterns or files. A folder may be empty at first.
    out : path-like
        Path of the output folder, which is created if needed.
    interval : float, default=2.0
        Time between two looks, in seconds.
    overlays : bool, default=False
        If True, every image is also saved with its anomaly map, as `out`/overlays/<name>_<hash of the path>.png. The
        same colour is the same evidence on all of them.
    report : path-like, default=None
        Path of an HTML page with all images of the table, the most anomalous first; see `save_report`. It is written
        again whenever images were scored.
    false_alarm_rate : float, default=None
        Share of normal samples that may be flagged, in (0, 1); None is that of the model.
    on_error : {"record", "raise"}, default="record"
        What happens if an image cannot be read: "record" writes the error into the table and goes on, "raise" raises.
    trusted : sequence of str, default=()
        Full names of further types that the model file may hold; see `skanomaly.load`.

    Yields
    ------
    n_images, n_errors : int
        Number of images that were scored after a look, and of those among them that could not be read.

    Raises
    ------
    ValueError
        If the model has no threshold or was fitted on rows, or `out` holds results of another model or is being written
        by another run.
    FileNotFoundError
        If a folder or file does not exist.

    See Also
    --------
    score_files : Score given files.
    """
    options = {"overlays": overlays, "report": report, "false_alarm_rate": false_alarm_rate, "on_error": on_error}
    check_watchable(patterns)
    with ScoringRun(model, out, _MANY, trusted=trusted, **options) as run:
        seen, scored = {}, {}
        while True:
            before, seen = seen, {path: stamp_of(path) for pattern in patterns for path in find_images(pattern)[0]}
            stable = [path for path, stamp in seen.items() if before.get(path) == stamp != scored.get(path)]
            yield len(stable), len(run.score(stable)) if stable else 0
            scored |= {path: seen[path] for path in stable}
            time.sleep(interval)
