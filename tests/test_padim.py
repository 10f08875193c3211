import pickle

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.base import clone

from skanomaly import PaDiM, PatchFeatures, PretrainedPatchFeatures
from skanomaly.datasets import make_surfaces
from skanomaly.exceptions import CalibrationWarning
from skanomaly.metrics import pixel_auroc


def padim(features, **parameters):
    return PaDiM(features, **{"n_channels": 20, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted(small_features, cloth):
    return padim(small_features, false_alarm_rate=None).fit(cloth.X_train)


def assert_same_gaussians(one, other):
    np.testing.assert_allclose(one.location_, other.location_, rtol=1e-12)
    np.testing.assert_allclose(one.scatter_, other.scatter_, rtol=1e-9, atol=1e-9)
    assert one.n_samples_seen_ == other.n_samples_seen_


def test_distances_equal_the_loop_over_positions(fitted, small_features, cloth):
    """The oracle: np.cov and an explicit inverse for every position, in float64."""
    train, test = (
        small_features.fit_transform(X)[..., fitted.channels_].astype(float) for X in (cloth.X_train, cloth.X_test[:4])
    )
    _, grids = fitted._score(test.astype(np.float32))
    assert grids.shape == test.shape[:3]
    for i, j in np.ndindex(grids.shape[1:]):
        inverse = np.linalg.inv(np.cov(train[:, i, j].T) + 0.01 * np.eye(20))
        by_hand = [mahalanobis(e, train[:, i, j].mean(axis=0), inverse) for e in test[:, i, j]]
        np.testing.assert_allclose(grids[:, i, j], by_hand, rtol=1e-6)


def test_the_score_is_the_maximum_of_the_map(fitted, cloth):
    maps = fitted.anomaly_map(cloth.X_test, size=(64, 64))
    np.testing.assert_allclose(-fitted.score_samples(cloth.X_test), maps.max(axis=(1, 2)), rtol=1e-6)


def test_leave_one_out_is_refitting(small_features, cloth):
    X = cloth.X_train
    with pytest.warns(CalibrationWarning):
        detector = padim(small_features).fit(X)
    others = [padim(small_features, false_alarm_rate=None).fit(np.delete(X, i, axis=0)) for i in range(len(X))]
    refitted = [-other.score_samples(X[i : i + 1])[0] for i, other in enumerate(others)]
    np.testing.assert_allclose(detector.calibration_scores_, refitted, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_leaving_groups_out_is_refitting(small_features, cloth):
    X, groups = cloth.X_train, np.array([3, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 4])
    detector = padim(small_features).fit(X, groups=groups)
    for group in range(5):
        other = padim(small_features, false_alarm_rate=None).fit(X[groups != group])
        refitted = -other.score_samples(X[groups == group])
        np.testing.assert_allclose(detector.calibration_scores_[groups == group], refitted, rtol=1e-6)


def test_errors_half_way_change_nothing(fitted, cloth, monkeypatch):
    detector, other = pickle.loads(pickle.dumps(fitted)), pickle.loads(pickle.dumps(fitted))
    before = pickle.dumps(detector)

    def fail(self, moments):
        self.n_samples_seen_ = -1
        raise MemoryError

    monkeypatch.setattr(PaDiM, "_take_over", fail)
    for act in (lambda: detector.partial_fit(cloth.X_test), lambda: detector.merge(other)):
        with pytest.raises(MemoryError):
            act()
        assert pickle.dumps(detector) == before


def test_scatter_is_packed_as_documented(fitted, small_features, cloth):
    """Element (i, j) of the lower triangle lies at i (i + 1) / 2 + j."""
    patches = small_features.fit_transform(cloth.X_train)[:, 1, 2, fitted.channels_].astype(float)
    steps = patches - patches.mean(axis=0)
    position = 1 * fitted.features_.grid_shape_[1] + 2
    for i, j in ((0, 0), (3, 1), (19, 18)):
        expected = steps[:, i] @ steps[:, j]
        np.testing.assert_allclose(fitted.scatter_[position, i * (i + 1) // 2 + j], expected, rtol=1e-9)


def test_partial_fit_and_merge_equal_one_fit(fitted, small_features, cloth):
    X = cloth.X_train
    parts = padim(small_features).partial_fit(X[:1]).partial_fit(X[1:5]).partial_fit(X[5:])
    assert_same_gaussians(parts, fitted)
    half, rest = (padim(small_features, false_alarm_rate=None).fit(part) for part in (X[:4], X[4:]))
    before = pickle.dumps(rest)
    assert_same_gaussians(half.merge(rest), fitted)
    assert pickle.dumps(rest) == before
    for detector in (parts, half):
        assert not hasattr(detector, "offset_")
        with pytest.raises(AttributeError, match="calibrate"):
            detector.predict(X)
        np.testing.assert_allclose(detector.score_samples(X), fitted.score_samples(X), rtol=1e-9)
        detector.set_params(false_alarm_rate=0.2).calibrate(cloth.X_test[cloth.y_test == 1])
        assert set(detector.predict(X)) <= {1, -1}


def test_merge_refuses_what_does_not_fit(fitted, cloth):
    other = padim(fitted.features, random_state=1, false_alarm_rate=None).fit(cloth.X_train)
    with pytest.raises(ValueError, match="channels_"):
        fitted.merge(other)
    other = padim(PatchFeatures(image_size=32), false_alarm_rate=None).fit(cloth.X_train)
    with pytest.raises(ValueError, match="features_"):
        fitted.merge(other)
    smoother = clone(fitted.features).set_params(neighborhood=1)  # grids of the same shape, of other values
    other = padim(smoother, false_alarm_rate=None).fit(cloth.X_train)
    with pytest.raises(ValueError, match=r"neighborhood=1, .*this PaDiM has neighborhood=3"):
        fitted.merge(other)


def test_merge_takes_features_that_are_computed_otherwise(fitted, cloth):
    elsewhere = clone(fitted.features).set_params(batch_size=2, layers=list(fitted.features.layers))
    half, rest = (padim(f, false_alarm_rate=None).fit(cloth.X_train) for f in (fitted.features, elsewhere))
    assert half.merge(rest).n_samples_seen_ == 2 * len(cloth.X_train)


def test_many_channels_are_summed_up_in_float32_and_agree(small_features, cloth, monkeypatch):
    double = padim(small_features, n_channels=None, false_alarm_rate=None).fit(cloth.X_train)
    monkeypatch.setattr("skanomaly.detectors._padim._DOUBLE_UP_TO", 100)
    single = padim(small_features, n_channels=None, false_alarm_rate=None).fit(cloth.X_train)
    assert (double.scatter_.dtype, single.scatter_.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(single.score_samples(cloth.X_test), double.score_samples(cloth.X_test), rtol=1e-3)


def test_errors(small_features, cloth):
    with pytest.raises(ValueError, match="n_channels=1000, but the features have 152"):
        padim(small_features, n_channels=1000).fit(cloth.X_train)
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        padim(small_features, false_alarm_rate=None).fit(cloth.X_train[:1])
    with pytest.raises(ValueError, match="at least 2 images outside each group, but 1 of 2"):
        padim(small_features).fit(cloth.X_train[:2])
    with pytest.raises(ValueError, match="at least 2 images to score"):
        padim(small_features).partial_fit(cloth.X_train[:1]).score_samples(cloth.X_test)


@pytest.mark.weights
def test_trained_weights_find_defects_and_an_untrained_network_does_not():
    data = make_surfaces("metal", n_train=60, n_good=4, n_anomalous=12, size=64, random_state=0)
    auroc = {}
    for weights in (None, "random"):
        features = PretrainedPatchFeatures(
            layers=(1, 2, 3), image_size=128, neighborhood=1, weights=weights, random_state=0
        )
        detector = padim(features, n_channels=30, false_alarm_rate=None).fit(data.X_train)
        auroc[weights] = pixel_auroc(data.masks_test, detector.anomaly_map(data.X_test))
    assert auroc[None] > 0.88
    assert auroc["random"] < 0.7
