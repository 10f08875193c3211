import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

from skanomaly import Columns, PatchFeatures
from skanomaly._inputs.images import check_images
from skanomaly._inputs.samples import Grids, Indexable, Rows, begin, digests

# Grids


def test_rows_are_grids_of_one_cell(rng):
    X = rng.normal(size=(5, 3))
    door = Grids("KNNScorer")
    grids = door.check_samples(X, reset=True)
    np.testing.assert_array_equal(grids, X[:, None, None])
    assert door.n_features_in_ == 3
    assert door.check_samples(grids) is not None
    assert door.transform(grids) is grids
    np.testing.assert_array_equal(door.transform(X), grids)
    assert door.fit_samples(grids) is door
    assert (door.makes_maps, door.learns, door.batch_len) == (True, False, None)


def test_messages_name_the_owner(rng):
    door = Grids("KNNScorer")
    frame = pd.DataFrame(rng.normal(size=(5, 3)), columns=["a", "b", "c"])
    door.check_samples(frame, reset=True)
    assert list(door.feature_names_in_) == ["a", "b", "c"]
    with pytest.raises(ValueError, match="X has 2 features, but KNNScorer is expecting 3 features as input"):
        door.check_samples(np.zeros((1, 4, 4, 2)))
    with pytest.raises(ValueError, match="feature names should match"):
        door.check_samples(frame[["b", "a", "c"]])
    with pytest.warns(UserWarning, match="but KNNScorer was fitted with feature names"):
        door.check_samples(frame.to_numpy())
    door.check_samples(frame.to_numpy(), reset=True)
    with pytest.raises(ValueError, match="X has 2 features, but KNNScorer is expecting 3 features as input"):
        door.check_samples(np.zeros((1, 2)))
    with pytest.raises(ValueError, match="NaN.\nKNNScorer does not accept"):
        door.check_samples(np.full((2, 3), np.nan))


def test_a_refused_fit_leaves_the_door_as_it_was(rng):
    door = Grids("KNNScorer")
    door.check_samples(rng.normal(size=(5, 3)), reset=True)
    with pytest.raises(ValueError, match="NaN"):
        door.check_samples(np.full((2, 4), np.nan), reset=True)
    assert door.n_features_in_ == 3


def test_maps_of_grids_are_the_grids():
    grid = np.array([[1.0, np.nan]])
    score_map = Grids("KNNScorer").map_to_image(grid, None)
    assert score_map.dtype == np.float32
    np.testing.assert_array_equal(score_map, grid)


@pytest.mark.parametrize("door", [Grids("KNNScorer"), Rows()])
def test_doors_are_cloned_and_pickled(door, rng):
    door.check_samples(rng.normal(size=(5, 3)), reset=True)
    assert not hasattr(clone(door), "n_features_in_")
    assert vars(pickle.loads(pickle.dumps(door))) == vars(door)


# Rows


@pytest.mark.parametrize(
    "X",
    [
        np.arange(12).reshape(6, 2),
        pd.DataFrame(np.arange(12).reshape(6, 2)),
        sparse.csr_array(np.arange(12).reshape(6, 2)),
        [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]],
        ["a", "b", "c", "d", "e", "f"],
    ],
    ids=["array", "frame", "sparse", "lists", "strings"],
)
def test_rows_are_indexed_as_scikit_learn_does(X):
    door = Rows()
    samples = door.check_samples(X, reset=True)
    assert samples.X is X
    assert len(samples) == 6
    assert door.check_samples(samples) is door.transform(samples) is samples
    for index in (slice(1, 3), np.array([4, 0])):
        part = samples[index]
        assert isinstance(part, Indexable)
        assert type(part.X) is type(X)
        assert len(part) == 2
    assert (door.makes_maps, door.learns, door.batch_len) == (False, False, None)


# Digests


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, bool, np.int16, np.complex128])
@pytest.mark.parametrize("shape", [(3,), (1,), (2, 3, 5), ()])
def test_equal_rows_have_equal_digests(dtype, shape, rng):
    X = rng.integers(0, 2, (50, *shape)).astype(dtype)
    found = digests(X)
    assert (found.dtype, found.shape) == (np.uint64, (50,))
    by_bytes = [row.tobytes() for row in X]
    for i in range(50):
        np.testing.assert_array_equal(found == found[i], [b == by_bytes[i] for b in by_bytes])


def test_digests_depend_neither_on_the_other_rows_nor_on_the_layout(rng, monkeypatch):
    X = rng.normal(size=(20, 7))
    expected = digests(X)
    np.testing.assert_array_equal(digests(X[::-1])[::-1], expected)
    np.testing.assert_array_equal(digests(np.asfortranarray(X)), expected)
    np.testing.assert_array_equal(digests(Indexable(X)[3:]), expected[3:])
    monkeypatch.setattr("skanomaly._inputs.samples._HASHED_BYTES", 100)
    np.testing.assert_array_equal(digests(X), expected)


def test_digests_see_every_bit_and_its_place(rng):
    X = np.repeat(rng.normal(size=(1, 5)), 5 * 64 + 2, axis=0)
    bits = X.view(np.uint64)
    for i in range(5 * 64):
        bits[i, i // 64] ^= np.uint64(1) << np.uint64(i % 64)
    X[-2, [0, 1]] = X[-2, [1, 0]]
    assert len(np.unique(digests(X))) == len(X)
    assert len(np.unique(digests(rng.integers(0, 2, (100_000, 40), np.uint8)))) == 100_000


def test_what_is_no_array_of_numbers_has_no_digests():
    for samples in (np.array(["a", "b"]), np.array([object()]), Indexable(["a"]), Indexable(pd.DataFrame([[1.0]]))):
        assert digests(samples) is None


def test_digests_of_images_are_those_of_the_source(rng):
    source = check_images(rng.random((3, 8, 8)))
    np.testing.assert_array_equal(digests(source), source.digests())
    assert len(digests(np.empty((0, 3)))) == 0


# The beginning of a fit


def test_a_fit_begins_with_fresh_features(rng):
    features = PatchFeatures(image_size=32).fit(rng.random((2, 32, 32)))
    fresh = begin(features)
    assert type(fresh) is PatchFeatures
    assert not hasattr(fresh, "grid_shape_")


def test_frozen_features_are_not_fitted_again(rng):
    X = rng.normal(size=(50, 2))
    columns = Columns().fit(X)
    frozen = begin(FrozenEstimator(columns))
    before = columns.mean_
    samples = frozen.check_samples(3 * X + 1, reset=True)
    assert frozen.fit_samples(samples) is frozen
    np.testing.assert_array_equal(frozen.transform(X), columns.transform(X))
    np.testing.assert_array_equal(frozen.inverse_transform(X), columns.inverse_transform(X))
    assert columns.mean_ is before
    assert columns.learns
    assert not frozen.learns
    assert clone(frozen) is frozen
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frozen)).transform(X), columns.transform(X))
    with pytest.raises(ValueError, match="expecting 2 features"):
        frozen.check_samples(rng.normal(size=(5, 3)), reset=True)
    assert columns.n_features_in_ == 2


def test_frozen_features_must_be_fitted():
    with pytest.raises(NotFittedError):
        begin(FrozenEstimator(Columns())).check_samples(np.zeros((3, 2)), reset=True)
