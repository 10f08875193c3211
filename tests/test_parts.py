"""Synthetic parts."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from skanomaly.datasets import make_parts

DEFECTS = ("missing_print", "blocked_hole", "scratch", "chip", "stain")


def few(random_state=0, **changes):
    return make_parts(**{"n_train": 3, "n_good": 2, "n_anomalous": 20} | changes, random_state=random_state)


def test_parts_have_the_stated_shapes_labels_and_kinds():
    data = few(size=64, n_anomalous=5)
    assert (data.X_train.shape, data.X_train.dtype) == ((3, 64, 64), np.uint8)
    assert (data.X_test.shape, data.masks_test.shape) == ((7, 64, 64), (7, 64, 64))
    assert data.kinds_test.tolist() == ["good", "good", *DEFECTS]
    assert_array_equal(data.y_test, np.where(data.kinds_test == "good", 1, -1))
    assert_array_equal(data.masks_test.any(axis=(1, 2)), data.y_test == -1)


def test_a_seed_fixes_every_byte():
    first, again, other = few(0), few(np.random.RandomState(0)), few(1)
    for name in first:
        assert_array_equal(first[name], again[name])
    for name in ("X_train", "X_test", "masks_test"):
        assert (first[name] != other[name]).any()
    images = [*first.X_train, *first.X_test]
    assert len({image.tobytes() for image in images}) == len(images)


def test_masks_are_where_the_defect_changes_the_image():
    data, clean = few(), few(contrast=0)
    change = np.abs(data.X_test.astype(int) - clean.X_test)
    assert_array_equal(data.X_train, clean.X_train)
    assert_array_equal(data.masks_test, clean.masks_test)
    assert not change[data.y_test == 1].any()
    for defect, mask in zip(change[data.y_test == -1], data.masks_test[data.y_test == -1], strict=True):
        assert np.median(defect[mask]) >= 15
        assert defect[ndimage.distance_transform_edt(~mask) > 12].max() <= 1


@pytest.mark.parametrize("jitter", ["shift", "rotation", "light"])
def test_each_kind_of_jitter_makes_images_differ(jitter):
    """Without any jitter only noise is left, and each kind alone adds to it."""
    fixed = {"shift": 0.0, "rotation": 0.0, "light": 0.0}
    noise = few(n_train=8, **fixed).X_train.std(axis=0).mean()
    assert 3 < noise < 8
    free = {name: value for name, value in fixed.items() if name != jitter}
    assert few(n_train=8, **free).X_train.std(axis=0).mean() > noise + 1
