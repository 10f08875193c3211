import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import OneClassSVM

from skanomaly import Columns, ConformalDetector, FitOnNormal, GreedyCoreset, KNNScorer, PatchCore, select_anomalies
from skanomaly.exceptions import CalibrationWarning
from skanomaly.thresholds import conformal_p_values, conformal_threshold, expected_false_alarm_rate


def test_split_equals_the_rule_by_hand(rng):
    X = rng.normal(size=(100, 2))
    detector = ConformalDetector(KNNScorer(), random_state=3, false_alarm_rate=0.1).fit(X)
    held_out = np.sort(np.random.RandomState(3).permutation(100)[:20])
    inner = KNNScorer(false_alarm_rate=None).fit(np.delete(X, held_out, axis=0))
    scores = -inner.score_samples(X[held_out])
    np.testing.assert_array_equal(detector.calibration_scores_, scores)
    np.testing.assert_array_equal(detector.calibration_indices_, held_out)
    assert detector.offset_ == -conformal_threshold(scores, 0.1)
    np.testing.assert_array_equal(detector.p_values(X), conformal_p_values(-inner.score_samples(X), scores))


@pytest.mark.parametrize(
    ("estimator", "calibration"),
    [
        (IsolationForest(n_estimators=20, random_state=0), "split"),
        (IsolationForest(n_estimators=20, random_state=0), "cv"),
        (make_pipeline(StandardScaler(), OneClassSVM()), "split"),  # "cv" does not suit it: its scores grow with n
        (KNNScorer(), "split"),
        (KNNScorer(), "cv"),
    ],
)
def test_false_alarms_are_as_promised(estimator, calibration):
    """Mean over draws; the tolerance is 4 standard errors of a beta-binomial mean, plus the folds' known bias."""
    rng, rates, n_draws = np.random.default_rng(0), [], 15
    for seed in range(n_draws):
        X = rng.normal(size=(350, 2))
        detector = ConformalDetector(estimator, calibration=calibration, false_alarm_rate=0.2, random_state=seed)
        rates.append((detector.fit(X[:150]).predict(X[150:]) == -1).mean())
    n = 30 if calibration == "split" else 150
    error = np.sqrt(0.16 / (n + 2) + 0.16 / 200) / np.sqrt(n_draws)
    slack = 0 if calibration == "split" else 0.02
    assert abs(np.mean(rates) - expected_false_alarm_rate(n, 0.2)) < 4 * error + slack


def test_data_frames_and_lists_pass_through(rng):
    import pandas as pd

    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
    detector = ConformalDetector(make_pipeline(StandardScaler(), IsolationForest(random_state=0)), random_state=0)
    np.testing.assert_array_equal(detector.fit(frame).predict(frame), detector.predict(frame))


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@pytest.mark.parametrize("calibration", ["split", "cv"])
def test_pipelines_of_images_get_labels_maps_and_masks(small_features, cloth, calibration):
    pipeline = make_pipeline(small_features, GreedyCoreset(0.1, random_state=0), KNNScorer())
    detector = ConformalDetector(pipeline, calibration=calibration, random_state=0).fit(cloth.X_train)
    labels, maps, masks = (getattr(detector, m)(cloth.X_test) for m in ("predict", "anomaly_map", "anomaly_mask"))
    assert set(labels) <= {1, -1}
    assert maps.shape == masks.shape == (16, 64, 64)
    np.testing.assert_array_equal(masks, maps > detector.pixel_threshold_)
    np.testing.assert_array_equal(detector.score_samples(cloth.X_test), detector.estimator_.score_samples(cloth.X_test))
    assert len(detector.calibration_scores_) == {"split": 2, "cv": 12}[calibration]


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_around_a_detector(small_features, cloth):
    """Around PatchCore it does what PatchCore's own calibration does."""
    inner = PatchCore(small_features, random_state=0, calibration="split")
    detector = ConformalDetector(inner, random_state=0).fit(cloth.X_train)
    inner.fit(cloth.X_train)
    np.testing.assert_array_equal(detector.calibration_scores_, inner.calibration_scores_)
    np.testing.assert_array_equal(detector.anomaly_mask(cloth.X_test), inner.anomaly_mask(cloth.X_test))


def test_calibrate_keeps_the_model(rng):
    X = rng.normal(size=(100, 2))
    detector = ConformalDetector(KNNScorer(), random_state=0).fit(X)
    scores = detector.score_samples(X)
    detector.calibrate(rng.normal(size=(50, 2)) * 3)
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert len(detector.calibration_scores_) == 50


def test_benjamini_hochberg_equals_scipy(rng):
    from scipy.stats import false_discovery_control

    for _ in range(20):
        p = np.concatenate([rng.uniform(1e-6, 1, 30), rng.uniform(1e-6, 0.01, 10)])
        np.testing.assert_array_equal(select_anomalies(p, n_calibration=10**6), false_discovery_control(p) <= 0.1)
    assert select_anomalies([], fdr=0.1).shape == (0,)


def test_coarse_p_values_warn():
    with pytest.warns(CalibrationWarning, match="at least 999 normal samples"):
        select_anomalies([0.05, *[0.9] * 99], n_calibration=19)
    with pytest.warns(CalibrationWarning, match="at least 99 "):
        select_anomalies([0.02, *[0.9] * 9], n_calibration=49)
    select_anomalies([0.02, *[0.9] * 9], n_calibration=99)


def test_ordinary_p_values_of_normal_samples_do_not_warn(rng):
    """Without the number of calibration samples there is nothing to warn of; the detector knows it."""
    detector = ConformalDetector(KNNScorer(), random_state=0).fit(rng.normal(size=(500, 2)))
    X = rng.normal(size=(5, 2))
    assert not select_anomalies(detector.p_values(X)).any()
    assert not detector.select(X).any()
    assert detector.select(X + 50, fdr=0.2).all()
    with pytest.warns(CalibrationWarning, match="at least 1999 normal samples"):
        detector.select(np.repeat(X, 40, axis=0), fdr=0.1)


def test_offers_what_the_estimator_has(rng, small_features):
    """Maps are there where the features make some; where they are missing, the error says why."""
    X = rng.normal(size=(120, 2))
    rows = ConformalDetector(make_pipeline(StandardScaler(), KNNScorer()), random_state=0).fit(X)
    assert set(rows.predict(X)) <= {1, -1}
    for detector in (rows, ConformalDetector(IsolationForest(n_estimators=5), random_state=0).fit(X)):
        assert not hasattr(detector, "anomaly_map")
        with pytest.raises(AttributeError) as error:
            detector.anomaly_mask(X)
        assert "Rows does not make any" in str(error.value.__cause__)
        verdict = next(detector.iter_verdicts(X[:1]))
        assert verdict.anomaly_map is None
        assert verdict.score == detector.score_samples(X[:1])[0]
    assert hasattr(ConformalDetector(PatchCore(small_features)), "anomaly_map")
    assert not hasattr(ConformalDetector(IsolationForest()), "anomaly_map")


def test_a_pipeline_of_images_that_ends_in_another_librarys_estimator(small_features, cloth):
    """Features are computed once, scores are the forest's, and there are no maps."""
    flatten = FunctionTransformer(lambda Z: Z.mean(axis=(1, 2)))
    pipeline = make_pipeline(small_features, flatten, IsolationForest(n_estimators=5, random_state=0))
    detector = ConformalDetector(pipeline, false_alarm_rate=0.5, random_state=0).fit(cloth.X_train)
    np.testing.assert_array_equal(detector.score_samples(cloth.X_test), detector.estimator_.score_samples(cloth.X_test))
    assert not hasattr(detector, "anomaly_map")


@pytest.mark.parametrize("p", [[0.0], [1.1], [np.nan], [[0.5]]])
def test_bad_p_values(p):
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        select_anomalies(p)


@pytest.mark.parametrize("wrapper", [lambda e: ConformalDetector(e, random_state=0), FitOnNormal])
def test_contributions_are_those_of_the_last_step(wrapper, rng):
    """They are of the columns that the last step sees, and are there where it has them."""
    X, new = rng.normal(size=(120, 3)) * [1, 10, 100], rng.normal(size=(5, 3))
    scorer = KNNScorer(2)
    for estimator in (scorer, make_pipeline(StandardScaler(), scorer), make_pipeline(Columns(), scorer)):
        assert hasattr(wrapper(estimator), "contributions")
        fitted = wrapper(estimator).fit(X)
        last, seen = fitted.estimator_, new
        if len(getattr(last, "steps", ())) == 2:
            seen, last = last[0].transform(new), last[1]
        np.testing.assert_array_equal(fitted.contributions(new), last.contributions(seen))
        np.testing.assert_allclose(fitted.contributions(new).sum(axis=1), -fitted.score_samples(new))


@pytest.mark.parametrize("wrapper", [lambda e: ConformalDetector(e, random_state=0), FitOnNormal])
def test_missing_contributions_say_why(wrapper, small_features, rng):
    X = rng.normal(size=(120, 3))
    forest = make_pipeline(StandardScaler(), IsolationForest(n_estimators=5))
    for detector in (wrapper(forest), wrapper(forest).fit(X)):
        assert reasons(detector)[-1] == "'IsolationForest' object has no attribute 'contributions'"
    images = wrapper(make_pipeline(small_features, KNNScorer()))
    assert reasons(images)[0].endswith("has no attribute 'contributions'")
    assert "no contributions of columns because PretrainedPatchFeatures looks at images" in reasons(images)[-1]


def reasons(detector):
    """Return the messages from the error that a user gets to its first cause."""
    with pytest.raises(AttributeError) as error:
        detector.contributions(None)
    messages, cause = [], error.value
    while cause is not None:
        messages.append(str(cause))
        cause = cause.__cause__
    return messages
