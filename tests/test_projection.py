import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.exceptions import DataDimensionalityWarning, NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection, johnson_lindenstrauss_min_dim

from skanomaly import GreedyCoreset, KNNScorer, RandomProjection

ORACLES = {"gaussian": GaussianRandomProjection, "sparse": SparseRandomProjection}
KINDS = pytest.mark.parametrize("kind", list(ORACLES))


@KINDS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grids_equal_sklearns_projection_of_their_rows(kind, dtype, rng):
    grids = rng.normal(size=(3, 4, 5, 60)).astype(dtype)
    projection = RandomProjection(7, kind=kind, random_state=0)
    projected = projection.fit_transform(grids)
    oracle = ORACLES[kind](7, random_state=0, **({"dense_output": True} if kind == "sparse" else {}))
    expected = oracle.fit_transform(grids.reshape(-1, 60)).reshape(3, 4, 5, 7)
    assert_allclose(projected, expected, rtol=1e-4, atol=1e-5)
    assert projected.dtype == dtype
    assert type(projection.components_) is np.ndarray
    assert (projection.n_components_, projection.n_features_in_) == (7, 60)


@KINDS
def test_rows_are_1x1_grids(kind, rng):
    rows = rng.normal(size=(300, 20))
    projection = RandomProjection(5, kind=kind, random_state=3)
    projected = projection.fit_transform(rows)
    assert projected.shape == (300, 5)
    assert_allclose(projected, rows @ projection.components_.T, atol=1e-12)
    assert_array_equal(projection.transform(rows[:, None, None])[:, 0, 0], projected)


def test_auto_is_the_johnson_lindenstrauss_dimension_of_all_patches(rng):
    grids = rng.normal(size=(4, 5, 5, 200)).astype(np.float32)
    projection = RandomProjection(eps=0.8, random_state=0).fit(grids)
    assert projection.n_components_ == johnson_lindenstrauss_min_dim(100, eps=0.8) < 200
    distances, projected = (pdist(g.reshape(100, -1), "sqeuclidean") for g in (grids, projection.transform(grids)))
    assert (np.abs(projected / distances - 1) < 0.8).all()


@KINDS
def test_auto_keeps_all_features_where_the_bound_asks_for_more(kind, rng):
    grids = rng.normal(size=(4, 5, 5, 200)).astype(np.float32)
    projection = RandomProjection(kind=kind, random_state=0)
    assert_array_equal(projection.fit_transform(grids), grids)
    assert projection.n_components_ == 200
    assert_array_equal(projection.components_, np.eye(200))


def test_auto_keeps_one_feature_of_one_row(rng):
    """A single row has no distances to keep, so that the bound is 0."""
    assert RandomProjection(random_state=0).fit_transform(rng.normal(size=(1, 3))).shape == (1, 1)


@KINDS
def test_same_bits_in_every_batch(kind, rng):
    grids = rng.normal(size=(9, 11, 7, 152)).astype(np.float32)
    projection = RandomProjection(50, kind=kind, random_state=0).fit(grids)
    together = projection.transform(grids)
    for i in (0, 4, 8):
        assert_array_equal(projection.transform(grids[i : i + 1]), together[i : i + 1])
    order = rng.permutation(9)
    assert_array_equal(projection.transform(grids[order]), together[order])
    rows = grids.reshape(-1, 152)
    assert_array_equal(projection.transform(rows[301:304]), together.reshape(-1, 50)[301:304])


@KINDS
def test_random_state_decides(kind, rng):
    rows = rng.normal(size=(10, 30))
    a, b, c = (RandomProjection(4, kind=kind, random_state=seed).fit(rows).components_ for seed in (1, 1, 2))
    assert_array_equal(a, b)
    assert not np.allclose(a, c)


def test_detection_survives_the_projection(rng):
    scale = np.repeat([1.0, 0.05], [5, 95])
    normal, test = rng.normal(size=(120, 100)) * scale, rng.normal(size=(40, 100)) * scale
    test[:20, 50:] += 1  # where normal rows hardly vary
    pipeline = make_pipeline(RandomProjection(20, random_state=0), GreedyCoreset(0.5, random_state=0), KNNScorer())
    scores = pipeline.fit(normal).score_samples(test)
    assert scores[:20].max() < scores[20:].min()


def test_names_of_the_output(rng):
    projection = RandomProjection(2, random_state=0).fit(rng.normal(size=(5, 3)))
    assert projection.get_feature_names_out().tolist() == ["randomprojection0", "randomprojection1"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, "'n_components' parameter"),
        ({"n_components": "all"}, "'n_components' parameter"),
        ({"kind": "fourier"}, "'kind' parameter"),
        ({"eps": 1.0}, "'eps' parameter"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    projection = RandomProjection(**parameters)
    with pytest.raises(ValueError, match=message):
        projection.fit(np.zeros((5, 3)))
    assert not hasattr(projection, "components_")


def test_bad_input_is_named(rng):
    with pytest.raises(NotFittedError):
        RandomProjection().transform(np.zeros((5, 3)))
    projection = RandomProjection(2, random_state=0).fit(np.zeros((5, 2, 2, 3)))
    with pytest.raises(ValueError, match="X has 4 features, but RandomProjection is expecting 3"):
        projection.transform(np.zeros((5, 2, 2, 4)))
    with pytest.raises(ValueError, match="NaN"):
        projection.fit(np.full((5, 3), np.nan))
    with pytest.warns(DataDimensionalityWarning, match="higher than the number of features"):
        RandomProjection(9, random_state=0).fit(np.zeros((5, 3)))


def test_a_projection_that_is_passed_to_a_coreset_stays_as_it_is(rng):
    projection = PCA(2).fit(rng.normal(size=(50, 4)))
    before = projection.mean_.copy()
    GreedyCoreset(projection=projection, random_state=0).fit(rng.normal(size=(50, 4)) + 5)
    np.testing.assert_array_equal(projection.mean_, before)
