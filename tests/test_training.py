import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skanomaly._networks.autoencoders import (
    dense_layers,
    pooled_decoder,
    pooled_encoder,
    strided_decoder,
    strided_encoder,
)
from skanomaly._torch.patches import PatchSamples, average_patches, patch_corners, split_patches
from skanomaly._torch.state import blank, from_arrays, initialized, to_arrays
from skanomaly._torch.training import fit_loop, gradient_step, hold_out, mean_loss, run_epoch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Number(nn.Module):
    """One parameter, to be moved towards the data."""

    def __init__(self, value=0.0):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))


def descend(module, data, validate=None, **options):
    options = {"max_epochs": 50, "batch_size": 4, "patience": None, "generator": seeded(), **options}
    step = gradient_step(module, lambda x: (x - module.value).square().mean(), lr=0.1)
    return fit_loop(module, data, step, validate, **options)


def test_the_loss_is_minimised():
    module, data = Number(), torch.tensor([1.0, 2.0, 6.0])
    history = descend(module, data, max_epochs=300)
    assert module.value.item() == pytest.approx(3, abs=0.05)
    assert history["train_loss"].shape == (300,)
    assert history["train_loss"][-1] == pytest.approx(data.var(correction=0).item(), rel=0.01)


def test_gradient_step_is_adam(rng):
    """Three steps by the equations of Kingma and Ba, on one number."""
    module, m, v, theta = Number(5.0), 0.0, 0.0, 5.0
    step = gradient_step(module, lambda x: (x * module.value).square().sum(), lr=0.1)
    for t, x in enumerate(rng.normal(size=3), start=1):
        loss = step(torch.tensor(x))
        assert not loss.requires_grad
        assert_allclose(float(loss), (x * theta) ** 2, rtol=1e-5)
        gradient = 2 * x**2 * theta
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        theta -= 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        assert_allclose(module.value.item(), theta, rtol=1e-5)


def test_an_epoch_sees_every_sample_once_and_averages_over_samples():
    batches = []

    def step(batch):
        batches.append(batch)
        return {"loss": batch.mean(), "largest": batch.max()}

    losses = run_epoch(step, torch.arange(10.0), 4, seeded())
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(torch.cat(batches).tolist()) == list(range(10))
    assert torch.cat(batches).tolist() != list(range(10))
    assert losses["train_loss"] == pytest.approx(4.5)  # though the last batch is smaller
    assert losses["largest"] == pytest.approx(sum(float(b.max()) * len(b) for b in batches) / 10)


def test_the_best_state_is_kept_and_training_stops_early():
    """The validation loss falls for three epochs, then rises."""
    module, losses, values = Number(), iter([3.0, 2.0, 1.0, 5.0, 4.0, 9.0]), []

    def validate():
        assert not module.training
        values.append(module.value.item())
        return next(losses)

    history = descend(module, torch.ones(4), validate, patience=2)
    assert_array_equal(history["valid_loss"], [3, 2, 1, 5, 4])
    assert module.value.item() == values[2] != values[4]
    assert not module.training


def test_the_last_state_is_kept_where_losses_say_nothing():
    values, losses = [], iter([3.0, 1.0, 5.0, 4.0])
    module = Number()

    def validate():
        values.append(module.value.item())
        return next(losses)

    descend(module, torch.ones(4), validate, max_epochs=4, keep="last")
    assert module.value.item() == values[-1] != values[1]
    assert not module.training


def test_without_validation_the_training_loss_is_watched():
    history = descend(Number(1.0), torch.ones(4), patience=3)
    assert set(history) == {"train_loss"}
    assert len(history["train_loss"]) == 4


def test_no_epochs_change_nothing():
    module = Number(2.0)
    assert_array_equal(descend(module, torch.ones(3), lambda: 0.0, max_epochs=0)["valid_loss"], [])
    assert module.value.item() == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_divergence_says_what_to_try(bad):
    with pytest.raises(ValueError, match=r"diverged in epoch 1 of 50: train_loss=(nan|inf).*Lower lr.*scale"):
        descend(Number(), torch.tensor([bad, 1.0]))
    with pytest.raises(ValueError, match="valid_loss"):
        descend(Number(), torch.ones(2), lambda: bad)


def test_mean_loss_weighs_samples_equally():
    data = torch.arange(5.0)
    assert mean_loss(lambda x: x.mean(), data, 3) == pytest.approx(2)


def test_hold_out_is_disjoint_and_leaves_one_sample():
    train, valid = hold_out(101, 0.1, seeded())
    assert len(valid) == 10
    assert sorted([*train, *valid]) == list(range(101))
    assert not np.array_equal(valid, hold_out(101, 0.1, seeded(1))[1])
    assert [len(part) for part in hold_out(2, 0.9, seeded())] == [1, 1]
    assert [len(part) for part in hold_out(4, 0.1, seeded())] == [4, 0]


def build():
    return nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Conv2d(2, 3, 5), nn.ConvTranspose2d(3, 2, 5, bias=False))


def test_first_weights_come_from_the_generator_alone():
    state = torch.get_rng_state()
    first, again, other = initialized(build, seeded()), initialized(build, seeded()), initialized(build, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.dim() == 1 or not torch.equal(a, c)
    assert_allclose(first[0].weight.std().detach(), np.sqrt(2 / 50), rtol=0.1)
    assert not first[0].bias.any()


@pytest.mark.parametrize(
    "norm",
    [
        nn.BatchNorm1d(3),
        nn.BatchNorm2d(3),
        nn.GroupNorm(1, 3),
        nn.LayerNorm(3),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
    ],
    ids=lambda norm: type(norm).__name__,
)
def test_norm_layers_start_as_torch_has_them(norm):
    """Their constructors draw nothing: weight 1, bias 0, mean 0, variance 1, no batches."""
    module = initialized(
        lambda: nn.ModuleDict({"norm": copy.deepcopy(norm).to("meta"), "net": nn.Linear(2, 2)}), seeded()
    )
    arrays = to_arrays(module["norm"])
    assert set(arrays) == set(norm.state_dict())
    for name, value in norm.state_dict().items():
        assert_array_equal(arrays[name], value)
    alone = initialized(lambda: nn.ModuleDict({"net": nn.Linear(2, 2)}), seeded())
    assert torch.equal(module["net"].weight, alone["net"].weight)


def test_statistics_of_norm_layers_are_part_of_the_state():
    module = initialized(lambda: nn.BatchNorm1d(2), seeded())
    module(torch.tensor([[1.0, 2.0], [3.0, 8.0]]))
    restored = from_arrays(blank(lambda: nn.BatchNorm1d(2)), to_arrays(module)).eval()
    assert_allclose(restored.running_mean, [0.2, 0.5])
    assert int(restored.num_batches_tracked) == 1
    x = torch.randn(4, 2, generator=seeded())
    assert torch.equal(restored(x), module.eval()(x))


class Kernel(nn.Module):
    """A constant that is made by the constructor, which `blank` does not keep."""

    def __init__(self):
        super().__init__()
        self.register_buffer("kernel", torch.ones(3))


class Refilled(Kernel):
    def reset_values(self):
        self.kernel.fill_(2.0)


@pytest.mark.parametrize("build", [lambda: nn.Embedding(3, 2), Number, Kernel])
def test_unknown_layers_are_not_left_without_values(build):
    with pytest.raises(TypeError, match=r"(Embedding|Number|Kernel) has parameters or buffers .*reset_values"):
        initialized(lambda: nn.Sequential(nn.Linear(2, 2), build()), seeded())


def test_modules_may_fill_their_values():
    assert_array_equal(initialized(Refilled, seeded()).kernel, [2, 2, 2])


def test_state_goes_to_arrays_and_back():
    module = initialized(build, seeded())
    arrays = to_arrays(module)
    module[0].weight.data.zero_()
    restored = from_arrays(blank(build), arrays)
    assert arrays["0.weight"].any()
    assert torch.equal(restored[0].weight, torch.from_numpy(arrays["0.weight"]))


@pytest.mark.parametrize("size", [(128, 128), (32, 32), (8, 8), (9, 13), (100, 61), (256, 256)])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_decoders_restore_the_size(size, n_channels):
    x = torch.zeros(1, n_channels, *size)
    code = strided_encoder(n_channels, size, 7)(x)
    assert code.shape == (1, 7)
    assert strided_decoder(n_channels, size, 7)(code).shape == x.shape
    assert pooled_decoder(n_channels, size)(pooled_encoder(n_channels)(x)).shape == x.shape


def test_the_strided_encoder_is_the_published_one():
    layers = [layer for layer in strided_encoder(1, (128, 128), 100) if isinstance(layer, nn.Conv2d)]
    plan = [(layer.out_channels, layer.kernel_size[0], layer.stride[0]) for layer in layers]
    downs = [(32, 4, 2), (32, 4, 2), (32, 3, 1), (64, 4, 2), (64, 3, 1), (128, 4, 2), (64, 3, 1), (32, 3, 1)]
    assert plan == [*downs, (100, 8, 1)]
    objects = [layer for layer in strided_encoder(1, (256, 256), 100) if isinstance(layer, nn.Conv2d)]
    assert [layer.stride[0] for layer in objects].count(2) == 5


def test_dense_layers_by_hand():
    layers = dense_layers([1, 2, 1], ["relu", "linear"])
    with torch.no_grad():
        layers[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        layers[0].bias.zero_()
        layers[2].weight.copy_(torch.tensor([[1.0, 10.0]]))
        layers[2].bias.fill_(0.5)
    assert_allclose(layers(torch.tensor([[2.0], [-3.0]])).detach(), [[2.5], [30.5]])


@pytest.mark.parametrize(("size", "p", "stride"), [((16, 16), 8, 4), ((17, 30), 8, 5), ((8, 8), 8, 2)])
def test_patches_average_to_the_image(size, p, stride):
    x = torch.rand(2, 3, *size, generator=seeded())
    corners = patch_corners(size, p, stride)
    patches = split_patches(x, corners, p)
    assert_allclose(average_patches(patches, corners, size), x, rtol=1e-6)
    assert_allclose(average_patches(patches[:, 0], corners, size), x[:, 0], rtol=1e-6)
    samples = PatchSamples(x, corners, p)
    assert torch.equal(samples[torch.arange(len(samples))], patches)
    tops = sorted({top for top, _ in corners})
    assert tops[0] == 0
    assert tops[-1] == size[0] - p
    assert max(np.diff(tops), default=0) <= stride


def test_overlaps_are_averaged_by_hand():
    corners = patch_corners((1, 3), 1, 1)
    patches = torch.tensor([1.0, 5.0, 9.0]).view(3, 1, 1, 1)
    assert_array_equal(average_patches(patches, corners, (1, 3))[0, 0], [[1, 5, 9]])
    two = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)])
    assert_array_equal(average_patches(two, [(0, 0), (0, 1)], (2, 3))[0, 0], [[0, 0.5, 1]] * 2)
