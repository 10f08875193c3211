"""What all features promise, whatever they do."""

import pickle

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags

from skanomaly import Columns, CropFeatures, PatchFeatures, Pixels, PretrainedPatchFeatures
from skanomaly._inputs.samples import Grids, Rows, begin
from skanomaly.features._base import Layers
from skanomaly.features._pooled import PooledFeatures
from skanomaly.features._resolve import resolve_features
from skanomaly.features._same import check_same_features

NETWORK = PretrainedPatchFeatures(weights="random", image_size=32, random_state=0)
FEATURES = {
    "pretrained": NETWORK,
    "cropped": clone(NETWORK).set_params(crop=(24, 32), dim=20),
    "patches": PatchFeatures(image_size=32, gray=False),
    "crops": CropFeatures(clone(NETWORK).set_params(layers=("/16",)), stride=8, image_size=32),
    "pixels": Pixels(32),
    "columns": Columns(),
    "plain columns": Columns(scale=None),
    "quantiles": Columns(scale="quantile"),
    "pooled": PooledFeatures(NETWORK),
    "pooled columns": PooledFeatures(Columns()),
}


def data_for(features, n=6):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 3)) if not get_tags(features).input_tags.three_d_array else rng.random((n, 40, 36))


@pytest.fixture(params=FEATURES)
def features(request):
    return clone(FEATURES[request.param])


@pytest.fixture(params=[False, True], ids=["plain", "frozen"])
def fitted(features, request):
    features.fit(data_for(features))
    return begin(FrozenEstimator(features)) if request.param else features


def test_fit_is_the_door_and_then_the_samples(features):
    X = data_for(features)
    twin = clone(features)
    samples = twin.check_samples(X, reset=True)
    assert len(samples) == len(X)
    assert twin.fit_samples(samples) is twin
    assert features.fit(X, None) is features
    assert_array_equal(twin.transform(samples), features.transform(X))
    assert set(vars(twin)) == set(vars(features))


def test_samples_are_as_good_as_what_they_came_from(fitted):
    X = data_for(fitted)
    samples, Z = fitted.check_samples(X), fitted.transform(X)
    assert len(Z) == len(X)
    assert_array_equal(fitted.transform(samples), Z)
    assert_array_equal(fitted.transform(fitted.check_samples(samples)), Z)
    for index in (slice(1, 3), slice(None, None, -1), np.array([4, 0, 4])):
        assert_array_equal(fitted.transform(samples[index]), Z[index])


def test_no_sample_depends_on_the_others(fitted):
    X = data_for(fitted)
    Z = fitted.transform(X)
    for i in range(len(X)):
        assert_array_equal(fitted.transform(X[i : i + 1]), Z[i : i + 1])


def test_layers_are_sliced_by_sample(fitted):
    X = data_for(fitted)
    layers = fitted.transform_layers(X)
    assert isinstance(layers, Layers)
    assert len(layers) == len(X)
    for index in (slice(1, 3), np.array([4, 0])):
        part, direct = layers[index].arrays, fitted.transform_layers(fitted.check_samples(X)[index]).arrays
        for a, b, whole in zip(part, direct, layers.arrays, strict=True):
            assert_array_equal(a, b)
            assert_array_equal(a, whole[index])


def test_shapes_and_dtypes(fitted):
    Z = fitted.transform(data_for(fitted))
    assert Z.shape[-1] == fitted.n_features_out_
    assert Z.dtype == (np.float32 if Z.ndim == 4 else np.float64)
    if fitted.makes_maps:
        assert Z.shape[1:3] == fitted.grid_shape_
    else:
        assert not hasattr(fitted, "map_to_image")
    assert fitted.batch_len is None or fitted.batch_len > 0


def test_maps_have_the_size_of_the_sample(fitted):
    if not fitted.makes_maps:
        return
    X = data_for(fitted)
    grid = np.random.default_rng(0).random(fitted.grid_shape_)
    score_map = fitted.map_to_image(grid, fitted.check_samples(X)[2], 4.0)
    assert (score_map.shape, score_map.dtype) == ((40, 36), np.float32)
    assert fitted.map_to_image(grid, fitted.check_samples(X)[2], 4.0, size=(17, 90)).shape == (17, 90)
    np.testing.assert_allclose(np.nanmean(score_map), grid.mean(), atol=0.1)


def test_clones_are_unfitted_and_pickles_fitted(features, tmp_path):
    X = data_for(features)
    Z = features.fit(X).transform(X)
    with pytest.raises(NotFittedError):
        clone(features).transform(X)
    assert_array_equal(clone(features).fit(X).transform(X), Z)
    assert_array_equal(pickle.loads(pickle.dumps(features)).transform(X), Z)
    joblib.dump(features, tmp_path / "features")
    assert_array_equal(joblib.load(tmp_path / "features").transform(X), Z)


def test_what_learns_says_so(features):
    """Values that depend on the samples of `fit_samples` are announced."""
    X = data_for(features, 30)
    one, other = (clone(features).fit(part) for part in (X[:15], X[15:] / 2))
    assert features.learns == (not np.array_equal(one.transform(X), other.transform(X)))


def test_the_door_alone_learns_no_values(features):
    X = data_for(features, 30)
    features.fit(X[:15])
    Z = features.transform(X)
    features.check_samples(X[15:] / 2)
    assert_array_equal(features.transform(X), Z)
    features.check_samples(X[15:] / 2, reset=True)
    twin = clone(features)
    twin.check_samples(X, reset=True)
    with pytest.raises(NotFittedError):
        twin.transform(X)


def test_frozen_features_stay_as_they_are(features):
    X = data_for(features, 30)
    Z = features.fit(X[:15]).transform(X)
    before = pickle.dumps(features)
    frozen = begin(FrozenEstimator(features))
    frozen.fit_samples(frozen.check_samples(X[15:] / 2, reset=True))
    assert_array_equal(frozen.transform(X), Z)
    assert pickle.dumps(features) == before
    assert not frozen.learns


def test_frozen_features_inside_others(features):
    X = data_for(features, 30)
    if not hasattr(features, "features"):
        return
    inner = FrozenEstimator(clone(features.features).fit(X[:15]))
    outer = clone(features).set_params(features=inner)
    samples = outer.check_samples(X[15:], reset=True)
    outer.fit_samples(samples)
    assert outer.features_.estimator is inner.estimator
    assert_array_equal(outer.transform(X), clone(features).fit(X[:15]).transform(X))
    assert not outer.learns


def test_tags(features):
    tags = get_tags(features).input_tags
    assert tags.two_d_array != tags.three_d_array
    assert tags.two_d_array == isinstance(resolve_features(data_for(features)), Columns)


def test_a_failed_fit_changes_nothing(features):
    X = data_for(features)
    features.fit(X)
    Z, before = features.transform(X), vars(features).copy()
    with pytest.raises(ValueError, match="NaN"):
        features.fit(np.full_like(X, np.nan))
    assert vars(features) == before
    assert_array_equal(features.transform(X), Z)


# The same features


def test_features_are_the_same_as_their_copies(features):
    X = data_for(features)
    features.fit(X)
    others = (pickle.loads(pickle.dumps(features)), clone(features).fit(X), FrozenEstimator(features))
    for other in others:
        check_same_features(features, other, "PaDiM")
        check_same_features(other, features, "PaDiM")


@pytest.mark.parametrize(
    ("name", "change", "shown"),
    [
        ("pretrained", {"neighborhood": 1}, "neighborhood=1.*PaDiM has neighborhood=3"),
        ("pretrained", {"layers": (2,)}, "layers"),
        ("pretrained", {"image_size": 40}, "image_size"),
        ("pretrained", {"random_state": 1}, "weights_sha256_"),
        ("pretrained", {"data_range": 4095}, "data_range"),
        ("patches", {"normalization": None}, "normalization"),
        ("crops", {"stride": 4}, "stride"),
        ("crops", {"features__layers": ("/8",)}, "features_.layers"),
        ("crops", {"features__random_state": 1}, "features_.weights_sha256_"),
        ("pixels", {"gray": True}, "gray"),
        ("columns", {"scale": "robust"}, "scale"),
        ("pooled", {"features__neighborhood": 1}, "features_.neighborhood"),
        ("pooled columns", {"features__scale": "quantile"}, "features_.scale"),
    ],
)
def test_differences_are_named(name, change, shown):
    mine = clone(FEATURES[name]).fit(data_for(FEATURES[name]))
    other = clone(FEATURES[name]).set_params(**change).fit(data_for(FEATURES[name]))
    for theirs in (other, FrozenEstimator(other)):
        with pytest.raises(ValueError, match=f"other.features_ has {shown}"):
            check_same_features(mine, theirs, "PaDiM")
    with pytest.raises(ValueError, match="cannot be merged"):
        check_same_features(other, mine, "PaDiM")


def test_what_was_learnt_counts():
    X = data_for(Columns(), 30)
    mine, other = Columns().fit(X[:15]), Columns().fit(X[15:])
    with pytest.raises(ValueError, match="other.features_ has mean_="):
        check_same_features(mine, other, "PaDiM")


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 2},
        {"verbose": 1},
        {"memory": "somewhere"},
        {"memory_limit": 7},
        {"max_pixels": 10_000},
        {"device": "cpu"},
        {"layers": [2, 3]},
    ],
)
def test_what_has_no_effect_does_not_count(change):
    X = data_for(NETWORK)
    mine, other = clone(NETWORK).fit(X), clone(NETWORK).set_params(**change).fit(X)
    check_same_features(mine, other, "PaDiM")


def test_other_classes_are_others():
    X = data_for(NETWORK)
    with pytest.raises(ValueError, match="other.features_ has class='Pixels'"):
        check_same_features(PatchFeatures().fit(X), Pixels().fit(X), "PaDiM")


def test_null_objects_are_features_too(rng):
    for door in (Grids("KNNScorer"), Rows()):
        X = rng.normal(size=(5, 3))
        samples = door.check_samples(X, reset=True)
        assert door.fit_samples(samples) is door
        assert len(door.transform(samples[1:3])) == 2
        assert not door.learns
        check_same_features(door, pickle.loads(pickle.dumps(door)), "KNNScorer")


# Rows or images


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        ("parts/*.png", Pixels),
        (["a.png"], Pixels),
        (np.array(["a.png"]), Pixels),
        (np.zeros((2, 8, 8)), Pixels),
        (np.zeros((2, 8, 8, 3), np.uint8), Pixels),
        ([np.zeros((8, 8))], Pixels),
        ([], Pixels),
        (np.zeros((8, 8)), Columns),
        (np.zeros((8, 8), np.uint8), Columns),
        (np.zeros((8, 8), bool), Columns),
        ([[1, 2], [3, 4]], Columns),
        ([np.zeros(3)], Columns),
        (np.zeros(3), Columns),
    ],
)
def test_rows_or_images(X, expected):
    assert type(resolve_features(X)) is expected


def test_frames_are_rows_and_paths_and_sources_images(tmp_path):
    import pandas as pd

    from skanomaly._inputs.images import check_images

    assert type(resolve_features(pd.DataFrame([[1.0]]))) is Columns
    assert type(resolve_features(pd.Series(["a.png"]))) is Pixels
    assert type(resolve_features([tmp_path / "a.png"])) is Pixels
    assert type(resolve_features(check_images(np.zeros((1, 8, 8))))) is Pixels
