import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skanomaly._torch.inference import row_by_row
from skanomaly._torch.net import Net
from skanomaly._torch.views import Cells, Images, Patches, Rows

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


@pytest.fixture
def net():
    return Net.untrained(build, seeded(), CPU).freeze()


# The life of modules


def test_the_state_builds_the_net_again(net):
    again = Net.from_state(build, net.state(), CPU)
    x = torch.randn(5, 3, generator=seeded())
    assert torch.equal(again.module(x), net.module(x))
    assert all(isinstance(array, np.ndarray) for array in net.state().values())
    assert all(p.requires_grad for p in again.module.parameters())
    assert not any(p.requires_grad for p in net.module.parameters())
    assert not net.module.training


def test_the_dtype_is_that_of_the_arrays(net, rng):
    exact, single = (Net.from_state(build, net.state(), CPU, dtype) for dtype in (np.float64, np.float32))
    X = rng.normal(size=(4, 3))
    assert exact.run(exact.module, X, length=4).dtype == np.float64
    assert single.run(single.module, X.astype(np.float32), length=4).dtype == np.float32


def test_several_modules_share_one_life():
    def pair():
        return nn.ModuleDict({"there": nn.Linear(3, 2), "back": nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))})

    net = Net.untrained(pair, seeded(), CPU)
    again = Net.from_state(pair, net.state(), CPU).freeze()
    assert {name.split(".")[0] for name in net.state()} == {"there", "back"}
    x = np.ones((2, 3), np.float32)
    there, back = again.run(
        lambda x: (again.module["there"](x), again.module["back"](again.module["there"](x))), x, length=2
    )
    assert there.shape == (2, 2)
    assert_array_equal(back, net.freeze().run(lambda x: net.module["back"](net.module["there"](x)), x, length=2))


# Batches


@pytest.mark.parametrize("gradients", [False, True])
def test_results_do_not_depend_on_the_batch(net, rng, gradients):
    X = rng.normal(size=(37, 3)).astype(np.float32)
    lengths = []

    def function(x):
        lengths.append(len(x))
        return net.module(x)

    whole = net.run(function, X, length=8, gradients=gradients)
    alone = [net.run(function, X[i : i + 1], length=8, gradients=gradients) for i in range(37)]
    assert set(lengths) == {8}
    assert_array_equal(np.concatenate(alone), whole)
    assert_allclose(whole, net.module(torch.from_numpy(X)), atol=1e-6)


def test_outputs_may_be_several(net, rng):
    X = rng.normal(size=(5, 3)).astype(np.float32)
    sums, outputs = net.run(lambda x: (x.sum(dim=1), net.module(x)), X, length=2)
    assert_allclose(sums, X.sum(axis=1), rtol=1e-6)
    assert_array_equal(outputs, net.run(net.module, X, length=2))


def test_arrays_are_filled_up_with_zeros_together(rng):
    net, X = Net(nn.Identity(), CPU), rng.normal(size=(5, 2))

    def function(x, real):
        assert real.tolist() in ([True] * 4, [True, False, False, False])
        assert (x[~real] == 0).all()
        return x

    assert_array_equal(net.run(function, X, np.ones(5, bool), length=4), X)


def test_gradients(net, rng):
    X = rng.normal(size=(5, 3)).astype(np.float32)

    def slope(x):
        x = x.requires_grad_()
        return torch.autograd.grad(net.module(x).sum(), x)[0]

    first, last = net.module[0].weight, net.module[2].weight
    by_hand = ((1 - np.tanh(X @ first.numpy().T) ** 2) * last.sum(dim=0).numpy()) @ first.numpy()
    assert_allclose(net.run(slope, X, length=3, gradients=True), by_hand, rtol=1e-4, atol=1e-6)
    with pytest.raises(RuntimeError):
        net.run(slope, X, length=3)


# Views


@pytest.mark.parametrize(
    "view",
    [
        Rows((4,)),
        Images((3, 12, 16)),
        Patches((3, 8, 8), (12, 16), 4),
        Patches((3, 9, 9), (12, 16), 2),
        Cells((3,), (12, 16)),
    ],
    ids=lambda view: type(view).__name__,
)
def test_a_view_leads_back_to_the_samples(view, rng):
    Z = rng.normal(size=(5, 4) if isinstance(view, Rows) and type(view) is Rows else (5, 12, 16, 3)).astype(np.float32)
    x = torch.from_numpy(view.arrange(Z))
    seen = view.split(x)
    assert seen.shape[1:] == view.shape
    assert_allclose(view.arrange_back(view.join(seen)), Z, rtol=1e-6)
    assert torch.equal(view.to_learn_from(x)[torch.arange(len(seen))], seen)
    assert_allclose(view.mean(seen), Z.reshape(5, -1).astype(float).mean(axis=1), atol=1e-6)
    assert len(view.per_sample(seen.flatten(1)[:, 0])) == 5


def test_every_pixel_of_overlapping_patches_counts_once():
    """A pixel in the corner is in one of the nine patches, the one in the centre in four."""
    view = Patches((1, 4, 4), (8, 8), 2)
    assert len(view.corners) == 9
    for place in ((0, 0), (3, 3), (0, 4)):
        x = torch.zeros(1, 1, 8, 8)
        x[0, 0][place] = 1.0
        assert_allclose(view.mean(view.split(x)), [1 / 64])
        assert_allclose(view.total(view.split(x)), [16 / 64])


def test_coarser_maps_of_patches_are_spread_over_their_pixels():
    view = Patches((1, 4, 4), (8, 8), 4)
    coarse = torch.arange(16.0).view(4, 1, 2, 2)
    assert_allclose(view.mean(coarse), [7.5])


def test_cells_are_standardised_by_the_training_samples(rng):
    Z = (rng.normal(size=(50, 3, 4, 2)) * [1, 100] + [5, -3]).astype(np.float32)
    Z[..., 0] = 7.0
    view = Cells((2,), (3, 4))
    view = Cells((2,), (3, 4), **view.fit(Z))
    standard = view.standardize(Z)
    assert standard.dtype == np.float32
    assert_array_equal(standard[..., 0], 0)
    assert_allclose(standard[..., 1].mean(), 0, atol=1e-5)
    assert_allclose(standard[..., 1].std(), 1, rtol=1e-5)


@pytest.mark.parametrize("n_columns", [1, 5, 6, 13, 29])
@pytest.mark.parametrize("n_outputs", [1, 7, 8, 11])
def test_bits_of_a_row_and_its_gradient_do_not_depend_on_its_place(n_columns, n_outputs):
    """Plain products in float64 fail this for 5, 13 and 29 columns on some processors."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1024, n_columns, generator=generator, dtype=torch.float64)
    weight, bias = torch.randn(n_outputs, n_columns + 1, generator=generator, dtype=torch.float64).split(
        [n_columns, 1], 1
    )

    def product_and_gradient(x):
        x = x.clone().requires_grad_()
        y = row_by_row(x, weight, bias[:, 0])
        return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]

    expected = product_and_gradient(x)
    plain = x @ weight.T + bias[:, 0]
    torch.testing.assert_close(expected[0], plain, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(expected[1], 2 * plain @ weight, rtol=1e-12, atol=1e-12)
    for order in (torch.arange(1024).flip(0), torch.arange(1024).roll(5)):
        for value, reference in zip(product_and_gradient(x[order]), expected, strict=True):
            assert torch.equal(value, reference[order])
