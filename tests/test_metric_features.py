import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skanomaly import MetricFeatures, PretrainedPatchFeatures
from skanomaly._networks.vectors import unit_rows


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_rows_have_the_norm_alpha_in_batches_of_all_sizes(n):
    """The norm of a batch of n rows is not that of each of them."""
    x = torch.randn(n, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    assert_allclose(torch.linalg.vector_norm(5 * unit_rows(x), dim=1), 5, rtol=1e-12)
    assert torch.equal(unit_rows(x)[:1], unit_rows(x[:1]))


def test_zero_vectors_stay_zeros_and_have_a_gradient():
    x = torch.zeros(2, 3, dtype=torch.float64)
    x[1] = torch.tensor([3.0, 0.0, 4.0])
    x.requires_grad_()
    unit = unit_rows(x)
    assert_allclose(unit.detach(), [[0, 0, 0], [0.6, 0, 0.8]])
    unit.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_gradient_of_unit_rows():
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(unit_rows, x)


def test_vectors_have_the_norm_alpha(rng):
    features = PretrainedPatchFeatures("test_efficientnet", layers=("bn2",), weights="random", image_size=32)
    images = rng.integers(0, 256, (5, 32, 32), np.uint8)
    for alpha in (5.0, 2.0):
        detector = MetricFeatures(features, alpha=alpha, max_epochs=0, false_alarm_rate=None).fit(images)
        assert_allclose(np.linalg.norm(detector.transform(images), axis=1), alpha, rtol=1e-5)
        assert np.linalg.norm(detector.center_) < alpha
