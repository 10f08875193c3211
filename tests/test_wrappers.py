"""Every detector inside each wrapper: what the wrapper offers, it offers as the detector does."""

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from tiny_feature_net import TinyFeatureNet

from skanomaly import (
    MLFSC,
    SPADE,
    VAE,
    AnoGAN,
    AnoUNet,
    Autoencoder,
    ConformalDetector,
    DeepOneClass,
    FeatureDecoder,
    FeatureDictionary,
    FitOnNormal,
    GradientProjection,
    GreedyCoreset,
    KNNScorer,
    MahalanobisAD,
    MetricFeatures,
    PaDiM,
    PatchCore,
    Pixels,
    PretrainedPatchFeatures,
    SkipGANomaly,
    TextureGMM,
    VariationModel,
)
from skanomaly.networks import DCGAN, SkipGAN, StridedNetwork, Training, UNet
from skanomaly.testing import image_detector_checks, parametrize_with_image_checks


def network(layers=(2, 3), neighborhood=3):
    return PretrainedPatchFeatures(
        layers=layers, neighborhood=neighborhood, weights="random", image_size=64, random_state=0
    )


RECONSTRUCTION = {
    "features": Pixels(16),
    "network": StridedNetwork(8, patch_size=None),
    "training": Training(lr=3e-3, batch_size=4),
    "max_epochs": 3,
}
FINE_TUNED = {
    "features": PretrainedPatchFeatures(
        "test_efficientnet", layers=("bn2",), weights="random", image_size=32, random_state=0
    ),
    "reference": (np.random.default_rng(0).integers(0, 256, (6, 32, 32), np.uint8), [0, 1] * 3),
    "max_epochs": 1,
}
ADVERSARIAL = {"features": Pixels(32), "training": Training(batch_size=4), "max_epochs": 2}
PATCHCORE = PatchCore(network())
DETECTORS = [
    PATCHCORE,
    PaDiM(network((1, 2, 3), 1), n_channels=10),
    SPADE(network((2, 3, 4), 1), n_neighbors=5, image_score="max"),
    MahalanobisAD(network((0, 1, 2), 1)),
    MLFSC(network(("/8", "/4", "/2")), patch_size=3, stride=1, border=1),
    FeatureDictionary(network((1,)), n_clusters=40),
    VariationModel(Pixels(32)),
    TextureGMM(Pixels(32), n_levels=2, n_components=2, n_patches=500),
    Autoencoder(**RECONSTRUCTION),
    VAE(**RECONSTRUCTION),
    AnoGAN(network=DCGAN(8, width=4), n_steps=3, chunk_size=4, **ADVERSARIAL),
    SkipGANomaly(network=SkipGAN(4), **ADVERSARIAL),
    DeepOneClass(**FINE_TUNED),
    MetricFeatures(**FINE_TUNED),
    GradientProjection(Autoencoder(**RECONSTRUCTION), n_steps=3),
    FeatureDecoder(TinyFeatureNet(), **RECONSTRUCTION),
    AnoUNet(TinyFeatureNet(), Pixels(16), UNet(4, depth=2), n_steps=2, calibrate_maps=True),
]
WRAPPERS = [ConformalDetector, FitOnNormal]
WHOLE = [  # all checks
    ConformalDetector(PATCHCORE),
    ConformalDetector(make_pipeline(network(), GreedyCoreset(0.1), KNNScorer())),
    FitOnNormal(PATCHCORE),
]
ANSWERS = ["check_unfitted", "check_labels", "check_calibration", "check_verdicts", "check_maps", "check_masks"]


def learns_from_labels(detector):
    """Return the checks that a wrapper fails by design."""
    return {"check_parameters": "it learns from labels"} if isinstance(detector, FitOnNormal) else {}


@parametrize_with_image_checks(WHOLE, n_images=12, expected_failed_checks=learns_from_labels)
def test_all_checks(detector, check):
    check(detector)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)
def test_answers_are_the_detectors(detector, wrapper):
    wrapped = wrapper(detector)
    assert hasattr(wrapped, "anomaly_map") == hasattr(detector, "anomaly_map")
    for candidate, check in image_detector_checks(wrapped, n_images=12):
        if check.func.__name__ in ANSWERS:
            check(candidate)


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_a_projection_of_a_frozen_model_offers_what_the_model_has(cloth):
    model = Autoencoder(**RECONSTRUCTION, random_state=0).fit(cloth.X_train)
    projection = GradientProjection(FrozenEstimator(model), n_steps=3, calibration="cv").fit(cloth.X_test[:6])
    assert projection.anomaly_map(cloth.X_test).shape == cloth.X_test.shape
    assert projection.project(cloth.X_test[:2]).shape == (2, 64, 64)
