import numpy as np
import pytest
from PIL import Image

from skanomaly._inputs.images import check_images
from skanomaly.exceptions import ImageReadError


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((0, 8, 8)), ValueError, "holds 0 images; at least 1 needed"),
        ("nowhere/*.png", ValueError, r"0 images \('nowhere/\*.png' matches no file\)"),
        (np.zeros((8, 8)), ValueError, r"shape \(8, 8\); accepted is"),
        (np.zeros((2, 8, 8, 2)), ValueError, r"shape \(8, 8, 2\)"),
        (np.full((2, 8, 8), np.nan), ValueError, "image 0 of X contains NaN or infinity"),
        (np.full((2, 8, 8), np.inf), ValueError, "image 0 of X contains NaN or infinity"),
        (np.full((2, 8, 8), 200.0), ValueError, r"float values in \[200, 200\].*Divide by 255"),
        (np.full((2, 8, 8), -0.1), ValueError, r"must be in \[0, 1\]"),
        (np.zeros((2, 8, 8), int), ValueError, r"dtype int64.*astype\('uint8'\)"),
        ([np.zeros((8, 8)), np.zeros((8, 8, 3))], ValueError, "mixed channels: 1 with 1 and 1 with 3"),
        ([np.zeros((8, 8)), "a.png"], TypeError, "items of type"),
        (7, TypeError, "of type int; accepted is"),
    ],
)
def test_bad_arrays(X, error, message):
    with pytest.raises(error, match=message):
        check_images(X)


def test_all_bad_files_are_named_at_once(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageReadError, match=r"2 of 3 files.*text.png \(no image.*gone.png \(no such file\)"):
        check_images([tmp_path / name for name in ("good.png", "text.png", "gone.png")])


def test_truncated_files_are_named_when_decoded(tmp_path, rng):
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(tmp_path / name)
    for name in ("b.png", "c.png"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:1000])
    source = check_images(str(tmp_path / "*.png"))
    source.read(0)
    with pytest.raises(ImageReadError, match=r"2 of 3 files.*b\.png.*c\.png"):
        source.read(1)


def test_decompression_bombs_are_refused(tmp_path):
    Image.new("1", (400, 400)).save(tmp_path / "big.png")
    with pytest.raises(ImageReadError, match=r"big.png \(400 x 400 pixels, max_pixels=1000 is accepted\)"):
        check_images([tmp_path / "big.png"], max_pixels=1000)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes(tmp_path, mode, rng):
    gray = rng.integers(0, 2, (6, 5)) * 255
    image = (
        Image.fromarray((gray * 257).astype(np.uint16))
        if mode == "I;16"
        else Image.fromarray(gray.astype(np.uint8)).convert(mode)
    )
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    image.save(path)
    pixels = check_images([path]).read(0)
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, np.broadcast_to(gray[..., None] / 255, pixels.shape))


def test_paths_are_decoded_only_when_read(tmp_path):
    Image.new("L", (8, 6), 255).save(tmp_path / "a.png")
    source = check_images([tmp_path / "a.png", tmp_path / "a.png"])
    assert source.sizes == [(6, 8)] * 2
    Image.new("L", (8, 6), 0).save(tmp_path / "a.png")
    assert source[1:].read(0).max() == 0


def test_the_input_is_not_modified(rng):
    X = rng.random((2, 8, 8))
    kept = X.copy()
    source = check_images(X)
    source.read(0)[:] = 0
    np.testing.assert_array_equal(X, kept)
