import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.spatial.distance import cdist

from skanomaly import KNNScorer
from skanomaly.exceptions import CalibrationWarning


def test_scores_are_distances_by_hand():
    """Bank at 0, 1, 10 on a line; a row at 4 is 3 from its nearest, 3.5 from its nearest two on average."""
    bank, row = np.array([[0.0], [1.0], [10.0]]), [[4.0]]
    for k, expected in ((1, 3.0), (2, 3.5), (3, 13 / 3)):
        scorer = KNNScorer(k, false_alarm_rate=None).fit(bank)
        np.testing.assert_allclose(scorer.score_samples(row), [-expected], rtol=1e-15)


def test_grids_equal_rows(rng):
    bank, grids = rng.normal(size=(5, 3, 4, 6)), rng.normal(size=(2, 3, 4, 6))
    scorer = KNNScorer(2, false_alarm_rate=None).fit(bank)
    nearest = np.sort(cdist(grids.reshape(-1, 6), bank.reshape(-1, 6)), axis=1)[:, :2].mean(axis=1)
    np.testing.assert_allclose(scorer.anomaly_map(grids), nearest.reshape(2, 3, 4), rtol=1e-6)
    np.testing.assert_allclose(scorer.score_samples(grids), -nearest.reshape(2, -1).max(axis=1), rtol=1e-12)


def test_reweighting_equals_the_formula(rng):
    bank, grid = rng.normal(size=(1, 5, 5, 3)), rng.normal(size=(1, 2, 2, 3))
    score = -KNNScorer(reweight=4, false_alarm_rate=None).fit(bank).score_samples(grid)[0]
    rows, patches = bank.reshape(-1, 3), grid.reshape(-1, 3)
    distances = cdist(patches, rows)
    p = distances.min(axis=1).argmax()
    m = distances[p].argmin()
    around = np.argsort(cdist(rows[m : m + 1], rows)[0])[:4]
    share = np.exp(distances[p, m]) / np.exp(distances[p, around]).sum()
    np.testing.assert_allclose(score, (1 - share) * distances[p, m], rtol=1e-10)
    assert 1 - 1 / 4 <= 1 - share < 1


def test_reweighting_survives_huge_distances():
    grid = np.array([[1e6], [0.0]]).reshape(1, 2, 1, 1)
    scorer = KNNScorer(reweight=2, false_alarm_rate=None).fit(np.array([[0.0], [1.0]]))
    assert np.isfinite(scorer.score_samples(grid)).all()


def test_leave_one_out_leaves_the_image_out(rng):
    grids = rng.normal(size=(6, 2, 2, 3))
    with pytest.warns(CalibrationWarning):
        scorer = KNNScorer(reweight=3).fit(grids)
    by_hand = []
    for i in range(6):
        others = KNNScorer(reweight=3, false_alarm_rate=None).fit(np.delete(grids, i, axis=0))
        by_hand.append(-others.score_samples(grids[i : i + 1])[0])
    np.testing.assert_allclose(scorer.calibration_scores_, by_hand, rtol=1e-12)


@pytest.mark.parametrize("calibration", ["loo", "cv", "split"])
def test_false_alarms_are_as_promised(calibration):
    """Mean over 60 draws; the tolerance is 4 standard errors of a beta-binomial mean."""
    rng = np.random.default_rng(0)
    rates = []
    for seed in range(60):
        X = rng.normal(size=(300, 2))
        scorer = KNNScorer(false_alarm_rate=0.2, calibration=calibration, random_state=seed).fit(X[:100])
        rates.append((scorer.predict(X[100:]) == -1).mean())
    n = {"loo": 100, "cv": 100, "split": 20}[calibration]
    expected = 1 - np.ceil((n + 1) * 0.8) / (n + 1)
    error = np.sqrt(0.2 * 0.8 / (n + 2) + 0.2 * 0.8 / 200) / np.sqrt(60)
    slack = 0.02 if calibration == "cv" else 0  # folds see a smaller bank
    assert abs(np.mean(rates) - expected) < 4 * error + slack


def test_batch_and_order_do_not_matter(rng):
    bank, X = rng.normal(size=(500, 20)).astype(np.float32), rng.normal(size=(300, 20)).astype(np.float32)
    scorer = KNNScorer(3, false_alarm_rate=None).fit(bank)
    scores = scorer.score_samples(X)
    np.testing.assert_array_equal(scores[::-1], scorer.score_samples(X[::-1]))
    np.testing.assert_array_equal(scores[7:8], scorer.score_samples(X[7:8]))


def test_bank_of_single_patches_has_no_image_threshold(rng):
    scorer = KNNScorer().fit(rng.normal(size=(40, 1, 1, 3)))
    grids = rng.normal(size=(2, 4, 4, 3))
    assert scorer.score_samples(grids).shape == scorer.decision_function(grids).shape == (2,)
    assert scorer.anomaly_map(grids).shape == (2, 4, 4)
    for method in (scorer.predict, scorer.anomaly_mask, scorer.p_values):
        with pytest.raises(ValueError, match="ConformalDetector"):
            method(grids)
    assert scorer.predict(grids[:, :1, :1]).shape == (2,)


def test_thresholds_hold_for_grids_like_those_they_are_taken_from(rng):
    """Rows decide about rows, 2x2 grids about 2x2 grids and smaller ones, and calibrate moves on to larger ones."""
    scorer, grids = KNNScorer(false_alarm_rate=0.2).fit(rng.normal(size=(40, 2, 2, 3))), rng.normal(size=(200, 3, 3, 3))
    assert scorer.predict(grids[:, :2, :1]).shape == scorer.predict(grids[:, 0, 0]).shape == (200,)
    with pytest.raises(ValueError, match="grids of 4 cells and do not hold for grids of 3x3"):
        scorer.predict(grids)
    assert (scorer.calibrate(grids[:100]).predict(grids[100:]) == -1).mean() == pytest.approx(0.2, abs=0.15)
    scorer.calibrate(grids[:, 0, 0])
    with pytest.raises(ValueError, match="ConformalDetector"):
        scorer.anomaly_mask(grids)


def test_leave_one_out_leaves_the_group_out(rng):
    grids, groups = rng.normal(size=(9, 2, 2, 3)), np.array([1, 0, 0, 2, 1, 0, 3, 4, 5])
    with pytest.warns(CalibrationWarning):
        scorer = KNNScorer(2, reweight=3).fit(grids, groups=groups)
    for group in range(6):
        others = KNNScorer(2, reweight=3, false_alarm_rate=None).fit(grids[groups != group])
        expected = -others.score_samples(grids[groups == group])
        np.testing.assert_allclose(scorer.calibration_scores_[groups == group], expected, rtol=1e-12)


def test_reweighting_is_the_same_for_scores_and_thresholds():
    """With a bank of a few rows, leaving some out must not leave fewer to re-weight with than there are afterwards."""
    rng, rates = np.random.default_rng(0), []
    for _ in range(60):
        X = rng.normal(size=(130, 2, 2, 3))
        scorer = KNNScorer(reweight=100, false_alarm_rate=0.2).fit(X[:20])
        assert scorer.reweight_ == 76
        rates.append((scorer.predict(X[20:]) == -1).mean())
    expected = 1 - np.ceil(21 * 0.8) / 21
    assert abs(np.mean(rates) - expected) < 4 * np.sqrt(0.16 / 22 + 0.16 / 110) / np.sqrt(60)


def test_p_values_and_calibrate(rng):
    X = rng.normal(size=(100, 2))
    scorer = KNNScorer().fit(X)
    assert scorer.p_values([[100.0, 100.0]])[0] == 1 / 101
    before = scorer.offset_
    scorer.calibrate(X[:50] * 3)
    assert scorer.offset_ < before
    assert len(scorer.calibration_scores_) == 50
    with pytest.raises(ValueError, match="NaN"):
        scorer.calibrate(np.full((30, 2), np.nan))
    assert len(scorer.calibration_scores_) == 50


def test_without_a_rate_there_is_no_decision(rng):
    scorer = KNNScorer(false_alarm_rate=None).fit(rng.normal(size=(9, 2)))
    for method in (scorer.predict, scorer.decision_function, scorer.anomaly_mask, scorer.p_values):
        with pytest.raises(AttributeError, match="no threshold.*calibrate"):
            method(np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (KNNScorer(0), "'n_neighbors' parameter"),
        (KNNScorer(reweight=True), "'reweight' parameter"),
        (KNNScorer(false_alarm_rate=1.0), "false_alarm_rate=1.0 is not accepted"),
        (KNNScorer(30), "n_neighbors=30 is larger than the number of patches in the bank, 20"),
        (KNNScorer(20), "the bank has 19 rows"),
        (KNNScorer(calibration="none"), "'calibration' parameter"),
    ],
)
def test_bad_parameters_leave_the_old_fit(scorer, message, rng):
    X = rng.normal(size=(20, 2))
    fitted = KNNScorer().fit(X)
    bank = fitted.bank_
    with pytest.raises(ValueError, match=message):
        fitted.set_params(**scorer.get_params()).fit(X * 2)
    assert fitted.bank_ is bank
    assert not hasattr(scorer, "bank_")


def test_graph_search_finds_nearly_all_and_never_its_own_image(rng):
    """The distances are those of the rows found, whatever else is searched for, and again after pickling."""
    grids = rng.normal(size=(60, 4, 5, 6)).astype(np.float32)
    graph = KNNScorer(2, algorithm="pynndescent", false_alarm_rate=None, random_state=0).fit(grids)
    exact = KNNScorer(2, algorithm="brute", false_alarm_rate=None).fit(grids)
    near = (grids + 0.1 * rng.normal(size=grids.shape)).astype(np.float32)
    scores = graph.score_samples(near)
    assert np.isclose(scores, exact.score_samples(near), rtol=1e-6).mean() > 0.9
    np.testing.assert_array_equal(graph.score_samples(near[7:8]), scores[7:8])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(graph)).score_samples(near), scores)
    images = np.repeat(np.arange(60), 20)
    _, rows = graph.kneighbors(grids.reshape(-1, 6), 2, images, images)
    assert (graph.bank_images_[rows] != images[:, None]).all()
    assert (graph.kneighbors(grids.reshape(-1, 6), 1)[0] == 0).mean() > 0.9


def test_contributions_by_hand():
    """(3, 4) is 5 from the origin, of which 9/5 and 16/5 are of the columns; (9, 4) is 4 from (9, 0)."""
    scorer = KNNScorer(false_alarm_rate=None).fit([[0.0, 0.0], [9.0, 0.0]])
    found = scorer.contributions([[3.0, 4.0], [9.0, 4.0], [9.0, 0.0]])
    np.testing.assert_allclose(found, [[9 / 5, 16 / 5], [0, 4], [0, 0]])
    both = KNNScorer(2, false_alarm_rate=None).fit([[0.0, 0.0], [9.0, 0.0]]).contributions([[3.0, 4.0]])
    np.testing.assert_allclose(both, [[(9 / 5 + 36 / np.sqrt(52)) / 2, (16 / 5 + 16 / np.sqrt(52)) / 2]])


@pytest.mark.parametrize("options", [{}, {"n_neighbors": 3}, {"n_neighbors": 2, "reweight": 4}])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_contributions_sum_to_the_score(options, dtype, rng):
    X, new = rng.normal(size=(700, 5)).astype(dtype), rng.normal(size=(20, 5)).astype(dtype)
    scorer = KNNScorer(**options, false_alarm_rate=None).fit(X)
    np.testing.assert_allclose(scorer.contributions(new).sum(axis=1), -scorer.score_samples(new), rtol=1e-12)


def test_contributions_are_of_rows(rng):
    scorer = KNNScorer(false_alarm_rate=None).fit(rng.normal(size=(6, 2, 3, 4)))
    assert scorer.contributions(rng.normal(size=(5, 4))).shape == (5, 4)
    with pytest.raises(ValueError, match=r"patch grid of shape \(5, 2, 3, 4\).*anomaly_map shows"):
        scorer.contributions(rng.normal(size=(5, 2, 3, 4)))


def test_banks_are_not_the_memory_of_a_tensor(rng):
    X = torch.from_numpy(rng.normal(size=(30, 3)))
    queries = X[:2].numpy().copy()
    scorer = KNNScorer(false_alarm_rate=None).fit(X)
    X.fill_(100.0)
    assert_array_equal(scorer.score_samples(queries), [0, 0])
