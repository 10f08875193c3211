import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from skimage.transform import resize

from skanomaly import Pixels


def test_pixels_of_one_size_are_the_images_themselves(rng):
    images = rng.integers(0, 256, (3, 20, 24, 3), np.uint8)
    pixels = Pixels((20, 24)).fit(images)
    assert_array_equal(pixels.transform(images), images / np.float32(255))
    assert (pixels.n_channels_, pixels.n_features_out_, pixels.grid_shape_) == (3, 3, (20, 24))


def test_shrinking_equals_that_of_skimage(rng):
    """Of smooth images, which all ways of antialiasing agree on but at the border."""
    image = ndimage.gaussian_filter(rng.random((64, 64)), 6)
    (shrunk,) = Pixels(32).fit_transform(image[None])
    expected = resize(image, (32, 32), anti_aliasing=True)
    assert_allclose(shrunk[2:-2, 2:-2, 0], expected[2:-2, 2:-2], atol=0.05 * np.ptp(image))
    assert_allclose(shrunk[2:-2, 2:-2, 0], image.reshape(32, 2, 32, 2).mean(axis=(1, 3))[2:-2, 2:-2], atol=1e-3)


def test_enlarging_equals_that_of_skimage(rng):
    image = rng.random((16, 12))
    (enlarged,) = Pixels((40, 31)).fit_transform(image[None])
    assert_allclose(enlarged[..., 0], resize(image, (40, 31), order=1, mode="edge", anti_aliasing=False), atol=1e-6)


@pytest.mark.parametrize("gray", [True, False])
def test_channels_are_those_of_the_first_image(gray, rng):
    gray_images, colours = rng.random((2, 16, 16)), rng.random((2, 16, 16, 3))
    of_gray, of_colours = (Pixels(16, gray=gray).fit(images) for images in (gray_images, colours))
    assert (of_gray.n_channels_, of_colours.n_channels_) == (1, 1 if gray else 3)
    assert_allclose(of_gray.transform(colours)[..., 0], colours.mean(axis=3), atol=1e-6)
    repeated = np.broadcast_to(gray_images[..., None], of_colours.transform(gray_images).shape)
    assert_array_equal(of_colours.transform(gray_images), repeated.astype(np.float32))
    repeated = np.repeat(gray_images[..., None], 3, axis=3)
    assert_array_equal(of_gray.transform(repeated), of_gray.transform(gray_images))


def test_the_door_learns_channels_and_nothing_else(rng):
    pixels = Pixels(16)
    samples = pixels.check_samples(rng.random((2, 16, 16, 3)), reset=True)
    assert set(vars(pixels)) - set(pixels.get_params()) == {"n_channels_"}
    pixels.check_samples(rng.random((2, 16, 16)))
    assert pixels.n_channels_ == 3
    assert pixels.check_samples(samples) is samples


def test_inverse_transform_gives_images_of_their_own_sizes(rng):
    images = [rng.random((20, 30)), rng.random((40, 16))]
    pixels = Pixels(24).fit(images)
    restored = pixels.inverse_transform(pixels.transform(images), pixels.check_samples(images))
    assert [image.shape for image in restored] == [(20, 30), (40, 16)]
    expected = Pixels((20, 30)).fit_transform(pixels.transform(images[:1])[..., 0])[0, ..., 0]
    assert_allclose(restored[0], expected, atol=1e-6)
    colours = rng.random((2, 24, 24, 3))
    of_colours = Pixels(24).fit(colours)
    assert_array_equal(of_colours.inverse_transform(of_colours.transform(colours)), colours.astype(np.float32))


def test_inverse_transform_clips():
    pixels = Pixels(2).fit(np.zeros((1, 2, 2)))
    (image,) = pixels.inverse_transform(np.array([-1, 0.25, 1, 7], np.float32).reshape(1, 2, 2, 1))
    assert_array_equal(image, [[0, 0.25], [1, 1]])


def test_maps_are_smoothed_in_pixels_of_224_and_resized(rng):
    grid = rng.random((56, 56)).astype(np.float32)
    pixels = Pixels(56).fit(np.zeros((1, 100, 80)))
    (sample,) = pixels.check_samples(np.zeros((1, 100, 80)))
    assert_allclose(
        pixels.map_to_image(grid, sample, 8.0, size=(56, 56)), ndimage.gaussian_filter(grid, 2.0), atol=1e-6
    )
    full = pixels.map_to_image(grid, sample, 0)
    assert (full.shape, full.dtype) == ((100, 80), np.float32)
    assert_allclose(full, resize(grid, (100, 80), order=1, mode="edge", anti_aliasing=False), atol=1e-5)


def test_forms_of_one_image_agree(tmp_path, rng):
    pixels = rng.integers(0, 256, (48, 40), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "gray.png")
    features = Pixels(32)
    expected = features.fit_transform(pixels[None])
    for form in (
        (pixels / 255)[None],
        (pixels.astype(np.uint16) * 257)[None],
        [pixels],
        [tmp_path / "gray.png"],
        str(tmp_path / "gr*.png"),
        np.repeat(pixels[None, ..., None], 3, axis=-1),
    ):
        assert_array_equal(features.transform(form), expected)


def test_data_range_scales_integers(rng):
    twelve_bit = rng.integers(0, 4096, (1, 16, 16)).astype(np.uint16)
    expected = (twelve_bit / 4095)[..., None]
    assert_allclose(Pixels(16, data_range=4095).fit_transform(twelve_bit), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_size": 0}, "'image_size' parameter"),
        ({"image_size": (8,)}, "image_size=.8,. must be one side or .height, width."),
        ({"image_size": (8, 0)}, "image_size=.8, 0. must be"),
        ({"gray": "no"}, "'gray' parameter"),
        ({"data_range": 0}, "'data_range' parameter"),
        ({"max_pixels": 10}, "max_pixels=10"),
    ],
)
def test_bad_parameters_are_named_and_nothing_changes(parameters, message):
    pixels = Pixels().set_params(**parameters)
    with pytest.raises(ValueError, match=message):
        pixels.fit(np.zeros((1, 8, 8)))
    assert not hasattr(pixels, "n_channels_")
