"""One-class classification of small photographs: every method side by side, with its baselines and controls.

Normal images of one class train each method, another class, or others, are the anomalies. The test images are the same
for all methods and seeds: the first `--n-test` of the normal and of the anomalous ones. Columns: image AUROC of each
seed, their mean, a 95 % bootstrap interval over test images of the scores averaged over seeds, the gain over
`--reference` with its paired interval, seconds of the fit and of scoring an image.
"""

import copy
import time
from types import SimpleNamespace

import numpy as np
from _common import parser, print_machine

from skanomaly import (
    AnoGAN,
    Autoencoder,
    KNNScorer,
    MahalanobisAD,
    Pixels,
    PretrainedPatchFeatures,
    SkipGANomaly,
    SubspaceScorer,
)
from skanomaly.metrics import image_auroc
from skanomaly.networks import StridedNetwork


def sneakers(options):
    """Return Fashion-MNIST: sneakers are normal, boots are anomalies, all other classes are the reference."""
    data = np.load(options.data / "small" / "fashion_mnist.npz")
    return data, data["X_test"][data["y_test"] == 9], data["y_train"] != 7


def horses_and_deer(options):
    """Return CIFAR-10: horses are normal, deer are anomalies, all other classes are the reference."""
    data = np.load(options.data / "small" / "cifar10_horse_deer.npz")
    return data, data["X_test"][data["y_test"] == 4], data["y_train"] != 7


def horses_and_others(options):
    """Return CIFAR-10: horses are normal, the eight classes but deer are anomalies; the reference has their others."""
    data = np.load(options.data / "small" / "cifar10_horse_deer.npz")
    others = np.flatnonzero(data["y_train"] != 7)
    rank = _rank_in_class(data["y_train"][others])
    order = others[np.lexsort((data["y_train"][others], rank))]  # one of each class after another
    tested = np.zeros(len(data["y_train"]), bool)
    tested[order[: options.n_test]] = True
    return data, data["X_train"][order], (data["y_train"] != 7) & ~tested


def _rank_in_class(y):
    rank = np.zeros(len(y), int)
    for label in np.unique(y):
        rank[y == label] = np.arange(np.sum(y == label))
    return rank


SETS = {"sneaker-boot": sneakers, "horse-deer": horses_and_deer, "horse-others": horses_and_others}
SIZES = {"sneaker-boot": 64, "horse-deer": 96, "horse-others": 96}  # at which pretrained networks look


def load(name, options):
    """Return a set: X_train, X_test, y_test (+1, -1), and a labelled reference X_reference, y_reference."""
    data, anomalies, is_reference = SETS[name](options)
    normal = data["X_test"][data["y_test"] == 7][: options.n_test]
    anomalies = anomalies[: options.n_test]
    return SimpleNamespace(
        name=name,
        X_train=data["X_train"][data["y_train"] == 7][: options.n_train],
        X_test=np.concatenate([normal, anomalies]),
        y_test=np.repeat([1, -1], [len(normal), len(anomalies)]),
        X_reference=data["X_train"][is_reference],
        y_reference=data["y_train"][is_reference],
    )


# --------------------------------------------------------------------------------------------- methods


class OfPixels:
    """A scorer of rows, on the pixels of images, flattened."""

    def __init__(self, scorer):
        self.scorer = scorer

    def fit(self, X):
        """Fit the scorer on images."""
        self.scorer.fit(self._rows(X))
        return self

    def score_samples(self, X):
        """Return the normality of images."""
        return self.scorer.score_samples(self._rows(X))

    def _rows(self, X):
        return X.reshape(len(X), -1) / 255


class Brightness:
    """The mean of all pixels: brighter is more anomalous, whatever the training images are."""

    def fit(self, X):
        """Do nothing."""
        return self

    def score_samples(self, X):
        """Return the negative mean of the pixels of images."""
        return -X.reshape(len(X), -1).mean(axis=1)


class OneGAN:
    """An AnoGAN that shares its networks with those of the same set and seed, which find codes in other ways."""

    _fitted = {}

    def __init__(self, inversion, data, seed, options):
        self.inversion, self.key, self.n_steps = inversion, (data.name, seed), options.n_steps

    def fit(self, X):
        """Fit the networks and the encoder, unless another method has done so."""
        if self.key not in self._fitted:
            detector = AnoGAN(Pixels(32), inversion="encoder", false_alarm_rate=None, random_state=self.key[1])
            start = time.perf_counter()
            self._fitted[self.key] = detector.fit(X), time.perf_counter() - start
        fitted, self.fit_seconds = self._fitted[self.key]
        steps = "auto" if self.inversion == "both" else self.n_steps
        self.detector = copy.copy(fitted).set_params(inversion=self.inversion, n_steps=steps)
        return self

    def score_samples(self, X):
        """Return the normality of images."""
        return self.detector.score_samples(X)


def first_epoch(data, seed, options):
    """Return the control: a generator that was never trained."""
    options = {"n_steps": options.n_steps, "max_epochs": 0, "false_alarm_rate": None, "random_state": seed}
    return AnoGAN(Pixels(32), **options)


def skip_ganomaly(data, seed, options):
    """Return Skip-GANomaly at 32 pixels, as in its published figures."""
    return SkipGANomaly(Pixels(32), false_alarm_rate=None, random_state=seed)


def of_frozen_network(data, seed, options):
    """Return the squared Mahalanobis distance of pooled lite0 features, covariance after Ledoit and Wolf."""
    features = PretrainedPatchFeatures(image_size=SIZES[data.name], layers=(0, 1, 2, 3, 4), neighborhood=1)
    return MahalanobisAD(features, false_alarm_rate=None, random_state=seed)


def autoencoder(data, seed, options):
    """Return an autoencoder of whole images, scored by the mean of the map."""
    network = StridedNetwork(patch_size=None)
    return Autoencoder(Pixels(32), network, image_score="mean", false_alarm_rate=None, random_state=seed)


METHODS = {  # name: function of a set, a seed and the options that returns an object with fit and score_samples
    "brightness": lambda data, seed, options: Brightness(),
    "nearest image": lambda data, seed, options: OfPixels(KNNScorer(1, false_alarm_rate=None)),
    "PCA residual": lambda data, seed, options: OfPixels(SubspaceScorer(0.9, false_alarm_rate=None)),
    "Autoencoder": autoencoder,
    "frozen lite0": of_frozen_network,
    "AnoGAN": lambda *given: OneGAN("search", *given),
    "AnoGAN, encoder": lambda *given: OneGAN("encoder", *given),
    "AnoGAN, both": lambda *given: OneGAN("both", *given),
    "AnoGAN, epoch 0": first_epoch,
    "SkipGANomaly": skip_ganomaly,
}
SEEDLESS = {"brightness", "nearest image", "PCA residual", "frozen lite0"}  # the same for every seed


# --------------------------------------------------------------------------------------------- figures


def run(name, data, options):
    """Return anomaly scores (n_seeds, n) of a method, and mean seconds of fits and of scoring an image."""
    scores, fits, seconds = [], [], []
    for seed in options.seeds[:1] if name in SEEDLESS else options.seeds:
        detector = METHODS[name](data, seed, options)
        start = time.perf_counter()
        detector.fit(data.X_train)
        fits.append(getattr(detector, "fit_seconds", time.perf_counter() - start))
        start = time.perf_counter()
        scores.append(-detector.score_samples(data.X_test))
        seconds.append((time.perf_counter() - start) / len(data.X_test))
    return np.array(scores), np.mean(fits), np.mean(seconds)


def bootstrap(y, scores, n_draws=1000):
    """Return the mean over seeds of the AUROC (n_draws,) on each bootstrap sample of the test images."""
    rng, normal, anomalous = np.random.default_rng(0), np.flatnonzero(y == 1), np.flatnonzero(y == -1)
    above = [(s[anomalous, None] > s[normal]) + 0.5 * (s[anomalous, None] == s[normal]) for s in scores]
    above, found = np.mean(above, axis=0), []
    for _ in range(n_draws):  # the same draws for every method
        rows, columns = (rng.integers(len(part), size=len(part)) for part in (anomalous, normal))
        found.append(above[np.ix_(rows, columns)].mean())
    return np.array(found)


def run_set(data, options):
    """Print the table of a set."""
    print(f"\n{data.name}: {len(data.X_train)} training images, {np.bincount(data.y_test + 1)[[2, 0]]} test images")
    print(f"{'':<24}{'AUROC of seeds':<18}{'mean':>6} [95 % interval]  {'gain':>7} [95 % interval]     fit s   ms each")
    names, reference = list(options.methods), None
    if options.reference in names:
        names.insert(0, names.pop(names.index(options.reference)))
    for name in names:
        scores, fit_seconds, seconds = run(name, data, options)
        aurocs = [image_auroc(data.y_test, s) for s in scores]
        draws = bootstrap(data.y_test, scores)
        low, high = np.quantile(draws, (0.025, 0.975))
        line = f"{name:<24}{' '.join(f'{a:.3f}' for a in aurocs):<18}{np.mean(aurocs):6.3f} [{low:.3f}, {high:.3f}]"
        if reference is None and name == options.reference:
            reference, gain = (np.mean(aurocs), draws), ""
        elif reference is not None:
            low, high = np.quantile(draws - reference[1], (0.025, 0.975))
            gain = f"{np.mean(aurocs) - reference[0]:+7.3f} [{low:+.3f}, {high:+.3f}]"
        else:
            gain = ""
        print(f"{line}  {gain:<24}{fit_seconds:8.1f}{1e3 * seconds:10.2f}", flush=True)


def main():
    options = parser(__doc__)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    options.add_argument("--reference", default="frozen lite0", choices=METHODS, help="method that gains refer to")
    options.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    options.add_argument("--n-steps", type=int, default=200, help="steps of the search of AnoGAN")
    options.add_argument("--n-train", type=int, default=1000, help="number of normal images to learn from")
    options.add_argument("--n-test", type=int, default=100, help="number of normal, and of anomalous, test images")
    options = options.parse_args()
    print_machine()
    for name in options.sets:
        run_set(load(name, options), options)


if __name__ == "__main__":
    main()
