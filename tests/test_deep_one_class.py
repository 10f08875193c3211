import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skanomaly import DeepOneClass
from skanomaly.detectors._deep_one_class import Pairs, compactness


def leave_one_out(vectors):
    """Return the compactness loss as it is defined: each vector minus the mean of the others, in a loop."""
    n, k = vectors.shape
    total = 0.0
    for i in range(n):
        z = vectors[i] - torch.cat([vectors[:i], vectors[i + 1 :]]).mean(dim=0)
        total = total + z @ z
    return total / (n * k)


@pytest.mark.parametrize(("n", "k"), [(2, 3), (7, 5), (32, 20)])
def test_compactness_and_its_gradient_are_those_of_the_loop(n, k):
    vectors = torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = compactness(vectors), leave_one_out(vectors)
    assert_allclose(losses[0].item(), losses[1].item(), rtol=1e-12)
    ours, direct = (torch.autograd.grad(loss, vectors)[0] for loss in losses)
    assert_allclose(ours, direct, rtol=1e-10, atol=1e-14)
    variances = vectors.detach().numpy().var(axis=0)
    assert_allclose(losses[0].item(), np.mean(n**2 * variances / (n - 1) ** 2), rtol=1e-12)


def test_a_single_vector_is_compact():
    vectors = torch.randn(1, 4).requires_grad_()
    compactness(vectors).backward()
    assert torch.equal(vectors.grad, torch.zeros(1, 4))


def test_the_loss_is_the_sum_of_both():
    """The first half of a batch is normal; it counts in the cross entropy only as a class of its own."""
    head = torch.nn.Linear(4, 3, dtype=torch.float64)
    module = {"network": lambda x: x, "head": head}
    x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([-1, -1, -1, 0, 1, 1])
    losses = DeepOneClass(lam=3.0)._losses(module, x, y)
    probabilities = torch.log_softmax(head(x[3:]), dim=1)[torch.arange(3), y[3:]]
    assert_allclose(losses["descriptiveness"].item(), -probabilities.mean().item())
    assert_allclose(losses["compactness"].item(), leave_one_out(x[:3]).item())
    assert_allclose(losses["loss"].item(), (losses["descriptiveness"] + 3 * losses["compactness"]).item())


def test_every_normal_image_has_a_partner():
    normals, reference, labels = torch.arange(3.0), torch.arange(10.0, 12.0), torch.tensor([0, 1])
    x, y = Pairs(normals, reference, labels, -1, None)[torch.tensor([2, 0, 1])]
    assert (x.tolist(), y.tolist()) == ([2, 0, 1, 10, 10, 11], [-1, -1, -1, 0, 0, 1])
    pairs = Pairs(normals, reference, labels, 2, torch.Generator().manual_seed(0))
    x, y = pairs[torch.arange(3)]
    assert y[:3].tolist() == [2, 2, 2]
    assert_allclose(x[3:] - 10, y[3:])
    drawn = torch.cat([pairs[torch.arange(3)][1][3:] for _ in range(20)])
    assert set(drawn.tolist()) == {0, 1}
    assert len(Pairs(normals, reference[:0], labels[:0], -1, None)) == 0
