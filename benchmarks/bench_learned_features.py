"""Features learned against a labelled reference, and the frozen features they start from, under the same scoring rules.

1,500 normal images of one class train a network further, against images of eight other classes; those of the anomalous
class are in neither. Numbers of epochs are fixed beforehand, see `EPOCHS`, and the first layers are not trained, see
`FROZEN`. Columns: image AUROC of each seed, their mean, a 95 % bootstrap interval over test images of the mean, and the
gain over the frozen features under the same rule with its paired interval. With `--scores`, the scores of every run are
kept in a folder, from which the tables are printed again; runs that are missing are computed.
"""

import time
from pathlib import Path

import numpy as np
from _common import parser, print_machine
from bench_one_class import SIZES, bootstrap, load
from sklearn.frozen import FrozenEstimator

from skanomaly import DeepOneClass, MahalanobisAD, MetricFeatures, PretrainedPatchFeatures, Reference
from skanomaly.metrics import image_auroc

EPOCHS = {"sneaker-boot": 3, "horse-deer": 5}  # over all images for MetricFeatures, as in a trial
PASSES = {"sneaker-boot": 3, "horse-deer": 5}  # over the normal images for DeepOneClass
FROZEN = ("conv_stem", "bn1", "blocks.[0-2]", "*.conv_dw")  # to save two thirds of the time of a step on a CPU
METHODS = {"MetricFeatures": MetricFeatures, "DeepOneClass": DeepOneClass}
RULES = ("nearest", "mean", "lof", "Ledoit-Wolf")


def fitted(method, data, seed, frozen):
    """Return a fitted detector; with `frozen`, its network is the pretrained one."""
    features = PretrainedPatchFeatures(layers=("bn2",), neighborhood=1, image_size=SIZES[data.name], batch_size=32)
    epochs = (EPOCHS if method == "MetricFeatures" else PASSES)[data.name]
    return METHODS[method](
        features,
        reference=Reference(data.X_reference, data.y_reference),
        max_epochs=0 if frozen else epochs,
        frozen=FROZEN,
        false_alarm_rate=None,
        random_state=seed,
        verbose=1,
    ).fit(data.X_train)


def scores_of(method, data, seed, frozen):
    """Return the anomaly scores of the test images under each rule, and the seconds of the training."""
    start = time.perf_counter()
    detector = fitted(method, data, seed, frozen)
    found = {"seconds": time.perf_counter() - start, "nearest": -detector.score_samples(data.X_test)}
    trained = FrozenEstimator(detector.features_.features_)
    for rule in ("mean", "lof"):
        judge = METHODS[method](trained, max_epochs=0, scoring=rule, false_alarm_rate=None).fit(data.X_train)
        found[rule] = -judge.score_samples(data.X_test)
    judge = MahalanobisAD(FrozenEstimator(detector), false_alarm_rate=None).fit(data.X_train)
    found["Ledoit-Wolf"] = -judge.score_samples(data.X_test)
    return found | {f"history {name}": losses for name, losses in detector.history_.items()}


def run(method, data, seed, frozen, folder):
    """Return the scores of a run, which are read from the folder if they are there."""
    if folder is None:
        return scores_of(method, data, seed, frozen)
    path = folder / f"{data.name} {method} {'frozen' if frozen else seed}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **scores_of(method, data, seed, frozen))
    return dict(np.load(path))


def print_rows(method, data, options):
    """Print a row for each rule."""
    frozen = run(method, data, 0, True, options.scores)
    runs = [run(method, data, seed, False, options.scores) for seed in options.seeds]
    for name in [name for name in runs[0] if name.startswith("history")]:
        print(f"{data.name} {method}: {name.removeprefix('history ')} of the epochs", *(r[name].round(3) for r in runs))
    for rule in RULES:
        before, after = (bootstrap(data.y_test, np.array(part)) for part in ([frozen[rule]], [r[rule] for r in runs]))
        aurocs = [image_auroc(data.y_test, r[rule]) for r in runs]
        start = image_auroc(data.y_test, frozen[rule])
        (low, high), (least, most) = (np.quantile(draws, (0.025, 0.975)) for draws in (after, after - before))
        mean, seconds = np.mean(aurocs), np.mean([r["seconds"] for r in runs])
        print(
            f"{data.name:<13} {method:<15} {rule:<12}{start:7.3f}   {' '.join(f'{a:.3f}' for a in aurocs):<13}"
            f"{mean:6.3f} [{low:.3f}, {high:.3f}]  {mean - start:+.3f} [{least:+.3f}, {most:+.3f}]{seconds:8.0f}",
            flush=True,
        )


def main():
    """Print the tables."""
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", default=list(EPOCHS), choices=EPOCHS)
    options.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    options.add_argument("--n-train", type=int, default=1500, help="number of normal images to learn from")
    options.add_argument("--n-test", type=int, default=500, help="number of normal, and of anomalous, test images")
    options.add_argument("--scores", type=Path, help="folder in which the scores of every run are kept")
    options = options.parse_args()
    print_machine()
    print(f"{'':<42}{'frozen':<10}{'seeds':<15}mean [95 % interval]   gain [95 % interval]  fit s")
    for name in options.sets:
        data = load(name, options)
        for method in options.methods:
            print_rows(method, data, options)


if __name__ == "__main__":
    main()
