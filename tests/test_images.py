import numpy as np
import pytest
from PIL import Image

from skanomaly import Pixels
from skanomaly._inputs.files import find_images
from skanomaly._inputs.images import ImageSample, ImageSource, check_images
from skanomaly.exceptions import ImageReadError


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((0, 8, 8)), ValueError, "holds 0 images; at least 1 needed"),
        ("nowhere/*.png", ValueError, r"0 images \('nowhere/\*.png' matches no file\)"),
        (np.zeros((8, 8)), ValueError, r"shape \(8, 8\), which is that of a single image.*\[image\]"),
        (np.zeros((2, 8, 8, 2)), ValueError, r"shape \(8, 8, 2\)"),
        (np.full((2, 8, 8), np.nan), ValueError, "image 0 of X contains NaN or infinity"),
        (np.full((2, 8, 8), np.inf), ValueError, "image 0 of X contains NaN or infinity"),
        (np.full((2, 8, 8), 200.0), ValueError, r"float values in \[200, 200\].*Divide by 255"),
        (np.full((2, 8, 8), -0.1), ValueError, r"must be in \[0, 1\]"),
        (np.zeros((2, 8, 8), int), ValueError, r"dtype int64.*astype\('uint8'\)"),
        ([np.zeros((8, 8)), "a.png"], TypeError, "items of type"),
        (7, TypeError, "of type int; it must be"),
    ],
)
def test_bad_arrays(X, error, message):
    with pytest.raises(error, match=message):
        check_images(X)


def test_all_bad_files_are_named_at_once(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageReadError, match=r"2 of 3 files.*text.png \(not an image.*gone.png \(no such file\)"):
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
    with pytest.raises(ImageReadError, match=r"big.png \(400 x 400 pixels, which is more than max_pixels=1000\)"):
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


STRANGE_NAMES = ["lot 3", "lot (3)", "lot [3]", "lot [3", "what?", "a*b", "[!a]", "**", "Prüfung ü 検査"]


@pytest.fixture
def strange_folders(tmp_path, monkeypatch):
    """Folders whose names are globs that match each other, one image in each."""
    for name in STRANGE_NAMES:
        (tmp_path / name / "deep [1]").mkdir(parents=True)
        for path in (tmp_path / name / f"in {name}.png", tmp_path / name / "deep [1]" / "below.png"):
            Image.new("L", (8, 8)).save(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", STRANGE_NAMES)
def test_a_folder_that_exists_is_that_folder(strange_folders, name):
    for folder in (strange_folders / name, strange_folders.relative_to(strange_folders) / name):
        image = folder / f"in {name}.png"
        for pattern in (str(folder), f"{folder}/", str(image), f"{folder}/*.png", f"{folder}/in*"):
            assert find_images(pattern)[0] == [image], pattern
        below = folder / "deep [1]" / "below.png"
        assert find_images(f"{folder}/deep [[]1]/*.png")[0] == [below]
        assert find_images(f"{folder}/deep [1]/*.png")[0] == [below]
        assert set(find_images(f"{folder}/**/*.png")[0]) == {image, below}
    assert len(check_images(str(strange_folders / name))) == 1


def test_other_strings_are_globs(strange_folders):
    assert {path.parent.name for path in find_images("lot [[3]*/*.png")[0]} == {"lot 3", "lot [3]", "lot [3"}
    assert len(find_images("*/*.png")[0]) == len(STRANGE_NAMES)
    (strange_folders / "lot 4").mkdir()
    Image.new("L", (8, 8)).save(strange_folders / "lot 4" / "0.png")
    assert [path.parent.name for path in find_images("lot [45]/*")[0]] == ["lot 4"]
    assert find_images("nowhere/*.png") == find_images("/nowhere/*.png") == ([], [])


def test_brackets_that_match_nothing_are_explained(strange_folders):
    with pytest.raises(ValueError, match=r"^X holds 0 images \('lot \[7\]' matches no file; .* pass 'lot \[\[\]7\]'\)"):
        check_images("lot [7]")
    with pytest.raises(ValueError, match=r"there is no file or folder 'lot 7'\); at"):
        check_images("lot 7")


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


# Sources and samples


def save(path, pixels):
    Image.fromarray(pixels).save(path)
    return path


def test_slices_integer_arrays_and_samples(rng):
    images = rng.random((5, 8, 6), dtype=np.float32)
    source = check_images(images)
    for index in (slice(1, 4), np.array([3, 0]), slice(None, None, -1), [2]):
        part = source[index]
        assert isinstance(part, ImageSource)
        assert part.sizes == [(8, 6)] * len(part)
        np.testing.assert_array_equal([part.read(i)[..., 0] for i in range(len(part))], images[index])
    for i in (0, -1, np.int64(3)):
        assert isinstance(source[i], ImageSample)
        np.testing.assert_array_equal(source[i].read()[..., 0], images[i])
    np.testing.assert_array_equal([sample.read()[..., 0] for sample in source[1:]], images[1:])
    with pytest.raises(IndexError):
        source[5]


def test_the_size_of_a_sample_needs_no_decoding(tmp_path, rng):
    path = save(tmp_path / "a.png", rng.integers(0, 256, (64, 48, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:1000])  # the header is whole
    source = check_images([path])
    assert (source[0].size, source.n_channels) == ((64, 48), 3)
    with pytest.raises(ImageReadError, match="a.png"):
        source[0].read()


def test_bad_files_outside_a_part_are_named_too(tmp_path, rng):
    paths = [save(tmp_path / f"{i}.png", rng.integers(0, 256, (64, 64), np.uint8)) for i in range(4)]
    for path in (paths[0], paths[3]):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ImageReadError, match=r"2 of 4 files.*0\.png.*3\.png"):
        check_images(paths)[2:].read(1)


@pytest.mark.parametrize(("shape", "expected"), [((8, 8), 1), ((8, 8, 1), 1), ((8, 8, 3), 3), ((8, 8, 4), 3)])
def test_number_of_channels(shape, expected, tmp_path, rng):
    pixels = rng.integers(0, 256, (2, *shape), np.uint8)
    assert check_images(pixels).n_channels == check_images(pixels)[1:].n_channels == expected
    path = save(tmp_path / "a.png", pixels[0] if shape[-1] != 1 else pixels[0, ..., 0])
    assert check_images([path]).n_channels == expected == check_images([path]).read(0).shape[2]


# Digests


def test_digests_are_those_of_the_decoded_pixels(tmp_path, rng):
    pixels = rng.integers(0, 256, (3, 8, 6), np.uint8)
    pixels[2] = pixels[0]
    paths = [save(tmp_path / f"{i}.png", image) for i, image in enumerate(pixels)]
    digests = check_images(paths).digests()
    assert digests.dtype == np.uint64
    assert digests[0] == digests[2] != digests[1]
    Image.fromarray(pixels[0]).save(tmp_path / "other.png", compress_level=0)
    np.testing.assert_array_equal(check_images([tmp_path / "other.png"]).digests(), digests[:1])
    np.testing.assert_array_equal(check_images(pixels).digests(), digests)
    np.testing.assert_array_equal(check_images(np.asfortranarray(pixels)).digests(), digests)
    alpha = np.dstack([*[pixels[1]] * 3, np.full_like(pixels[1], 255)])
    np.testing.assert_array_equal(check_images(alpha[None]).digests(), check_images(alpha[None, ..., :3]).digests())


def test_digests_depend_on_dtype_shape_and_every_pixel(rng):
    image = rng.integers(0, 2, (8, 6), np.uint8)
    moved = image.copy()
    moved[7, 5] ^= 1
    others = [
        image.astype(bool),
        image.astype(np.float32),
        image.reshape(6, 8),
        image[:7],
        moved,
        np.dstack([image] * 3),
    ]
    digests = [check_images(other[None]).digests()[0] for other in (image, *others)]
    assert len(set(digests)) == len(digests)


def test_digests_do_not_depend_on_the_scale():
    image = np.full((1, 8, 8), 4095, np.uint16)
    assert check_images(image, data_range=5000).digests() == check_images(image, data_range=4095).digests()


def test_each_image_is_decoded_once_for_its_digest(tmp_path, rng, monkeypatch):
    paths = [save(tmp_path / f"{i}.png", rng.integers(0, 256, (8, 8), np.uint8)) for i in range(4)]
    from skanomaly._inputs import images

    decoded, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda path: decoded.append(path.name) or decode(path))
    source = check_images(paths)
    part = source[np.array([3, 1])]
    part.read(0)
    part[1:].digests()  # parts of parts share what they know
    expected = source.digests()
    assert decoded == ["3.png", "1.png", "0.png", "2.png"]
    np.testing.assert_array_equal(part.digests(), expected[[3, 1]])
    source[2:].note_digest(1, 7)
    assert source.digests()[3] == 7
    assert len(decoded) == 4


def test_pillow_images_are_rgb_whatever_the_order_of_arrays(rng, tmp_path):
    colours = rng.integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    picture = Image.fromarray(colours[0])
    picture.save(tmp_path / "c.png")
    features = Pixels(16, channels="bgr").fit(colours[..., ::-1])
    from_file = features.transform([str(tmp_path / "c.png")])
    np.testing.assert_array_equal(features.transform([picture]), from_file)
    np.testing.assert_array_equal(features.transform(colours[..., ::-1]), from_file)


def test_ranges_of_numpy_integers_and_foreign_byte_orders(rng):
    X = rng.integers(-20_000, 20_001, (4, 16, 16)).astype(np.int16)
    X[0, 0, :2] = -20_000, 20_000
    found = Pixels(16, data_range=(X.min(), X.max())).fit_transform(X)
    np.testing.assert_array_equal(found, Pixels(16, data_range=(-20_000, 20_000)).fit_transform(X))
    assert (found.min(), found.max()) == (0, 1)
    unsigned = rng.integers(0, 65_536, (4, 16, 16)).astype(np.uint16)
    expected = Pixels(16).fit_transform(unsigned)
    np.testing.assert_array_equal(Pixels(16).fit_transform(unsigned.astype(">u2")), expected)
    np.testing.assert_array_equal(Pixels(16).fit_transform(list(unsigned.astype(">u2"))), expected)
