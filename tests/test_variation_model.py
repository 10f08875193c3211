"""VariationModel: HALCON's limits as a score, exact updates, images and rows."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import median_abs_deviation
from sklearn.metrics import roc_auc_score

from skanomaly import Columns, Pixels, VariationModel
from skanomaly._kernels.variation import median_and_deviation, merge_spreads, spread_of, standard_deviation
from skanomaly.datasets import make_parts
from skanomaly.metrics import pixel_auroc

A = 10 / 255
OPTIONS = {"false_alarm_rate": None, "sigma": 0.0}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(60, 200, (20, 16, 16)).astype(np.uint8)


def fitted(images, **options):
    return VariationModel(Pixels(16), **{**OPTIONS, **options}).fit(images)


# Kernels


def test_merged_statistics_are_those_of_all_samples(rng):
    X = 1e4 + rng.normal(size=(50, 3, 4))
    parts = [X[:1], X[1:7], X[7:]]
    merged = merge_spreads(merge_spreads(spread_of(parts[2]), spread_of(parts[0])), spread_of(parts[1]))
    assert merged.count == 50
    assert_allclose(merged.mean, X.mean(axis=0), rtol=1e-14)
    assert_allclose(standard_deviation(merged), X.std(axis=0, ddof=1), rtol=1e-10)


def test_the_median_deviation_is_scipys(rng, monkeypatch):
    X = rng.normal(size=(31, 5, 7))
    monkeypatch.setattr("skanomaly._kernels.variation._VALUES", 100)  # several blocks
    median, deviation = median_and_deviation(X)
    assert_array_equal(median, np.median(X, axis=0))
    assert_allclose(deviation, 1.4826 * median_abs_deviation(X, axis=0))


# The score


def test_fitted_statistics_are_numpys(images):
    detector = fitted(images)
    pixels = images[..., None] / np.float32(255)
    assert detector.n_samples_seen_ == 20
    assert_allclose(detector.location_, pixels.mean(axis=0, dtype=float))
    assert_allclose(detector.spread_, pixels.std(axis=0, ddof=1, dtype=float))


def test_the_mean_scores_0_and_the_limits_score_1(images):
    detector = fitted(images, absolute=0.1, relative=1.5)
    limit = np.maximum(0.1, 1.5 * detector.spread_)
    at = [detector.location_ + factor * limit for factor in (0, 1, -1, 0.5)]
    assert_allclose(-detector.score_samples(np.clip(at, 0, 1)), [0, 1, 1, 0.5], atol=2e-6)  # images are float32


def test_bright_and_dark_have_their_own_limits(images):
    detector = fitted(images, absolute=(0.05, 0.2), relative=0)
    at = [detector.location_ + step for step in (0.1, -0.1)]
    assert_allclose(-detector.score_samples(at), [2, 0.5], atol=1e-5)
    one_sided = fitted(images, absolute=(0.05, np.inf), relative=0)
    assert_allclose(-one_sided.score_samples(at), [2, 0], atol=1e-5)


def test_constant_pixels_have_the_absolute_limit():
    constant = np.full((5, 16, 16), 100, np.uint8)
    detector = fitted(constant)
    assert_array_equal(detector.spread_, 0)
    assert_allclose(-detector.score_samples(constant[:1] + np.uint8(20)), 2, atol=1e-6)


def test_bytes_and_floats_score_the_same(images):
    detector = fitted(images)
    assert_array_equal(detector.score_samples(images), detector.score_samples(images / 255.0))


def test_a_pixel_scores_as_its_highest_channel(rng):
    images = rng.random((6, 16, 16, 3))
    detector = fitted(images)
    r = np.abs(images.astype(np.float32) - detector.location_) / np.maximum(A, 2 * detector.spread_)
    assert_allclose(detector.anomaly_map(images), r.max(axis=-1), rtol=1e-5)


def test_outliers_do_not_affect_the_median(images):
    dirty = images.copy()
    dirty[:3] = 255
    clean, robust, mean = fitted(images), fitted(dirty, statistics="median"), fitted(dirty)
    assert np.abs(robust.location_ - clean.location_).mean() < np.abs(mean.location_ - clean.location_).mean()
    assert robust.n_samples_seen_ == 20


# Updates


def test_partial_fit_and_merge_are_exact(images):
    whole = fitted(images)
    streamed, one, other = (VariationModel(Pixels(16), **OPTIONS) for _ in range(3))
    for start in (0, 1, 8):
        streamed.partial_fit(images[start : {0: 1, 1: 8, 8: 20}[start]])
    one.fit(images[:13]).merge(other.fit(images[13:]))
    for detector in (streamed, one):
        assert detector.n_samples_seen_ == 20
        assert_allclose(detector.location_, whole.location_, rtol=1e-12)
        assert_allclose(detector.spread_, whole.spread_, rtol=1e-9)
        assert not hasattr(detector, "offset_")


def test_images_are_read_in_batches(images, monkeypatch):
    lengths = []
    transform = Pixels.transform
    monkeypatch.setattr(Pixels, "transform", lambda self, X: lengths.append(len(X)) or transform(self, X))
    monkeypatch.setattr(Pixels, "batch_len", 8)
    detector = fitted(images)
    assert max(lengths) == 8
    assert_allclose(detector.location_[..., 0], images.mean(axis=0) / 255, rtol=1e-6)


def test_medians_cannot_be_updated(images):
    detector = fitted(images, statistics="median")
    with pytest.raises(ValueError, match="partial_fit needs statistics='mean', got statistics='median'"):
        detector.partial_fit(images)
    with pytest.raises(ValueError, match="merge needs statistics='mean'"):
        detector.merge(detector)


def test_other_features_are_not_merged(images):
    with pytest.raises(ValueError, match="image_size"):
        fitted(images).merge(VariationModel(Pixels(8), **OPTIONS).fit(images))


# Rows, parameters, parts


def test_rows_are_judged_by_their_largest_z_score(rng):
    X, X_test = rng.normal(3, 5, (200, 4)), rng.normal(3, 8, (50, 4))
    detector = VariationModel(relative=1.0, false_alarm_rate=None).fit(X)
    z = np.abs(X_test - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    assert_allclose(-detector.score_samples(X_test), z.max(axis=1))
    assert isinstance(detector.features_, Columns)
    assert not hasattr(detector, "anomaly_map")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"absolute": (0.1, 0.0)}, r"absolute=\(0.1, 0.0\) must be one positive number, or two"),
        ({"relative": (1.0, 2.0, 3.0)}, r"relative=\(1.0, 2.0, 3.0\) must be one non-negative number, or two"),
    ],
)
def test_wrong_limits_are_refused(images, options, message):
    with pytest.raises(ValueError, match=message):
        fitted(images, **options)


def test_defects_of_parts_are_found_only_where_parts_lie_still():
    found = []
    for jitter in ({"shift": 0.0, "rotation": 0.0}, {}):
        data = make_parts(**jitter, random_state=0)
        detector = VariationModel(false_alarm_rate=None).fit(data.X_train)
        image = roc_auc_score(data.y_test == -1, -detector.score_samples(data.X_test))
        found.append((image, pixel_auroc(data.masks_test, detector.anomaly_map(data.X_test))))
    assert min(found[0]) > 0.95
    assert found[1][0] < 0.8
