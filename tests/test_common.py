"""scikit-learn's own checks on every public estimator; what it cannot check is in a list, with reasons."""

import warnings

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

import skanomaly
from skanomaly import (
    MLFSC,
    SPADE,
    VAE,
    Aligned,
    AnoGAN,
    AnoUNet,
    Augmented,
    Autoencoder,
    Columns,
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
    SparseCoding,
    SparseCodingScorer,
    SubspaceScorer,
    TextureGMM,
    VariationModel,
)
from skanomaly.networks import DenseNetwork

# The checks fit on a dozen rows, too few for a false-alarm rate of 0.05.
pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")

_WITHOUT_ITSELF = {
    "check_outliers_fit_predict": "fit_predict judges each row by a model that has not seen it, unlike predict"
}
EXPECTED_FAILURES = {
    "GaussianScorer": _WITHOUT_ITSELF,
    "SubspaceScorer": _WITHOUT_ITSELF,
    "SparseCodingScorer": _WITHOUT_ITSELF,
    "GreedyCoreset": {
        "check_transformer_general": "only training is thinned: fit_transform differs from transform by design",
        "check_transformer_data_not_an_array": "only training is thinned, as above",
    },
    "KNNScorer": {
        "check_outliers_train": "a full memory bank scores its own rows 0, so all of them are called normal",
        "check_outliers_fit_predict": "its own rows again",
    },
}
# scikit-learn's checks feed rows, which these refuse; those that need no data run, and `check_image_detector` the rest.
IMAGES_ONLY = [
    PatchCore(),
    PaDiM(),
    SPADE(),
    MahalanobisAD(),
    MLFSC(),
    FeatureDictionary(),
    AnoGAN(),
    SkipGANomaly(),
    DeepOneClass(),
    MetricFeatures(),
    TextureGMM(),
    PretrainedPatchFeatures(),
    PatchFeatures(),
    CropFeatures(),
    Pixels(),
    Augmented(PatchFeatures(4)),
    FeatureDecoder(),
    AnoUNet(),
    Aligned(PatchFeatures(4)),
]
NETWORK = DenseNetwork((4, 2))


class FitOnNormalOrAll(FitOnNormal):
    """The checks pass labels of their own, which FitOnNormal refuses; here they mean that all rows are normal."""

    def fit(self, X, y=None, groups=None):
        known = y is None or set(np.unique(np.asarray(y)).tolist()) <= {1, -1}
        return super().fit(X, y if known else None, groups)


ROWS = [
    KNNScorer(),
    GaussianScorer(),
    SparseCodingScorer(),
    SubspaceScorer(),
    Autoencoder(network=NETWORK, max_epochs=2),
    VAE(network=NETWORK, max_epochs=2),
    VariationModel(),
    GradientProjection(Autoencoder(network=NETWORK, max_epochs=1), n_steps=2),
    GreedyCoreset(),
    SparseCoding(),
    RandomProjection(),
    RandomProjection(2, kind="sparse"),
    Columns(),
    ConformalDetector(IsolationForest(n_estimators=10, random_state=0)),
    FitOnNormalOrAll(IsolationForest(n_estimators=10, random_state=0)),
]


with warnings.catch_warnings():
    warnings.simplefilter("ignore", SkipTestWarning)  # what is skipped stands in IMAGES_ONLY
    checks = parametrize_with_checks(
        ROWS + IMAGES_ONLY,
        expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator).__name__, {}),
    )


@checks
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    checked = {type(estimator).__name__ for estimator in ROWS + IMAGES_ONLY}
    for name in skanomaly.__all__:
        public = getattr(skanomaly, name)
        if isinstance(public, type) and issubclass(public, BaseEstimator):
            assert name in checked or f"{name}OrAll" in checked, name


@pytest.mark.parametrize("estimator", IMAGES_ONLY, ids=lambda e: type(e).__name__)
def test_image_estimators_say_that_they_take_no_rows(estimator):
    tags = estimator.__sklearn_tags__().input_tags
    assert not tags.two_d_array
    assert tags.three_d_array
    for wrapper in (ConformalDetector(estimator), FitOnNormal(estimator)):
        assert wrapper.__sklearn_tags__().input_tags == tags


@pytest.mark.parametrize(
    "estimator",
    [KNNScorer(), FitOnNormal(KNNScorer()), GaussianScorer(), SparseCodingScorer(random_state=0), SubspaceScorer(2)],
)
def test_sign_and_labels(estimator, rng):
    """sklearn's checks do not test the sign: outliers must score lower, decide negative and be called -1."""
    X = rng.normal(size=(100, 3))
    far = X[:5] + 50
    estimator.fit(X)
    assert estimator.score_samples(far).max() < estimator.score_samples(X).min()
    assert (estimator.decision_function(far) < 0).all()
    np.testing.assert_array_equal(estimator.predict(far), -1)
    assert (estimator.predict(rng.normal(size=(200, 3))) == 1).mean() > 0.8
