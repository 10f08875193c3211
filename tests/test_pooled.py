import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone

from skanomaly import Columns, PatchFeatures
from skanomaly.features._pooled import PooledFeatures


def test_averages_equal_those_of_every_layer(small_features, rng):
    images = rng.random((5, 64, 64))
    pooled = PooledFeatures(small_features).fit(images)
    Z, layers = pooled.transform(images), pooled.features_.transform_layers(images).arrays
    assert (Z.shape, Z.dtype, pooled.n_features_out_) == ((5, 152), np.float64, 152)
    for vectors, maps in zip(pooled.split(Z), layers, strict=True):
        assert_array_equal(vectors, [m.mean(axis=(0, 1), dtype=np.float64) for m in maps])


def test_features_of_one_layer_are_that_layer(rng):
    images = rng.random((4, 32, 32))
    pooled = PooledFeatures(PatchFeatures(4, image_size=32)).fit(images)
    (vectors,) = pooled.split(pooled.transform(images))
    grids = PatchFeatures(4, image_size=32).fit_transform(images)
    assert_array_equal(vectors, [grid.mean(axis=(0, 1), dtype=np.float64) for grid in grids])


def test_rows_stay_as_they_are(rng):
    X = rng.normal(size=(20, 3))
    pooled = PooledFeatures(Columns()).fit(X)
    assert_array_equal(pooled.transform(X), Columns().fit_transform(X))
    assert pooled.learns


@pytest.mark.parametrize("batch_len", [1, 2, None])
def test_same_bits_in_every_batch(batch_len, small_features, rng, monkeypatch):
    images = rng.random((5, 64, 64))
    pooled = PooledFeatures(small_features).fit(images)
    expected = pooled.transform(images)
    monkeypatch.setattr(type(pooled.features_), "batch_len", batch_len)
    assert_array_equal(pooled.transform(images), expected)


def test_properties_are_those_of_the_features(small_features):
    pooled = PooledFeatures(small_features)
    assert (pooled.makes_maps, pooled.learns, pooled.batch_len) == (False, False, small_features.batch_len)
    assert PooledFeatures(Columns(scale=None)).learns is False
    assert not hasattr(pooled, "map_to_image")


def test_parameters_go_through_and_features_are_cloned(small_features, rng):
    pooled = clone(PooledFeatures(small_features)).set_params(features__layers=(2,))
    assert pooled.fit(rng.random((1, 64, 64))).n_features_out_ == 40
    assert not hasattr(pooled.features, "n_features_out_")
    with pytest.raises(ValueError, match="'features' parameter of PooledFeatures"):
        PooledFeatures("mean").fit(rng.random((1, 64, 64)))
