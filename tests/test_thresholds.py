import math
import re
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter, label

from skanomaly import KNNScorer
from skanomaly.exceptions import CalibrationWarning
from skanomaly.thresholds import (
    Calibration,
    ChiSquaredLaw,
    Region,
    conformal_p_values,
    conformal_threshold,
    expected_false_alarm_rate,
    false_alarms_p_value,
    largest_region_levels,
    largest_region_threshold,
    select_anomalies,
)

RATES = [0.5, 1 / 3, 0.3, 0.1, 0.05, 0.01, 0.001]


@pytest.mark.parametrize(
    ("n", "rate", "rank"),  # rank = ceil((n + 1)(1 - rate))
    [
        (1, 0.5, 1),
        (4, 0.2, 4),
        (19, 0.05, 19),
        (99, 0.05, 95),
        (100, 0.05, 96),
        (10, 0.3, 8),
        (999, 0.001, 999),
    ],
)
def test_threshold_is_the_score_of_the_stated_rank(n, rate, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))  # the k-th smallest is k
    assert conformal_threshold(scores, rate) == rank
    assert expected_false_alarm_rate(n, rate) == pytest.approx(1 - rank / (n + 1))


def test_threshold_counts_ties_and_keeps_the_order_of_its_argument():
    scores = [7.0, 1.0, 7.0, 7.0]
    assert conformal_threshold(scores, 0.5) == 7  # rank 3 of 1, 7, 7, 7
    assert scores == [7.0, 1.0, 7.0, 7.0]


@pytest.mark.parametrize("rate", RATES)
def test_expected_rate_never_exceeds_the_rate_asked_for_once_enough_samples_are_there(rate):
    enough = math.ceil(1 / rate - 1 - 1e-9)
    for n in range(enough, enough + 300):
        assert rate - 1 / (n + 1) < expected_false_alarm_rate(n, rate) <= rate + 1e-12
    for n in range(1, min(enough, 300)):
        assert expected_false_alarm_rate(n, rate) == pytest.approx(1 / (n + 1))  # only the maximum is left


@pytest.mark.parametrize(("n", "rate"), [(9, 0.1), (37, 0.1), (20, 0.3), (50, 0.05)])
def test_share_flagged_among_exchangeable_draws_is_the_expected_one(n, rate):
    rng = np.random.default_rng(0)
    n_trials = 20_000
    together = rng.normal(size=(n_trials, 1))  # exchangeable, not independent
    scores = np.exp(together + rng.normal(size=(n_trials, n + 1)))
    flagged = np.mean([row[-1] > conformal_threshold(row[:-1], rate) for row in scores])
    expected = expected_false_alarm_rate(n, rate)
    assert flagged == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / n_trials))


@pytest.mark.parametrize(("n", "rate", "needed"), [(1, 1 / 3, 2), (2, 0.3, 3), (9, 0.05, 19), (998, 0.001, 999)])
def test_too_few_samples_warn_with_the_number_needed_and_give_the_largest(n, rate, needed):
    scores = np.random.default_rng(1).normal(size=n)
    message = f"false_alarm_rate={rate:g} needs at least {needed} calibration samples, got {n}."
    with pytest.warns(CalibrationWarning, match=re.escape(message)) as caught:
        assert conformal_threshold(scores, rate) == scores.max()
    assert caught[0].filename == __file__
    assert f"flag {1 / (n + 1):.3g} of" in str(caught[0].message)


@pytest.mark.parametrize("rate", RATES)
def test_the_number_in_the_warning_is_enough_and_one_less_is_not(rate):
    with pytest.warns(CalibrationWarning) as caught:
        conformal_threshold(np.arange(0.0, 1), rate / 2)
    needed = int(re.search(r"at least (\d+)", str(caught[0].message))[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conformal_threshold(np.arange(needed), rate / 2)
        with pytest.raises(CalibrationWarning):
            conformal_threshold(np.arange(needed - 1), rate / 2)


def test_p_values_by_hand():
    p = conformal_p_values([5, 4, 3.5, 3, 1, 0], [3, 1, 4, 3])
    assert_allclose(p, [1 / 5, 2 / 5, 2 / 5, 4 / 5, 1, 1])


def test_p_values_equal_the_definition():
    rng = np.random.default_rng(2)
    scores, calibration = rng.integers(0, 20, 50), rng.integers(0, 20, 31)
    expected = [(1 + sum(c >= s for c in calibration)) / 32 for s in scores]
    assert_allclose(conformal_p_values(scores, calibration), expected)


@pytest.mark.parametrize("n_values", [3, 1000, None])  # many, few and no ties
def test_p_values_of_exchangeable_scores_are_valid_and_uniform_without_ties(n_values):
    rng = np.random.default_rng(3)
    scores = rng.normal(size=40) if n_values is None else rng.integers(0, n_values, 40).astype(float)
    p = np.concatenate([conformal_p_values(scores[[i]], np.delete(scores, i)) for i in range(40)])
    for level in np.arange(1, 41) / 40:
        assert (p <= level + 1e-12).mean() <= level + 1e-12
    if n_values is None:
        assert_allclose(np.sort(p), np.arange(1, 41) / 40)


@pytest.mark.parametrize("n", [19, 37, 99])
@pytest.mark.parametrize("rate", [0.3, 0.1, 0.0625])
def test_a_score_above_the_threshold_is_one_with_a_p_value_up_to_the_rate(n, rate):
    rng = np.random.default_rng(n)
    calibration = rng.integers(0, 30, n).astype(float)
    scores = np.arange(-1, 31, 0.5)
    flagged = scores > conformal_threshold(calibration, rate)
    assert 0 < flagged.sum() < len(scores)
    assert (flagged == (conformal_p_values(scores, calibration) <= rate + 1e-12)).all()


# Largest regions


def test_the_largest_region_decides_as_masks_do(rng):
    """Brute force: above the threshold, no normal map has a region of the area; at it, one has."""
    normal, fresh = (gaussian_filter(rng.normal(size=(6, 20, 20)), (0, 1.5, 1.5)) for _ in range(2))
    fresh[0, 3, 3] = 50.0  # a single pixel, which is no defect
    fresh[1, 8:12, 8:12] += 5.0
    threshold = largest_region_threshold(normal, min_defect_area=12)
    assert not any(has_region(score_map > threshold, 12) for score_map in normal)
    assert any(has_region(score_map >= threshold, 12) for score_map in normal)
    flagged = largest_region_levels(fresh, min_defect_area=12) > threshold
    assert_array_equal(flagged, [has_region(score_map > threshold, 12) for score_map in fresh])
    assert flagged[1]
    assert largest_region_levels(fresh, min_defect_area=1)[0] == 50


def test_unseen_pixels_belong_to_no_region():
    score_map = np.array([[5.0, np.nan, 5.0], [np.nan, 1.0, 1.0]])
    assert_array_equal(largest_region_levels([score_map], min_defect_area=3), [1.0])
    assert largest_region_levels([score_map], min_defect_area=7) == -np.inf


def has_region(mask, area):
    labels, count = label(mask, np.ones((3, 3)))
    return any((labels == i).sum() >= area for i in range(1, count + 1))


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (30, 0.1), (9, 0.05)])
def test_false_alarms_follow_the_promised_distribution(n, rate, rng):
    """Of thresholds from drawn scores, the share that flags as many as observed or more is the p-value."""
    counts = np.empty(20_000, int)
    for i in range(len(counts)):
        scores = rng.random(n)
        threshold = np.sort(scores)[min(math.ceil((n + 1) * (1 - rate) - 1e-9), n) - 1]
        counts[i] = (rng.random(25) > threshold).sum()
    for n_flagged in (0, 1, 3, 6):
        p_value = false_alarms_p_value(n_flagged, 25, n, rate)
        assert (counts >= n_flagged).mean() == pytest.approx(p_value, abs=4 * np.sqrt(0.25 / len(counts)))


def test_false_alarms_of_a_law_are_binomial():
    expected = 1 - sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(5))
    assert false_alarms_p_value(5, 20, math.inf, 0.1) == pytest.approx(expected)
    assert false_alarms_p_value(0, 20, math.inf, 0.1) == 1


# Regions

MAP = np.array(
    [
        [9, 0, 0, 0, 0, 0],
        [0, 8, 0, 0, 5, 5],
        [0, 0, 0, 0, 5, 7],
        [0, 0, 0, 0, 0, 0],
        [4, 0, 6, 0, 0, np.nan],
    ]
)


def test_regions_by_hand():
    mask = MAP > 4.5  # the two pixels at the upper left touch at a corner
    calibration = Calibration(np.zeros(4), peaks=[2.0, 8.0, 9.0, 5.0])
    assert calibration.regions(MAP, mask) == [
        Region((1, 4, 3, 6), (1.5, 4.5), 4, 7.0, (2, 5), 0.6),  # 2 of 4 peaks are at least 7
        Region((0, 0, 2, 2), (0.5, 0.5), 2, 9.0, (0, 0), 0.4),
        Region((4, 2, 5, 3), (4.0, 2.0), 1, 6.0, (4, 2), 0.6),
    ]
    assert calibration.regions(MAP, np.zeros_like(mask)) == []


def test_p_values_of_regions_are_of_their_level_if_areas_count():
    mask = np.zeros(MAP.shape, bool)
    mask[:3] = MAP[:3] > 4.5
    calibration = Calibration(np.zeros(4), peaks=[2.0, 8.0, 8.5, 5.0])
    square, pair = calibration.regions(MAP, mask, min_defect_area=2)
    assert (pair.peak, pair.p_value) == (9.0, 0.6)  # two connected pixels remain up to 8, which two peaks reach
    assert (square.peak, square.p_value) == (7.0, 0.8)  # up to 5


def test_a_region_weighs_groups_as_scores_do():
    calibration = Calibration([1.0, 2.0, 3.0], peaks=[1.0, 2.0, 3.0], groups=[0, 0, 1])
    (region,) = calibration.regions(np.array([[2.5]]), np.array([[True]]))
    assert region.p_value == calibration.p_values([2.5])[0] == 2 / 3


@pytest.mark.parametrize("rate", [5, 1, 0, -0.1, np.nan, "5%", None, True])
def test_rates_outside_0_and_1_are_refused(rate):
    calibration, law = Calibration(np.arange(30.0), peaks=np.arange(30.0)), ChiSquaredLaw(4)
    for refuse in (
        calibration.threshold,
        calibration.pixel_threshold,
        calibration.expected_rate,
        calibration.warn_if_short,
        law.threshold,
        lambda rate: expected_false_alarm_rate(30, rate),
        lambda rate: conformal_threshold(np.arange(30.0), rate),
        lambda rate: false_alarms_p_value(1, 10, 30, rate),
    ):
        with pytest.raises(ValueError, match=r"false_alarm_rate=.* is not accepted; .* such as 0.05 for 5 %"):
            refuse(rate)


@pytest.mark.parametrize("rate", [5, 1.0, 0, -1, np.nan])
def test_a_fitted_detector_keeps_its_rate_if_another_is_refused(rate, rng):
    detector = KNNScorer(false_alarm_rate=0.1).fit(rng.normal(size=(40, 2)))
    before = detector.offset_
    with pytest.raises(ValueError, match="false_alarm_rate="):
        detector.set_params(n_neighbors=2, false_alarm_rate=rate)
    assert (detector.false_alarm_rate, detector.n_neighbors, detector.offset_) == (0.1, 1, before)


def test_no_p_value_of_the_law_is_zero():
    p_values = ChiSquaredLaw(4).p_values(np.array([1.0, 8.0, 1e6]))
    assert (np.diff(p_values) <= 0).all()
    assert p_values[-1] > 0
    assert_array_equal(select_anomalies(p_values), [False, True, True])
    with pytest.raises(ValueError, match=r"p_values must be .*, got 0\."):
        select_anomalies([0.5, 0.0])
