from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage
from sklearn.ensemble import IsolationForest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.model_selection import cross_val_score

from skanomaly.datasets._folders import Mask
from skanomaly.metrics import (
    aupro,
    aupro_scorer,
    auspro,
    f1_max,
    f1_max_scorer,
    image_ap,
    image_auroc,
    image_auroc_scorer,
    pixel_ap,
    pixel_auroc,
    pixel_auroc_scorer,
    pixel_f1_max,
    region_hit_rate,
    region_iou,
    tnr_scorer,
    tnr_tpr,
    tpr_scorer,
)


def random_case(seed, shapes=((14, 17),) * 4, decimals=1, n_seeds=4, knowledge=0.7):
    """Return masks of several blobs, the last one empty, and maps that know a little."""
    rng = np.random.default_rng(seed)
    masks, maps = [], []
    for shape in shapes:
        mask = np.zeros(shape, bool)
        mask[rng.integers(shape[0], size=n_seeds), rng.integers(shape[1], size=n_seeds)] = True
        masks.append(ndimage.binary_dilation(mask, iterations=int(rng.integers(3))))
    masks[-1][:] = False
    maps = [np.round(rng.normal(size=mask.shape) + knowledge * mask, decimals) for mask in masks]
    return masks, maps


def aupro_slowly(masks, maps, limit, area_of=lambda area: area):
    """The definition: all thresholds, all regions, and the trapezoids up to the limit."""
    regions, normal = [], []
    for i, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        seen = ~np.isnan(score_map)
        regions += [(i, (labels == k) & seen) for k in range(1, count + 1) if ((labels == k) & seen).any()]
        normal.append((labels == 0) & seen)
    scores = np.unique(np.concatenate([score_map[~np.isnan(score_map)] for score_map in maps]))
    curve = [(0.0, 0.0)]
    for threshold in scores[::-1]:
        above = [score_map >= threshold for score_map in maps]
        fpr = sum((a & n).sum() for a, n in zip(above, normal, strict=True)) / sum(n.sum() for n in normal)
        overlaps = [min((above[i] & region).sum() / area_of(region.sum()), 1) for i, region in regions]
        curve.append((fpr, np.mean(overlaps)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            return (area + (limit - x0) * (y0 + y1) / 2) / limit
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


# AU-PRO and pixel AUROC


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("decimals", [0, 1, 8])  # many, some and no ties
@pytest.mark.parametrize("seed", range(3))
def test_aupro_equals_the_definition(seed, decimals, max_fpr):
    masks, maps = random_case(seed, decimals=decimals)
    expected = pytest.approx(aupro_slowly(masks, maps, max_fpr), abs=1e-12)
    assert aupro(masks, maps, max_fpr=max_fpr) == expected
    assert aupro(np.array(masks, np.uint8) * 255, np.array(maps), max_fpr=max_fpr) == expected


def test_aupro_and_pixel_auroc_take_lists_of_images_of_different_sizes():
    masks, maps = random_case(3, shapes=((9, 20), (15, 15), (5, 30), (11, 4)))
    assert aupro(masks, maps) == pytest.approx(aupro_slowly(masks, maps, 0.3), abs=1e-12)
    flat = [np.concatenate([a.ravel() for a in arrays]) for arrays in (masks, maps)]
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(*flat))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_pixel_auroc_equals_sklearn_on_all_pixels(dtype):
    masks, maps = (np.array(arrays) for arrays in random_case(4))
    maps = maps.astype(dtype)
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))


def test_nan_pixels_are_left_out():
    masks, maps = random_case(5, decimals=2)
    masks[0][:] = False
    masks[0][2:4, 5:9] = masks[0][8, :3] = True
    maps[0][:, 6:8] = np.nan  # cuts the first region in two: it stays one region
    maps[0][8] = np.nan  # hides the second
    maps[2][:] = np.nan
    assert aupro(masks, maps) == pytest.approx(aupro_slowly(masks, maps, 0.3), abs=1e-12)
    seen = ~np.isnan(maps)
    assert pixel_auroc(masks, maps) == pytest.approx(roc_auc_score(np.array(masks)[seen], np.array(maps)[seen]))


def test_every_region_counts_the_same():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, :10, :10] = mask[0, 15, 15] = True
    found = np.zeros(mask.shape)
    found[0, :10, :10] = 1
    expected = (0.5 + 0.65) / 2  # one region of two, then the straight line to 1 at FPR 1: 0.65 at 0.3
    assert aupro(mask, found) == pytest.approx(expected)
    assert aupro(mask, mask - found) == pytest.approx(expected)


def test_aupro_anchors():
    masks, _ = random_case(6)
    rng = np.random.default_rng(0)
    perfect = [mask + rng.random(mask.shape) for mask in masks]
    assert aupro(masks, perfect) == pytest.approx(1, abs=1e-12)
    assert aupro(masks, [-score_map for score_map in perfect]) == 0
    assert aupro(masks, [np.zeros(mask.shape) for mask in masks]) == pytest.approx(0.15)
    assert aupro(masks, [np.zeros(mask.shape) for mask in masks], max_fpr=1) == pytest.approx(0.5)


def test_maps_that_know_nothing_score_half_the_limit():
    masks, maps = random_case(7, shapes=((64, 64),) * 8, decimals=8, n_seeds=30, knowledge=0)
    assert aupro(masks, maps) == pytest.approx(0.15, abs=0.02)
    assert pixel_auroc(masks, maps) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("max_fpr", [0.001, 0.05, 0.3, 1.0])
def test_aupro_never_exceeds_one(max_fpr):
    for seed in range(10):
        masks, maps = random_case(seed, decimals=1, knowledge=4)
        assert aupro(masks, maps, max_fpr=max_fpr) <= 1 + 1e-12


def test_aupro_of_one_region_at_limit_one_is_pixel_auroc():
    mask = np.zeros((3, 12, 12), bool)
    mask[1, 3:6, 2:9] = True
    maps = np.round(np.random.default_rng(8).normal(size=mask.shape) + mask, 1)
    assert aupro(mask, maps, max_fpr=1) == pytest.approx(pixel_auroc(mask, maps))


@pytest.mark.parametrize("metric", [aupro, pixel_auroc])
def test_only_the_order_of_the_scores_matters(metric):
    masks, maps = random_case(9)
    assert metric(masks, [np.exp(2 * m) for m in maps]) == pytest.approx(metric(masks, maps), abs=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16])
@pytest.mark.parametrize("metric", [aupro, pixel_auroc])
def test_maps_of_any_real_dtype_are_ranked(metric, dtype):
    masks, _ = random_case(10)
    assert metric(masks, [mask.astype(dtype) for mask in masks]) == pytest.approx(1)


@pytest.mark.parametrize("metric", [aupro, pixel_auroc])
def test_masks_that_do_not_fit_are_refused(metric):
    masks, maps = random_case(11)
    with pytest.raises(ValueError, match="masks has 3 images, but anomaly_maps has 4"):
        metric(masks[:-1], maps)
    with pytest.raises(ValueError, match=r"image 1: the mask has shape \(14, 17\), but the map has shape \(17, 14\)"):
        metric(masks, [maps[0], maps[1].T, *maps[2:]])
    with pytest.raises(ValueError, match="masks mark 0 of 238 pixels"):
        metric(masks[-1:], maps[-1:])
    with pytest.raises(ValueError, match="masks mark 238 of 238 pixels"):
        metric([~masks[-1]], maps[-1:])


@pytest.mark.parametrize("max_fpr", [0, -0.1, 1.01, float("nan")])
def test_aupro_refuses_limits_outside_the_unit_interval(max_fpr):
    with pytest.raises(ValueError, match="max_fpr"):
        aupro(*random_case(0), max_fpr=max_fpr)


# Saturated overlap, average precision and F1-max of pixels


@pytest.mark.parametrize("saturation", [0.3, 1.0, 1, 7])
@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_auspro_equals_the_definition(decimals, saturation):
    masks, maps = random_case(12, decimals=decimals)
    maps[1][:, 5] = np.nan
    whole = isinstance(saturation, int)
    expected = aupro_slowly(masks, maps, 0.2, lambda a: min(saturation, a) if whole else saturation * a)
    assert auspro(masks, maps, saturation=saturation, max_fpr=0.2) == pytest.approx(expected, abs=1e-12)


class RegionsMask:
    """Mask whose regions are listed, overlap and are not connected."""

    def __init__(self, *regions):
        self.regions = regions

    def __array__(self, dtype=None, copy=None):
        return np.any([mask for mask, _ in self.regions], axis=0)

    @property
    def shape(self):
        return self.regions[0][0].shape


def test_listed_regions_count_as_they_are_and_may_overlap():
    """By hand: 2 of 3 pixels of the first are enough, 1 of 2 of the second; one pixel is in both."""
    first, second = np.zeros((2, 1, 8), bool)
    first[0, [0, 1, 4]] = second[0, [4, 5]] = True
    mask = RegionsMask((first, 2), (second, 1))
    assert auspro([mask], [np.array([[5, 4, 0, 0, 6, 0, 0, 0]])], max_fpr=0.5) == 1.0
    halves = auspro([mask], [np.array([[5, 0, 3, 3, 0, 4, 0, 0]])], max_fpr=0.5)  # 1/2 and 1, then 2 of 4 normals
    assert halves == pytest.approx(0.75)


@pytest.mark.parametrize("saturation", [0, -1, 0.0, 1.5])
def test_saturation_out_of_range_is_refused(saturation):
    with pytest.raises(ValueError, match=r"saturation=.* must be a number of pixels"):
        auspro(*random_case(0), saturation=saturation)


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_pixel_ap_and_f1_max_equal_sklearn_and_the_loop(decimals):
    masks, maps = (np.array(arrays) for arrays in random_case(13, decimals=decimals))
    assert pixel_ap(masks, maps) == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    some = np.unique(maps)[:: max(1, len(np.unique(maps)) // 60)]
    best = max(f1_score(masks.ravel(), (maps >= t).ravel()) for t in (np.unique(maps) if decimals < 8 else some))
    assert pixel_f1_max(masks, maps) >= best - 1e-12
    assert decimals == 8 or pixel_f1_max(masks, maps) == pytest.approx(best)


# Predicted masks, region by region


def regions_slowly(masks, predicted, min_overlap):
    hits, ious = [], []
    for mask, found in zip(masks, predicted, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        parts, n_parts = ndimage.label(found, np.ones((3, 3)))
        for k in range(1, count + 1):
            region = labels == k
            share = (found & region).sum() / region.sum()
            hits.append(share > 0 and share >= min_overlap)
            union = np.isin(parts, [j for j in range(1, n_parts + 1) if (region & (parts == j)).any()])
            ious.append((region & union).sum() / ((region | union) & ~((labels > 0) & ~region)).sum())
    return np.mean(hits), np.mean(ious)


@pytest.mark.parametrize("min_overlap", [0, 0.5, 1])
def test_region_metrics_equal_the_definition(min_overlap):
    masks, maps = random_case(14, n_seeds=8, knowledge=2)
    predicted = [score_map > 1.2 for score_map in maps]
    hit_rate, iou = regions_slowly(masks, predicted, min_overlap)
    assert region_hit_rate(masks, predicted, min_overlap=min_overlap) == pytest.approx(hit_rate)
    assert region_iou(masks, predicted) == pytest.approx(iou)
    assert 0 < iou < 1


def test_a_region_that_is_covered_exactly_as_asked_is_hit():
    """0.55 * 100 is a hair above 55."""
    region, found = np.ones((1, 10, 10)), np.zeros((1, 100))
    found[0, :55] = 1
    assert region_hit_rate(region, found.reshape(1, 10, 10), min_overlap=0.55) == 1
    assert region_hit_rate(region, found.reshape(1, 10, 10), min_overlap=0.56) == 0


def test_unknown_masks_alone_are_refused():
    with pytest.raises(ValueError, match="holds no known mask"):
        aupro([Mask(-1, "unknown.png")], [np.zeros((4, 4))])


def test_region_metrics_refuse_what_they_cannot_compare():
    masks, _ = random_case(15)
    with pytest.raises(ValueError, match="image 0: the mask has shape"):
        region_iou(masks, [mask.T for mask in masks])
    with pytest.raises(ValueError, match="masks mark no pixels"):
        region_hit_rate([masks[-1]], [masks[0]])
    with pytest.raises(ValueError, match=r"min_overlap=2 is not accepted"):
        region_hit_rate(masks, masks, min_overlap=2)


# One score per sample


@pytest.mark.parametrize("decimals", [0, 8])
def test_image_ap_equals_the_sum_over_thresholds(decimals):
    rng = np.random.default_rng(2)
    y = rng.choice([1, -1], 60, p=[0.7, 0.3])
    scores = np.round(rng.normal(size=60) - 0.5 * y, decimals)
    recalls, total = [0.0], 0.0
    for threshold in np.unique(scores)[::-1]:
        above = scores >= threshold
        recalls.append((above & (y == -1)).sum() / (y == -1).sum())
        total += (recalls[-1] - recalls[-2]) * (y[above] == -1).mean()
    assert image_ap(y, scores) == pytest.approx(total)


@pytest.mark.parametrize("decimals", [0, 8])
def test_image_auroc_counts_pairs(decimals):
    rng = np.random.default_rng(0)
    y = rng.choice([1, -1], 60)
    scores = np.round(rng.normal(size=60) - 0.5 * y, decimals)
    margins = scores[y == -1][:, None] - scores[y == 1]
    assert image_auroc(y, scores) == pytest.approx(((margins > 0) + 0.5 * (margins == 0)).mean())


@pytest.mark.parametrize("decimals", [0, 8])
def test_f1_max_equals_the_loop_over_thresholds(decimals):
    rng = np.random.default_rng(1)
    y = rng.choice([1, -1], 60, p=[0.7, 0.3])
    scores = np.round(rng.normal(size=60) - 0.5 * y, decimals)
    assert f1_max(y, scores) == pytest.approx(max(f1_score(y == -1, scores >= t) for t in scores))


def test_f1_max_anchors():
    assert f1_max([1, 1, 1, -1], [0, 0, 0, 1]) == 1
    assert f1_max([1, 1, 1, -1], [0, 0, 0, 0]) == pytest.approx(2 / 5)  # all flagged: precision 1/4, recall 1
    assert f1_max([1, -1], [1, 0]) == pytest.approx(2 / 3)


def test_tnr_tpr_by_hand():
    y_true = [1, 1, 1, 1, -1, -1, -1, -1, -1]
    y_pred = [1, 1, 1, -1, -1, -1, 1, 1, 1]
    assert tnr_tpr(y_true, y_pred) == pytest.approx((3 / 4, 2 / 5))
    assert tnr_tpr(y_true, np.negative(y_pred)) == pytest.approx((1 / 4, 3 / 5))


Y = np.array([1, -1, 1, 1, -1])
SCORES = np.array([0.1, 0.9, 0.2, 0.6, 0.5])
FORMS = {
    "list": Y.tolist(),
    "float": Y.astype(float),
    "int8": Y.astype(np.int8),
    "bool": Y == -1,
    "list of bool": (Y == -1).tolist(),
    "items": [SimpleNamespace(label=label) for label in Y.tolist()],
}


@pytest.mark.parametrize("form", FORMS)
def test_labels_come_in_several_forms(form):
    assert image_auroc(FORMS[form], SCORES) == pytest.approx(5 / 6)
    assert f1_max(FORMS[form], SCORES) == pytest.approx(4 / 5)
    assert tnr_tpr(FORMS[form], [1, -1, -1, 1, 1]) == pytest.approx((2 / 3, 1 / 2))
    assert tnr_tpr(Y, FORMS[form]) == (1, 1)


@pytest.mark.parametrize("metric", [image_auroc, f1_max, tnr_tpr])
def test_labels_with_two_meanings_are_refused(metric):
    with pytest.raises(ValueError, match=r"y_true has the labels 0, 1; they must be .* `y == 1`"):
        metric((Y == -1).astype(int), Y)
    with pytest.raises(ValueError, match=r"y_true has the labels 'bad', 'good'; they must be \+1"):
        metric(np.where(Y == 1, "good", "bad"), Y)
    with pytest.raises(ValueError, match=r"y_true must be 1-dimensional, got shape \(5, 1\)"):
        metric(Y[:, None], Y)


@pytest.mark.parametrize("metric", [image_auroc, f1_max, tnr_tpr])
def test_labels_of_one_kind_or_another_length_are_refused(metric):
    with pytest.raises(ValueError, match="0 anomalies among 3 samples; both classes are needed"):
        metric([1, 1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="3 anomalies among 3 samples; both classes are needed"):
        metric([-1, -1, -1], [1, 1, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        metric([1, -1], [1, -1, 1])


def test_predictions_with_two_meanings_are_refused():
    with pytest.raises(ValueError, match="y_pred has the labels 0, 1"):
        tnr_tpr([1, -1], [0, 1])


@pytest.mark.parametrize("metric", [image_auroc, f1_max])
def test_scores_must_be_finite(metric):
    with pytest.raises(ValueError, match=r"anomaly_score contains NaN"):
        metric([1, -1], [0, np.nan])


# Scorers


@pytest.fixture(scope="module")
def forest():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    X[100:] += 3
    y = np.where(np.arange(120) < 100, 1, -1)
    return IsolationForest(n_estimators=50, random_state=0).fit(X[:80]), X[60:], y[60:]


@pytest.mark.parametrize("labels", [lambda y: y, lambda y: y == -1], ids=["signs", "booleans"])
def test_image_scorers_rank_anomalies_above_normal_samples(forest, labels):
    estimator, X, y = forest
    auroc = image_auroc_scorer(estimator, X, labels(y))
    assert 0.9 < auroc <= 1
    assert auroc == pytest.approx(roc_auc_score(y == -1, -estimator.score_samples(X)))
    assert image_auroc_scorer(estimator, X, labels(-y)) == pytest.approx(1 - auroc, abs=1e-12)
    assert f1_max_scorer(estimator, X, labels(y)) == f1_max(y, -estimator.score_samples(X)) > 0.9


def test_rate_scorers_count_predictions(forest):
    estimator, X, y = forest
    flagged = estimator.predict(X) == -1
    assert tpr_scorer(estimator, X, y) == pytest.approx(flagged[y == -1].mean())
    assert tnr_scorer(estimator, X, y) == pytest.approx(1 - flagged[y == 1].mean())
    assert tpr_scorer(estimator, X, -y) == pytest.approx(1 - tnr_scorer(estimator, X, y))


def test_image_scorer_takes_estimators_that_only_decide(forest):
    estimator, X, y = forest
    only_decides = SimpleNamespace(decision_function=estimator.decision_function)
    assert image_auroc_scorer(only_decides, X, y) == image_auroc_scorer(estimator, X, y)


def test_scorers_work_in_cross_validation(forest):
    estimator, X, y = forest
    folds = [(np.arange(20), np.arange(20, 60)), (np.arange(20, 40), np.r_[:20, 40:60])]  # 40 normal, 20 not
    aurocs = cross_val_score(estimator, X, y, scoring=image_auroc_scorer, cv=folds)
    flipped = cross_val_score(estimator, X, -y, scoring=image_auroc_scorer, cv=folds)
    assert (aurocs > 0.9).all()
    assert_allclose(flipped, 1 - aurocs)


def test_map_scorers_score_the_maps_of_an_estimator():
    masks, maps = random_case(12, decimals=3)
    estimator = SimpleNamespace(iter_anomaly_maps=lambda X, size: iter(maps))
    assert pixel_auroc_scorer(estimator, None, masks) == pixel_auroc(masks, maps) > 0.6
    assert aupro_scorer(estimator, None, masks) == aupro(masks, maps) > 0.2
    flipped = SimpleNamespace(iter_anomaly_maps=lambda X, size: (-score_map for score_map in maps))
    assert pixel_auroc_scorer(flipped, None, masks) == pytest.approx(1 - pixel_auroc(masks, maps))


def test_map_scorers_name_what_is_missing(forest):
    estimator, X, y = forest
    with pytest.raises(TypeError, match="IsolationForest has no anomaly maps"):
        aupro_scorer(estimator, X, y)


def test_slow_definition_by_hand():
    mask, score_map = np.array([[1, 1, 0, 0, 0, 0]]), np.array([[3.0, 1, 2, 0, 0, 0]])
    # (FPR, PRO): (0, 1/2), (1/4, 1/2), (1/4, 1), (1, 1)
    assert_allclose([aupro_slowly([mask], [score_map], f) for f in (0.25, 0.5, 1)], [1 / 2, 3 / 4, 7 / 8])
