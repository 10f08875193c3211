import pytest
from numpy.testing import assert_allclose
from sklearn.neighbors import LocalOutlierFactor

from skanomaly._kernels.outlier_factors import local_densities, outlier_factors


@pytest.mark.parametrize("k", [1, 5, 20])
def test_factors_are_those_of_scikit_learn(k, rng):
    rows, queries = rng.normal(size=(60, 4)), 2 * rng.normal(size=(15, 4))
    rows[10:14] = rows[9]  # copies
    expected = LocalOutlierFactor(k, novelty=True).fit(rows)
    radii, densities = local_densities(rows, k)
    factors = outlier_factors(rows, radii, densities, queries, k)
    assert_allclose(factors, -expected.score_samples(queries), rtol=1e-9)
    assert_allclose(outlier_factors(rows, radii, densities, queries[:1], k), factors[:1], rtol=0)
