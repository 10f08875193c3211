"""Answers of every detector on fixed seeds, kept in one file, so that refactoring can be seen to change none.

``OMP_NUM_THREADS=1 python tests/frozen_answers.py`` compares with the file, to the bit, and names what differs;
``python tests/frozen_answers.py --write NAME...`` renews the entries whose names begin with one of those given.
``test_frozen_answers.py`` compares too, within the tolerance that another processor needs.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from tiny_feature_net import TinyFeatureNet

from skanomaly import (
    MLFSC,
    SPADE,
    VAE,
    Aligned,
    AnoGAN,
    AnoUNet,
    Augmented,
    Autoencoder,
    ConformalDetector,
    CropFeatures,
    DeepOneClass,
    FeatureDecoder,
    FeatureDictionary,
    FitOnNormal,
    GaussianScorer,
    GradientProjection,
    GreedyCoreset,
    KNNScorer,
    MahalanobisAD,
    MetricFeatures,
    PaDiM,
    PatchCore,
    PatchFeatures,
    Pixels,
    PretrainedPatchFeatures,
    RandomProjection,
    SkipGANomaly,
    SparseCodingScorer,
    SubspaceScorer,
    TextureGMM,
    VariationModel,
    anomaly_map,
)
from skanomaly.datasets import make_surfaces
from skanomaly.exceptions import CalibrationWarning
from skanomaly.networks import DCGAN, DenseNetwork, FeatureLoss, PooledNetwork, SkipGAN, SSIMLoss, StridedNetwork, UNet

FILE = Path(__file__).with_suffix(".npz")
SIZE = (24, 24)  # of the maps that are kept
PAPER = {"combine": "concatenated", "coreset_ratio": 0.1, "n_neighbors": 1, "image_score": "patch", "sigma": 4.0}
WHOLE = {**PAPER, "coreset_ratio": 1.0}


def network(layers=(2, 3), neighborhood=3, **options):
    """Return features of an untrained network: fast, and no weights need be installed."""
    options = {"image_size": 64, "random_state": 0, **options}
    return PretrainedPatchFeatures(layers=layers, neighborhood=neighborhood, weights="random", **options)


def fine_tuned(**options):
    """Return the parameters of a detector that trains a tiny network further, against a reference of noise."""
    features = network(("bn2",), 1, backbone="test_efficientnet", image_size=48)
    reference = np.random.default_rng(0).integers(0, 256, (16, 48, 48), np.uint8), np.arange(16) % 2
    return {"features": features, "reference": reference, "max_epochs": 2, "random_state": 0, **options}


def surfaces():
    return make_surfaces("cloth", n_train=12, n_good=2, n_anomalous=3, size=48, random_state=0)


def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(230, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(230, 6))
    return X[:200], np.vstack([X[200:], rng.normal(size=(10, 6)) * 3])


IMAGE_DETECTORS = {
    "PatchCore loo": lambda: PatchCore(network(), **PAPER, random_state=0),
    "PatchCore cv": lambda: PatchCore(network(), **PAPER, calibration="cv", reweight=False, random_state=0),
    "PatchCore split": lambda: PatchCore(
        network(), **{**PAPER, "coreset_ratio": 1.0}, calibration="split", random_state=0
    ),
    "PatchCore projection": lambda: PatchCore(
        network(dim=64), **{**PAPER, "n_neighbors": 2}, projection=16, random_state=0
    ),
    "PatchCore pixels": lambda: PatchCore(PatchFeatures(image_size=48), **PAPER, random_state=0),
    "PatchCore crop": lambda: PatchCore(network(crop=32), **PAPER, random_state=0),
    "PaDiM loo": lambda: PaDiM(network((1, 2, 3), 1), n_channels=20, random_state=0),
    "PaDiM cv": lambda: PaDiM(network((1, 2, 3), 1), n_channels=20, calibration="cv", random_state=0),
    "PatchCore layers": lambda: PatchCore(network(), coreset_ratio=0.1, random_state=0),
    "PatchCore views": lambda: PatchCore(Augmented(network(), rotations=3), calibration="split", random_state=0),
    "TextureGMM": lambda: TextureGMM(
        Pixels(48, gray=True), n_levels=2, n_components=3, n_patches=2000, combine="adjacent", random_state=0
    ),
    "VariationModel images": lambda: VariationModel(Pixels(48), random_state=0),
    "VariationModel aligned": lambda: VariationModel(Aligned(Pixels(48), "rigid"), statistics="median", random_state=0),
    "Autoencoder dense": lambda: Autoencoder(
        Pixels(28),
        DenseNetwork((16,), output_activation="sigmoid"),
        loss="bce",
        max_epochs=2,
        random_state=0,
    ),
    "SPADE averaged": lambda: SPADE(network((2, 3, 4), 1), n_neighbors=5, random_state=0),
    "SPADE concatenated": lambda: SPADE(
        network((2, 3, 4), 1), n_neighbors=5, combine="concatenated", image_score="max", random_state=0
    ),
    "SPADE split": lambda: SPADE(network((2, 3, 4), 1), n_neighbors=5, calibration="split", random_state=0),
    "MahalanobisAD cv": lambda: MahalanobisAD(network((0, 1, 2), 1), random_state=0),
    "MahalanobisAD pca": lambda: MahalanobisAD(network((0, 1, 2), 1), pca=("trailing", 0.9), random_state=0),
    "MahalanobisAD chi2": lambda: MahalanobisAD(network((2,), 1), threshold="chi2"),
    "MLFSC": lambda: MLFSC(network(("/8", "/4", "/2")), patch_size=4, stride=1, border=1, random_state=0),
    "FeatureDictionary": lambda: FeatureDictionary(network(), random_state=0),
    "FeatureDictionary crops": lambda: FeatureDictionary(
        CropFeatures(network(("/16",), image_size=32), stride=8, image_size=48), random_state=0
    ),
    "Autoencoder images": lambda: Autoencoder(Pixels(48), StridedNetwork(8), max_epochs=2, random_state=0),
    "Autoencoder patches": lambda: Autoencoder(
        Pixels(64, gray=True), StridedNetwork(8), max_epochs=2, image_score="mean", calibration="cv", random_state=0
    ),
    "Autoencoder ssim": lambda: Autoencoder(
        Pixels(48), StridedNetwork(8, patch_size=24), loss=SSIMLoss(7), max_epochs=2, random_state=0
    ),
    "Autoencoder feature": lambda: Autoencoder(
        Pixels(48), StridedNetwork(8), loss=FeatureLoss(network((0, 1))), max_epochs=2, random_state=0
    ),
    "Autoencoder pooled": lambda: Autoencoder(Pixels(40), PooledNetwork(), noise=0.1, max_epochs=2, random_state=0),
    "VAE images": lambda: VAE(Pixels(64), StridedNetwork(8), max_epochs=2, anomaly_score="elbo", random_state=0),
    "VAE gamma": lambda: VAE(
        Pixels(48),
        StridedNetwork(8),
        max_epochs=2,
        decoder_variance=0.1,
        anomaly_score="unregularized",
        random_state=0,
    ),
    "AnoGAN search": lambda: AnoGAN(
        Pixels(32), DCGAN(6, width=4), n_steps=4, n_restarts=2, chunk_size=4, max_epochs=2, random_state=0
    ),
    "AnoGAN both": lambda: AnoGAN(
        Pixels((40, 33)), DCGAN(6, width=4), inversion="both", n_steps=2, chunk_size=4, max_epochs=2, random_state=0
    ),
    "SkipGANomaly": lambda: SkipGANomaly(Pixels(40), SkipGAN(4), max_epochs=2, random_state=0),
    "GradientProjection images": lambda: GradientProjection(
        Autoencoder(Pixels(48), StridedNetwork(8, patch_size=None), max_epochs=2), n_steps=5, random_state=0
    ),
    "GradientProjection patches": lambda: GradientProjection(
        VAE(Pixels(64), StridedNetwork(8), max_epochs=2), n_steps=3, evidence="residual", masked=False, random_state=0
    ),
    "DeepOneClass": lambda: DeepOneClass(**fine_tuned()),
    "DeepOneClass lof": lambda: DeepOneClass(**fine_tuned(scoring="lof", normals_as_class=True)),
    "MetricFeatures": lambda: MetricFeatures(**fine_tuned()),
    "MetricFeatures mean": lambda: MetricFeatures(**fine_tuned(scoring="mean", batch_statistics=True)),
    "FeatureDecoder": lambda: FeatureDecoder(TinyFeatureNet(random_state=0), Pixels(48), max_epochs=2, random_state=0),
    "AnoUNet": lambda: AnoUNet(
        TinyFeatureNet(random_state=0), Pixels(32), UNet(4, depth=2), n_steps=3, calibrate_maps=True, random_state=0
    ),
    "AnoUNet normals": lambda: AnoUNet(
        TinyFeatureNet(random_state=0),
        Pixels(32),
        UNet(4, depth=2),
        n_steps=3,
        init="normals",
        optimizer="momentum",
        max_epochs=2,
        calibrate_maps=True,
        random_state=0,
    ),
    "ConformalDetector PatchCore": lambda: ConformalDetector(
        PatchCore(network(), **PAPER, random_state=0), random_state=0
    ),
    "ConformalDetector pipeline": lambda: ConformalDetector(
        make_pipeline(network(), GreedyCoreset(0.1, random_state=0), KNNScorer()), calibration="cv", random_state=0
    ),
    "ConformalDetector Autoencoder": lambda: ConformalDetector(
        Autoencoder(Pixels(48), StridedNetwork(8), max_epochs=2, random_state=0), random_state=0
    ),
}
ROW_DETECTORS = {
    "KNNScorer rows": lambda: KNNScorer(3, random_state=0),
    "KNNScorer cv": lambda: KNNScorer(2, calibration="cv", reweight=4, random_state=0),
    "VariationModel rows": lambda: VariationModel(calibration="cv", random_state=0),
    "GaussianScorer rows": lambda: GaussianScorer(),
    "SubspaceScorer rows": lambda: SubspaceScorer(random_state=0),
    "SubspaceScorer loo": lambda: SubspaceScorer(2, calibration="loo"),
    "SparseCodingScorer rows": lambda: SparseCodingScorer(random_state=0),
    "Autoencoder rows": lambda: Autoencoder(network=DenseNetwork((6, 3)), max_epochs=4, random_state=0),
    "Autoencoder standardized": lambda: Autoencoder(
        network=DenseNetwork((6, 3), decoder=(4,)),
        residual="standardized",
        calibration="cv",
        max_epochs=2,
        random_state=0,
    ),
    "Autoencoder mahalanobis": lambda: Autoencoder(
        network=DenseNetwork((6, 3), activation="tanh", activity_penalty=1e-3),
        noise=0.0,
        residual="mahalanobis",
        max_epochs=2,
        random_state=0,
    ),
    "VAE rows": lambda: VAE(network=DenseNetwork((6, 3)), max_epochs=4, random_state=0),
    "VAE elbo": lambda: VAE(network=DenseNetwork((6, 3)), anomaly_score="elbo", beta=0.5, max_epochs=2, random_state=0),
    "GradientProjection rows": lambda: GradientProjection(
        Autoencoder(network=DenseNetwork((6, 3)), max_epochs=4), n_steps=5, random_state=0
    ),
    "GradientProjection fixed": lambda: GradientProjection(
        Autoencoder(network=DenseNetwork((6, 3)), max_epochs=4), n_steps=5, step="fixed", random_state=0
    ),
    "ConformalDetector IsolationForest": lambda: ConformalDetector(
        IsolationForest(n_estimators=10, random_state=0), random_state=0
    ),
    "ConformalDetector rows": lambda: ConformalDetector(
        Autoencoder(network=DenseNetwork((6, 3)), max_epochs=2, random_state=0), random_state=0
    ),
}
FEATURES = {
    "PretrainedPatchFeatures": lambda: network(),
    "PretrainedPatchFeatures dim": lambda: network(dim=32, crop=(40, 48)),
    "PatchFeatures": lambda: PatchFeatures(image_size=40, level=1, gray=False, normalization=None),
    "CropFeatures": lambda: CropFeatures(network(("/16",), image_size=32), stride=16, image_size=48),
}


def of_detector(detector, X, X_test):
    """Yield the name and the value of everything that a user can see of a fitted detector."""
    detector.fit(X)
    yield "scores", detector.score_samples(X_test)
    yield "offset", detector.offset_
    if hasattr(detector, "calibration_scores_"):
        yield "calibration", np.sort(detector.calibration_scores_)
    yield "p_values", detector.p_values(X_test)
    if not (X.ndim > 2 and hasattr(detector, "anomaly_map")):
        return
    yield "pixel_threshold", detector.pixel_threshold_
    yield "maps", detector.anomaly_map(X_test, size=SIZE)
    yield "mask_areas", detector.anomaly_mask(X_test).sum(axis=(1, 2))


def of_pipeline():
    data = surfaces()
    features, projection = network(), RandomProjection(32, random_state=0)
    scorers = {"knn": KNNScorer(reweight=3), "gaussian": GaussianScorer(pooled=True), "subspace": SubspaceScorer()}
    for name, scorer in scorers.items():
        pipeline = make_pipeline(features, projection, scorer).fit(data.X_train)
        yield f"pipeline {name}/scores", pipeline.score_samples(data.X_test)
        yield f"pipeline {name}/maps", anomaly_map(pipeline, data.X_test, size=SIZE)


def of_parts():
    """Yield what detectors answer beside scores, and the features."""
    X, X_test = rows()
    data = surfaces()
    detector = IMAGE_DETECTORS["Autoencoder images"]().fit(data.X_train)
    yield "Autoencoder images/reconstruct", detector.reconstruct(data.X_test)[:, ::3, ::3]
    detector = ROW_DETECTORS["Autoencoder mahalanobis"]().fit(X)
    yield "Autoencoder mahalanobis/contributions", detector.contributions(X_test)
    yield "Autoencoder mahalanobis/reconstruct", detector.reconstruct(X_test)
    for scorer in (KNNScorer(3), GaussianScorer(), SubspaceScorer(2)):
        yield f"{type(scorer).__name__} contributions", scorer.fit(X).contributions(X_test)
    detector = ROW_DETECTORS["GradientProjection rows"]().fit(X)
    hole = np.zeros(X_test.shape, bool)
    hole[:, 1:3] = True
    yield "GradientProjection rows/inpaint", detector.inpaint(X_test, hole)
    yield "GradientProjection rows/project", detector.project(X_test)
    half, other = (PaDiM(network((1, 2, 3), 1), n_channels=20, random_state=0) for _ in range(2))
    half.fit(data.X_train[:6])
    half.merge(other.fit(data.X_train[6:]))
    yield "PaDiM merge/scores", half.score_samples(data.X_test)
    detector = FitOnNormal(KNNScorer(3)).fit(X, np.where(np.arange(len(X)) % 7, 1, -1))
    yield "FitOnNormal/scores", detector.score_samples(X_test)
    for name, make in FEATURES.items():
        yield f"{name}/grids", make().fit(data.X_train).transform(data.X_test)[..., ::5]


GROUPS = (*IMAGE_DETECTORS, *ROW_DETECTORS, "pipelines", "parts")


def answers_of(group):
    """Yield the name and the value of every answer of a detector, of the pipelines, or of the parts."""
    if group == "pipelines":
        yield from of_pipeline()
    elif group == "parts":
        yield from of_parts()
    elif group in IMAGE_DETECTORS:
        data = surfaces()
        yield from _named(group, of_detector(IMAGE_DETECTORS[group](), data.X_train, data.X_test))
    else:
        yield from _named(group, of_detector(ROW_DETECTORS[group](), *rows()))


def _named(group, parts):
    return ((f"{group}/{part}", value) for part, value in parts)


def main(arguments):
    warnings.simplefilter("ignore", CalibrationWarning)
    kept = dict(np.load(FILE)) if FILE.exists() else {}
    write, prefixes = "--write" in arguments, tuple(a for a in arguments if a != "--write")
    fresh = {name: np.asarray(value) for group in GROUPS for name, value in answers_of(group)}
    differ = [n for n in kept.keys() | fresh.keys() if not _equal(kept.get(n), fresh.get(n))]
    for name in sorted(differ):
        print(f"differs: {name}{_distance(kept.get(name), fresh.get(name))}")
    print(f"{len(fresh)} answers, {len(differ)} differ")
    if write:
        kept |= {n: v for n, v in fresh.items() if n.startswith(prefixes or "")}
        np.savez_compressed(FILE, **{n: kept[n] for n in sorted(kept) if n in fresh})
    return bool(differ) and not write


def _equal(a, b):
    return a is not None and b is not None and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)


def _distance(a, b):
    if a is None or b is None or a.shape != b.shape:
        return f" (kept {None if a is None else a.shape}, now {None if b is None else b.shape})"
    return f" (largest difference {np.nanmax(np.abs(a.astype(float) - b.astype(float))):.3g})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
