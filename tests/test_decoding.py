"""What image files, arrays, Pillow images and tensors hold is honoured or refused by name."""

import os

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from skanomaly import Pixels, PretrainedPatchFeatures
from skanomaly._inputs import decoding
from skanomaly._inputs.files import find_images
from skanomaly._inputs.images import check_images
from skanomaly.exceptions import DataWarning, ImageReadError


@pytest.fixture
def picture(rng):
    return rng.integers(0, 256, (6, 9, 3), np.uint8)


def read(path, **options):
    return check_images([path], **options).read(0)


def saved(path, pixels, **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
def test_images_are_turned_as_a_viewer_does(tmp_path, picture, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / f"a{suffix}", picture, exif=exif, **({"lossless": True} if suffix == ".webp" else {}))
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    source = check_images([path])
    assert source.sizes == [expected.shape[:2]]
    np.testing.assert_array_equal(source.read(0), (expected / np.float32(255)).astype(np.float32))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # of Pillow
def test_damaged_exif_does_not_make_an_image_unreadable(tmp_path, picture):
    path = saved(tmp_path / "a.jpg", picture, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read(path).shape == (6, 9, 3)


# Modes


def test_all_modes_of_a_grey_picture_are_read_alike(tmp_path, rng):
    gray = Image.fromarray(rng.integers(0, 256, (6, 9), np.uint8))
    images = [gray, *(gray.convert(mode) for mode in ("P", "RGB", "RGBA", "LA"))]
    paths = [saved(tmp_path / f"{i}.png", image) for i, image in enumerate(images)]
    source = check_images(paths)
    assert source.n_channels == 3
    for i in range(1, 5):
        np.testing.assert_array_equal(source.read(i), np.broadcast_to(source.read(0), source.read(i).shape))
    for features in (Pixels(8), Pixels(8, gray=True), PretrainedPatchFeatures(image_size=32, weights="random")):
        Z = features.fit(paths).transform(paths)
        np.testing.assert_array_equal(Z, np.broadcast_to(Z[:1], Z.shape))


def test_transparent_pixels_are_shown_on_white(tmp_path, picture):
    rgba = np.dstack([picture, np.zeros((6, 9), np.uint8)])
    rgba[:3, :, 3], rgba[3, :, 3] = 255, 100
    on_white = Image.alpha_composite(Image.new("RGBA", (9, 6), "white"), Image.fromarray(rgba)).convert("RGB")
    path = saved(tmp_path / "a.png", rgba)
    shown = read(path) * 255
    np.testing.assert_allclose(shown, np.asarray(on_white), atol=1)
    np.testing.assert_array_equal(shown[:3].round(), picture[:3])
    hidden = rgba.copy()
    hidden[4:, :, :3] = 0
    for other in (rgba[None], hidden[None], [Image.fromarray(hidden)], [saved(tmp_path / "b.png", hidden)]):
        np.testing.assert_array_equal(check_images(other).read(0), read(path))
    np.testing.assert_allclose(check_images((rgba / 255)[None]).read(0), read(path), atol=0.5 / 255)


def test_transparent_colours_of_palettes_and_grey_images_are_shown_on_white(tmp_path):
    gray = np.full((6, 9), 40, np.uint8)
    gray[0] = 7
    path = saved(tmp_path / "a.png", gray, transparency=40)
    assert (read(path)[0] == np.float32(7 / 255)).all()
    assert (read(path)[1:] == 1).all()
    with_alpha = Image.fromarray(gray).convert("LA")
    with_alpha.putalpha(Image.fromarray(np.where(gray == 40, 0, 255).astype(np.uint8)))
    np.testing.assert_array_equal(read(saved(tmp_path / "b.png", with_alpha)), read(path))
    palette = Image.fromarray(gray).convert("P")
    np.testing.assert_array_equal(read(saved(tmp_path / "c.png", palette, transparency=40))[..., :1], read(path))


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".webp", ".png"])
def test_several_pages_are_refused(tmp_path, rng, suffix):
    pages = [Image.fromarray(page) for page in rng.integers(0, 256, (3, 6, 9), np.uint8)]
    pages[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageReadError, match=r"a\.\w+ \(3 pages or frames, .* file of its own"):
        check_images([tmp_path / f"a{suffix}"])


def test_photographs_with_a_depth_map_are_read(tmp_path, picture):
    image = Image.fromarray(picture)
    image.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[image.resize((4, 3))])
    assert read(tmp_path / "a.jpg").shape == (6, 9, 3)


# Ranges


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32])
def test_integers_of_other_types_need_a_range(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    values = np.array([[0, 0, 0, 300, 70_000 if np.dtype(dtype).itemsize == 4 else 30_000]], dtype)
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(ValueError, match=r"a\.tif has dtype \w+, .*data_range=\(low, high\)"):
        read(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=rf"a\.tif has values in \[0, {values.max()}\], outside data_range=4095"):
        read(tmp_path / "a.tif", data_range=4095)
    expected = (values / 100_000).astype(np.float32)[..., None]
    np.testing.assert_allclose(read(tmp_path / "a.tif", data_range=100_000), expected, rtol=1e-6)
    np.testing.assert_allclose(check_images(values[None], data_range=100_000).read(0), expected, rtol=1e-6)


def test_large_unsigned_integers_are_not_wrapped(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 2**31, 2**32 - 1]], np.uint32))
    np.testing.assert_allclose(read(tmp_path / "a.tif", data_range=2**32 - 1)[0, :, 0], [0, 0.5, 1], rtol=1e-6)


def test_floats_outside_the_unit_interval_need_a_range(tmp_path):
    values = np.array([[-10.0, 0.0, 30.0, 30.0, 30.0]], np.float32)
    path = saved(tmp_path / "a.tif", values)
    for X in ([path], values[None]):
        with pytest.raises(ValueError, match=r"float values in \[-10, 30\].*data_range=\(low, high\)"):
            check_images(X).read(0)
        np.testing.assert_allclose(check_images(X, data_range=(-10, 30)).read(0)[0, :, 0], [0, 0.25, 1, 1, 1])
        with pytest.raises(ValueError, match=r"values in \[-10, 30\], outside data_range=\(0, 30\)"):
            check_images(X, data_range=(0, 30)).read(0)


@pytest.mark.parametrize("data_range", [(1, 0), (0, 0), (0,), (0, np.nan), ("a", "b")])
def test_bad_ranges(data_range):
    with pytest.raises(ValueError, match=r"data_range=\(.*must be one value or \(low, high\), with low < high"):
        Pixels(8, data_range=data_range).fit(np.zeros((2, 8, 8)))


@pytest.mark.filterwarnings("error")
def test_images_of_12_bits_in_16_warn_once(tmp_path, rng):
    dark = rng.integers(0, 4096, (3, 6, 9)).astype(np.uint16)
    for X in (dark, [saved(tmp_path / f"{i}.png", image) for i, image in enumerate(dark)]):
        source = check_images(X)
        with pytest.warns(DataWarning, match=r"16 bits per value, but no value above \d+.*data_range=4095"):
            source.read(0)
        source[1:].read(0)
        check_images(X, data_range=4095).read(0)
    check_images(dark * 16).read(0)


# Arrays, Pillow images, tensors


def test_bgr_arrays_are_read_as_files_are(tmp_path, picture):
    path = saved(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(check_images(picture[None, ..., ::-1], channels="bgr").read(0), read(path))
    opaque = np.dstack([picture[..., ::-1], np.full((6, 9), 255, np.uint8)])
    np.testing.assert_array_equal(check_images(opaque[None], channels="bgr").read(0), read(path))
    features = Pixels(8, channels="bgr").fit([path])
    np.testing.assert_array_equal(features.transform([path]), features.transform(picture[None, ..., ::-1]))


def test_lists_of_pillow_images_are_read_as_files_are(tmp_path, picture):
    image = Image.fromarray(picture)
    paths = [saved(tmp_path / "a.png", image), saved(tmp_path / "b.png", image.convert("L"))]
    from_memory, from_files = check_images([image, image.convert("L")]), check_images(paths)
    for i in range(2):
        np.testing.assert_array_equal(from_memory.read(i), from_files.read(i))


def test_tensors_may_have_channels_first_or_last(picture):
    expected = check_images(picture[None]).read(0)
    tensor = torch.from_numpy(picture)
    for X in (tensor[None], tensor.permute(2, 0, 1)[None], [tensor], [tensor.permute(2, 0, 1)]):
        np.testing.assert_array_equal(check_images(X).read(0), expected)
    assert check_images(tensor[..., 0][None]).read(0).shape == (6, 9, 1)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 6, 3\), whose channels may be the first or the last"):
        check_images(torch.zeros(2, 3, 6, 3))


@pytest.mark.parametrize("shape", [(32, 32), (32, 32, 3), (32, 32, 4)])
def test_a_single_image_is_refused(shape):
    for image in (np.zeros(shape, np.uint8), torch.zeros(shape, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"that of a single image: pass a sequence of images, \[image\]"):
            check_images(image)
    with pytest.raises(TypeError, match=r"a single image; pass a sequence of images, \[image\]"):
        check_images(Image.new("L", (8, 8)))


def test_a_single_image_with_channels_first():
    X = np.zeros((3, 8, 8), np.uint8)
    with pytest.warns(DataWarning, match=r"shape \(3, 8, 8\), which may be .* it is taken as three grey images"):
        Pixels(8).fit(X)
    of_colours = Pixels(8).fit(np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"fitted on colour images.*image\.transpose\(1, 2, 0\)"):
        of_colours.transform(X)
    assert of_colours.transform(X[..., None]).shape == (3, 8, 8, 3)
    with pytest.raises(ValueError, match=r"channels first; pass X\.transpose\(0, 2, 3, 1\)"):
        of_colours.transform(np.zeros((2, 3, 8, 8)))


def test_generators_are_refused_with_advice():
    with pytest.raises(TypeError, match=r"of type generator; .* Pass list\(X\)"):
        check_images(path for path in ["a.png"])


# Files


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageReadError, match=r"fifo\.png \(not a regular file\); .*folder\.png \(a folder\)"):
        check_images([tmp_path / "fifo.png", tmp_path / "folder.png"])


def test_max_pixels_may_be_larger_than_the_limit_of_pillow(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", np.zeros((40, 50), np.uint8))
    monkeypatch.setattr(decoding.Image, "MAX_IMAGE_PIXELS", 100)
    assert check_images([path]).read(0).shape == (40, 50, 1)
    assert decoding.Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageReadError, match="40 x 50 pixels, which is more than max_pixels=1999"):
        check_images([path], max_pixels=1999)


def test_folders_name_what_they_hold_instead(tmp_path):
    (tmp_path / "README.txt").write_text("lot 7")
    with pytest.raises(ValueError, match=r"contains no images, only 'README\.txt'"):
        check_images(str(tmp_path))
    (tmp_path / "lot 1").mkdir()
    saved(tmp_path / "lot 1" / "a.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"its subfolders contain 1: pass '.*\*\*' to take all of them"):
        check_images(str(tmp_path))
    assert len(check_images(str(tmp_path / "**"))) == 1
    images, left_aside = find_images(str(tmp_path / "**"))
    assert ([path.name for path in images], [path.name for path in left_aside]) == (["a.png"], ["README.txt"])
