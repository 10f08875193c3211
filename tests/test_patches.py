import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.pipeline import make_pipeline
from torch.nn import functional as F

from skanomaly import GreedyCoreset, KNNScorer, PatchFeatures, anomaly_map
from skanomaly._kernels.smoothing import (
    antialiased_matrix,
    map_operator,
    patch_map_operator,
    resize_antialiased,
    resize_matrix,
)
from skanomaly.datasets import make_surfaces
from skanomaly.exceptions import ImageReadError
from skanomaly.metrics import image_auroc, pixel_auroc


def resized(images, size):
    """Return images (n, H, W) as torch resizes them."""
    return F.interpolate(torch.from_numpy(images)[:, None], size, mode="bilinear", antialias=True)[:, 0].numpy()


# Kernels


@pytest.mark.parametrize("size", [(128, 128), (31, 200), (64, 97), (300, 40), (1, 1), (211, 173)])
def test_resizing_equals_interpolate(size, rng):
    image = rng.random((211, 173, 3), dtype=np.float32)
    expected = np.moveaxis(resized(np.moveaxis(image, 2, 0).copy(), size), 0, 2)
    assert_allclose(resize_antialiased(image, size), expected, atol=1e-5)
    assert_array_equal(resize_antialiased(np.asfortranarray(image), size), resize_antialiased(image, size))


def test_antialiased_matrix_keeps_constants_and_enlarges_as_bilinear_does():
    assert_allclose(antialiased_matrix(1000, 7).sum(axis=1), 1, rtol=1e-5)
    assert_allclose(antialiased_matrix(7, 30).toarray(), resize_matrix(7, 30), atol=1e-7)


@pytest.mark.parametrize("sigma", [0, 3.0])
@pytest.mark.parametrize("n_out", [48, 113, 20])
def test_patch_map_operator_equals_interp_then_gaussian_then_interp(n_out, sigma, rng):
    scores, centers = rng.random(11), 3.5 + 4 * np.arange(11)
    fine = np.interp(np.arange(48), centers, scores)
    if sigma:
        fine = ndimage.gaussian_filter1d(fine, sigma, mode="reflect")
    expected = np.interp((np.arange(n_out) + 0.5) * 48 / n_out - 0.5, np.arange(48), fine)
    assert_allclose(patch_map_operator(11, 3.5, 4, 48, n_out, sigma) @ scores, expected, atol=1e-6)


def test_patch_map_operator_of_abutting_patches_is_the_map_operator():
    assert_allclose(patch_map_operator(8, 2.5, 6, 48, 70, 4.0), map_operator(8, 48, 48, 70, 4.0), atol=1e-7)


# Patches


def test_patches_equal_those_of_sklearn(rng):
    images = rng.random((2, 20, 24)).astype(np.float32)
    grids = PatchFeatures(5, 1, normalization=None, image_size=(20, 24)).fit_transform(images)
    assert grids.shape == (2, 16, 20, 25)
    for grid, image in zip(grids, images, strict=True):
        assert_array_equal(grid.reshape(-1, 5, 5), extract_patches_2d(image, (5, 5)))


def test_patches_of_colours_equal_those_of_sklearn(rng):
    images = rng.integers(0, 256, (1, 16, 16, 3), np.uint8)
    features = PatchFeatures(4, 3, normalization=None, image_size=16, gray=False).fit(images)
    expected = extract_patches_2d(images[0] / np.float32(255), (4, 4)).reshape(13, 13, 48)[::3, ::3]
    assert_array_equal(features.transform(images)[0], expected)
    assert (features.grid_shape_, features.n_features_out_) == ((5, 5), 48)


@pytest.mark.parametrize(("patch_size", "stride"), [(8, 4), (7, 3), (1, 1), (32, 5), (3, 10)])
def test_stride_leaves_out_what_no_whole_patch_reaches(patch_size, stride, rng):
    image = rng.random((32, 40)).astype(np.float32)
    grid = PatchFeatures(patch_size, stride, normalization=None, image_size=(32, 40)).fit_transform(image[None])[0]
    windows = np.lib.stride_tricks.sliding_window_view(image, (patch_size, patch_size))[::stride, ::stride]
    assert_array_equal(grid, windows.reshape(*windows.shape[:2], -1))


def test_contrast_is_normalised_as_by_hand(rng):
    images = rng.random((1, 16, 16)).astype(np.float32)
    images[:, :8, :8] = 0.3  # flat
    features = PatchFeatures(8, 8, image_size=16)
    grid = features.fit_transform(images)[0]
    for i, j in np.ndindex(2, 2):
        x = images[0, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8].astype(np.float64).ravel()
        assert_allclose(grid[i, j], (x - x.mean()) / np.sqrt(x.var() + (10 / 255) ** 2), atol=1e-5)
    assert_allclose(grid[0, 0], 0, atol=1e-5)
    brighter = features.transform(images * np.float32(0.9) + np.float32(0.1))[0]
    assert_allclose(brighter[1, 1], grid[1, 1], atol=0.01)


def test_pyramid_equals_means_of_blocks(rng):
    images = rng.random((2, 32, 48)).astype(np.float32)
    halved = images.reshape(2, 8, 4, 12, 4).mean(axis=(2, 4))
    features = PatchFeatures(3, 2, level=2, image_size=(32, 48))
    direct = PatchFeatures(3, 2, image_size=(8, 12))
    assert_allclose(features.fit_transform(images), direct.fit_transform(halved), atol=1e-5)


def test_images_are_resized_as_by_torch(rng):
    images = rng.random((2, 90, 70)).astype(np.float32)
    features = PatchFeatures(normalization=None, image_size=(32, 40))
    direct = features.fit_transform(resized(images, (32, 40)).clip(0, 1))
    assert_allclose(features.transform(images), direct, atol=1e-5)


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize("image_size", [64, (40, 50)])
def test_same_bits_in_every_batch_and_layout(image_size, gray, rng):
    images = rng.random((7, 40, 50, 3))
    features = PatchFeatures(image_size=image_size, gray=gray).fit(images)
    together = features.transform(images)
    assert_array_equal(together[3:4], features.transform(images[3:4]))
    assert_array_equal(together[::-1], features.transform(images[::-1]))
    assert_array_equal(together, features.transform(np.asfortranarray(images)))
    assert_array_equal(together, features.transform([np.asfortranarray(image) for image in images]))


@pytest.mark.parametrize("gray", [True, False])
def test_forms_of_one_image_agree(gray, tmp_path, rng):
    pixels = rng.integers(0, 256, (48, 40), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    rgba = np.dstack([pixels, pixels, pixels, np.full_like(pixels, 255)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    features = PatchFeatures(image_size=32, gray=gray)
    expected = features.fit_transform(pixels[None])
    for form in (
        (pixels / 255)[None],
        (pixels.astype(np.uint16) * 257)[None],
        np.repeat(pixels[None, ..., None], 3, axis=-1),
        rgba[None],
        [pixels],
        [tmp_path / "gray.png"],
        [str(tmp_path / "rgba.png")],
        str(tmp_path / "gr*.png"),
    ):
        assert_array_equal(features.transform(form), expected)


def test_gray_is_the_mean_of_the_colours(rng):
    images = rng.random((1, 16, 16, 3))
    features = PatchFeatures(image_size=16, normalization=None)
    assert_allclose(features.fit_transform(images), features.transform(images.mean(axis=3)), atol=1e-6)


def test_data_range_scales_integers(rng):
    twelve_bit = rng.integers(0, 4096, (1, 64, 64)).astype(np.uint16)
    features = PatchFeatures(data_range=4095, image_size=64).fit(twelve_bit)
    assert_allclose(features.transform(twelve_bit), features.transform(twelve_bit / 4095), atol=1e-5)
    with pytest.raises(ValueError, match="outside data_range=4095"):
        features.transform(np.full((1, 64, 64), 5000, np.uint16))


# Maps


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("size", [(64, 64), (128, 96), (40, 50)])
@pytest.mark.parametrize("cell", [(1, 1), (3, 5), (5, 2)])
def test_a_patch_peaks_at_its_centre(cell, size, level):
    features = PatchFeatures(8, 4, image_size=64, level=level).fit(np.zeros((1, 64, 64)))
    grid = np.zeros(features.grid_shape_)
    grid[cell] = 1
    score_map = features.map_to_image(grid, None, sigma=0, size=size)
    pixel = np.array(size) / 64  # of the resized image, in those of the map
    peak = np.array(ndimage.center_of_mass(score_map)) + 0.5
    patch_centre = (np.array(cell) * 4 + 8 / 2) * 2**level * pixel
    assert_allclose(peak, patch_centre, atol=0.2 * pixel.max())


def test_maps_are_constant_beyond_the_outer_centres(rng):
    features = PatchFeatures(8, 4, image_size=32).fit(np.zeros((1, 32, 32)))
    score_map = features.map_to_image(rng.random((7, 7)), None, sigma=0, size=(32, 32))
    for corner in (score_map[:4, :4], score_map[:4, -4:], score_map[-4:, -4:]):
        assert_array_equal(corner, corner[0, 0])
    assert score_map[4, 4] != score_map[3, 3]


def test_maps_keep_constants():
    for parameters in ({}, {"level": 2}, {"patch_size": 7, "stride": 5, "image_size": (60, 100)}, {"stride": 200}):
        features = PatchFeatures(**parameters).fit(np.zeros((1, 64, 64)))
        for size in ((64, 64), (200, 33)):
            score_map = features.map_to_image(np.full(features.grid_shape_, 0.7), None, size=size)
            assert score_map.shape == size
            assert score_map.dtype == np.float32
            assert_allclose(score_map, 0.7, rtol=1e-5)


def test_sigma_scales_with_the_image_size():
    features = PatchFeatures(1, 1, image_size=56).fit(np.zeros((1, 56, 56)))
    grid = np.random.default_rng(0).random((56, 56))
    score_map = features.map_to_image(grid, None, 8.0, size=(56, 56))
    assert_allclose(score_map, ndimage.gaussian_filter(grid, 2.0), atol=1e-6)


@pytest.mark.parametrize("pixel", [(30, 70), (100, 20), (64, 64)])
def test_a_planted_anomaly_peaks_within_one_stride(pixel, rng):
    images = 0.5 + 0.02 * rng.normal(size=(9, 128, 128)).clip(-3, 3)
    row, column = pixel
    images[-1, row - 2 : row + 3, column - 2 : column + 3] = 1
    pipeline = make_pipeline(PatchFeatures(), GreedyCoreset(random_state=0), KNNScorer()).fit(images[:-1])
    (score_map,) = anomaly_map(pipeline, images[-1:])
    peak = np.unravel_index(score_map.argmax(), score_map.shape)
    assert np.abs(np.subtract(peak, pixel)).max() <= 4


# In a pipeline


def test_pipeline_finds_holes():
    data = make_surfaces("grid", size=64, n_train=12, n_good=10, n_anomalous=25, random_state=0)
    pipeline = make_pipeline(PatchFeatures(), GreedyCoreset(random_state=0), KNNScorer()).fit(data.X_train)
    asked = np.isin(data.kinds_test, ["good", "hole"])
    images, y, masks = data.X_test[asked], data.y_test[asked], data.masks_test[asked]
    scores = -pipeline.score_samples(images)
    shuffled = np.random.default_rng(0).permutation(y)
    assert image_auroc(y, scores) > 0.95
    assert image_auroc(y, scores) > image_auroc(shuffled, scores) + 0.3
    maps = anomaly_map(pipeline, images)
    assert maps.shape == masks.shape
    assert pixel_auroc(masks[y == -1], maps[y == -1]) > 0.9
    # sizes may differ, and a map is that of its image alone
    alone, large = anomaly_map(pipeline, [images[-1], images[0].repeat(2, 0).repeat(2, 1)])
    assert_array_equal(alone, maps[-1])
    assert large.shape == (128, 128)


# Errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"patch_size": 65}, "patch_size=65 is larger than the image of 64 x 64 pixels .*at most 64 is accepted"),
        ({"level": 4}, "patch_size=8 is larger than the image of 4 x 4 pixels .image_size=64 halved level=4 times"),
        ({"image_size": (64, 6)}, "patch_size=8 is larger than the image of 64 x 6"),
        ({"image_size": 66, "level": 2}, "image_size=66 cannot be halved level=2 times; it must be a multiple of 4"),
        ({"image_size": (64,)}, "image_size=.64,. must be one side or .height, width."),
        ({"image_size": (64, 0)}, "image_size=.64, 0. must be"),
        ({"image_size": 0}, "'image_size' parameter"),
        ({"patch_size": 0}, "'patch_size' parameter"),
        ({"stride": 0}, "'stride' parameter"),
        ({"level": -1}, "'level' parameter"),
        ({"normalization": "zca"}, "'normalization' parameter"),
        ({"gray": "no"}, "'gray' parameter"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    features = PatchFeatures(image_size=64).set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        features.fit(np.zeros((1, 64, 64)))
    assert not hasattr(features, "grid_shape_")


def test_bad_images_are_named(tmp_path):
    features = PatchFeatures(image_size=64)
    (tmp_path / "notes.png").write_text("no image")
    with pytest.raises(ImageReadError, match=r"notes\.png"):
        features.fit([tmp_path / "notes.png"])
    with pytest.raises(ValueError, match="max_pixels=100"):
        clone(features).set_params(max_pixels=100).fit(np.zeros((1, 64, 64)))
    with pytest.raises(ValueError, match="0 images"):
        features.fit(np.zeros((0, 64, 64)))
    with pytest.raises(NotFittedError):
        features.transform(np.zeros((1, 64, 64)))


def test_patches_do_without_torch():
    code = "import sys; from skanomaly import PatchFeatures; print({'torch', 'timm'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_features_room_is_lazy_but_complete():
    from skanomaly import features

    assert set(features.__all__) <= set(dir(features))
    for name in features.__all__:
        assert getattr(features, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        features.nonsense  # noqa: B018
