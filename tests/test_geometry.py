"""Images on their way to a network, and grids of scores on their way back."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn import functional as F

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.features._geometry import Geometry, frame_shape

CELL = 8


def pooled(pixels):
    """Return the means of the cells of pixels (h, w)."""
    return F.avg_pool2d(pixels[None], CELL)[0].numpy()


def ramps(size):
    """Return the rows and the columns of the pixels of an image, (2, H, W)."""
    return torch.from_numpy(np.indices(size).astype(np.float32))


@pytest.mark.parametrize(
    ("resize", "image_size", "size", "expected"),
    [
        ("stretch", 448, (1000, 1778), (448, 448)),
        ("stretch", [56, 896], (1000, 1778), (56, 896)),
        ("shorter", 448, (1000, 1778), (448, 798)),  # 796.5 is 56.9 patches
        ("shorter", 448, (1778, 1000), (798, 448)),
        ("shorter", 448, (1000, 1760), (448, 784)),  # 788.5 is 56.3 patches
        ("longer", 448, (1000, 1778), (252, 448)),
        ("longer", 448, (1000, 1700), (266, 448)),  # 263.5 is 18.8 patches
        ("longer", 448, (10, 1000), (14, 448)),
        ("shorter", 450, (33, 33), (450, 450)),
        ("longer", (448, 616), (33, 70), (448, 616)),
    ],
)
def test_frames(resize, image_size, size, expected):
    assert frame_shape(resize, image_size, size, 14) == expected


@pytest.mark.parametrize("size", [(120, 200), (200, 120), (131, 217), (90, 300), (64, 64), (40, 48)])
@pytest.mark.parametrize("seen", [(64, 104), (48, 64)])
@pytest.mark.parametrize("resize", ["stretch", "shorter", "longer"])
def test_pixels_return_to_their_places(resize, seen, size):
    """All is linear, so that coordinates come back, but for a cell and a half at the border of what is seen."""
    geometry, places = Geometry(resize, (64, 104), seen, CELL), ramps(size)
    pixels = geometry.to_input(places)
    assert pixels.shape == (2, *seen)
    margins = [1.5 * CELL * n / resized for n, resized in zip(size, geometry.resized_shape(size), strict=True)]
    for axis, margin in enumerate(margins):
        back = geometry.to_image(pooled(pixels[axis]), size, size, 0)
        known = np.isfinite(back).any(axis=1 - axis)
        assert known.mean() > 0.25
        inner = slice(*(np.flatnonzero(known)[[0, -1]] + [margin, 1 - margin]).round().astype(int))
        values, expected = (np.moveaxis(image, axis, 0)[inner] for image in (back, places[axis].numpy()))
        np.testing.assert_allclose(values[np.isfinite(values)], expected[np.isfinite(values)], atol=0.06)


def test_stretching_is_resizing_and_cropping(rng):
    image = torch.from_numpy(rng.random((3, 50, 70)).astype(np.float32))
    resized = F.interpolate(image[None], (64, 96), mode="bilinear", antialias=True)[0]
    assert torch.equal(Geometry("stretch", (64, 96), (64, 96), 8).to_input(image), resized)
    assert torch.equal(Geometry("stretch", (64, 96), (32, 49), 8).to_input(image), resized[:, 16:48, 23:72])


def test_what_covers_is_cut_and_what_fits_is_padded(rng):
    wide = torch.from_numpy(rng.random((3, 64, 128)).astype(np.float32))
    covering, fitting = (Geometry(resize, (64, 64), (64, 64), 8) for resize in ("shorter", "longer"))
    assert torch.equal(covering.to_input(wide), wide[:, :, 32:96])
    seen = covering.to_image(np.ones((8, 8)), (64, 128), (64, 128), 0)
    assert np.isnan(seen[:, :32]).all()
    assert np.isnan(seen[:, 96:]).all()
    np.testing.assert_allclose(seen[:, 32:96], 1, rtol=1e-6)
    padded = fitting.to_input(wide)
    assert torch.equal(padded[:, :16], padded[:, 16:17].expand(-1, 16, -1))
    assert torch.equal(padded[:, 48:], padded[:, 47:48].expand(-1, 16, -1))
    torch.testing.assert_close(
        padded[:, 16:48], F.interpolate(wide[None], (32, 64), mode="bilinear", antialias=True)[0]
    )
    grid = np.full((8, 8), 9.0)
    grid[1:7] = 1  # what lies beyond the first padded cell does not show
    np.testing.assert_allclose(fitting.to_image(grid, (64, 128), (64, 128), 0), 1, rtol=1e-6)


def test_small_differences_are_stretched():
    geometry = Geometry("shorter", (448, 798), (448, 798), 14)
    assert geometry.resized_shape((1000, 1778)) == (448, 798)
    assert geometry.resized_shape((1000, 1790)) == (448, 798)
    assert geometry.resized_shape((1000, 1900)) == (448, 851)


def test_sigma_is_one_length_where_the_aspect_is_kept():
    """The variance along both axes is that of the Gaussian and of interpolation between cells."""
    grid = np.zeros((17, 33))
    grid[8, 16] = 1
    size = (17 * CELL, 33 * CELL)
    for resize, expected in (("stretch", (5, 5 * 33 / 17)), ("shorter", (5, 5))):
        spot = Geometry(resize, size, size, CELL).to_image(grid, size, size, 5 * 224 / size[0])
        for axis, sigma in zip((1, 0), expected, strict=True):
            profile = spot.sum(axis=axis) / spot.sum()
            places = np.arange(len(profile)) - (len(profile) - 1) / 2
            assert (profile * places**2).sum() == pytest.approx(sigma**2 + CELL**2 / 6, rel=0.02)


# Through the features


def with_spot(size, place, rng):
    image = (0.5 + 0.05 * rng.random(size)).astype(np.float32)
    row, column = (int(share * n) for share, n in zip(place, size, strict=True))
    image[row - 4 : row + 4, column - 4 : column + 4] = 1
    return image, (row, column)


@pytest.mark.parametrize("size", [(60, 100), (100, 60)])
@pytest.mark.parametrize("resize", ["stretch", "shorter", "longer"])
def test_peaks_follow_a_spot(small_features, resize, size, rng):
    """Also on images with another aspect than those of `fit`; none of these places is cut off."""
    features = clone(small_features).set_params(resize=resize, layers=(1,), neighborhood=1)
    normal = [with_spot(size, (0.5, 0.5), rng)[0] * 0 + 0.52 for _ in range(3)]
    detector = PatchCore(features, coreset_ratio=1.0, sigma=1.0, false_alarm_rate=None).fit(normal)
    for other in (size, size[::-1], (80, 80)):
        for place in ((0.4, 0.6), (0.6, 0.4)):
            image, spot = with_spot(other, place, rng)
            (score_map,) = detector.anomaly_map([image])
            assert score_map.shape == other
            peak = np.unravel_index(np.nanargmax(score_map), other)
            cell = np.max(np.divide(other, detector.features_.grid_shape_))
            assert np.abs(np.subtract(peak, spot)).max() <= 4 + cell


def test_the_first_image_sets_the_frame(small_features, rng):
    wide = rng.random((2, 40, 90)).astype(np.float32)
    shapes = {"shorter": (64, 144), "longer": (32, 64)}
    for resize, expected in shapes.items():
        features = clone(small_features).set_params(resize=resize).fit(wide)
        assert features.frame_shape_ == features.input_shape == expected
        assert features.grid_shape_ == (expected[0] // 8, expected[1] // 8)
        tall = [wide[0].T, wide[1]]
        grids = features.transform(tall)
        np.testing.assert_array_equal(grids[1:], features.transform(wide[1:]))
        restored = pickle.loads(pickle.dumps(features))
        np.testing.assert_array_equal(restored.transform(tall), grids)
    assert features.fit(tall).frame_shape_ == (64, 32)


def test_caches_know_the_frame(small_features, rng, tmp_path):
    wide, tall = rng.random((1, 40, 80)), rng.random((1, 80, 40))
    cached = clone(small_features).set_params(resize="longer", memory=tmp_path / "cache")
    for first in (wide, tall):
        cached.fit(first)
        plain = clone(cached).set_params(memory=None).fit(first)
        for images in (wide, tall):
            np.testing.assert_array_equal(cached.transform(images), plain.transform(images))


def test_lists_are_sizes_too(small_features, rng):
    images = rng.random((1, 40, 80))
    as_tuple, as_list = (clone(small_features).set_params(image_size=size).fit(images) for size in ((32, 64), [32, 64]))
    np.testing.assert_array_equal(as_list.transform(images), as_tuple.transform(images))
    assert clone(small_features).set_params(crop=[32, 16]).fit(images).grid_shape_ == (4, 2)


def test_crops_lie_in_the_frame(small_features, rng):
    wide = rng.random((1, 64, 128)).astype(np.float32)
    features = clone(small_features).set_params(resize="shorter", crop=(32, 96)).fit(wide)
    inner = PretrainedPatchFeatures(weights="random", image_size=(32, 96), random_state=0).fit(wide)
    np.testing.assert_array_equal(features.transform(wide), inner.transform(wide[:, 16:48, 16:112]))
    with pytest.raises(ValueError, match=r"crop=65 is larger .* resized to \(64, 128\)"):
        features.set_params(crop=65).fit(wide)
