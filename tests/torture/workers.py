"""Threads, and forked, spawned and loky workers: their scores equal those of the parent, to the bit."""

import multiprocessing
import threading
from collections import Counter

import numpy as np
from joblib import Parallel, delayed
from threadpoolctl import threadpool_info

from skanomaly import Autoencoder, GaussianScorer, KNNScorer, PaDiM, PatchCore, PatchFeatures, PretrainedPatchFeatures
from skanomaly.networks import DenseNetwork

_PATCHES = PatchFeatures(4, image_size=32)
_NETWORK = PretrainedPatchFeatures(layers=(2,), image_size=32, weights="random", random_state=0)
_N_ROUNDS, _N_THREADS, _PATIENCE = 40, 8, 300


def detectors():
    """Return fitted detectors, each with samples to be scored."""
    rng = np.random.default_rng(0)
    rows, images = rng.normal(size=(600, 6)), rng.integers(0, 256, (12, 40, 40), np.uint8)
    of_rows = [KNNScorer(3), GaussianScorer(), Autoencoder(network=DenseNetwork((3,)), max_epochs=2, random_state=0)]
    of_images = [PatchCore(_PATCHES, random_state=0), PaDiM(_PATCHES, n_channels=5), PatchCore(_NETWORK)]
    of_images = [detector.set_params(random_state=0, false_alarm_rate=0.2) for detector in of_images]
    return [(d.fit(rows), rows[:100]) for d in of_rows] + [(d.fit(images), images) for d in of_images]


def score(task):
    """Return the scores of a detector, fitted or not."""
    detector, X = task
    return detector.score_samples(X) if hasattr(detector, "features_") else detector.fit(X).score_samples(X)


def run(share):
    """Return the outcomes of scoring in threads and in processes of each kind, and of fitting in forked ones."""
    outcomes, tasks = Counter(), detectors()
    expected = [score(task) for task in tasks]
    for name in ("fork", "spawn"):
        with multiprocessing.get_context(name).Pool(4) as pool:
            try:
                found = pool.map_async(score, tasks).get(_PATIENCE)
            except multiprocessing.TimeoutError:
                outcomes["hang"] += len(tasks)
                continue
        outcomes.update(map(_outcome, expected, found))
    outcomes.update(map(_outcome, expected, Parallel(2, backend="loky")(delayed(score)(task) for task in tasks)))
    before = _blas_threads()
    for _ in range(max(1, round(_N_ROUNDS * share))):
        for task, scores in zip(tasks, expected, strict=True):
            outcomes.update(_outcome(scores, found) for found in _in_threads(task))
    outcomes["threads of BLAS as before" if _blas_threads() == before else "silent wrong result"] += 1
    return outcomes


def _in_threads(task):
    results = [None] * _N_THREADS

    def work(i):
        results[i] = score(task)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(_N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_PATIENCE)
    return results


def _outcome(expected, found):
    return "equal" if found is not None and np.array_equal(expected, found) else "silent wrong result"


def _blas_threads():
    return [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas"]
