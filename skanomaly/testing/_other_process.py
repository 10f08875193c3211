"""A Python process that loads and scores models, apart from the one that fitted them."""

import atexit
import functools
import json
import subprocess
import sys
from contextlib import suppress

_SERVE = """
import json, os, pickle, sys, traceback

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever a detector prints

def score(folder, n_threads, trusted, paths):
    sys.path[:] = paths
    import joblib, numpy as np
    from skanomaly.persistence import load
    if n_threads:
        import torch
        torch.set_num_threads(n_threads)
    with open(folder + "/model.pkl", "rb") as file:
        models = {"pickle": pickle.load(file)}
    models["joblib"] = joblib.load(folder + "/model.joblib")
    models["skanomaly.save"] = load(folder + "/model.skops", trusted=trusted)
    X = np.load(folder + "/X.npy")
    np.savez(folder + "/scores.npz", **{name: model.score_samples(X) for name, model in models.items()})
    return {"n_threads": torch.get_num_threads() if n_threads else 0}

for line in sys.stdin:
    try:
        answer = score(**json.loads(line))
    except Exception:
        answer = {"error": traceback.format_exc()}
    print(json.dumps(answer), file=answers, flush=True)
"""


def score_elsewhere(**request):
    """Score samples with the models in a folder, in a process that has fitted nothing.

    The process is started once and then serves all requests, because its imports take seconds.

    Parameters
    ----------
    **request : dict
        The folder, the number of threads of torch (0 if it is not used), trusted types, and the paths of modules.

    Returns
    -------
    dict
        The number of threads afterwards, or else an error. The scores are in the folder, in scores.npz.
    """
    process = _process()
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except BrokenPipeError:
        answer = ""
    if answer:
        return json.loads(answer)
    _process.cache_clear()
    return {"error": f"The process ended with exit status {_stop(process)}."}


@functools.cache
def _process():
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
    )
    atexit.register(_stop, process)
    return process


def _stop(process):
    with suppress(BrokenPipeError):  # what it has not read, if it has ended
        process.stdin.close()
    process.stdout.close()
    return process.wait()
