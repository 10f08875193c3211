"""Scorers of maps and masks: one map at a time, and equal to the metrics of all maps at once."""

import gc
import weakref

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_validate

import skanomaly.metrics as metrics
from skanomaly import FitOnNormal, PatchCore
from skanomaly._kernels.localization import pixel_curves
from skanomaly._kernels.score_counts import ScoreCounts, ScoreCountsByImage, ordered_codes
from skanomaly.metrics import _scorers

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
OF_MAPS = ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "auspro")
OF_MASKS = ("region_hit_rate", "region_iou")


class Maps:
    """Detector whose maps are random, made one by one, and counted while they are alive."""

    def __init__(self, n=12, size=(40, 50)):
        self.n, self.size, self.alive, self.most = n, size, 0, 0

    def iter_anomaly_maps(self, X, size=None):
        rng = np.random.default_rng(0)
        for _ in range(self.n):
            yield self.watched(rng.lognormal(size=self.size).astype(np.float32))

    def watched(self, score_map):
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(score_map, self.forget)
        return score_map

    def forget(self):
        self.alive -= 1


def masks_of(maps):
    masks = np.zeros((maps.n, *maps.size), bool)
    masks[1:, 3:9, 5:20] = masks[4:8, 20:22, 30:33] = True
    return masks


@pytest.mark.parametrize("name", OF_MAPS)
def test_scorers_of_maps_equal_the_metrics_and_keep_one_map(name):
    detector = Maps()
    masks, all_maps = masks_of(detector), list(Maps().iter_anomaly_maps(None))
    value = getattr(metrics, f"{name}_scorer")(detector, None, masks)
    assert value == pytest.approx(getattr(metrics, name)(masks, all_maps), abs=1e-12)
    gc.collect()
    assert detector.most <= 2
    assert detector.alive == 0


@pytest.mark.parametrize(("n_kept", "tolerance"), [(2**12, 2e-3), (2**14, 5e-4)])
def test_rounded_scores_change_metrics_by_at_most_the_ties_that_they_make(n_kept, tolerance):
    maps = list(Maps().iter_anomaly_maps(None))
    masks = masks_of(Maps())
    exact = pixel_curves(zip(masks, maps, strict=True))
    rounded = pixel_curves(zip(masks, maps, strict=True), max_distinct=n_kept)
    assert len(rounded.normal) - 1 <= n_kept < len(exact.normal)
    ties = (np.diff(rounded.normal) / rounded.normal[-1]) @ (np.diff(rounded.defect) / rounded.defect[-1])
    assert 0 < abs(rounded.auroc() - exact.auroc()) <= ties / 2
    assert rounded.aupro(0.3) == pytest.approx(exact.aupro(0.3), abs=tolerance)
    assert rounded.f1_max() == pytest.approx(exact.f1_max(), abs=tolerance)
    assert rounded.average_precision() == pytest.approx(exact.average_precision(), abs=tolerance)


def test_counts_do_not_depend_on_order_and_batches(monkeypatch, rng):
    monkeypatch.setattr("skanomaly._kernels.score_counts._PENDING", 50)
    scores = rng.lognormal(size=3000) * rng.choice([-1, 1], 3000)
    weights = rng.integers(0, 5, (2, 3000)).astype(float)
    whole, parts = ScoreCounts(200), ScoreCounts(200)
    whole.add(scores, weights)
    order = rng.permutation(3000)
    for part in np.array_split(order, 40):
        parts.add(scores[part], weights[:, part])
    np.testing.assert_array_equal(whole.curves(), parts.curves())
    assert whole.n_dropped_bits == parts.n_dropped_bits > 10
    by_image = ScoreCountsByImage(200)
    for part in np.array_split(order, 40):
        by_image.add(scores[part], weights[:, part])
    assert by_image.n_dropped_bits == whole.n_dropped_bits
    np.testing.assert_allclose(by_image.histograms().sum(axis=1).cumsum(axis=1), whole.curves()[:, 1:])


def test_codes_sort_like_numbers(rng):
    scores = np.concatenate([rng.normal(size=500), [0, -np.inf, np.inf, 1e-40, -1e-40]]).astype(np.float32)
    np.testing.assert_array_equal(np.argsort(ordered_codes(scores)), np.argsort(scores))


@pytest.fixture(scope="module")
def detector(small_features, cloth):
    options = {"combine": "concatenated", "coreset_ratio": 0.2, "false_alarm_rate": 0.2, "random_state": 0}
    return PatchCore(small_features, **options).fit(cloth.X_train)


@pytest.mark.parametrize("name", OF_MASKS)
def test_scorers_of_masks_equal_the_metrics(name, detector, cloth):
    masks = detector.anomaly_mask(cloth.X_test)
    value = getattr(metrics, f"{name}_scorer")(detector, cloth.X_test, cloth.masks_test)
    assert value == getattr(metrics, name)(cloth.masks_test, masks)


def test_scorers_of_maps_of_a_fitted_detector(detector, cloth):
    maps = detector.anomaly_map(cloth.X_test)
    found = metrics.pixel_metrics_scorer(detector, cloth.X_test, cloth.masks_test)
    expected = {name: getattr(metrics, name)(cloth.masks_test, maps) for name in found}
    assert found == pytest.approx(expected, abs=1e-9)
    score = -detector.score_samples(cloth.X_test)
    assert metrics.image_ap_scorer(detector, cloth.X_test, cloth.y_test) == metrics.image_ap(cloth.y_test, score)


class Labelled:
    """Mask with a label, which may be unknown."""

    def __init__(self, mask, known=True):
        self.mask, self.known, self.label = mask, known, -1 if mask.any() else 1

    shape = property(lambda self: self.mask.shape)

    def __array__(self, dtype=None, copy=None):
        return self.mask


def test_images_with_unknown_masks_do_not_count():
    maps, masks = Maps(), masks_of(Maps())
    labelled = [Labelled(mask, i % 3 > 0) for i, mask in enumerate(masks)]
    value = metrics.aupro_scorer(maps, None, labelled)
    assert value == pytest.approx(metrics.aupro(labelled, list(Maps().iter_anomaly_maps(None))), abs=1e-12)
    assert value != pytest.approx(metrics.aupro_scorer(Maps(), None, masks), abs=1e-6)


def test_a_search_by_pixel_metrics_from_one_pass(small_features, cloth):
    """Labelled masks as y: the label is stratified and dropped in fit, the mask is compared with the maps."""
    images = np.concatenate([cloth.X_train, cloth.X_test])
    y = [Labelled(mask) for mask in (*np.zeros(cloth.X_train.shape, bool), *cloth.masks_test)]
    labels = [mask.label for mask in y]
    search = GridSearchCV(
        FitOnNormal(PatchCore(small_features, combine="concatenated", false_alarm_rate=None, random_state=0)),
        {"estimator__coreset_ratio": [0.05, 0.5]},
        scoring=metrics.pixel_metrics_scorer,
        cv=list(StratifiedKFold(2).split(labels, labels)),
        refit="aupro",
    ).fit(images, y)
    assert search.best_score_ == search.cv_results_["mean_test_aupro"].max()
    assert search.best_estimator_.n_normal_ == 18
    split = search.cv_results_["split0_test_pixel_auroc"][0]
    again = cross_validate(
        FitOnNormal(search.estimator.estimator.set_params(coreset_ratio=0.05)),
        images,
        y,
        scoring=metrics.pixel_auroc_scorer,
        cv=list(StratifiedKFold(2).split(labels, labels)),
    )
    assert again["test_score"][0] == split


def test_every_scorer_is_known_by_its_name():
    scorers = [value for name, value in vars(_scorers).items() if name.endswith("_scorer")]
    assert {repr(scorer) for scorer in scorers} == {name for name in metrics.__all__ if name.endswith("_scorer")}
