"""The toll gate: calibration, groups, settings that are kept, state that is derived."""

import pickle
import threading
import time

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone

from skanomaly import ConformalDetector, FitOnNormal, GaussianScorer, KNNScorer, PatchCore
from skanomaly.base import BaseDetector
from skanomaly.exceptions import CalibrationWarning, DataWarning
from skanomaly.thresholds import Calibration, conformal_p_values, conformal_threshold, largest_region_levels

few_images = pytest.mark.filterwarnings("ignore:false_alarm_rate:skanomaly.exceptions.CalibrationWarning")
copies_said = pytest.mark.filterwarnings("ignore:Copies among:skanomaly.exceptions.CalibrationWarning")


# ---------------------------------------------------------------------------------- features that learn


class Memory(BaseEstimator):
    """Features that know by heart the rows they were fitted on: 0 for these, 1 for all others."""

    makes_maps, learns, batch_len = False, True, None

    def check_samples(self, X, *, reset=False):
        return np.asarray(X, float)

    def fit_samples(self, samples):
        self.known_ = {row.tobytes() for row in samples}
        return self

    def transform(self, X):
        return np.array([[float(row.tobytes() not in self.known_)] for row in X])


class Remembering(BaseDetector):
    """Score what the features say, and a little of the first column, so that there are no ties."""

    def __init__(self, features=None, *, false_alarm_rate=0.1, calibration="split", random_state=0, verbose=0):
        self.features = features
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self, X):
        return Memory()

    def _embed(self, samples):
        return np.hstack([self.features_.transform(samples), samples[:, :1]])

    def _fit(self, Z):
        self.n_ = len(Z)

    def _score(self, Z, maps=True):
        return Z[:, 0] + 1e-3 * np.abs(Z[:, 1]), None


@pytest.mark.parametrize("calibration", ["split", "cv"])
def test_features_that_learn_are_fitted_inside_the_split(calibration):
    """Features fitted on all samples would score the calibration samples 0, and every fresh sample would be flagged."""
    rng, flagged = np.random.default_rng(0), []
    for seed in range(10):
        X = rng.normal(size=(400, 2))
        detector = Remembering(calibration=calibration, random_state=seed).fit(X[:200])
        flagged.append((detector.predict(X[200:]) == -1).mean())
    assert np.mean(flagged) < 0.15
    naive = Remembering(false_alarm_rate=None).fit(X[:200])
    threshold = Calibration(-naive.score_samples(X[:200])).threshold(0.1)
    assert (-naive.score_samples(X[200:]) > threshold).mean() > 0.9


def test_features_that_learn_refuse_to_leave_one_out():
    with pytest.raises(ValueError, match="'loo' does not suit Memory.*must be 'split' or 'cv'"):
        Remembering(calibration="loo").fit(np.eye(30))


# ---------------------------------------------------------------------------------- groups


def test_a_group_counts_as_one_sample():
    """By hand: groups {1, 5}, {2}, {9, 9}, {3}; each score weighs 1 / its group's size."""
    scores, groups = [1.0, 5.0, 2.0, 9.0, 9.0, 3.0], [0, 0, 1, 2, 2, 3]
    assert conformal_threshold(scores, 0.5, groups) == 5.0  # rank 3 of 4: .5 + 1 + 1 + .5
    np.testing.assert_allclose(conformal_p_values([0.0, 4.0, 9.5], scores, groups), [5 / 5, 2.5 / 5, 1 / 5])
    assert Calibration(scores, groups=groups).n == 4
    with pytest.warns(CalibrationWarning, match="needs at least 9 calibration samples, got 4"):
        conformal_threshold(scores, 0.1, groups)


@pytest.mark.parametrize("calibration", ["loo", "cv", "split"])
def test_groups_keep_copies_together(calibration):
    """Every row given three times: fresh rows are flagged as often as promised where copies are groups."""
    rng = np.random.default_rng(0)
    flagged = {True: [], False: []}
    for seed in range(12):
        X = rng.normal(size=(260, 4))
        train, fresh = np.repeat(X[:60], 3, axis=0), X[60:]
        for grouped in flagged:
            detector = KNNScorer(calibration=calibration, false_alarm_rate=0.1, random_state=seed)
            detector.fit(train, groups=np.repeat(np.arange(60), 3) if grouped else None)
            flagged[grouped].append((detector.predict(fresh) == -1).mean())
    assert np.mean(flagged[True]) < 0.14
    assert np.mean(flagged[False]) > 0.3


@few_images
@copies_said
@pytest.mark.parametrize("calibration", ["loo", "cv", "split"])
def test_equal_images_are_one_group(small_features, cloth, calibration):
    """Thresholds of images that are all there twice are those of the images themselves, as far as they were drawn.

    With one neighbour: if the bank keeps every patch, a copy is the second neighbour.
    """
    detector = PatchCore(small_features, calibration=calibration, coreset_ratio=1.0, n_neighbors=1, random_state=0)
    once = clone(detector).fit(cloth.X_train)
    detector.fit(np.concatenate([cloth.X_train, cloth.X_train]))
    assert detector.calibration_.n == once.calibration_.n
    if calibration == "loo":
        np.testing.assert_allclose(detector.offset_, once.offset_, rtol=1e-6)
    copies = detector.calibration_indices_ % len(cloth.X_train)
    assert all((copies == index).sum() == 2 for index in copies)


@few_images
def test_copies_are_said(small_features, cloth):
    with pytest.warns(CalibrationWarning, match="Copies among the 15 images: 3"):
        PatchCore(small_features, random_state=0).fit(np.concatenate([cloth.X_train, cloth.X_train[:3]]))


def test_equal_rows_are_legitimate(rng):
    detector = KNNScorer().fit(rng.integers(0, 2, size=(100, 2)))
    assert detector.calibration_.n == 100


def test_groups_of_another_length_are_refused(rng):
    with pytest.raises(ValueError, match=r"groups has shape \(3,\); it must hold one value for each of the 40 samples"):
        KNNScorer().fit(rng.normal(size=(40, 2)), groups=[1, 2, 3])


def test_wrappers_pass_groups_on(rng):
    X, groups = rng.normal(size=(90, 2)), np.arange(90) // 3
    assert ConformalDetector(GaussianScorer(), calibration="cv").fit(X, groups=groups).calibration_.n == 30
    y = np.where(np.arange(90) < 60, 1, -1)
    assert FitOnNormal(KNNScorer()).fit(X, y, groups=groups).calibration_.n == 20


# ---------------------------------------------------------------------------------- calibrate and settings


@pytest.mark.parametrize("detector", [KNNScorer(), ConformalDetector(KNNScorer(), random_state=0)])
def test_calibrating_on_what_was_learnt_warns(rng, detector):
    X = rng.normal(size=(200, 2))
    detector.fit(X)
    with pytest.warns(CalibrationWarning, match="100% of the samples were in the data"):
        detector.calibrate(X)
    detector.calibrate(rng.normal(size=(200, 2)))


def test_another_rate_acts_at_once(rng):
    X = rng.normal(size=(300, 2))
    detector = KNNScorer().fit(X)
    fitted = KNNScorer(false_alarm_rate=0.3).fit(X)
    detector.set_params(false_alarm_rate=0.3)
    assert detector.offset_ == fitted.offset_
    with pytest.warns(CalibrationWarning, match="needs at least 999"):
        detector.set_params(false_alarm_rate=0.001)
    with pytest.raises(AttributeError, match="call calibrate"):
        KNNScorer(false_alarm_rate=None).fit(X).set_params(false_alarm_rate=0.1).predict(X)


@few_images
def test_settings_of_masks_act_at_the_next_calibration(small_features, cloth):
    detector = PatchCore(small_features, false_alarm_rate=0.2, random_state=0).fit(cloth.X_train)
    masks = detector.anomaly_mask(cloth.X_test)
    detector.set_params(sigma=0.0, min_defect_area=50)
    np.testing.assert_array_equal(detector.anomaly_mask(cloth.X_test), masks)
    detector.calibrate(cloth.X_test[:6])
    assert detector.min_defect_area_ == 50
    assert not np.array_equal(detector.anomaly_mask(cloth.X_test), masks)


def test_a_bank_that_was_set_can_be_calibrated(rng):
    X = rng.normal(size=(100, 2))
    scorer = KNNScorer().set_bank(X, np.arange(100))
    with pytest.raises(AttributeError, match="has no threshold, which decision_function needs"):
        scorer.predict(X)
    assert set(scorer.calibrate(rng.normal(size=(50, 2))).predict(X)) <= {1, -1}


# ---------------------------------------------------------------------------------- verdicts


@few_images
def test_verdicts_are_what_the_methods_say(small_features, cloth):
    detector = PatchCore(small_features, false_alarm_rate=0.2, min_defect_area=5, random_state=0).fit(cloth.X_train)
    verdicts = list(detector.iter_verdicts(cloth.X_test))
    *parts, regions = zip(*verdicts, strict=True)
    score, label, p_value, anomaly_map, mask = map(np.array, parts)
    np.testing.assert_array_equal(score, detector.score_samples(cloth.X_test))
    np.testing.assert_array_equal(label, detector.predict(cloth.X_test))
    np.testing.assert_array_equal(p_value, detector.p_values(cloth.X_test))
    np.testing.assert_array_equal(anomaly_map, detector.anomaly_map(cloth.X_test))
    np.testing.assert_array_equal(mask, detector.anomaly_mask(cloth.X_test))
    assert list(regions) == detector.anomaly_regions(cloth.X_test)


@few_images
@pytest.mark.parametrize("min_area", [1, 12])
def test_regions_are_those_of_the_mask(min_area, small_features, cloth):
    detector = PatchCore(small_features, false_alarm_rate=0.2, min_defect_area=min_area, random_state=0)
    detector.fit(cloth.X_train)
    levels = largest_region_levels(detector.anomaly_map(cloth.X_test), min_defect_area=min_area)
    p_values = conformal_p_values(levels, detector.calibration_peaks_)
    found = detector.anomaly_regions(cloth.X_test)
    assert 0 < sum(map(len, found)) >= sum(map(bool, found)) < len(found)
    for regions, mask, level, p_value in zip(found, detector.anomaly_mask(cloth.X_test), levels, p_values, strict=True):
        assert bool(regions) == mask.any() == (level > detector.pixel_threshold_)
        assert sum(region.area for region in regions) == mask.sum()
        assert min((region.p_value for region in regions), default=p_value) == p_value
        for region in regions:
            top, left, bottom, right = region.box
            assert region.area >= min_area
            assert mask[top:bottom, left:right].any(axis=0).all()
            assert mask[region.peak_position]


@few_images
def test_regions_need_a_threshold_of_maps(small_features, cloth):
    detector = PatchCore(small_features, false_alarm_rate=None, random_state=0).fit(cloth.X_train)
    with pytest.raises(AttributeError, match="has no threshold, which pixel_threshold_ needs"):
        detector.anomaly_regions(cloth.X_test)


# ---------------------------------------------------------------------------------- derived state


class Deriving(KNNScorer):
    """Counts how often it builds its index."""

    built = 0

    def _build_search(self):
        type(self).built += 1
        time.sleep(0.05)
        return super()._build_search()


def test_eight_threads_build_derived_state_once(rng):
    X = rng.normal(size=(600, 2))
    fitted = pickle.loads(pickle.dumps(Deriving(false_alarm_rate=None).fit(X)))
    assert "_search" not in vars(fitted)
    scores, Deriving.built = [None] * 8, 0

    def score(i):
        scores[i] = fitted.score_samples(X[:50])

    threads = [threading.Thread(target=score, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Deriving.built == 1
    assert all(np.array_equal(one, scores[0]) for one in scores)


# Contaminated training data


@pytest.mark.parametrize("detector", [KNNScorer(12), GaussianScorer(), KNNScorer(12, calibration="cv")])
def test_fit_predict_judges_each_sample_without_itself(detector, rng):
    X = np.vstack([rng.normal(size=(190, 5)), rng.normal(8, 1, size=(10, 5))])
    labels = detector.set_params(false_alarm_rate=0.05).fit_predict(X)
    assert (labels[190:] == -1).sum() >= 9
    assert (labels[:190] == -1).sum() <= 1
    scores = detector.calibration_scores_[np.argsort(detector.calibration_indices_)]
    np.testing.assert_array_equal(labels == -1, scores > -detector.offset_)


def test_fit_predict_of_a_split(rng):
    X = rng.normal(size=(100, 3))
    detector = GaussianScorer(calibration="split", random_state=0, false_alarm_rate=0.1)
    np.testing.assert_array_equal(detector.fit_predict(X), detector.predict(X))


def test_labels_of_anomalies_are_not_ignored_in_silence(rng):
    X, y = rng.normal(size=(30, 2)), np.repeat([1, -1], [27, 3])
    detector = KNNScorer(false_alarm_rate=0.2)
    for labels in (y, y == -1):
        with pytest.warns(DataWarning, match=r"3 samples as anomalies, but KNNScorer ignores y.*FitOnNormal\(KNN"):
            detector.fit(X, labels)
    for labels in (None, np.ones(30), np.arange(30), ["a"] * 30, y[:27]):
        detector.fit(X, labels)
