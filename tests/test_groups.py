"""Copies of one thing count once: no detector may learn from a sample what judges its copy."""

import numpy as np
import pytest

from skanomaly import (
    SPADE,
    FeatureDictionary,
    GaussianScorer,
    KNNScorer,
    MahalanobisAD,
    PaDiM,
    PatchCore,
    PatchFeatures,
    SparseCodingScorer,
    SubspaceScorer,
)
from skanomaly.exceptions import CalibrationWarning
from skanomaly.features._base import Layers

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")

N, RATE, N_DRAWS = 40, 0.1, 3
PATCHES = PatchFeatures(4, 2, image_size=8, normalization=None)


class TwoLayers(PatchFeatures):
    """Patches, and the image in four pieces."""

    layer_shapes_ = [(3, 3, 16), (2, 2, 16)]

    def transform_layers(self, X):
        grids = self.transform(X)
        return Layers([grids, grids[:, ::2, ::2]])


LAYERS = TwoLayers(4, 2, image_size=8, normalization=None)
IMAGE_DETECTORS = {
    "PatchCore": (PatchCore(PATCHES, coreset_ratio=0.5, random_state=0), ("loo", "cv", "split")),
    "PaDiM": (PaDiM(PATCHES, n_channels=8, random_state=0), ("loo", "cv", "split")),
    "SPADE image": (SPADE(LAYERS, n_neighbors=5, random_state=0), ("loo", "cv", "split")),
    "SPADE map": (SPADE(LAYERS, n_neighbors=5, image_score="max", random_state=0), ("loo", "split")),
    "MahalanobisAD": (MahalanobisAD(PATCHES, random_state=0), ("cv", "split")),
    "FeatureDictionary": (FeatureDictionary(PATCHES, n_clusters=50, random_state=0), ("cv", "split")),
}
SCORERS = {
    "KNNScorer": (KNNScorer(random_state=0), ("loo", "cv", "split")),
    "GaussianScorer": (GaussianScorer(ridge=0.01, random_state=0), ("loo", "cv", "split")),
    "SubspaceScorer": (SubspaceScorer(3, random_state=0), ("loo", "cv", "split")),
    "SparseCodingScorer": (SparseCodingScorer(30, alpha=0.1, random_state=0), ("cv", "split")),
}


def cases(detectors):
    return [
        pytest.param(detector, calibration, id=f"{name} {calibration}")
        for name, (detector, calibrations) in detectors.items()
        for calibration in calibrations
    ]


def check_flagged(detector, calibration, draw, with_groups):
    """Fit on samples that are given twice; the share of fresh ones that is flagged must not exceed what was promised.

    The tolerance is 4 standard errors of a beta-binomial mean.
    """
    flagged = []
    for seed in range(N_DRAWS):
        rng = np.random.default_rng(seed)
        X, fresh = draw(rng, N), draw(rng, 200)
        order = rng.permutation(2 * N)
        groups = np.tile(np.arange(N), 2)[order] if with_groups else None
        detector.set_params(calibration=calibration, false_alarm_rate=RATE)
        detector.fit(np.concatenate([X, X])[order], groups=groups)
        assert detector.calibration_.n == (N // 5 if calibration == "split" else N)
        flagged.append((detector.predict(fresh) == -1).mean())
    n = detector.calibration_.n
    promised = max(RATE, 1 / (n + 1))
    error = np.sqrt(promised * (1 - promised) * (1 / (n + 2) + 1 / 200) / N_DRAWS)
    assert np.mean(flagged) < promised + 4 * error


@pytest.mark.parametrize(("detector", "calibration"), cases(IMAGE_DETECTORS))
def test_equal_images_are_grouped_by_themselves(detector, calibration):
    check_flagged(detector, calibration, lambda rng, n: rng.random((n, 8, 8)), with_groups=False)


@pytest.mark.parametrize(("detector", "calibration"), cases(SCORERS))
def test_equal_rows_are_grouped_by_groups(detector, calibration):
    check_flagged(detector, calibration, lambda rng, n: rng.normal(size=(n, 6)), with_groups=True)


def test_equal_rows_are_legitimate_draws_and_equal_images_are_announced(rng):
    X = rng.random((30, 4))
    assert KNNScorer(calibration="split", random_state=0).fit(np.repeat(X, 2, axis=0)).calibration_.n == 12
    images = rng.random((30, 8, 8))
    with pytest.warns(CalibrationWarning, match="Copies among the 60 images: 30"):
        PaDiM(PATCHES, n_channels=8, random_state=0).fit(np.concatenate([images, images]))
