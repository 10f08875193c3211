"""Comparison of detectors on data sets, which goes on after failures and after being killed."""

import json
import re
import tempfile
import warnings
import zlib
from contextlib import nullcontext
from os import PathLike
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..datasets import load_category
from ..exceptions import EvaluationWarning
from ._comparison import Comparison
from ._fingerprint import fingerprint
from ._measure import measure, with_memory
from ._table import RunLock, write_atomically


def compare(
    detectors,
    datasets,
    *,
    map_size=None,
    baseline=None,
    n_draws=1000,
    out=None,
    memory=None,
    random_state=0,
    verbose=0,
):
    """Fit and evaluate detectors on data sets, with bootstrap intervals.

    Every detector is cloned, fitted on the training images of every data set, and sees each test image once; maps are
    not kept. What depends on a pretrained network is computed once per image and setting of the features. A pair that
    fails is reported, and the rest goes on.

    Parameters
    ----------
    detectors : dict of estimator
        Detectors by name.
    datasets : dict of Bunch or path-like
        Data sets by name, as returned by `load_mvtec` or `make_surfaces`. A path is passed to `load_category`.
    map_size : tuple of int (H, W), default=None
        Size at which pixels are compared; masks are resized to it by nearest neighbours. None compares at the size of
        each image.
    baseline : str or dict of str, default=None
        Name of the detector that the others are compared with, or a dict of detectors and what each is compared with.
        None is the first one.
    n_draws : int, default=1000
        Number of bootstrap samples of the test images of each data set, drawn from normal images and anomalies
        separately, and alike for all detectors.
    out : path-like, default=None
        Folder for the results, one file per pair, which is created if needed. If the function is called again after an
        interruption, pairs with a result are not computed again, unless parameters of the detector, its data or the
        settings of this function have changed. None keeps no files.
    memory : path-like or False, default=None
        Folder of a feature cache, which is kept (see `PretrainedPatchFeatures`). None uses a temporary one for each
        data set, and False none at all.
    random_state : int, default=0
        Seed of the bootstrap samples. The detectors have their own.
    verbose : int, default=0
        If 1, a progress bar is shown.

    Returns
    -------
    Comparison
        Results, with intervals and paired differences.

    Raises
    ------
    ValueError
        If there are no detectors or no data sets, `baseline` names others than the detectors, or `out` is being written
        by another run.

    Warns
    -----
    EvaluationWarning
        If any pairs fail; the message names them.

    See Also
    --------
    evaluate : Evaluate one detector on one data set, and keep its maps.
    skanomaly.plotting.ComparisonDisplay : Plot of the results.

    Notes
    -----
    Intervals say how much results would vary with other test images of the same kind. They contain neither the
    variation of the training images nor that of random seeds. Seconds include the network only where its features were
    not in the cache yet.

    Examples
    --------
    >>> from skanomaly import PatchFeatures, KNNScorer, VariationModel
    >>> from sklearn.pipeline import make_pipeline
    >>> from skanomaly.datasets import make_surfaces
    >>> from skanomaly.evaluation import compare
    >>> grid = make_surfaces("grid", n_train=20, n_good=10, n_anomalous=10, size=32, random_state=0)
    >>> patches = make_pipeline(PatchFeatures(patch_size=8), KNNScorer())
    >>> comparison = compare({"variation": VariationModel(false_alarm_rate=None), "patches": patches}, {"grid": grid})
    >>> comparison.detectors, comparison.datasets
    (['variation', 'patches'], ['grid'])
    >>> sorted(comparison.differences("image_auroc")[0])
    ['baseline', 'dataset', 'detector', 'difference', 'high', 'low', 'metric']
    """
    baseline = _checked(detectors, datasets, baseline, n_draws)
    settings = {"map_size": map_size, "n_draws": n_draws, "random_state": random_state}
    run = _Run(out, memory, settings)
    results, failures = {}, []
    with run.lock(), tqdm(total=len(detectors) * len(datasets), disable=not verbose, unit="pair") as bar:
        for dataset, data in datasets.items():
            with run.feature_memory() as folder:
                for detector, estimator in detectors.items():
                    bar.set_description(f"{dataset}: {detector}")
                    try:
                        data = load_category(data) if isinstance(data, (str, PathLike)) else data
                        results[detector, dataset] = run.result(detector, estimator, dataset, data, folder)
                    except Exception as error:  # whatever fails, the rest goes on
                        message = " ".join(f"{type(error).__name__}: {error}".split())
                        failures.append({"dataset": dataset, "detector": detector, "error": message})
                    bar.update()
    _warn_of(failures, len(detectors) * len(datasets))
    return Comparison(list(detectors), list(datasets), results, failures, baseline)


def _checked(detectors, datasets, baseline, n_draws):
    for name, value in (("detectors", detectors), ("datasets", datasets)):
        if not isinstance(value, dict) or not value:
            raise ValueError(f"{name}={value!r} is not accepted; it must be a dict of at least one, by name.")
    named = [*baseline, *baseline.values()] if isinstance(baseline, dict) else [baseline or next(iter(detectors))]
    if not set(named) <= set(detectors):
        raise ValueError(f"baseline={baseline!r} names others than the detectors, {', '.join(detectors)}.")
    if n_draws < 1:
        raise ValueError(f"n_draws={n_draws} is not accepted; it must be at least 1.")
    return baseline or next(iter(detectors))


def _warn_of(failures, n_pairs):
    if failures:
        shown = "; ".join(f"{f['detector']} on {f['dataset']}: {f['error']}" for f in failures[:5])
        warnings.warn(
            f"{len(failures)} of {n_pairs} pairs failed: {shown}{' ...' if failures[5:] else '.'}",
            EvaluationWarning,
            stacklevel=3,
        )


class _Run:
    """Files and settings of one comparison."""

    def __init__(self, out, memory, settings):
        self._out, self._memory, self._settings = None if out is None else Path(out), memory, settings
        if self._out:
            self._out.mkdir(parents=True, exist_ok=True)

    def lock(self):
        """Return a context in which no other run writes into the folder."""
        return RunLock(self._out / ".lock") if self._out else nullcontext()

    def feature_memory(self):
        """Return a context that yields the folder of the feature cache, or None."""
        if self._memory is None:
            return tempfile.TemporaryDirectory()
        return nullcontext(self._memory or None)

    def result(self, detector_name, detector, dataset_name, data, memory):
        """Return the figures and the bootstrap samples of a pair, from its file if there is one."""
        key = fingerprint(detector, data, self._settings)
        path = self._out and self._out / f"{_slug(dataset_name)}-{_slug(detector_name)}-{key[:12]}.json"
        if path and path.is_file():
            stored = json.loads(path.read_text(encoding="utf-8"))
            if stored["fingerprint"] == key:
                return stored["row"], {name: np.array(values) for name, values in stored["draws"].items()}
        seed = self._settings["random_state"], zlib.crc32(dataset_name.encode())
        measured = measure(
            with_memory(detector, data.X_train, memory),
            data,
            map_size=self._settings["map_size"],
            n_draws=self._settings["n_draws"],
            rng=np.random.default_rng(seed),
        )
        draws = {name: np.round(values, 6) for name, values in measured.draws.items()}
        if path:
            content = {"fingerprint": key, "detector": detector_name, "dataset": dataset_name, "row": measured.row}
            listed = {name: values.tolist() for name, values in draws.items()}
            write_atomically(path, json.dumps(content | {"draws": listed}))
        return measured.row, draws


def _slug(name):
    """Return a name as a part of a file name."""
    return re.sub(r"[^A-Za-z0-9._]+", "_", name)[:60]
