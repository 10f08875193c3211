"""TextureGMM: densities are scikit-learn's, levels stay in place, and adjacent levels have to agree."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from skanomaly import Pixels, TextureGMM
from skanomaly._kernels.mixtures import arrange_mixture, log_density, patch_log_density, patches_at
from skanomaly._kernels.pyramid import adjacent_levels, enlarge_level, pyramid
from skanomaly.datasets import make_surfaces

QUICK = {"n_components": 3, "n_patches": 1500, "max_iter": 20, "false_alarm_rate": None, "random_state": 0}


def windows(image, side):
    """Return all patches (n, d) of an image (H, W, C)."""
    found = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
    return found.transpose(0, 1, 3, 4, 2).reshape(-1, side * side * image.shape[2])


# Kernels


@pytest.fixture(scope="module")
def texture():
    return (
        make_surfaces("cloth", n_train=1, n_good=0, n_anomalous=0, size=40, random_state=0).X_train[0][..., None] / 255
    )


def fit_mixture(X, n_components=3):
    return GaussianMixture(n_components, reg_covar=1e-6, tol=0.1, random_state=0).fit(X)


def arranged(mixture, **options):
    return arrange_mixture(mixture.weights_, mixture.means_, mixture.precisions_cholesky_, **options)


@pytest.mark.parametrize("d", [1, 5, 12, 30])
def test_the_log_density_is_scikit_learns(rng, d):
    X = rng.normal(10, 1, (700, d)) @ rng.normal(size=(d, d))
    mixture = GaussianMixture(2, random_state=0).fit(X)
    expected = mixture.score_samples(X)
    assert_allclose(log_density(X, arranged(mixture, dtype=np.float64)), expected, rtol=1e-9)
    assert_allclose(log_density(X, arranged(mixture)), expected, rtol=1e-3)


@pytest.mark.parametrize("n_channels", [1, 3])
def test_the_log_density_of_all_patches_is_scikit_learns(texture, n_channels):
    image = texture * np.linspace(0.5, 1, n_channels)
    X = windows(image, 5)
    mixture = fit_mixture(X)
    density = patch_log_density(image, arranged(mixture, dtype=np.float64), 5)
    assert density.shape == (36, 36)
    assert_allclose(density.ravel(), mixture.score_samples(X), rtol=1e-6)


def test_projected_and_normalised_patches(texture, rng):
    X = windows(texture, 5)
    projection, mean = rng.normal(size=(8, 25)), X.mean(axis=1, keepdims=True)
    normalized = (X - mean) / (mean + 1 / 255)
    mixture = fit_mixture(normalized @ projection.T)
    density = patch_log_density(texture, arranged(mixture, dtype=np.float64), 5, True, projection)
    assert_allclose(density.ravel(), mixture.score_samples(normalized @ projection.T), rtol=1e-6)


def test_patches_are_windows(texture):
    image, places = np.concatenate([texture, 1 - texture], axis=2), np.array([0, 35, 36, 1295])
    assert_array_equal(patches_at(image, places, 5, False).T, windows(image, 5)[places])


def test_one_component_is_half_the_squared_mahalanobis_distance(texture):
    X = windows(texture, 3)
    mixture = fit_mixture(X, 1)
    centered = X - X.mean(axis=0)
    squares = np.einsum("ni,ij,nj->n", centered, np.linalg.inv(mixture.covariances_[0]), centered)
    surprise = -patch_log_density(texture, arranged(mixture, dtype=np.float64), 3).ravel()
    assert_allclose(surprise - surprise[0], (squares - squares[0]) / 2, rtol=1e-6, atol=1e-6)


# Levels


def test_levels_are_means_of_squares(rng):
    image = rng.random((12, 20, 2))
    levels = pyramid(image, 3)
    assert [level.shape for level in levels] == [(12, 20, 2), (6, 10, 2), (3, 5, 2)]
    assert_allclose(levels[2], image.reshape(3, 4, 5, 4, 2).mean(axis=(1, 3)))
    assert_array_equal(pyramid(image[:10, :17], 3)[0], np.pad(image[:10, :17], ((0, 2), (0, 3), (0, 0)), mode="edge"))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_point_peaks_at_its_own_place_on_each_level(level):
    image = np.zeros((61, 83, 1))
    image[33, 50] = 1.0
    side = 5
    means = np.lib.stride_tricks.sliding_window_view(pyramid(image, 4)[level][..., 0], (side, side)).mean(axis=(2, 3))
    center = np.lib.stride_tricks.sliding_window_view(pyramid(image, 4)[level][..., 0], (side, side))[..., 2, 2]
    enlarged = enlarge_level(means + center, level, side, (61, 83))
    assert enlarged.shape == (61, 83)
    peak = np.argwhere(enlarged == enlarged.max()).mean(axis=0)
    assert np.abs(peak - (33, 50)).max() <= 2**level / 2


def test_a_defect_on_one_level_only_does_not_fire():
    quiet, loud = np.zeros((4, 4)), np.zeros((4, 4))
    loud[1, 2] = 5.0
    limits = (1.0, 2.0, 3.0)
    for only in range(3):
        assert adjacent_levels([loud if i == only else quiet for i in range(3)], limits).max() < 0
    assert adjacent_levels([loud, quiet, loud], limits).max() < 0  # not adjacent
    for pair in ((0, 1), (1, 2)):
        combined = adjacent_levels([loud if i in pair else quiet for i in range(3)], limits)
        assert_array_equal(combined > 0, loud > 0)
        assert combined.max() == 5 - limits[pair[1]]
    assert adjacent_levels([loud], limits[:1]).max() == 4.0  # a single level decides alone


# The detector


def test_a_point_defect_peaks_at_its_place(rng):
    images = rng.normal(0.5, 0.05, (14, 48, 48)).clip(0, 1)
    detector = TextureGMM(Pixels(48, gray=True), n_levels=3, patch_size=3, sigma=1, **QUICK).fit(images[:12])
    image = images[13:].copy()
    image[0, 20:24, 32:36] = 1.0
    peak = np.unravel_index(detector.anomaly_map(image)[0].argmax(), (48, 48))
    assert np.abs(np.array(peak) - (21.5, 33.5)).max() <= 3


def test_levels_are_standardised_on_images_that_the_mixtures_did_not_see():
    images = np.random.default_rng(0).normal(0.5, 0.05, (10, 32, 32)).clip(0, 1)
    detector = TextureGMM(Pixels(32), n_levels=2, patch_size=3, combine="adjacent", **QUICK)
    groups = np.repeat(np.arange(5), 2)
    detector.fit(images, groups=groups)
    judged = []
    for group in range(5):
        scores = -detector.score_samples(images[groups == group])
        judged.append(scores.max() <= 0)
    assert detector.level_thresholds_.min() > 1
    assert any(judged)  # the largest score of the judges is at the thresholds, whatever the pair
    assert_array_equal(detector.fit(images, groups=groups).level_thresholds_, detector.level_thresholds_)


def test_texture_defects_are_found():
    data = make_surfaces("cloth", n_train=16, n_good=8, n_anomalous=16, size=64, random_state=1)
    detector = TextureGMM(Pixels(64, gray=True), n_levels=3, **{**QUICK, "n_patches": 4000}).fit(data.X_train)
    scores = -detector.score_samples(data.X_test)
    assert roc_auc_score(data.y_test == -1, scores) > 0.75
    shuffled = data.X_test.reshape(24, -1)[:, np.random.default_rng(0).permutation(64 * 64)].reshape(24, 64, 64)
    assert -detector.score_samples(shuffled).min() > scores.max()  # the pixels are the same, the texture is not


def test_brightness_does_not_matter_to_weber_normalised_patches():
    data = make_surfaces("grid", n_train=6, n_good=4, n_anomalous=0, size=32, random_state=1)
    for normalization, equal in (("weber", True), (None, False)):
        detector = TextureGMM(Pixels(32), n_levels=1, normalization=normalization, image_score="mean", **QUICK)
        scores = [detector.fit(data.X_train).score_samples(data.X_test / 255 * factor) for factor in (1, 0.8)]
        assert (np.abs(scores[0] - scores[1]).max() < 0.1) == equal


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"n_levels": 4},
            r"n_levels=4 halves grids of \(32, 32\) down to a side of 4, which is less",
        ),
        ({"n_components": 0}, "n_components"),
    ],
)
def test_wrong_parameters_are_refused(rng, options, message):
    with pytest.raises(ValueError, match=message):
        TextureGMM(Pixels(32), **{**QUICK, **options}).fit(rng.random((4, 32, 32)))


def test_one_image_is_too_few(rng):
    with pytest.raises(ValueError, match="TextureGMM needs at least 2 images, got 1"):
        TextureGMM(Pixels(32), n_levels=1, **QUICK).fit(rng.random((1, 32, 32)))


def test_levels_that_do_not_vary_have_unit_deviation(rng):
    """The coarsest level has one patch, and one image is held out."""
    X = rng.integers(0, 255, (7, 56, 56), dtype=np.uint8)
    detector = TextureGMM(Pixels(56, gray=True), n_components=2, n_patches=200, false_alarm_rate=None, random_state=0)
    detector.fit(X)
    assert detector.level_deviations_[-1] == 1
    assert (detector.level_deviations_[:-1] > 0.1).all()
    assert np.isfinite(detector.score_samples(X)).all()
