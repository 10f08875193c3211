import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone

from skanomaly import Reference
from skanomaly._inputs.reference import open_reference


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (4, 8, 8, 3), np.uint8)


def test_all_forms_are_the_same_images(images, tmp_path):
    labels = ["a", "a", "b", "b"]
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "folder" / label / f"{i}.png")
    np.savez(tmp_path / "classes.npz", X=images, y=labels)
    forms = (
        (images, labels),
        [images, np.array([7, 7, 9, 9])],
        Reference(images, labels),
        tmp_path / "folder",
        str(tmp_path / "classes.npz"),
    )
    for form in forms:
        source, classes = open_reference(form)
        assert_array_equal(classes, [0, 0, 1, 1])
        for i, image in enumerate(images):
            assert_array_equal(source.read(i), image / np.float32(255))


def test_a_reference_is_shared_by_clones(images):
    reference = Reference(images, [0, 0, 1, 2])
    assert clone(reference) is reference
    assert repr(reference) == "Reference(4 images of 3 classes)"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda X, path: 3, TypeError, "reference is of type int; it must be the path"),
        (lambda X, path: (X, [0, 1]), ValueError, r"has 4 images, but labels of shape \(2,\)"),
        (lambda X, path: (X, [0, 0, 0, 0]), ValueError, "has 1 class, '0'; at least 2"),
        (lambda X, path: (X / 128.0, [0, 0, 1, 1]), ValueError, "reference: image 0 of X has float values"),
        (lambda X, path: path / "nowhere", ValueError, "neither a folder nor an .npz file"),
        (lambda X, path: path, ValueError, "no subfolders with images"),
        (lambda X, path: path / "wrong.npz", ValueError, "does not hold the arrays X and y"),
    ],
)
def test_what_is_wrong_is_said(make, error, message, images, tmp_path):
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "wrong.npz", images=images)
    with pytest.raises(error, match=message):
        open_reference(make(images, tmp_path))
