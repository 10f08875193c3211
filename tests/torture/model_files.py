"""Model files that were damaged or forged: they give the same scores, or one error of ours, and nothing else.

Files are loaded and scored in a process of their own, whose system calls are watched. A file whose checksum was written
anew may hold another model, which nobody can tell from one that was fitted: its scores must be finite.
"""

import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator

from skanomaly._model_files.parts import parts_of

sys.path.insert(0, str(Path(__file__).parent))
import mutations

N_TRIALS = 2000
_LONGEST = 60  # seconds that a file may take
_MOST_MEMORY = 600  # MiB more than before
_WATCHED = {
    **dict.fromkeys(("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork"), "code executed"),
    **dict.fromkeys(("pickle.find_class", "exec.canary"), "code executed"),
    **dict.fromkeys(("socket.connect", "socket.getaddrinfo", "urllib.Request"), "fetched"),
    **dict.fromkeys(("os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate"), "written"),
}


def models():
    """Yield (name, fitted estimator, samples) of small models of every kind."""
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import skanomaly as sk
    from skanomaly.datasets import make_surfaces
    from skanomaly.networks import DenseNetwork, SSIMLoss, StridedNetwork

    rng = np.random.default_rng(0)
    X, images = rng.normal(size=(60, 4)), make_surfaces("cloth", n_train=8, n_good=1, size=48, random_state=0)

    def features(**options):
        return sk.PretrainedPatchFeatures(weights="random", image_size=32, random_state=0, **options)

    rows = {
        "KNNScorer": sk.KNNScorer(3, reweight=4),
        "GaussianScorer": sk.GaussianScorer(),
        "SubspaceScorer": sk.SubspaceScorer(random_state=0),
        "SparseCodingScorer": sk.SparseCodingScorer(random_state=0),
        "Autoencoder": sk.Autoencoder(network=DenseNetwork((3,)), residual="mahalanobis", max_epochs=1, random_state=0),
        "VAE": sk.VAE(network=DenseNetwork((3,)), max_epochs=1, random_state=0),
        "GradientProjection": sk.GradientProjection(sk.VAE(network=DenseNetwork((3,)), max_epochs=1), n_steps=2),
        "ConformalDetector": sk.ConformalDetector(make_pipeline(SimpleImputer(), StandardScaler(), sk.KNNScorer())),
        "FitOnNormal": sk.FitOnNormal(sk.KNNScorer()),
    }
    pictures = {
        "PatchCore": sk.PatchCore(features(), coreset_size=600, random_state=0),
        "PatchCore paper": sk.PatchCore(
            features(), combine="concatenated", n_neighbors=1, image_score="patch", coreset_size=50
        ),
        "PaDiM": sk.PaDiM(features(), n_channels=8, random_state=0),
        "SPADE": sk.SPADE(features(layers=(2, 3, 4)), n_neighbors=3),
        "MahalanobisAD": sk.MahalanobisAD(features(layers=(1, 2))),
        "MLFSC": sk.MLFSC(features(layers=("/8", "/4")), patch_size=2, stride=1, border=0, random_state=0),
        "FeatureDictionary": sk.FeatureDictionary(features(), random_state=0),
        "Autoencoder images": sk.Autoencoder(sk.Pixels(16), StridedNetwork(4), loss=SSIMLoss(5), max_epochs=1),
        "PatchFeatures": make_pipeline(sk.PatchFeatures(image_size=16), sk.GreedyCoreset(0.5), sk.KNNScorer()),
    }
    for name, model in rows.items():
        yield name, model.fit(X), X[:5] + 0.1
    for name, model in pictures.items():
        yield name, model.fit(images.X_train), images.X_test[:2]


def run(share=1.0):
    """Try `share` of all mutations; return the number of trials by outcome."""
    n_trials, counts = round(share * N_TRIALS), Counter()
    with tempfile.TemporaryDirectory() as folder:
        names = _prepare(Path(folder))
        jobs = [(i, names[i % len(names)]) for i in range(n_trials)]
        while jobs:
            jobs = _work_through(jobs, Path(folder), counts)
    return dict(counts)


def _prepare(folder):
    """Write the intact models and what they are asked."""
    from skanomaly import save

    names = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, model, X in models():
            save(model, folder / f"{name}.skops")
            np.save(folder / f"{name}.npy", X)
            names.append(name)
    return names


def _work_through(jobs, folder, counts):
    """Give jobs to a process until it ends; return what is left."""
    command = [sys.executable, "-W", "ignore", __file__, str(folder)]
    environment = {**os.environ, "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    errors = open(folder / "errors", "w+")  # noqa: SIM115, closed with the process
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    )
    answers = queue.Queue()
    reader = threading.Thread(target=_listen, args=(worker.stdout, answers), daemon=True)
    reader.start()
    answers.get(timeout=600)  # ready
    for done, (i, name) in enumerate(jobs):
        print(json.dumps([i, name]), file=worker.stdin, flush=True)
        try:
            answer = answers.get(timeout=_LONGEST)
        except queue.Empty:
            answer = "hang"
        if answer in ("", "hang"):
            worker.kill()
            worker.wait()
            errors.seek(0)
            _count(counts, i, name, {"outcome": answer or "crash", "detail": errors.read()[-2000:]})
            return jobs[done + 1 :]
        _count(counts, i, name, json.loads(answer))
    worker.stdin.close()
    worker.wait()
    return []


def _listen(stream, answers):
    for line in stream:
        answers.put(line)
    answers.put("")


def _count(counts, i, name, answer):
    counts[answer["outcome"]] += 1
    if answer.get("detail"):
        print(f"  trial {i} of {name}: {answer['outcome']}: {answer['detail']}", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------------- the other process


class Watch:
    """What the process did since the last look, other than to read and compute."""

    def __init__(self):
        self.active, self.seen = False, []
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if not self.active:
            return
        if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
            self.seen.append(("written", arguments[0]))
        elif event in _WATCHED:
            self.seen.append((_WATCHED[event], f"{event} {arguments!r:.200}"))


def serve(folder):
    """Answer each job, a line of JSON, by a line of JSON."""
    from skanomaly import load

    expected = {}
    for path in sorted(folder.glob("*.skops")):  # everything is imported and compiled before anyone looks
        X = np.load(folder / f"{path.stem}.npy")
        expected[path.stem] = X, load(path).score_samples(X)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    watch = Watch()
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        i, name = json.loads(line)
        print(json.dumps(trial(folder, i, name, *expected[name], watch)), file=answers, flush=True)


def trial(folder, i, name, X, expected, watch):
    """Mutate a model file, load it and score with it; return the outcome."""
    rng, path = np.random.default_rng(i), folder / "mutated"
    change, sealed = mutations.mutate(folder / f"{name}.skops", path, rng)
    before, watch.seen = _peak(), []
    watch.active = True
    outcome, detail = load_and_score(path, X, expected, sealed)
    watch.active = False
    seen = [what for what in watch.seen if str(folder) not in str(what[1])]
    if seen:
        outcome, detail = seen[0][0], str(seen[0][1])
    elif _peak() - before > _MOST_MEMORY:
        outcome, detail = "memory", f"{_peak() - before} MiB"
    return {"outcome": outcome, "detail": detail and f"{change}: {detail}"}


def load_and_score(path, X, expected, sealed):
    """Return the outcome and its details; `sealed` says whether other scores may be those of another model."""
    from skanomaly import load
    from skanomaly.exceptions import MissingWeightsError, ModelFileError

    step = "load"
    try:
        model = load(path)
        step = "score"
        if sealed and not hasattr(model, "score_samples"):
            return "another model", ""
        scores = model.score_samples(X)
    except (ModelFileError, MissingWeightsError):
        return f"refused in {step}", ""
    except Exception as error:
        if step == "score" and isinstance(error, ValueError) and _raised_by_us(error):
            return "refused in score", ""
        if step == "score" and _of_scikit_learn(model, error):
            return "error of scikit-learn about its own part", ""
        return "raw error", f"{step}: {type(error).__name__}: {error!s:.300}"
    if not isinstance(scores, np.ndarray) or scores.shape != expected.shape or not np.isfinite(scores).all():
        return "silent wrong result", f"scores {scores!r:.200}"
    if np.array_equal(scores, expected):
        return "identical scores", ""
    return ("another model", "") if sealed else ("silent wrong result", f"scores {scores!r:.200}")


def _raised_by_us(error):
    """Return whether an error was raised by a statement of skanomaly, not from inside a library."""
    frames = traceback.extract_tb(error.__traceback__)
    return "skanomaly" in frames[-1].filename and frames[-1].line.startswith("raise ")


def _of_scikit_learn(model, error):
    """Return whether scikit-learn raised an error in a model that holds parts of it, whose attributes are its own."""
    parts = (part for part in parts_of(model) if isinstance(part, BaseEstimator))
    holds = any(type(part).__module__.startswith("sklearn.") for part in parts)
    return holds and "sklearn" in traceback.extract_tb(error.__traceback__)[-1].filename


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
