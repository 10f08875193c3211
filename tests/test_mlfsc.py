import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import SparseCoder

from skanomaly import MLFSC, PretrainedPatchFeatures
from skanomaly._kernels.overlaps import add_residuals, cut_patches
from skanomaly._kernels.sparse_coding import omp_codes, omp_errors
from skanomaly.datasets import make_surfaces
from skanomaly.detectors import _mlfsc
from skanomaly.detectors._mlfsc import _standardize
from skanomaly.metrics import aupro, image_auroc
from skanomaly.testing import parametrize_with_image_checks

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")

LAYERS = ("/8", "/4", "/2")
FEATURES = PretrainedPatchFeatures(layers=LAYERS, weights="random", image_size=64, random_state=0)
SMALL = MLFSC(FEATURES, patch_size=3, stride=1, border=1, random_state=0)


@parametrize_with_image_checks([SMALL], n_images=12)
def test_image_detector(detector, check):
    check(detector)


@pytest.fixture(scope="module")
def fitted(cloth):
    return clone(SMALL).fit(cloth.X_train)


def max_pool(images, side):
    n, height, width, n_channels = images.shape
    return images.reshape(n, height // side, side, width // side, side, n_channels).max(axis=(2, 4))


def obvious_maps(images):
    """Return the channels (n, h, w, C) of three networks, each of which sees images of another size."""
    maps = []
    for side, layer in zip((1, 2, 4), LAYERS, strict=True):
        network = clone(FEATURES).set_params(layers=(layer,), image_size=64 // side, neighborhood=1)
        maps.append(network.fit_transform(max_pool(images, side)))
    return np.concatenate(maps, axis=-1)


def obvious_scores(detector, channels):
    """Return score and map of one image from its channels (h, w, C), in loops, with scikit-learn's coder."""
    size, stride, border = detector.patch_size, detector.stride, detector.border
    score, level = 0, 0
    for c, dictionary in enumerate(detector.dictionaries_):
        seen = channels[border:-border, border:-border, c].astype(float)
        seen = (seen - seen.mean()) / seen.std()
        corners = [
            (y, x) for y in range(0, len(seen) - size + 1, stride) for x in range(0, seen.shape[1] - size + 1, stride)
        ]
        patches = np.array([seen[y : y + size, x : x + size].ravel() for y, x in corners])
        coder = SparseCoder(dictionary, transform_algorithm="omp", transform_n_nonzero_coefs=detector.n_nonzero_coefs)
        restored = coder.transform(patches) @ dictionary
        score += np.sort(((patches - restored) ** 2).sum(axis=1))[-detector.n_worst :].sum()
        total, count = np.zeros_like(seen), np.zeros_like(seen)
        for (y, x), patch in zip(corners, restored, strict=True):
            total[y : y + size, x : x + size] += patch.reshape(size, size)
            count[y : y + size, x : x + size] += 1
        level = level + ((seen - total / count) / 1.5) ** 2
    return score, level / len(detector.dictionaries_)


def test_scores_and_maps_are_those_of_the_obvious_version(fitted, cloth):
    images = cloth.X_test[[0, -1]].astype(np.float32) / 255
    images = images if images.ndim == 4 else images[..., None]
    scores, grids = fitted._score(fitted._embed(fitted.features_.check_samples(cloth.X_test[[0, -1]])))
    for channels, score, grid in zip(obvious_maps(images), scores, grids, strict=True):
        expected_score, expected_level = obvious_scores(fitted, channels)
        np.testing.assert_allclose(score, expected_score, rtol=1e-5)
        np.testing.assert_allclose(grid[1:-1, 1:-1], expected_level, rtol=1e-5)
        np.testing.assert_array_equal(grid[0], grid[1])
        np.testing.assert_array_equal(grid[:, -1], grid[:, -2])


def test_patches_of_one_atom_have_no_error(rng):
    atoms = rng.normal(size=(2, 5, 16))
    atoms /= np.linalg.norm(atoms, axis=2, keepdims=True)
    maps = np.stack([[atoms[c, j].reshape(4, 4) * (j - 7) for j in range(5)] for c in range(2)])
    codes = omp_codes(cut_patches(maps, 4, 1), atoms, 3)
    errors, residuals = np.full((2, 5, 1), np.nan), np.zeros((5, 4, 4))
    add_residuals(maps, codes, atoms, 4, 1, errors, residuals)
    np.testing.assert_allclose(errors, 0, atol=1e-24)
    np.testing.assert_allclose(residuals, 0, atol=1e-24)


@pytest.mark.parametrize("stride", [1, 2, 4, 5])
def test_overlaps_of_exact_codes_average_to_the_input(rng, stride):
    """With a whole basis nothing is left; with half of it, errors and residuals are those of the projections."""
    maps = rng.normal(size=(3, 2, 4 + 2 * stride, 4 + stride))
    basis = np.stack([np.linalg.qr(rng.normal(size=(16, 16)))[0] for _ in range(3)])
    patches = cut_patches(maps, 4, stride)
    for n_atoms, left in ((16, 0), (8, 1)):
        atoms = np.ascontiguousarray(basis[:, :n_atoms])
        codes = patches @ atoms.swapaxes(1, 2)
        errors, residuals = np.empty((3, 2, 6)), np.zeros((2, *maps.shape[2:]))
        add_residuals(maps, codes, atoms, 4, stride, errors, residuals)
        expected = np.square(patches - codes @ atoms).sum(axis=2).reshape(3, 2, 6)
        np.testing.assert_allclose(errors, expected, rtol=1e-9, atol=1e-24)
        if not left:
            covered = np.zeros(maps.shape[2:], bool)
            for y in range(0, 2 * stride + 1, stride):
                for x in range(0, stride + 1, stride):
                    covered[y : y + 4, x : x + 4] = True
            np.testing.assert_allclose(residuals[:, covered], 0, atol=1e-24)
        elif stride == 4:  # no overlap: the map's residual is the sum of the patches'
            np.testing.assert_allclose(residuals.sum(axis=(1, 2)), errors.sum(axis=(0, 2)))


def test_errors_do_not_grow_with_the_number_of_atoms_used(rng, fitted):
    patches = rng.normal(size=(len(fitted.dictionaries_), 7, 9))
    errors = [omp_errors(patches, fitted.dictionaries_, s) for s in (1, 2, 3, 4, 5)]
    assert (np.diff(errors, axis=0) <= 1e-12).all()
    scores = [
        MLFSC(FEATURES, n_nonzero_coefs=s, patch_size=3, stride=1, border=1, false_alarm_rate=None, random_state=0)
        .fit(IMAGES[:4])
        .score_samples(IMAGES[4:])
        for s in (1, 3, 99)
    ]
    assert (np.diff(scores, axis=0) > 0).all()


IMAGES = np.random.default_rng(5).integers(0, 256, (6, 64, 64), dtype=np.uint8)


def test_standardized_maps_know_neither_level_nor_contrast(rng):
    maps = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
    maps[1, 2] = 0.1  # whose mean is rounded
    out = _standardize(maps)
    np.testing.assert_allclose(out.mean(axis=(2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(out.std(axis=(2, 3)), [[1, 1, 1], [1, 1, 0]], atol=1e-6)
    np.testing.assert_array_equal(out[1, 2], 0)
    np.testing.assert_allclose(_standardize(maps * 4 + 1)[0], out[0], atol=1e-5)


def test_constant_images_have_scores(cloth):
    flat = np.full((4, 64, 64), 128, np.uint8)
    detector = clone(SMALL).set_params(false_alarm_rate=None).fit(flat)
    assert np.isfinite(detector.score_samples(np.concatenate([flat, IMAGES]))).all()
    assert np.isfinite(detector.anomaly_map(flat)).all()


def test_what_no_patch_reaches_has_the_nearest_value():
    detector = clone(SMALL).set_params(patch_size=3, stride=2, border=1, false_alarm_rate=None).fit(IMAGES)
    grids = detector._score(detector._embed(detector.features_.check_samples(IMAGES)))[1]
    assert grids.shape == (6, 8, 8)  # of which the patches at 1 and 3 see 1 to 5
    for cell in (6, 7):
        np.testing.assert_array_equal(grids[:, cell], grids[:, 5])
        np.testing.assert_array_equal(grids[:, :, cell], grids[:, :, 5])
    np.testing.assert_array_equal(grids[:, 0], grids[:, 1])
    assert (grids[:, 4] != grids[:, 5]).any()


def test_parts_of_the_channels_make_no_difference(fitted, cloth, monkeypatch):
    monkeypatch.setattr(_mlfsc, "_PART_BYTES", 7 * 4 * 12 * 16 * 9)
    other = clone(SMALL).fit(cloth.X_train)
    assert len(other._parts(np.empty((12, 80, 6, 6)))) == 12
    np.testing.assert_array_equal(other.dictionaries_, fitted.dictionaries_)
    np.testing.assert_array_equal(other.score_samples(cloth.X_test), fitted.score_samples(cloth.X_test))
    np.testing.assert_array_equal(other.anomaly_map(cloth.X_test), fitted.anomaly_map(cloth.X_test))


@pytest.mark.parametrize("calibration", ["cv", "split"])
def test_many_images_are_never_in_memory_together(cloth, monkeypatch, calibration):
    asked = []
    compute = MLFSC._feature_maps

    def record(self, samples):
        asked.append(len(samples))
        return compute(self, samples)

    monkeypatch.setattr(MLFSC, "_feature_maps", record)
    monkeypatch.setattr(PretrainedPatchFeatures, "batch_len", 2)
    detector = clone(SMALL).set_params(max_images=4, calibration=calibration).fit(cloth.X_train)
    assert max(asked) == 4
    assert np.isfinite(detector.score_samples(cloth.X_test)).all()


def test_geometry_that_does_not_fit_is_explained(cloth):
    uneven = clone(FEATURES).set_params(image_size=65)
    with pytest.raises(ValueError, match=r"9 x 9 cells for the layer of reduction 8, .*image_size .* that 8 divides"):
        MLFSC(uneven).fit(cloth.X_train)
    with pytest.raises(ValueError, match=r"patch_size=8 is larger than the grid of 8 x 8 .*border=2"):
        MLFSC(FEATURES).fit(cloth.X_train)


def test_order_of_the_layers_does_not_matter(fitted, cloth):
    turned = clone(SMALL).set_params(features__layers=("/2", "/8", "/4")).fit(cloth.X_train)
    np.testing.assert_array_equal(turned.dictionaries_, fitted.dictionaries_)


@pytest.mark.weights
def test_finds_defects_and_its_controls_do_not():
    """Real weights tell defects apart; weights random, another surface's dictionaries or labels shuffled do worse."""
    data, other = (
        make_surfaces(surface, n_train=12, n_good=6, n_anomalous=10, random_state=0) for surface in ("grid", "speckle")
    )

    def fit(weights, X):
        features = PretrainedPatchFeatures(layers=LAYERS, image_size=128, weights=weights, random_state=0)
        return MLFSC(features, patch_size=6, border=1, false_alarm_rate=None, random_state=0).fit(X)

    real, untrained, foreign = fit(None, data.X_train), fit("random", data.X_train), fit(None, other.X_train)
    pro, pro_untrained, pro_foreign = (
        aupro(data.masks_test, detector.anomaly_map(data.X_test)) for detector in (real, untrained, foreign)
    )
    assert pro > 0.88
    assert pro_untrained < pro - 0.15
    assert pro_foreign < pro - 0.3
    scores = -real.score_samples(data.X_test)
    auroc = image_auroc(data.y_test, scores)
    assert auroc > 0.8
    assert image_auroc(data.y_test, -foreign.score_samples(data.X_test)) < auroc - 0.2
    assert image_auroc(np.random.default_rng(1).permutation(data.y_test), scores) < auroc - 0.2
