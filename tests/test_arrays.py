import numpy as np
import pandas as pd
import pytest

from skanomaly import (
    VAE,
    Autoencoder,
    GaussianScorer,
    GreedyCoreset,
    KNNScorer,
    RandomProjection,
    SparseCoding,
    SparseCodingScorer,
    SubspaceScorer,
)
from skanomaly._inputs.arrays import check_magnitude
from skanomaly.networks import DenseNetwork

ESTIMATORS = {
    "brute": KNNScorer(algorithm="brute", reweight=3),
    "pruned": KNNScorer(algorithm="pruned", n_neighbors=2),
    "gaussian": GaussianScorer(),
    "subspace": SubspaceScorer(2, random_state=0),
    "subspace loo": SubspaceScorer(calibration="loo"),
    "gaussian cv": GaussianScorer(ridge=0.01, calibration="cv"),
    "sparse coding scorer": SparseCodingScorer(max_iter=2, calibration="split", random_state=0),
    "coreset": GreedyCoreset(0.5, random_state=0),
    "projected coreset": GreedyCoreset(0.5, projection=3, random_state=0),
    "sparse coding": SparseCoding(max_iter=2, random_state=0),
    "projection": RandomProjection(3, random_state=0),
    "autoencoder": Autoencoder(network=DenseNetwork((4, 2)), max_epochs=1, random_state=0),
    "mahalanobis autoencoder": Autoencoder(
        network=DenseNetwork((4, 2)), max_epochs=1, residual="mahalanobis", random_state=0
    ),
    "vae": VAE(network=DenseNetwork((4, 2)), max_epochs=1, random_state=0),
}
SCALES = {
    np.float32: (1e18, 1e20, 3e38),
    np.float64: (1e25, 1e99, 1e155, 1e307),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataDimensionalityWarning"),
    pytest.mark.filterwarnings("ignore:invalid value encountered in reduce:RuntimeWarning"),  # scikit-learn's check
]


def results(estimator, X):
    """Return all that a fitted estimator says of X."""
    methods = ("score_samples", "transform", "inverse_transform")
    if hasattr(estimator, "inverse_transform"):
        return [estimator.transform(X), estimator.inverse_transform(estimator.transform(X))]
    return [getattr(estimator, name)(X) for name in methods if hasattr(estimator, name)]


def assert_finite_or_refused(compute):
    message = ""
    try:
        assert all(np.isfinite(value).all() for value in compute())
    except ValueError as error:
        message = str(error)
    assert not message or "squares overflow; the limit is" in message or "Training diverged" in message, message


@pytest.mark.parametrize("dtype", SCALES, ids=["float32", "float64"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_large_values_are_scored_or_refused(name, dtype, rng):
    X = rng.uniform(-1, 1, size=(40, 5))
    for scale in SCALES[dtype]:
        row = X.copy()
        row[7] *= scale
        constant = np.where(np.arange(5) == 1, scale, X)
        for train, test in ((X * scale, X), (row, row), (X, constant), (constant, X)):
            train, test = train.astype(dtype), test.astype(dtype)
            assert_finite_or_refused(lambda a=train, b=test: results(ESTIMATORS[name].fit(a), b))


@pytest.mark.parametrize("name", ["brute", "pruned", "gaussian", "projection"])
def test_other_dtypes_than_in_fit(name, rng):
    X = rng.uniform(-1, 1, size=(60, 5))
    fitted = ESTIMATORS[name].fit(X.astype(np.float32))
    for scale in (1e17, 1e30, 1e50, 1e200):
        assert_finite_or_refused(lambda scale=scale: results(fitted, X * scale))


@pytest.mark.parametrize("scale", [1e50, 1e99])
def test_large_values_are_scored_exactly(scale, rng):
    X, queries = rng.normal(size=(700, 5)), rng.normal(size=(50, 5))
    expected = KNNScorer(3, algorithm="brute", false_alarm_rate=None).fit(X).score_samples(queries)
    for algorithm in ("brute", "pruned"):
        scorer = KNNScorer(3, algorithm=algorithm, false_alarm_rate=None).fit(X * scale)
        np.testing.assert_allclose(scorer.score_samples(queries * scale), expected * scale, rtol=1e-12)
    expected = GaussianScorer().fit(X).score_samples(queries)
    np.testing.assert_allclose(GaussianScorer().fit(X * scale).score_samples(queries * scale), expected, rtol=1e-9)


def test_messages_name_the_columns():
    X = np.ones((3, 8))
    X[1, 2] = -1e200
    message = r"X has magnitudes up to 1e\+200 in column 2, whose squares overflow; the limit is 1e\+100 for 8"
    with pytest.raises(ValueError, match=message + r" features in float64\. Rescale them\.$"):
        KNNScorer().fit(X)
    with pytest.raises(ValueError, match="in column 2"):
        KNNScorer().fit(np.ones((4, 8))).score_samples(X)
    with pytest.raises(ValueError, match="in column 'c'"):
        GaussianScorer().fit(pd.DataFrame(X, columns=list("abcdefgh")))
    with pytest.raises(ValueError, match="in column 2"):
        KNNScorer().fit(X.reshape(3, 1, 1, 8))
    with pytest.raises(ValueError, match="in columns 0, 1, 2, 3, 4 and 3 more, whose"):
        check_magnitude(np.full((2, 8), 1e150))
    with pytest.raises(ValueError, match=r"8.15e\+17 for 8 features in float32\. Rescale them, or pass float64 in fit"):
        check_magnitude(np.full((2, 8), 1e18, np.float32))
    with pytest.raises(ValueError, match="3 features in float32. Rescale them.$"):
        KNNScorer(false_alarm_rate=None).fit(np.ones((4, 3), np.float32)).score_samples(np.full((2, 3), 1e30))


def test_a_graph_is_built_in_float32():
    with pytest.raises(ValueError, match="for 3 features in float32. Rescale them.$"):
        KNNScorer(algorithm="pynndescent").fit(np.full((40, 3), 1e50))


def test_times_in_nanoseconds_are_accepted():
    check_magnitude(np.full((2, 500), 1.8e18))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_the_output_of_a_projection_is_checked(value, rng):
    class Broken:
        def fit_transform(self, X):
            return np.where(np.arange(X.shape[1]) == 1, value, X)

        def __repr__(self):
            return "Broken()"

    with pytest.raises(ValueError, match="the output of projection=Broken"):
        GreedyCoreset(0.5, projection=Broken(), random_state=0).fit(rng.normal(size=(20, 3)))


def test_codes_are_checked(rng):
    coding = SparseCoding(2, random_state=0).fit(rng.normal(size=(20, 3)))
    with pytest.raises(ValueError, match="X has magnitudes up to 1e\\+308 in columns 0, 1"):
        coding.inverse_transform(np.full((1, 2), 1e308))
