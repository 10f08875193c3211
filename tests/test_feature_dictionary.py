import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import Normalizer
from sklearn.utils import check_random_state
from torch.nn import functional as F

from skanomaly import CropFeatures, FeatureDictionary, PatchFeatures, PretrainedPatchFeatures
from skanomaly._kernels.projection import project_l1
from skanomaly.datasets import make_surfaces
from skanomaly.metrics import aupro, image_auroc
from skanomaly.testing import image_detector_checks, parametrize_with_image_checks

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")

NETWORK = PretrainedPatchFeatures(layers=("/8",), weights="random", image_size=16, random_state=0)
CROPS = CropFeatures(NETWORK, crop_size=8, stride=8, image_size=32, batch_size=16)


DENSE = PretrainedPatchFeatures(layers=(1,), weights="random", image_size=64, random_state=0)


@parametrize_with_image_checks([FeatureDictionary(DENSE, n_clusters=40, random_state=0)], n_images=12)
def test_image_detector(detector, check):
    check(detector)


@pytest.mark.parametrize("name", ["check_sign", "check_batches", "check_maps", "check_channels", "check_new_process"])
def test_image_detector_of_crops(name):
    checks = image_detector_checks(FeatureDictionary(CROPS, random_state=0), n_images=12)
    for detector, check in checks:
        if check.func.__name__ == name:
            check(detector)


@pytest.fixture(scope="module")
def grids(small_features, cloth):
    return small_features.fit_transform(cloth.X_train)


def test_scores_are_those_of_the_pipeline_written_out(small_features, cloth, grids):
    detector = FeatureDictionary(small_features, n_clusters=7, n_neighbors=3, random_state=0).fit(cloth.X_train)
    rows = grids.reshape(-1, grids.shape[-1])
    rng = check_random_state(0)
    l1 = Normalizer(norm="l1")
    pca = PCA(0.95, random_state=rng.randint(2**31 - 1)).fit(l1.transform(rows.astype(float)))
    z = pca.transform(l1.transform(rows.astype(float)))
    centers = KMeans(7, random_state=rng.randint(2**31 - 1)).fit(z).cluster_centers_
    chosen = np.unique([np.linalg.norm(z - center, axis=1).argmin() for center in centers])
    np.testing.assert_array_equal(detector.dictionary_, rows[chosen])
    test = small_features.transform(cloth.X_test)
    z_test = pca.transform(l1.transform(test.reshape(-1, test.shape[-1]).astype(float)))
    distances, _ = NearestNeighbors(n_neighbors=3, algorithm="brute").fit(z[chosen]).kneighbors(z_test)
    expected = distances.mean(axis=1).reshape(test.shape[:3])
    scores, levels = detector._score(test)
    np.testing.assert_allclose(levels, expected, rtol=1e-6)
    np.testing.assert_allclose(-detector.score_samples(cloth.X_test), expected.max(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(scores, expected.max(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(
        detector.anomaly_map(cloth.X_test)[0], detector.features_.map_to_image(levels[0], None, size=(64, 64))
    )


def test_items_are_training_patches_and_score_zero(small_features, cloth, grids):
    detector = FeatureDictionary(small_features, n_clusters=20, false_alarm_rate=None, random_state=1)
    detector.fit(cloth.X_train)
    rows = {row.tobytes() for row in grids.reshape(-1, grids.shape[-1])}
    assert len(detector.dictionary_) > 10
    assert all(item.tobytes() in rows for item in detector.dictionary_)
    levels = detector._score(grids)[1].ravel()
    items = {item.tobytes() for item in detector.dictionary_}
    is_item = np.array([row.tobytes() in items for row in grids.reshape(-1, grids.shape[-1])])
    np.testing.assert_array_equal(levels[is_item], 0)
    assert (levels[~is_item] > 0).all()


def test_length_of_features_does_not_count(small_features, grids):
    """They are normalised before the projection."""
    detector = FeatureDictionary(small_features, random_state=0)
    detector._fit(grids)
    stretched = grids * np.random.default_rng(0).uniform(0.1, 10, (*grids.shape[:3], 1)).astype(np.float32)
    np.testing.assert_allclose(detector._score(stretched)[1], detector._score(grids)[1], rtol=1e-3, atol=1e-8)


def test_projection_of_a_row_is_that_of_the_row_alone(rng):
    rows, mean, components = rng.normal(size=(9, 13)), rng.normal(size=13), rng.normal(size=(4, 13))
    rows[3] = 0
    together = project_l1(rows, mean, components)
    alone = np.concatenate([project_l1(row[None], mean, components) for row in rows])
    np.testing.assert_array_equal(together, alone)
    norms = np.abs(rows).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(together, (rows / np.where(norms > 0, norms, 1) - mean) @ components.T, rtol=1e-10)


def test_equal_patches_count_once(small_features):
    flat = np.full((4, 64, 64), 100, np.uint8)
    detector = FeatureDictionary(small_features, n_clusters=100, n_neighbors=99, false_alarm_rate=None, random_state=0)
    different = np.unique(small_features.fit_transform(flat).reshape(256, -1), axis=0)
    assert len(detector.fit(flat).dictionary_) == len(np.unique(detector.dictionary_, axis=0)) <= len(different) < 100
    assert np.isfinite(detector.score_samples(flat)).all()


def test_drawn_patches_are_few_and_enough(small_features, cloth, grids):
    whole, part = (
        FeatureDictionary(small_features, max_patches=n, random_state=0).fit(cloth.X_train) for n in (768, 300)
    )
    drawn = part._draw(np.arange(768)[:, None], check_random_state(0))
    assert drawn.shape == (300, 1)
    assert (np.diff(drawn[:, 0]) > 0).all()
    np.testing.assert_array_equal(whole._draw(np.arange(768), check_random_state(0)), np.arange(768))
    assert not np.array_equal(part.dictionary_, whole.dictionary_)
    correlation = np.corrcoef(part.score_samples(cloth.X_test), whole.score_samples(cloth.X_test))[0, 1]
    assert correlation > 0.8


def test_too_few_patches_are_explained(small_features, cloth):
    with pytest.raises(ValueError, match=r"n_clusters=11 is larger than .*: 768, of which at most max_patches=10"):
        FeatureDictionary(small_features, n_clusters=11, max_patches=10, false_alarm_rate=None).fit(cloth.X_train)


@pytest.mark.parametrize("n_components", [3, 0.5, None])
def test_components_are_a_number_or_a_share(small_features, grids, n_components):
    detector = FeatureDictionary(small_features, n_components=n_components, random_state=0)
    detector._fit(grids)
    rows = Normalizer(norm="l1").transform(grids.reshape(-1, grids.shape[-1]).astype(float))
    expected = PCA(n_components, svd_solver="full").fit(rows)
    assert len(detector.components_) == expected.n_components_
    projected = (rows - detector.mean_) @ detector.components_.T
    np.testing.assert_allclose(np.abs(projected[:, :3]), np.abs(expected.transform(rows)[:, :3]), atol=1e-6)


# ------------------------------------------------------------------------------------------------- crops


def test_crops_are_images_of_their_own(rng):
    """The features of a patch are the averaged map of the network that sees nothing but the patch, enlarged."""
    images = rng.integers(0, 256, (2, 32, 24, 3), dtype=np.uint8)
    crops = clone(CROPS).set_params(image_size=(32, 24), stride=4, crop_size=12)
    grids = crops.fit_transform(images)
    assert grids.shape == (2, *crops.grid_shape_, crops.n_features_out_) == (2, 6, 4, 40)
    for i, row, column in [(0, 0, 0), (0, 5, 3), (1, 2, 1)]:
        crop = images[i, 4 * row : 4 * row + 12, 4 * column : 4 * column + 12].astype(np.float32) / 255
        plain = clone(NETWORK).set_params(neighborhood=1).fit([crop])
        alone = plain.transform_layers([enlarge(crop, 16)]).arrays[0].mean(axis=(1, 2))[0]
        np.testing.assert_allclose(grids[i, row, column], alone, rtol=1e-4, atol=1e-6)


def enlarge(image, side):
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
    return F.interpolate(pixels, (side, side), mode="bilinear")[0].permute(1, 2, 0).numpy()


def test_crops_do_not_depend_on_the_others(rng):
    images = rng.integers(0, 256, (4, 40, 40), dtype=np.uint8)
    crops = clone(CROPS).fit(images)
    together = crops.transform(images)
    np.testing.assert_array_equal(together[1:2], crops.transform(images[1:2]))
    changed = images.copy()
    changed[:, 39, 39] ^= 255
    after = crops.transform(changed)
    np.testing.assert_array_equal(after[:, 0, 0], together[:, 0, 0])
    assert (after[:, -1, -1] != together[:, -1, -1]).any()


def test_map_of_crops_is_that_of_patches(rng):
    grid = rng.random((3, 3)).astype(np.float32)
    patches = PatchFeatures(8, 8, image_size=32)
    np.testing.assert_array_equal(
        CROPS.map_to_image(grid, None, size=(50, 40)), patches.map_to_image(grid, None, size=(50, 40))
    )


def test_crops_larger_than_the_image_are_refused(rng):
    with pytest.raises(ValueError, match="crop_size=33 is larger than image_size=32"):
        clone(CROPS).set_params(crop_size=33).fit(rng.random((1, 40, 40)))


@pytest.mark.weights
def test_finds_defects_and_its_controls_do_not():
    """Real weights tell defects apart; labels shuffled or weights random do clearly worse."""
    data = make_surfaces("metal", n_train=12, n_good=6, n_anomalous=10, random_state=0)
    real, untrained = (
        FeatureDictionary(
            PretrainedPatchFeatures(weights=weights, random_state=0),
            n_clusters=100,
            false_alarm_rate=None,
            random_state=0,
        ).fit(data.X_train)
        for weights in (None, "random")
    )
    scores = -real.score_samples(data.X_test)
    auroc, pro = image_auroc(data.y_test, scores), aupro(data.masks_test, real.anomaly_map(data.X_test))
    assert auroc > 0.75
    assert pro > 0.7
    assert image_auroc(data.y_test, -untrained.score_samples(data.X_test)) < auroc - 0.15
    assert aupro(data.masks_test, untrained.anomaly_map(data.X_test)) < pro - 0.4
    assert image_auroc(np.random.default_rng(1).permutation(data.y_test), scores) < auroc - 0.15
