"""A run that scores files into a table; what it has done is not done again by the next."""

import csv
import hashlib
import io
import json
import os
from pathlib import Path

from tqdm import tqdm

from .._inputs.files import check_writable, stamp_of
from ..exceptions import ImageReadError, MissingWeightsError
from ..model_selection import FitOnNormal
from ..persistence import load
from ._overlays import Overlays
from ._report import write_report
from ._rows import COLUMNS, ERROR, row_of
from ._table import RunLock, path_of, shown, write_atomically
from ._thumbnails import Thumbnails

_BATCH_LEN = 32


class ScoringRun:
    """Context in which files are scored into a folder that no other run may write into.

    Parameters
    ----------
    model : path-like
        Path of a model file.
    out : path-like
        Path of the output folder, which is created if needed.
    n_images : int
        Number of images to expect.
    overlays : bool, default=False
        If True, every image is also saved with its anomaly map.
    report : path-like, default=None
        Path of an HTML page with all images of the table.
    false_alarm_rate : float, default=None
        Share of normal samples that may be flagged, in (0, 1); None is that of the model.
    on_error : {"record", "raise"}, default="record"
        What happens if an image cannot be read: "record" writes the error into the table and goes on, "raise" raises.
    trusted : sequence of str, default=()
        Full names of further types that the model file may hold; see `skanomaly.load`.
    verbose : bool, default=False
        If True, a progress bar is shown.
    """

    def __init__(
        self, model, out, n_images, *, overlays=False, report=None, false_alarm_rate=None, on_error="record",
        trusted=(), verbose=False,
    ):  # fmt: skip
        self.detector = _decider(load(model, trusted=trusted))
        if false_alarm_rate is not None:
            self.detector.set_params(false_alarm_rate=false_alarm_rate)
        if overlays and not hasattr(self.detector, "anomaly_map"):
            raise ValueError(f"overlays=True needs anomaly maps, but {type(self.detector).__name__} does not make any.")
        if on_error not in ("record", "raise"):
            raise ValueError(f"on_error={on_error!r} is not accepted; it must be 'record' or 'raise'.")
        self.model, self.out, self.n_images = model, Path(out), n_images
        self.overlays, self.on_error, self.verbose = overlays, on_error, verbose
        self.report = None if report is None else Path(report)
        if self.report is not None and self.report.parent != self.out:  # which is created
            check_writable(self.report, "report=")
        self.table = self.out / "scores.csv"

    def __enter__(self):
        self.out.mkdir(parents=True, exist_ok=True)
        self._lock = RunLock(self.out / ".lock").__enter__()
        try:
            _claim(self.out / "model.json", self.model, self.detector.false_alarm_rate)
            if self.report is not None:
                n_images = max(self.n_images, len(_read_rows(self.table)[1]))
                self._thumbnails = Thumbnails(self.out, self.detector, n_images)
            self._pictures = [Overlays(self.out, self.detector)] if self.overlays else []
            self._pictures += [] if self.report is None else [self._thumbnails]
        except BaseException:
            self._lock.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._lock.__exit__()

    def score(self, paths):
        """Write a row for each image that has none, and the report.

        Parameters
        ----------
        paths : sequence of path-like
            Paths of the images.

        Returns
        -------
        list of Path
            Images that could not be read.
        """
        unreadable = self._write_rows(list(dict.fromkeys(map(Path, paths))))
        if self.report is not None:
            rows = [dict(zip(COLUMNS, row, strict=True)) for row in _read_rows(self.table)[1]]
            records = [row | self._thumbnails.read(path_of(row["path"])) for row in rows]
            write_report(self.report, records, self.detector, facts=[("Model", str(self.model))])
        return unreadable

    def _write_rows(self, paths):
        done = _finished_paths(self.table, {shown(path): path for path in paths}, self._pictures)
        waiting = [path for path in paths if path not in done]
        unreadable = []
        with (
            open(self.table, "a", newline="", encoding="utf-8") as file,
            tqdm(total=len(paths), initial=len(done), unit="image", disable=not self.verbose) as bar,
        ):
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(COLUMNS)
            for start in range(0, len(waiting), _BATCH_LEN):
                for path, row in self._rows(waiting[start : start + _BATCH_LEN]):
                    writer.writerow(row)
                    unreadable += [path] if row[ERROR] else []
                    bar.update()
                file.flush()
                os.fsync(file.fileno())
        return unreadable

    def _rows(self, batch):
        """Yield each image with its row; its pictures are written before."""
        for path, stamp, result in _results(self.detector, batch, self.on_error):
            for kind in (Overlays, Thumbnails):  # those of what the file was before
                kind.path_in(self.out, path).unlink(missing_ok=True)
            try:
                for picture in [] if isinstance(result, Exception) else self._pictures:
                    picture.write(path, result)
            except ImageReadError as error:  # the file has gone since it was scored
                if self.on_error == "raise":
                    raise
                result = error
            yield path, row_of(shown(path), result, self.detector.offset_, stamp)


def _results(detector, batch, on_error):
    """Yield the path, the stamp and the verdict, or the error, of each image; a bad one does not spoil the others."""
    stamps = [stamp_of(path) for path in batch]
    try:
        verdicts = list(detector.iter_verdicts(batch))
    except MissingWeightsError:
        raise  # no image is to blame
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


def _decider(detector):
    """Return the detector, or raise if it cannot make decisions."""
    while isinstance(detector, FitOnNormal):
        detector = detector.estimator_
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
    if hasattr(detector, "n_features_in_"):
        raise ValueError(
            f"The model is a {type(detector).__name__} fitted on the rows of a table, with {detector.n_features_in_} "
            "columns; it must be one fitted on images. Score tables in Python: load(path).score_samples(table)."
        )
    return detector.set_params(verbose=0) if "verbose" in detector.get_params() else detector


def _claim(path, model, false_alarm_rate):
    """Record the model that the folder belongs to; raise if it belongs to another model or rate."""
    digest = hashlib.sha256()
    with open(model, "rb") as file:
        for part in iter(lambda: file.read(2**20), b""):
            digest.update(part)
    mine = {"model_sha256": digest.hexdigest(), "false_alarm_rate": false_alarm_rate}
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else mine
    if before != mine:
        rate = before.get("false_alarm_rate")
        known = before.get("model_sha256") == mine["model_sha256"]
        other = f"with false_alarm_rate={rate}, not {false_alarm_rate}" if known else f"of a model other than {model}"
        raise ValueError(f"out={str(path.parent)!r} holds results {other}; choose another folder.")
    write_atomically(path, json.dumps(mine))


def _read_rows(table):
    """Return the header and the rows of a table, and whether all of it is kept; a line that was cut off is not."""
    data = table.read_bytes() if table.is_file() else b""
    complete = data[: data.rfind(b"\n") + 1]
    header, *rows = list(csv.reader(io.StringIO(complete.decode("utf-8"), newline=""))) or [list(COLUMNS)]
    return header, rows, len(complete) == len(data)


def _finished_paths(table, paths, pictures):
    """Return the paths whose rows and pictures are up to date.

    Rows that are not are removed from the table, and so is a line that was cut off by a kill.
    """
    header, rows, whole = _read_rows(table)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{table} has the columns {', '.join(header)}, of another version; choose another out.")
    kept = [row for row in rows if row[0] not in paths or _is_up_to_date(row, paths[row[0]], pictures)]
    if len(kept) < len(rows) or not whole:
        file = io.StringIO(newline="")
        csv.writer(file).writerows([header, *kept])
        write_atomically(table, file.getvalue())
    return {paths[row[0]] for row in kept if row[0] in paths}


def _is_up_to_date(row, path, pictures):
    unchanged = not row[ERROR] and tuple(row[ERROR + 1 :]) == stamp_of(path)
    return unchanged and all(picture.path_in(picture.out, path).is_file() for picture in pictures)
