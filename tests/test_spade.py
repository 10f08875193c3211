import pickle

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skanomaly import PatchCore, PatchFeatures, PretrainedPatchFeatures
from skanomaly._kernels.galleries import build_galleries, search_gallery, search_window
from skanomaly._kernels.smoothing import resize_matrix
from skanomaly.datasets import make_surfaces
from skanomaly.detectors import SPADE
from skanomaly.features._base import BaseFeatures, Layers
from skanomaly.metrics import aupro, image_auroc
from skanomaly.testing import parametrize_with_image_checks

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


@pytest.fixture(scope="module")
def features():
    return PretrainedPatchFeatures(weights="random", layers=(2, 3, 4), neighborhood=1, image_size=64, random_state=0)


@pytest.fixture(scope="module")
def layers(features, cloth):
    fitted = clone(features).fit(cloth.X_train)
    return fitted.transform_layers(cloth.X_train).arrays, fitted.transform_layers(cloth.X_test).arrays


@parametrize_with_image_checks(
    [
        SPADE(
            PretrainedPatchFeatures(
                weights="random", layers=(2, 3, 4), neighborhood=1, image_size=64, random_state=0, batch_size=8
            ),
            n_neighbors=5,
            image_score="max",
        )
    ],
    n_images=12,
)
def test_common_checks(detector, check):
    check(detector)


def by_hand(train, test, k, kappa, combine, window=None):
    """Return image scores and maps by loops over images and patches."""
    size = train[0].shape[1:3]
    pooled, queries = (layers[-1].astype(np.float64).mean(axis=(1, 2)) for layers in (train, test))
    banks, patches = train[:-1], test[:-1]
    if combine == "concatenated":
        banks, patches = ([np.concatenate([enlarge(m, size) for m in maps], axis=3)] for maps in (banks, patches))
    scores, maps = [], []
    for i, query in enumerate(queries):
        order = np.argsort(np.linalg.norm(pooled - query, axis=1))[:k]
        scores.append(np.mean([np.linalg.norm(pooled[j] - query) for j in order]))
        grids = []
        for bank, own in zip(banks, patches, strict=True):
            nearest = [
                np.sort(cdist(own[i][cell][None], gallery_by_hand(bank[order], cell, window))[0])[:kappa].mean()
                for cell in np.ndindex(own.shape[1:3])
            ]
            grids.append(enlarge(np.reshape(nearest, (1, *own.shape[1:3], 1)), size)[0, ..., 0])
        maps.append(np.mean(grids, axis=0))
    return np.array(scores), np.array(maps)


def gallery_by_hand(bank, cell, window):
    """Return the patches (m, d) of a bank (k, h, w, d) at most `window` rows and columns from a cell."""
    rows, columns = np.indices(bank.shape[1:3])
    near = np.maximum(abs(rows - cell[0]), abs(columns - cell[1])) <= (np.inf if window is None else window)
    return bank[:, near].reshape(-1, bank.shape[3])


def enlarge(maps, size):
    rows, columns = (resize_matrix(n, m) for n, m in zip(maps.shape[1:3], size, strict=True))
    return np.einsum("ai,bj,nijd->nabd", rows, columns, maps)


@pytest.mark.parametrize(
    ("k", "kappa", "combine", "window"),
    [
        (3, 1, "averaged", None),
        (4, 3, "averaged", None),
        (3, 2, "concatenated", None),
        (3, 1, "averaged", 0),
        (4, 3, "averaged", 1),
        (3, 2, "concatenated", 2),
        (3, 2, "averaged", 99),
    ],
)
def test_scores_and_maps_equal_loops(features, layers, cloth, k, kappa, combine, window):
    scores, maps = by_hand(*layers, k, kappa, combine, window)
    options = {
        "n_neighbors": k, "pixel_neighbors": kappa, "combine": combine, "window": window, "false_alarm_rate": None,
    }  # fmt: skip
    detector = SPADE(features, **options).fit(cloth.X_train)
    np.testing.assert_allclose(-detector.score_samples(cloth.X_test), scores, rtol=1e-9)
    rendered = [features.fit(cloth.X_train).map_to_image(grid, None, size=(64, 64)) for grid in maps]
    np.testing.assert_allclose(detector.anomaly_map(cloth.X_test), rendered, rtol=1e-5)
    by_map = SPADE(features, image_score="max", **options).fit(cloth.X_train)
    np.testing.assert_allclose(-by_map.score_samples(cloth.X_test), np.max(rendered, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("combine", ["averaged", "concatenated"])
@pytest.mark.parametrize("score", ["image", "max"])
def test_training_images_score_zero(features, cloth, combine, score):
    detector = SPADE(features, n_neighbors=1, combine=combine, image_score=score, false_alarm_rate=None).fit(
        cloth.X_train
    )
    np.testing.assert_array_equal(detector.score_samples(cloth.X_train), 0)
    np.testing.assert_array_equal(detector.anomaly_map(cloth.X_train), 0)
    assert (detector.score_samples(cloth.X_test) < 0).all()


@pytest.mark.parametrize(("n_neighbors", "window"), [(3, None), (50, None), (3, 1)])
@pytest.mark.parametrize("score", ["image", "max"])
def test_leave_one_out_is_refitting(features, cloth, n_neighbors, window, score):
    X, options = cloth.X_train[:5], {"n_neighbors": n_neighbors, "window": window, "image_score": score}
    detector = SPADE(features, **options).fit(X)
    scores, peaks = [], []
    for i in range(5):
        refitted = SPADE(features, false_alarm_rate=None, **options).fit(np.delete(X, i, axis=0))
        scores.append(-refitted.score_samples(X[i : i + 1])[0])
        peaks.append(refitted.anomaly_map(X[i : i + 1]).max())
    np.testing.assert_allclose(detector.calibration_scores_, scores, rtol=1e-12)
    np.testing.assert_allclose(detector.calibration_peaks_, peaks, rtol=1e-5)


@pytest.mark.parametrize("score", ["image", "max"])
@pytest.mark.parametrize("combine", ["averaged", "concatenated"])
def test_leaving_groups_out_is_refitting(features, cloth, score, combine):
    X, groups = cloth.X_train[:7], np.array([1, 0, 0, 2, 1, 0, 3])
    options = {"n_neighbors": 5, "image_score": score, "combine": combine}
    detector = SPADE(features, **options).fit(X, groups=groups)
    for group in range(4):
        refitted = SPADE(features, false_alarm_rate=None, **options).fit(X[groups != group])
        own = groups == group
        scores, maps = refitted.score_samples(X[own]), refitted.anomaly_map(X[own])
        np.testing.assert_allclose(detector.calibration_scores_[own], -scores, rtol=1e-6)
        np.testing.assert_allclose(detector.calibration_peaks_[own], maps.max(axis=(1, 2)), rtol=1e-5)


def test_scores_of_images_pay_for_no_map(features, cloth, monkeypatch):
    detector = SPADE(features, n_neighbors=4, false_alarm_rate=None).fit(cloth.X_train)
    by_map = SPADE(features, n_neighbors=4, image_score="max", false_alarm_rate=None).fit(cloth.X_train)
    expected = [score for score, _ in detector.iter_scores_and_maps(cloth.X_test)]

    def refuse(*arguments):
        raise AssertionError("a gallery was built or searched")

    for name in ("build_galleries", "search_gallery"):
        monkeypatch.setattr(f"skanomaly.detectors._spade.{name}", refuse)
    fresh = SPADE(features, n_neighbors=4, false_alarm_rate=None).fit(cloth.X_train)
    np.testing.assert_array_equal(fresh.score_samples(cloth.X_test), expected)
    for act in (lambda: fresh.anomaly_map(cloth.X_test), lambda: by_map.score_samples(cloth.X_test)):
        with pytest.raises(AssertionError, match="gallery"):
            act()


def test_with_all_neighbors_the_map_is_patchcores(cloth):
    """One pixel stage and a gallery of everything: the grid of a full memory bank."""
    options = {"weights": "random", "neighborhood": 1, "image_size": 64, "random_state": 0}
    spade = SPADE(PretrainedPatchFeatures(layers=(2, 4), **options), n_neighbors=12, image_score="max")
    patchcore = PatchCore(PretrainedPatchFeatures(layers=(2,), **options), coreset_ratio=1.0, n_neighbors=1, sigma=4.0)
    spade.fit(cloth.X_train), patchcore.fit(cloth.X_train)
    np.testing.assert_allclose(spade.score_samples(cloth.X_test), patchcore.score_samples(cloth.X_test), rtol=1e-6)
    np.testing.assert_allclose(spade.anomaly_map(cloth.X_test), patchcore.anomaly_map(cloth.X_test), rtol=1e-5)
    np.testing.assert_allclose(spade.offset_, patchcore.offset_, rtol=1e-6)


@pytest.mark.parametrize(("p", "d", "dtype"), [(1, 3, np.float64), (64, 60, np.float32), (700, 5, np.float32)])
def test_galleries_equal_loops(rng, p, d, dtype):
    """Also where an image fills no tile, or several; patches that are not there are never near."""
    bank, queries = rng.normal(3, 1, (6, p, d)).astype(dtype), rng.normal(3, 2, (40, d)).astype(dtype)
    queries[0] = bank.mean(axis=(0, 1))
    queries[1] = 0
    images = np.array([4, 0, 3])
    found = search_gallery(build_galleries(bank), images, queries, 3)
    expected = np.sort(cdist(queries, bank[images].reshape(-1, d)), axis=1)[:, :3]
    np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == np.float32 else 1e-12)


def test_what_is_displaced_is_found_in_a_wide_window_only(rng):
    """Images of one position: a patch that lies 2 cells off costs nothing if the window reaches it."""
    bank = rng.random((2, 6, 7, 4)).astype(np.float32)
    queries = np.roll(bank[1], 2, axis=1)
    near, far = (search_window(bank, np.array([0, 1]), queries, 1, window)[:, 2:] for window in (1, 2))
    assert near.min() > 0
    assert not far.any()


def test_neighbors_are_capped(features, cloth):
    detector = SPADE(features).fit(cloth.X_train)
    assert detector.n_neighbors_ == 12
    explicit = SPADE(features, n_neighbors=12).fit(cloth.X_train)
    np.testing.assert_array_equal(detector.score_samples(cloth.X_test), explicit.score_samples(cloth.X_test))
    assert SPADE(features, n_neighbors=5).fit(cloth.X_train).n_neighbors_ == 5


def test_batches_do_not_matter(features, cloth):
    for combine in ("averaged", "concatenated"):
        detector = SPADE(features, n_neighbors=4, combine=combine).fit(cloth.X_train)
        scores, maps = detector.score_samples(cloth.X_test), detector.anomaly_map(cloth.X_test)
        singles = [detector.score_samples(image[None])[0] for image in cloth.X_test]
        np.testing.assert_array_equal(scores, singles)
        np.testing.assert_array_equal(maps[2], detector.anomaly_map(cloth.X_test[2:3])[0])


def test_pickles_hold_no_index(features, cloth):
    detector = SPADE(features, n_neighbors=4).fit(cloth.X_train)
    restored = pickle.loads(pickle.dumps(detector))
    assert len(pickle.dumps(detector)) < 1.2 * sum(bank.nbytes for bank in detector.patch_banks_) + 1e5
    np.testing.assert_array_equal(restored.anomaly_map(cloth.X_test), detector.anomaly_map(cloth.X_test))


@pytest.mark.parametrize("calibration", ["cv", "split"])
def test_calibration(features, cloth, calibration):
    detector = SPADE(features, n_neighbors=3, calibration=calibration, random_state=0).fit(cloth.X_train)
    assert len(detector.calibration_scores_) == {"cv": 12, "split": 2}[calibration]
    assert len(detector.patch_banks_[0]) == {"cv": 12, "split": 10}[calibration]
    assert detector.calibration_scores_.min() > 0


def test_false_alarms_are_as_promised(rng):
    """Mean over draws of leave-one-out thresholds on images of one cell; 4 standard errors of a beta-binomial mean."""
    rates = {"image": [], "max": []}
    for _ in range(30):
        X = rng.random((160, 4, 4))
        for score, found in rates.items():
            detector = SPADE(RawLayers(), n_neighbors=10, image_score=score, false_alarm_rate=0.2).fit(X[:60])
            found.append((detector.predict(X[60:]) == -1).mean())
    expected = 1 - np.ceil(61 * 0.8) / 61
    error = np.sqrt(0.16 / 62 + 0.16 / 100) / np.sqrt(30)
    for found in rates.values():
        assert abs(np.mean(found) - expected) < 4 * error


class RawLayers(BaseFeatures):
    """Images (4, 4) as they are, and their 2 x 2 blocks."""

    layer_shapes_, frame_shape_ = [(4, 4, 1), (2, 2, 4)], (4, 4)

    def check_samples(self, X, *, reset=False):
        return X

    def fit_samples(self, samples):
        self.n_features_out_ = 5
        return self

    def transform_layers(self, X):
        blocks = X.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 2, 2, 4)
        return Layers([X[..., None].astype(np.float32), blocks.astype(np.float32)])

    def map_to_image(self, grid, sample, sigma, *, size=None):
        return grid.astype(np.float32)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbors": 0}, "'n_neighbors' parameter of SPADE"),
        ({"combine": "summed"}, "'combine' parameter of SPADE"),
        ({"image_score": "map"}, "'image_score' parameter of SPADE"),
        ({"pixel_neighbors": 1000}, "pixel_neighbors=1000, but a gallery has only 192 patches"),
        ({"pixel_neighbors": 49, "window": 1}, "pixel_neighbors=49, but a gallery has only 48 patches within window=1"),
        ({"window": -1}, "'window' parameter of SPADE"),
        ({"pixel_neighbors": 180}, "pixel_neighbors=180, but a gallery has only 176 patches"),
        ({"features__layers": (3,)}, "at least 2 layers.*PretrainedPatchFeatures has 1"),
        ({"features": PatchFeatures()}, "at least 2 layers.*PatchFeatures has 1"),
    ],
)
def test_bad_parameters_leave_the_old_fit(features, cloth, parameters, message):
    detector = SPADE(clone(features)).fit(cloth.X_train)
    bank = detector.image_bank_
    with pytest.raises(ValueError, match=message):
        detector.set_params(**parameters).fit(cloth.X_train)
    assert detector.image_bank_ is bank


def test_one_image_needs_no_threshold(features, cloth):
    with pytest.raises(ValueError, match="calibration='loo' needs at least 2 samples"):
        SPADE(features).fit(cloth.X_train[:1])
    detector = SPADE(features, false_alarm_rate=None).fit(cloth.X_train[:1])
    assert detector.n_neighbors_ == 1
    assert detector.score_samples(cloth.X_train[:1])[0] == 0


def test_frozen_features_are_not_refitted(features, cloth):
    fitted = clone(features).fit(cloth.X_train)
    detector = SPADE(FrozenEstimator(fitted)).fit(cloth.X_train)
    assert detector.features_.estimator is fitted
    np.testing.assert_array_equal(
        detector.score_samples(cloth.X_test), SPADE(features).fit(cloth.X_train).score_samples(cloth.X_test)
    )


@pytest.mark.weights
def test_finds_defects_and_its_controls_do_not():
    """Real weights tell defects apart, by the map better than by the pooled image; the controls do clearly worse."""
    data = make_surfaces("grid", n_train=16, n_good=8, n_anomalous=15, random_state=0)
    found = {}
    for weights in (None, "random"):
        features = PretrainedPatchFeatures(weights=weights, layers=(2, 3, 4), random_state=0)
        detector = SPADE(features, image_score="max", false_alarm_rate=None).fit(data.X_train)
        scores, maps = zip(*detector.iter_scores_and_maps(data.X_test), strict=True)
        pooled = detector.set_params(image_score="image").score_samples(data.X_test)
        found[weights] = -np.array(scores), np.stack(maps), -pooled
    scores, maps, pooled = found[None]
    auroc, pro = image_auroc(data.y_test, scores), aupro(data.masks_test, maps)
    assert auroc > 0.85
    assert pro > 0.8
    assert 0.6 < image_auroc(data.y_test, pooled) < auroc
    assert image_auroc(data.y_test, found["random"][0]) < auroc - 0.1
    assert aupro(data.masks_test, found["random"][1]) < pro - 0.15
    assert image_auroc(np.random.default_rng(1).permutation(data.y_test), scores) < auroc - 0.15
