"""The kernel under PaDiM and GaussianScorer, against numpy position by position."""

import numpy as np
import pytest

from skanomaly._kernels.gaussian import (
    add_samples,
    empty_moments,
    factorize,
    leave_one_out,
    mahalanobis,
    merge_moments,
    pack,
    runs_of_groups,
)


def correlated(rng, n, n_positions, d, offset=0.0):
    """Return samples (n, P, d) with a covariance and a mean of its own at every position."""
    mixing = rng.normal(size=(n_positions, d, d))
    return np.einsum("npi,pij->npj", rng.normal(size=(n, n_positions, d)), mixing) + offset * rng.normal(size=d)


def moments_of(X, dtype=np.float64, batch=None):
    moments = empty_moments(*X.shape[1:], dtype)
    for start in range(0, len(X), batch or len(X)):
        moments = add_samples(moments, X[start : start + (batch or len(X))])
    return moments


def covariances(X):
    return np.array([np.cov(X[:, p], rowvar=False).reshape(X.shape[2], -1) for p in range(X.shape[1])])


def distances_by_hand(X, mean, covariance):
    """Return the distances by an explicit inverse, one position after another."""
    found = np.empty(X.shape[:2])
    for p in range(X.shape[1]):
        steps = X[:, p] - mean[p]
        found[:, p] = np.sqrt(np.einsum("ni,ij,nj->n", steps, np.linalg.inv(covariance[p]), steps))
    return found


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 17, 40])
@pytest.mark.parametrize("n", [2, 127, 300])
def test_moments_are_numpys(rng, n, d):
    X = correlated(rng, n, 3, d)
    count, mean, scatter = moments_of(X)
    assert count == n
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scatter / (n - 1), pack(covariances(X)), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("batch", [1, 7, 128, 299])
def test_a_stream_equals_all_at_once(rng, batch):
    X = correlated(rng, 300, 4, 10, offset=1e4)
    whole, stream = moments_of(X), moments_of(X, batch=batch)
    np.testing.assert_allclose(stream.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(stream.scatter, whole.scatter, rtol=1e-8, atol=1e-8 * whole.scatter.max())


def test_a_large_mean_costs_no_digits(rng):
    """The sum of squares minus the squared sum would lose all of them."""
    X = rng.normal(size=(50, 2, 3))
    shifted = moments_of(X + 1e8)
    np.testing.assert_allclose(shifted.scatter, moments_of(X).scatter, rtol=0, atol=1e-5)


def test_merging_equals_all_at_once(rng):
    X = correlated(rng, 200, 3, 9, offset=100.0)
    first, second = moments_of(X[:30]), moments_of(X[30:])
    kept = second.scatter.copy()
    merged, whole = merge_moments(first, second), moments_of(X)
    assert merged.count == 200
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-9, atol=1e-11 * whole.scatter.max())
    np.testing.assert_array_equal(second.scatter, kept)


def test_float32_is_as_good_as_its_digits(rng):
    X = correlated(rng, 500, 3, 30, offset=10.0).astype(np.float32)
    scatter = moments_of(X, np.float32, batch=16).scatter
    assert scatter.dtype == np.float32
    exact = pack(covariances(X.astype(np.float64))) * 499
    scale = np.sqrt(np.einsum("pi,pj->pij", *[covariances(X.astype(np.float64)).diagonal(axis1=1, axis2=2)] * 2)) * 499
    assert (np.abs(scatter - exact) / pack(scale)).max() < 2e-6


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 18, 41])
def test_distances_are_those_of_an_inverse(rng, d):
    X, new = correlated(rng, 60, 3, d), rng.normal(size=(11, 3, d))
    _, mean, scatter = moments_of(X)
    factor, singular = factorize(scatter, 1 / 59, 0.01)
    assert not singular.any()
    by_hand = distances_by_hand(new, X.mean(axis=0), covariances(X) + 0.01 * np.eye(d))
    np.testing.assert_allclose(mahalanobis(new, mean, factor), by_hand, rtol=1e-9)
    single = factorize(scatter.astype(np.float32), 1 / 59, 0.01)[0]
    np.testing.assert_allclose(mahalanobis(new.astype(np.float32), mean, single), by_hand, rtol=2e-3)


def test_factors_are_choleskys(rng):
    X = correlated(rng, 50, 2, 8)
    factor, _ = factorize(moments_of(X).scatter, 1 / 49, 0.5)
    np.testing.assert_allclose(
        factor, pack(np.linalg.cholesky(covariances(X) + 0.5 * np.eye(8))), rtol=1e-10, atol=1e-12
    )


def test_squared_distances_average_to_the_dimension(rng):
    """Sum of d_i^T S^-1 d_i is the trace of (n - 1) I: their mean is d (n - 1) / n."""
    X = correlated(rng, 70, 4, 6)
    _, mean, scatter = moments_of(X)
    squared = mahalanobis(X, mean, factorize(scatter, 1 / 69, 0)[0]) ** 2
    np.testing.assert_allclose(squared.mean(axis=0), 6 * 69 / 70, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [3, 21, 100])
def test_bits_do_not_depend_on_the_batch(rng, dtype, d):
    X = correlated(rng, 75, 5, d).astype(dtype)
    _, mean, scatter = moments_of(X, dtype)
    factor, _ = factorize(scatter, 1 / 74, 0.01)
    all_at_once = mahalanobis(X, mean, factor)
    for i in range(75):
        np.testing.assert_array_equal(mahalanobis(X[i : i + 1], mean, factor)[0], all_at_once[i])
    np.testing.assert_array_equal(mahalanobis(np.ascontiguousarray(X[::-1]), mean, factor)[::-1], all_at_once)


@pytest.mark.parametrize(("n", "d", "ridge"), [(40, 5, 0.0), (12, 20, 0.01), (3, 4, 1.0)])
def test_leave_one_out_is_refitting(rng, n, d, ridge):
    X = correlated(rng, n, 3, d, offset=5.0)
    found = leave_one_out(X, moments_of(X), ridge, np.arange(n))
    for i in range(n):
        others = np.delete(X, i, axis=0)
        by_hand = distances_by_hand(X[i : i + 1], others.mean(axis=0), covariances(others) + ridge * np.eye(d))
        np.testing.assert_allclose(found[i], by_hand[0], rtol=1e-7)


@pytest.mark.parametrize(("d", "ridge", "dtype"), [(5, 0.0, np.float64), (20, 0.01, np.float64), (6, 1.0, np.float32)])
def test_leaving_groups_out_is_refitting(rng, d, ridge, dtype):
    """Groups of several sizes in any order, among them one of more samples than features, and one of copies."""
    groups = rng.permutation(np.repeat(np.arange(30), [1] * 24 + [2, 2, 3, 3, 4, 9]))
    X = correlated(rng, len(groups), 3, d, offset=5.0).astype(dtype)
    X[groups == 28] = X[groups == 28][0]
    found = leave_one_out(X, moments_of(X, dtype), ridge, groups)
    for group in range(30):
        own, others = X[groups == group].astype(float), X[groups != group].astype(float)
        by_hand = distances_by_hand(own, others.mean(axis=0), covariances(others) + ridge * np.eye(d))
        np.testing.assert_allclose(found[groups == group], by_hand, rtol=1e-7 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("length", [1, 4, 100])
def test_runs_hold_whole_groups_of_one_size(length):
    groups = np.array([2, 0, 1, 2, 3, 1, 0, 4, 2])
    runs = list(runs_of_groups(groups, 2, length))
    np.testing.assert_array_equal(np.concatenate(runs), [1, 6, 2, 5])
    assert [len(run) for run in runs] == {1: [2, 2], 4: [4], 100: [4]}[length]
    np.testing.assert_array_equal(np.concatenate(list(runs_of_groups(groups, 3, length))), [0, 3, 8])


def test_positions_left_out_in_chunks_are_those_left_out_together(rng, monkeypatch):
    X, groups = correlated(rng, 12, 7, 5), np.repeat(np.arange(6), 2)
    together = leave_one_out(X, moments_of(X), 0.1, groups)
    monkeypatch.setattr("skanomaly._kernels.gaussian._CHUNK_BYTES", 8 * 2 * 5 * 2)
    np.testing.assert_array_equal(leave_one_out(X, moments_of(X), 0.1, groups), together)


def test_singular_covariances_are_found(rng):
    """Too few samples, a copied column and a constant one, each at a position of its own; the last one is sound."""
    X = rng.normal(size=(9, 3, 4))
    X[:, 0, 3], X[:, 1, 2] = X[:, 0, 1], 7.0
    _, mean, scatter = moments_of(X)
    factor, singular = factorize(scatter, 1 / 8, 0)
    np.testing.assert_array_equal(singular, [True, True, False])
    np.testing.assert_array_equal(np.isnan(mahalanobis(X, mean, factor)).all(axis=0), singular)
    assert not factorize(scatter, 1 / 8, 0.01)[1].any()
    few = moments_of(X[:4])
    assert factorize(few.scatter, 1 / 3, 0)[1].all()


def test_leave_one_out_without_a_covariance_is_nan(rng):
    """Five samples of four features have one; four have none."""
    X = rng.normal(size=(5, 2, 4))
    for groups in (np.arange(5), np.array([0, 0, 1, 2, 3])):
        assert np.isnan(leave_one_out(X, moments_of(X), 0.0, groups)).all()
        assert np.isfinite(leave_one_out(X, moments_of(X), 0.01, groups)).all()
