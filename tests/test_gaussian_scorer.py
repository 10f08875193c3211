import pickle

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import EmpiricalCovariance

from skanomaly import GaussianScorer, KNNScorer
from skanomaly.exceptions import CalibrationWarning


def plain(**parameters):
    return GaussianScorer(**{"ridge": 0, "false_alarm_rate": None, **parameters})


def correlated(rng, n, d):
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 10 * rng.normal(size=d)


def test_rows_equal_sklearns_covariance(rng):
    """sklearn divides by n, we by n - 1."""
    X, new = correlated(rng, 50, 4), rng.normal(size=(7, 4))
    oracle = EmpiricalCovariance().fit(X).mahalanobis(new) * 49 / 50
    np.testing.assert_allclose(-plain().fit(X).score_samples(new), np.sqrt(oracle), rtol=1e-9)


def test_squared_distances_of_the_training_rows_average_to_the_dimension(rng):
    n, d = 60, 5
    scores = plain().fit(X := correlated(rng, n, d)).score_samples(X)
    assert (scores**2).mean() == pytest.approx(d * (n - 1) / n, rel=1e-9)


def test_grids_have_a_gaussian_at_every_position(rng):
    X, new = rng.normal(size=(30, 2, 3, 4)) + np.arange(6).reshape(2, 3, 1), rng.normal(size=(5, 2, 3, 4))
    scorer = plain().fit(X)
    by_hand = np.empty((5, 2, 3))
    for k, i, j in np.ndindex(by_hand.shape):
        at = X[:, i, j]
        by_hand[k, i, j] = mahalanobis(new[k, i, j], at.mean(axis=0), np.linalg.inv(np.cov(at.T)))
    np.testing.assert_allclose(scorer.anomaly_map(new), by_hand, rtol=1e-5)
    np.testing.assert_allclose(scorer.score_samples(new), -by_hand.max(axis=(1, 2)), rtol=1e-9)
    pooled = plain(pooled=True).fit(X)
    np.testing.assert_allclose(
        pooled.score_samples(new),
        plain().fit(X.reshape(-1, 4)).score_samples(new.reshape(-1, 4)).reshape(5, 6).min(axis=1),
    )


def test_scores_do_not_depend_on_units_of_the_features(rng):
    X, new, units = correlated(rng, 12, 20), rng.normal(size=(3, 20)), 10.0 ** np.arange(-10, 10)
    one, other = (plain(ridge=0.01).fit(X * u).score_samples(new * u) for u in (1, units))
    np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("ridge", [0, 0.1])
def test_leave_one_out_is_refitting(rng, ridge):
    """With a ridge up to its units, which are those of all samples: they move little."""
    X = correlated(rng, 60, 3)
    scorer = GaussianScorer(ridge=ridge).fit(X)
    refitted = [-plain(ridge=ridge).fit(np.delete(X, i, axis=0)).score_samples(X[i : i + 1])[0] for i in range(60)]
    np.testing.assert_allclose(scorer.calibration_scores_, refitted, rtol=1e-9 if ridge == 0 else 0.02)


@pytest.mark.parametrize("pooled", [False, True])
def test_leaving_groups_out_is_refitting(rng, pooled):
    """All patches of all images of a group leave together, whether they share a Gaussian or not."""
    X, groups = rng.normal(size=(24, 2, 2, 3)), np.repeat(np.arange(9), [1, 1, 1, 2, 2, 3, 4, 5, 5])
    options = {"ridge": 0, "pooled": pooled}
    for given in (groups, None):
        scorer = GaussianScorer(**options, false_alarm_rate=0.2).fit(X, groups=given)
        own = np.arange(24) if given is None else given
        for group in np.unique(own):
            others = plain(**options).fit(X[own != group])
            refitted = -others.score_samples(X[own == group])
            np.testing.assert_allclose(scorer.calibration_scores_[own == group], refitted, rtol=1e-9)


@pytest.mark.parametrize("half_way", ["_take_over", "_moments_of"])
def test_errors_half_way_change_nothing(rng, monkeypatch, half_way):
    X, new = correlated(rng, 60, 3), correlated(rng, 5, 3)
    scorer, other = GaussianScorer(ridge=0).fit(X), plain().fit(X + 1)
    before = pickle.dumps(scorer)

    def fail(self, *arguments):
        self.n_samples_seen_ = -1
        raise MemoryError

    monkeypatch.setattr(GaussianScorer, half_way, fail)
    with pytest.raises(MemoryError):
        scorer.partial_fit(new)
    if half_way == "_take_over":
        with pytest.raises(MemoryError):
            scorer.merge(other)
    assert pickle.dumps(scorer) == before


@pytest.mark.parametrize("pooled", [False, True])
def test_rows_give_no_threshold_for_grids(rng, pooled):
    scorer, grids = GaussianScorer(pooled=pooled).fit(rng.normal(size=(40, 3))), rng.normal(size=(30, 4, 4, 3))
    assert scorer.predict(grids[:, 0, 0]).shape == (30,)
    if pooled:
        assert scorer.anomaly_map(grids).shape == (30, 4, 4)
    for method in (scorer.predict, scorer.p_values, scorer.anomaly_mask):
        with pytest.raises(ValueError, match="4x4"):
            method(grids)


def test_merge_takes_the_same_class_and_the_same_grid(rng):
    scorer = plain(ridge=0.01).fit(rng.normal(size=(9, 2, 3, 4)))
    with pytest.raises(ValueError, match=r"\(3, 2, 4\), but this GaussianScorer has \(2, 3, 4\)"):
        scorer.merge(plain(ridge=0.01).fit(rng.normal(size=(9, 3, 2, 4))))
    with pytest.raises(TypeError, match="other is of type KNNScorer"):
        scorer.merge(KNNScorer().fit(rng.normal(size=(30, 4))))


def test_partial_fit_and_merge_equal_one_fit(rng):
    X, new = correlated(rng, 60, 3), rng.normal(size=(5, 3))
    whole = plain().fit(X)
    parts = GaussianScorer(ridge=0).fit(X[:40]).partial_fit(X[40:41]).partial_fit(X[41:])
    merged = plain().fit(X[:30]).merge(plain().fit(X[30:]))
    for scorer in (parts, merged, pickle.loads(pickle.dumps(merged))):
        np.testing.assert_allclose(scorer.score_samples(new), whole.score_samples(new), rtol=1e-9)
        with pytest.raises(AttributeError, match="calibrate"):
            scorer.predict(new)
    assert set(parts.calibrate(correlated(rng, 30, 3)).predict(new)) <= {1, -1}


def test_false_alarms_are_as_promised():
    """Mean over 100 draws of 60 rows; expected 1 - k / (n + 1), within 4 standard errors."""
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(100):
        X = rng.normal(size=(160, 4))
        rates.append((GaussianScorer(false_alarm_rate=0.2).fit(X[:60]).predict(X[60:]) == -1).mean())
    assert np.mean(rates) == pytest.approx(1 - 49 / 61, abs=4 * np.std(rates) / 10)


def test_errors(rng):
    X = rng.normal(size=(5, 8))
    with pytest.raises(ValueError, match="singular: 5 samples with 8 features, ridge=0"):
        plain().fit(X)
    with pytest.raises(ValueError, match="n_samples = 1"):
        plain().fit(X[:1])
    with pytest.raises(ValueError, match="3x2 positions, but this GaussianScorer was fitted on 2x2"):
        plain(ridge=0.01).fit(rng.normal(size=(9, 2, 2, 3))).score_samples(rng.normal(size=(1, 3, 2, 3)))
    with pytest.raises(ValueError, match="cannot be merged"):
        plain(ridge=0.01).fit(X).merge(plain(ridge=0.01).fit(X[:, :3]))
    scorer = plain(ridge=0.01).fit(X)
    with pytest.raises(ValueError, match="NaN"):
        scorer.partial_fit(np.full((2, 8), np.nan))
    assert scorer.n_samples_seen_ == 5
    with pytest.warns(CalibrationWarning):
        assert (scorer.set_params(false_alarm_rate=0.05).calibrate(X).predict(X) == 1).all()


def test_contributions_by_hand():
    """Two columns with correlation 0.6: row (1, 0) has S^-1 x = (1, -0.6) / 0.64, row (1, 1) has (1, 1) / 1.6."""
    X = np.sqrt(0.3) * np.array([[2, 2], [-2, -2], [1, -1], [-1, 1]])
    shares = plain().fit(X).contributions([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(np.cov(X.T), [[1, 0.6], [0.6, 1]])
    np.testing.assert_allclose(shares, [[np.sqrt(1 / 0.64), 0], [np.sqrt(1 / 3.2)] * 2, [0, 0]], atol=1e-12)


@pytest.mark.parametrize("ridge", [0, 0.1])
def test_contributions_sum_to_the_score(ridge, rng):
    X, new = correlated(rng, 60, 7), correlated(rng, 20, 7)
    scorer = plain(ridge=ridge).fit(X)
    found = scorer.contributions(new)
    np.testing.assert_allclose(found.sum(axis=1), -scorer.score_samples(new), rtol=1e-8)
    assert (found < 0).any()
    off = X.mean(axis=0) + 50 * np.eye(7) * X.std(axis=0)
    np.testing.assert_array_equal(scorer.contributions(off).argmax(axis=1), np.arange(7))


def test_contributions_are_of_rows(rng):
    X = rng.normal(size=(30, 2, 2, 3))
    assert plain(pooled=True).fit(X).contributions(X[:, 0, 0]).shape == (30, 3)
    with pytest.raises(ValueError, match="fitted on 2x2"):
        plain().fit(X).contributions(X[:, 0, 0])
    with pytest.raises(ValueError, match="anomaly_map shows"):
        plain().fit(X).contributions(X)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 0.7, 23.1, 1000.1])
def test_constant_features_do_not_depend_on_their_value(rng, value):
    """Sums of most values are inexact, and their rounding is no variance."""
    X = np.c_[rng.normal(size=(100, 2)), np.full(100, value)]
    queries = X[:2].copy()
    queries[1, 2] += 0.1
    shifted = GaussianScorer(false_alarm_rate=None).fit(X - [0, 0, value]).score_samples(queries - [0, 0, value])
    np.testing.assert_allclose(GaussianScorer(false_alarm_rate=None).fit(X).score_samples(queries), shifted, rtol=1e-6)
    with pytest.raises(ValueError, match="singular"):
        GaussianScorer(ridge=0, false_alarm_rate=None).fit(X).score_samples(queries)


def test_calibration_on_what_partial_fit_has_seen_warns(rng):
    X = rng.normal(size=(60, 3))
    with pytest.warns(CalibrationWarning, match="100% of the samples"):
        GaussianScorer().partial_fit(X[:30]).partial_fit(X[30:]).calibrate(X)
    other = GaussianScorer().partial_fit(X[30:])
    with pytest.warns(CalibrationWarning, match="100% of the samples"):
        GaussianScorer().partial_fit(X[:30]).merge(other).calibrate(X)
