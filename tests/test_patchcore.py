import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from torch.nn import functional as F

from skanomaly import (
    SPADE,
    FitOnNormal,
    GreedyCoreset,
    KNNScorer,
    PaDiM,
    PatchCore,
    PatchFeatures,
    PretrainedPatchFeatures,
    anomaly_map,
)
from skanomaly.datasets import load_mvtec, make_surfaces
from skanomaly.detectors import _patchcore
from skanomaly.features._base import Layers
from skanomaly.metrics import aupro, image_auroc, image_auroc_scorer, pixel_auroc, pixel_auroc_scorer
from skanomaly.scoring._knn import LeftOut

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


PAPER = {"combine": "concatenated", "coreset_ratio": 0.1, "n_neighbors": 1, "image_score": "patch", "sigma": 4.0}
WHOLE = {"coreset_ratio": 1.0}


@pytest.fixture(scope="module")
def fitted(small_features, cloth):
    return PatchCore(small_features, coreset_ratio=0.1, random_state=0).fit(cloth.X_train)


@pytest.fixture(scope="module")
def paper(small_features, cloth):
    return PatchCore(small_features, **PAPER, random_state=0).fit(cloth.X_train)


def distances_to(bank, grids, k=2):
    """Return the mean distance (n, h, w) of each patch to the k nearest bank rows, by brute force in float64."""
    rows = grids.reshape(-1, grids.shape[-1]).astype(np.float64)
    distances = np.sort(cdist(rows, np.reshape(bank, (-1, grids.shape[-1])).astype(np.float64)), axis=1)
    return distances[:, :k].mean(axis=1).reshape(grids.shape[:3])


def combined(layers, scales, power=-2):
    """Return the power mean (n, h, w) of scaled distances [(n, h_l, w_l)], enlarged by torch."""
    scaled = [torch.from_numpy(d / scale)[:, None] for d, scale in zip(layers, scales, strict=True)]
    size = max(tuple(d.shape[2:]) for d in scaled)
    enlarged = torch.stack([F.interpolate(d, size, mode="bilinear") for d in scaled])[:, :, 0].numpy()
    return np.mean(enlarged**power, axis=0) ** (1 / power)


@pytest.mark.parametrize(("sides", "expected"), [((64, 64, 900), 256), ((256, 300, 100), 256), ((257, 300, 64), 320)])
def test_small_images_are_enlarged_less(sides, expected):
    images = [np.zeros((side, 40), np.uint8) for side in sides]
    assert PatchCore().default_features(images).image_size == expected
    assert PatchCore().default_features().image_size == 320


def test_the_paper_is_a_composition(paper, small_features, cloth):
    """With one bank, the detector is features, coreset and nearest neighbours, nothing else."""
    grids = small_features.fit_transform(cloth.X_train)
    bank = GreedyCoreset(0.1, random_state=0).fit_transform(grids)
    scorer = KNNScorer(reweight=9, false_alarm_rate=None).fit(bank)
    test = small_features.transform(cloth.X_test)
    np.testing.assert_array_equal(paper.scorers_[0].bank_, bank.reshape(-1, bank.shape[-1]))
    np.testing.assert_array_equal(paper.score_samples(cloth.X_test), scorer.score_samples(test))
    for grid, score_map in zip(scorer.anomaly_map(test), paper.anomaly_map(cloth.X_test), strict=True):
        np.testing.assert_array_equal(small_features.map_to_image(grid, None, size=(64, 64)), score_map)


def test_banks_of_layers_equal_the_formula(fitted, small_features, cloth):
    train, test = (small_features.fit(X).transform_layers(X).arrays for X in (cloth.X_train, cloth.X_test))
    scales = []
    for layer, scorer in zip(train, fitted.scorers_, strict=True):
        image = np.repeat(np.arange(12), layer.shape[1] * layer.shape[2])
        coreset = GreedyCoreset(0.1, random_state=0).fit(layer)
        np.testing.assert_array_equal(scorer.bank_, layer.reshape(-1, layer.shape[-1])[coreset.indices_])
        np.testing.assert_array_equal(scorer.bank_images_, image[coreset.indices_])
        left_out = [distances_to(scorer.bank_[scorer.bank_images_ != i], layer[i : i + 1]) for i in range(12)]
        scales.append(np.mean(left_out))
    np.testing.assert_allclose(fitted.scales_, scales, rtol=1e-6)
    grids = combined([distances_to(s.bank_, layer) for s, layer in zip(fitted.scorers_, test, strict=True)], scales)
    maps = np.stack([small_features.map_to_image(grid, None, 2.0, size=(64, 64)) for grid in grids])
    np.testing.assert_allclose(fitted.anomaly_map(cloth.X_test), maps, rtol=1e-5)
    np.testing.assert_allclose(-fitted.score_samples(cloth.X_test), maps.max(axis=(1, 2)), rtol=1e-5)


def test_averaged_layers_equal_the_formula(small_features, cloth):
    settings = {"coreset_ratio": 0.1, "n_neighbors": 1, "false_alarm_rate": None, "random_state": 0}
    detector = PatchCore(small_features, combine="averaged", **settings).fit(cloth.X_train)
    test = small_features.transform_layers(cloth.X_test).arrays
    distances = [distances_to(s.bank_, layer, 1) for s, layer in zip(detector.scorers_, test, strict=True)]
    grids = combined(distances, detector.scales_, 1)
    maps = np.stack([small_features.map_to_image(grid, None, 2.0, size=(64, 64)) for grid in grids])
    np.testing.assert_allclose(detector.anomaly_map(cloth.X_test), maps, rtol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"combine": "averaged"}, {"combine": "concatenated"}])
def test_thresholds_belong_to_the_scores(small_features, cloth, settings):
    """Calibration and scoring combine layers alike: with every patch in the bank, leaving out is refitting."""
    detector = PatchCore(small_features, **WHOLE, **settings).fit(cloth.X_train)
    rest = PatchCore(small_features, **WHOLE, **settings, false_alarm_rate=None).fit(cloth.X_train[1:])
    if len(detector.scales_) == 2:
        rest.scales_ = detector._scales_without(np.arange(12))[0]  # those of the others with image 0 in their banks
    np.testing.assert_allclose(detector.calibration_scores_[0], -rest.score_samples(cloth.X_train[:1])[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("image_score", "expected"),
    [
        ("max", lambda score_map: score_map.max()),
        ("contrast", lambda score_map: score_map.max() - score_map.mean(dtype=np.float64)),
        (0.1, lambda score_map: np.sort(score_map.ravel())[-410:].mean()),  # of 64 * 64 pixels
        (1e-9, lambda score_map: score_map.max()),
    ],
)
def test_image_scores_are_levels_of_the_map(fitted, cloth, image_score, expected):
    detector = clone(fitted).set_params(image_score=image_score).fit(cloth.X_train)
    maps = detector.anomaly_map(cloth.X_test)  # images have the size that the network sees
    np.testing.assert_allclose(-detector.score_samples(cloth.X_test), [expected(m) for m in maps], rtol=1e-6)


@pytest.mark.parametrize(("method", "layers"), [(SPADE, (2, 3, 4)), (PaDiM, (1, 2, 3))])
@pytest.mark.parametrize("crop", [None, 32])
def test_contrast_of_other_detectors(cloth, method, layers, crop):
    """It is the maximum minus the mean of what the detector sees, which a crop does not see all of."""
    features = PretrainedPatchFeatures(weights="random", layers=layers, image_size=64, crop=crop, random_state=0)
    detector = method(features, image_score="contrast", random_state=0).fit(cloth.X_train)
    maps = detector.anomaly_map(cloth.X_test).reshape(len(cloth.X_test), -1)
    assert np.isnan(maps).any() == (crop is not None)
    expected = np.nanmax(maps, axis=1) - np.nanmean(maps, axis=1, dtype=np.float64)
    np.testing.assert_allclose(-detector.score_samples(cloth.X_test), expected, rtol=1e-5)


def test_training_images_score_zero_at_ratio_one(small_features, cloth):
    detector = PatchCore(small_features, **WHOLE, n_neighbors=1, false_alarm_rate=None).fit(cloth.X_train)
    np.testing.assert_array_equal(detector.score_samples(cloth.X_train), 0)
    np.testing.assert_array_equal(detector.anomaly_map(cloth.X_train), 0)


def test_leave_one_out_at_ratio_one_is_refitting(small_features, cloth):
    parameters = {**PAPER, **WHOLE}
    detector = PatchCore(small_features, **parameters).fit(cloth.X_train)
    refitted = [
        -PatchCore(small_features, **parameters, false_alarm_rate=None)
        .fit(np.delete(cloth.X_train, i, axis=0))
        .score_samples(cloth.X_train[i : i + 1])[0]
        for i in range(len(cloth.X_train))
    ]
    np.testing.assert_allclose(detector.calibration_scores_, refitted, rtol=1e-9)


GROUPS = np.array([1, 0, 0, 2, 1, 0, 3, 4, 5, 5, 6, 7])


def test_leaving_groups_out_at_ratio_one_is_refitting(small_features, cloth):
    X, parameters = cloth.X_train, {**PAPER, **WHOLE}
    detector = PatchCore(small_features, **parameters).fit(X, groups=GROUPS)
    for group in range(8):
        refitted = PatchCore(small_features, **parameters, false_alarm_rate=None).fit(X[group != GROUPS])
        expected = -refitted.score_samples(X[group == GROUPS])
        np.testing.assert_allclose(detector.calibration_scores_[group == GROUPS], expected, rtol=1e-9)


def test_leaving_groups_out_of_banks_and_scales(small_features, cloth):
    """Neither the bank nor the scales that judge an image depend on its own group."""
    detector = PatchCore(small_features, **WHOLE, image_score="patch", reweight=False).fit(cloth.X_train, groups=GROUPS)
    layers = small_features.fit(cloth.X_train).transform_layers(cloth.X_train).arrays
    left_out = [
        np.concatenate([distances_to(layer[g != GROUPS], layer[i : i + 1]) for i, g in enumerate(GROUPS)])
        for layer in layers
    ]
    expected = [
        combined([d[i : i + 1] for d in left_out], [d[g != GROUPS].mean() for d in left_out]).max()
        for i, g in enumerate(GROUPS)
    ]
    np.testing.assert_allclose(detector.calibration_scores_, expected, rtol=1e-6)
    np.testing.assert_allclose(detector.scales_, [d.mean() for d in left_out], rtol=1e-6)


def test_scales_take_a_few_images(small_features, cloth, monkeypatch):
    """With more images than set the scales, these are evenly spaced, and the others have the same scales in "loo"."""
    monkeypatch.setattr(_patchcore, "_MOST_SCALING", 4)
    detector = PatchCore(small_features, **WHOLE, image_score="patch", reweight=False).fit(cloth.X_train)
    layers = small_features.fit(cloth.X_train).transform_layers(cloth.X_train).arrays
    left_out = [
        np.concatenate([distances_to(np.delete(layer, i, axis=0), layer[i : i + 1]) for i in range(12)])
        for layer in layers
    ]
    np.testing.assert_allclose(detector.scales_, [d[[0, 4, 7, 11]].mean() for d in left_out], rtol=1e-6)
    for i, others in ((4, [0, 7, 11]), (5, [0, 4, 7, 11])):
        expected = combined([d[i : i + 1] for d in left_out], [d[others].mean() for d in left_out]).max()
        np.testing.assert_allclose(detector.calibration_scores_[i], expected, rtol=1e-6)


def test_equal_images_do_not_set_the_scales(small_features, cloth):
    """Copies would score 0 by each other; each pair counts as one image."""
    single = PatchCore(small_features, **WHOLE, n_neighbors=1).fit(cloth.X_train)
    double = clone(single).fit(np.concatenate([cloth.X_train, cloth.X_train]))
    np.testing.assert_allclose(double.scales_, single.scales_, rtol=1e-6)
    alone = PatchCore(small_features, false_alarm_rate=None).fit(cloth.X_train[[0, 0]])
    np.testing.assert_array_equal(alone.scales_, 1)


@pytest.mark.parametrize("combine", ["harmonic", "averaged"])
def test_a_layer_that_is_the_same_everywhere_is_left_out(small_features, cloth, combine):
    class Dead(PretrainedPatchFeatures):
        def transform_layers(self, X):
            first, *others = super().transform_layers(X).arrays
            return Layers([np.zeros_like(first), *others])

    settings = {"combine": combine, "false_alarm_rate": 0.2, "random_state": 0}
    detector = PatchCore(Dead(**small_features.get_params()), **settings).fit(cloth.X_train)
    alone = PatchCore(clone(small_features).set_params(layers=(3,)), **settings).fit(cloth.X_train)
    assert detector.scales_[0] == np.inf
    expected = alone.score_samples(cloth.X_test)
    np.testing.assert_allclose(np.corrcoef(detector.score_samples(cloth.X_test), expected)[0, 1], 1, atol=0.01)
    assert detector.offset_ < -0.1
    assert -1 in detector.predict(cloth.X_test)


def test_weights_of_several_banks(small_features, cloth):
    """The highest patch is weighted in each layer where its centre lies, and the factors are averaged."""
    kwargs = {"coreset_ratio": 0.1, "random_state": 0, "false_alarm_rate": None, "image_score": "patch"}
    weighted, plain = (PatchCore(small_features, reweight=b, **kwargs).fit(cloth.X_train) for b in (3, False))
    layers = weighted.features_.transform_layers(cloth.X_test[:4]).arrays
    grids = combined(
        [distances_to(s.bank_, layer) for s, layer in zip(plain.scorers_, layers, strict=True)], plain.scales_
    )
    for i, grid in enumerate(grids):
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        factors = []
        for scorer, layer in zip(weighted.scorers_, layers, strict=True):
            step = grid.shape[0] // layer.shape[1]
            cell = layer[i, row // step, column // step][None, None, None]
            alone = KNNScorer(2, reweight=3, false_alarm_rate=None).fit(scorer.bank_)
            unweighted = KNNScorer(2, false_alarm_rate=None).fit(scorer.bank_)
            factors.append(alone.score_samples(cell) / unweighted.score_samples(cell))
        np.testing.assert_allclose(
            weighted.score_samples(cloth.X_test[i : i + 1]), -grid.max() * np.mean(factors), rtol=1e-6
        )


def test_a_tiny_bank_is_weighted_alike_in_scores_and_thresholds():
    """Of a bank of 8 rows, fewer than the 9 of the re-weighting; the tolerance is 4 standard errors."""
    rng, rates, features = np.random.default_rng(0), [], PatchFeatures(4, 4, image_size=8, normalization=None)
    for seed in range(40):
        X = rng.random((120, 8, 8))
        detector = PatchCore(features, **PAPER, false_alarm_rate=0.2, random_state=seed).fit(X[:20])
        assert detector.scorers_[0].reweight_ < len(detector.scorers_[0].bank_) == 8
        rates.append((detector.predict(X[20:]) == -1).mean())
    expected = 1 - np.ceil(21 * 0.8) / 21
    assert np.mean(rates) < expected + 4 * np.sqrt(0.16 / 22 + 0.16 / 100) / np.sqrt(40)


def test_leave_one_out_mends_its_holes(paper, small_features, cloth):
    """Without mending, other images' patches lose their cover with the image; with it, nothing exceeds the radius."""
    grids = small_features.transform(cloth.X_train)
    groups, scorer = np.arange(len(grids)), paper.scorers_[0]
    holes = scorer.patch_scores(grids, LeftOut(groups, scorer.bank_images_))
    mended = paper._leave_one_out(Layers([grids]), groups)[1]
    full = scorer.anomaly_map(grids)
    assert (mended <= holes).all()
    assert mended.mean() < holes.mean()
    assert full.max() <= paper.coresets_[0].coverage_radius_ * (1 + 1e-6)
    assert full.mean() < mended.mean()


def test_same_seed_same_everything(small_features, cloth):
    a, b, c = (PatchCore(small_features, coreset_ratio=0.1, random_state=s).fit(cloth.X_train) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.scorers_[1].bank_, b.scorers_[1].bank_)
    np.testing.assert_array_equal(a.score_samples(cloth.X_test), b.score_samples(cloth.X_test))
    assert a.offset_ == b.offset_
    assert a.scorers_[1].bank_.shape == c.scorers_[1].bank_.shape
    assert not np.array_equal(a.scorers_[1].bank_, c.scorers_[1].bank_)


def test_batches_do_not_matter(fitted, cloth):
    scores = fitted.score_samples(cloth.X_test)
    singles = np.concatenate([fitted.score_samples(image[None]) for image in cloth.X_test])
    np.testing.assert_array_equal(scores, singles)
    np.testing.assert_array_equal(fitted.anomaly_map(cloth.X_test)[2], fitted.anomaly_map(cloth.X_test[2:3])[0])


def test_shapes_and_dtypes(fitted, cloth, rng):
    assert fitted.score_samples(cloth.X_test).dtype == np.float64
    assert fitted.predict(cloth.X_test).dtype.kind == "i"
    maps, masks = fitted.anomaly_map(cloth.X_test), fitted.anomaly_mask(cloth.X_test)
    assert (maps.shape, maps.dtype) == ((16, 64, 64), np.float32)
    assert (masks.shape, masks.dtype) == ((16, 64, 64), bool)
    np.testing.assert_array_equal(masks, maps > fitted.pixel_threshold_)
    odd = [rng.random((50, 70)), rng.random((31, 20))]
    assert [m.shape for m in fitted.anomaly_map(odd)] == [(50, 70), (31, 20)]
    assert fitted.anomaly_map(odd, size=(10, 12)).shape == (2, 10, 12)
    assert fitted.predict(odd[:1]).shape == (1,)


def test_process_does_not_matter(fitted, cloth, tmp_path):
    np.save(tmp_path / "X.npy", cloth.X_test)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(fitted))
    code = (
        "import pickle, sys, numpy as np; folder = sys.argv[1]; model = pickle.load(open(folder + '/model.pkl', 'rb'));"
        "np.save(folder + '/scores.npy', model.score_samples(np.load(folder + '/X.npy')))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), fitted.score_samples(cloth.X_test))


def test_pickle_holds_no_network(fitted):
    assert b"torch" not in pickle.dumps(fitted)


def test_thread_count_matters_little(fitted, cloth):
    scores, threads = fitted.score_samples(cloth.X_test), torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        np.testing.assert_allclose(fitted.score_samples(cloth.X_test), scores, rtol=1e-5)
    finally:
        torch.set_num_threads(threads)


def test_min_defect_area(small_features, cloth):
    """Asking for larger regions lowers the level that normal images reach, and small regions are dropped."""
    any_size, large = (
        PatchCore(small_features, min_defect_area=area, random_state=0).fit(cloth.X_train) for area in (1, 100)
    )
    assert large.pixel_threshold_ < any_size.pixel_threshold_
    for mask in large.anomaly_mask(cloth.X_test):
        assert mask.sum() == 0 or mask.sum() >= 100


def test_bad_input_keeps_the_old_fit(small_features, cloth):
    detector = PatchCore(small_features, random_state=0).fit(cloth.X_train)
    scores = detector.score_samples(cloth.X_test)
    for bad in (cloth.X_train.astype(float), "nowhere/*.png", cloth.X_train[:1], cloth.X_train[0]):
        with pytest.raises(ValueError, match=r"\w+"):
            detector.fit(bad)
        np.testing.assert_array_equal(detector.score_samples(cloth.X_test), scores)
    with pytest.raises(ValueError, match="'coreset_ratio' parameter of PatchCore"):
        detector.set_params(coreset_ratio=2).fit(cloth.X_train)


def test_frozen_features_are_not_refitted(small_features, cloth):
    features = clone(small_features).fit(cloth.X_train)
    detector = PatchCore(FrozenEstimator(features), random_state=0).fit(cloth.X_train)
    np.testing.assert_array_equal(
        detector.score_samples(cloth.X_test),
        PatchCore(small_features, random_state=0).fit(cloth.X_train).score_samples(cloth.X_test),
    )
    assert detector.features_.estimator is features


def test_pipeline_fits_scores_maps_clones_and_searches(small_features, cloth):
    pipeline = make_pipeline(small_features, GreedyCoreset(0.1, random_state=0), KNNScorer())
    pipeline = clone(pipeline).fit(cloth.X_train)
    assert pipeline.score_samples(cloth.X_test).shape == (16,)
    assert anomaly_map(pipeline, cloth.X_test).shape == (16, 64, 64)
    X = np.concatenate([cloth.X_train, cloth.X_test])
    y = np.concatenate([np.ones(12, int), cloth.y_test])
    search = GridSearchCV(
        FitOnNormal(pipeline),
        {"estimator__greedycoreset__ratio": [0.05, 0.2], "estimator__knnscorer__n_neighbors": [1, 3]},
        cv=StratifiedKFold(3),
        scoring=image_auroc_scorer,
    ).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.n_normal_ == (y == 1).sum()
    assert anomaly_map(search.best_estimator_, cloth.X_test).shape == (16, 64, 64)


@pytest.mark.parametrize("settings", [{"coreset_size": 1}, {"coreset_ratio": 1e-9}])
def test_banks_have_enough_patches(small_features, cloth, settings):
    with pytest.raises(
        ValueError, match=r"n_neighbors=2 is larger than the number of patches in the bank, 1; lower it"
    ):
        PatchCore(small_features, **settings).fit(cloth.X_train)


@pytest.mark.weights
def test_finds_defects_and_its_controls_do_not():
    """Real weights tell defects apart; labels shuffled or weights random do clearly worse."""
    data = make_surfaces("metal", n_train=12, n_good=12, n_anomalous=20, random_state=0)
    real, untrained = (
        PatchCore(PretrainedPatchFeatures(weights=weights, random_state=0), random_state=0).fit(data.X_train)
        for weights in (None, "random")
    )
    scores = -real.score_samples(data.X_test)
    auroc, pro = image_auroc(data.y_test, scores), aupro(data.masks_test, real.anomaly_map(data.X_test))
    assert auroc > 0.85
    assert pro > 0.7
    assert image_auroc(data.y_test, -untrained.score_samples(data.X_test)) < auroc - 0.15
    assert aupro(data.masks_test, untrained.anomaly_map(data.X_test)) < pro - 0.2
    assert image_auroc(np.random.default_rng(1).permutation(data.y_test), scores) < auroc - 0.15


@pytest.mark.weights
@pytest.mark.shared_data
def test_real_photographs(shared_data):
    data = load_mvtec(shared_data / "paper" / "PA_FLR01_TL")
    detector = PatchCore(random_state=0).fit(data.X_train[:16])
    assert image_auroc(data.y_test, -detector.score_samples(data.X_test)) > 0.98
    assert pixel_auroc(data.masks_test, detector.anomaly_map(data.X_test)) > 0.97


def test_pixel_scorer_searches_over_lazily_read_masks(small_features, cloth, tmp_path):
    from PIL import Image

    for folder, images in (
        ("train/good", cloth.X_train),
        ("test/good", cloth.X_test[:6]),
        ("test/bad", cloth.X_test[6:]),
    ):
        (tmp_path / folder).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "ground_truth/bad").mkdir(parents=True)
    for i, mask in enumerate(cloth.masks_test[6:]):
        Image.fromarray(mask).save(tmp_path / f"ground_truth/bad/{i}_mask.png")
    data = load_mvtec(tmp_path)
    labels = np.array([mask.label for mask in data.masks_test])
    splits = list(StratifiedKFold(2).split(labels, labels))
    pipeline = make_pipeline(small_features, GreedyCoreset(0.2, random_state=0), KNNScorer())
    search = GridSearchCV(
        FitOnNormal(pipeline), {"estimator__knnscorer__n_neighbors": [1]}, cv=splits, scoring=pixel_auroc_scorer
    ).fit(data.X_test, data.masks_test)
    assert search.best_estimator_.n_normal_ == 6
    assert 0 < search.best_score_ <= 1


def test_small_banks_without_threshold_need_no_other_image(small_features, cloth):
    """Scales of layers are set from images left out; where too few patches are left, layers keep the scale 1."""
    few = {"coreset_size": 1, "n_neighbors": 1, "false_alarm_rate": None, "random_state": 0}
    detector = PatchCore(small_features, **few).fit(cloth.X_train)
    assert detector.scales_.tolist() == [1.0] * len(detector.scales_)
    assert np.isfinite(detector.score_samples(cloth.X_test[:2])).all()
