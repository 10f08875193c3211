import subprocess
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skanomaly import networks
from skanomaly._torch.ssim import ssim_map
from skanomaly._torch.state import initialized
from skanomaly._torch.views import mean_values
from skanomaly.networks import DenseNetwork, PooledNetwork, SSIMLoss, StridedNetwork, Training
from skanomaly.networks._losses import SquaredLoss

ROW, IMAGE = (7,), (16, 20, 3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(network, shape, **options):
    return initialized(lambda: network.build(network.view(shape).shape, **options), seeded())


def test_descriptions_are_made_without_torch():
    code = "import sys; from skanomaly.networks import *; DenseNetwork(), StridedNetwork(), SSIMLoss(), Training(); "
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", networks.__all__)
def test_descriptions_are_estimators(name):
    description = getattr(networks, name)
    assert name in dir(networks)
    made = description(DenseNetwork()) if name == "FeatureLoss" else description()
    twin = clone(made)
    assert str(twin) == str(made)
    first = next(iter(made.get_params(deep=False)))
    assert getattr(twin.set_params(**{first: "other"}), first) == "other"
    assert getattr(made, first) != "other"


def test_unknown_names():
    with pytest.raises(AttributeError, match="Nothing"):
        networks.Nothing  # noqa: B018


# What is built


@pytest.mark.parametrize(
    ("network", "shape", "code"),
    [
        (DenseNetwork((5, 2)), ROW, (2,)),
        (DenseNetwork((5, 2)), IMAGE, (2,)),
        (StridedNetwork(9), IMAGE, (9,)),
        (StridedNetwork(9, patch_size=8), IMAGE, (9,)),
        (PooledNetwork(), IMAGE, (8, 2, 3)),
    ],
)
def test_inputs_have_a_code_and_a_reconstruction_of_their_shape(network, shape, code):
    network.check(shape)
    module, x = built(network, shape), torch.rand(4, *network.view(shape).shape, generator=seeded())
    assert module.encode(x).shape == (4, *code)
    assert module(x).shape == x.shape


@pytest.mark.parametrize("network", [DenseNetwork((5, 2), activation="relu"), StridedNetwork(2)])
def test_a_doubled_code_is_decoded_by_half(network):
    shape = ROW if isinstance(network, DenseNetwork) else IMAGE
    module = built(network, shape, n_codes_per_unit=2)
    code = module.encode(torch.randn(50, *network.view(shape).shape, generator=seeded()))
    assert code.shape == (50, 4)
    assert (code < 0).any()  # no ReLU
    assert module.decode(code[:, :2]).shape == (50, *network.view(shape).shape)


def test_a_feature_map_has_no_mean_and_variance():
    with pytest.raises(ValueError, match=r"network=PooledNetwork\(\) .*must be a StridedNetwork or a DenseNetwork"):
        PooledNetwork().build((1, 16, 16), n_codes_per_unit=2)


def test_widths_and_activations():
    """The tutorial's network for credit-card fraud."""
    activations = {"activation": ("tanh", "relu", "tanh"), "output_activation": "relu"}
    module = built(DenseNetwork((14, 7), decoder=(7,), **activations), (30,))
    layers = [*module.encoder, *module.decoder]
    assert [layer.weight.shape for layer in layers[::2]] == [(14, 30), (7, 14), (7, 7), (30, 7)]
    assert [type(layer).__name__ for layer in layers[1::2]] == ["Tanh", "ReLU", "Tanh", "ReLU"]


def test_the_penalty_is_the_norm_of_the_first_hidden_layer():
    for shape in (ROW, IMAGE):
        network = DenseNetwork((5, 2), activation="tanh", activity_penalty=0.5)
        module, x = built(network, shape), torch.rand(4, *network.view(shape).shape, generator=seeded())
        first = next(part for part in module.encoder if hasattr(part, "weight"))
        by_hand = torch.tanh(x.flatten(1) @ first.weight.T).abs().sum(dim=1).mean() / 2
        assert_allclose(network.penalty(module, x).detach(), by_hand.detach(), rtol=1e-6)
    assert DenseNetwork().penalty(module, x) == StridedNetwork().penalty(module, x) == 0


def test_schedules():
    rows, images = DenseNetwork(), StridedNetwork()
    assert [rows.auto_batch_size(n) for n in (50, 10_000, 10**6)] == [32, 100, 512]
    assert [rows.auto_epochs(n, 100) for n in (100, 10_000, 10**7)] == [200, 20, 5]
    assert images.auto_batch_size(10**6) == 16
    assert [images.auto_epochs(n, 16) for n in (10, 1600, 10**6)] == [200, 10, 2]
    assert [rows.default_noise(shape) for shape in (ROW, (3, 16, 20))] == [1, 0]
    assert images.default_noise((3, 16, 20)) == 0


# What is refused


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (DenseNetwork("wide"), ROW, "'hidden' parameter"),
        (DenseNetwork(()), ROW, "hidden=.. has no code"),
        (DenseNetwork((8, 0)), ROW, "hidden=.8, 0. is not accepted; widths must be integers"),
        (DenseNetwork(decoder=(2.5,)), ROW, "decoder=.2.5,. is not accepted"),
        (DenseNetwork(activation="relux"), ROW, "'activation' parameter"),
        (DenseNetwork(activation=("relu",)), ROW, "one for each of the 3 hidden layers"),
        (DenseNetwork(activation=("relu", "relu", "softmax")), ROW, "activation="),
        (StridedNetwork(0), IMAGE, "'code_size' parameter"),
        (StridedNetwork(), ROW, r"StridedNetwork\(\) sees images, but the samples are rows; use DenseNetwork"),
        (PooledNetwork(), (32, 4, 1), "at least 8 x 8 pixels; the features return 32 x 4"),
        (StridedNetwork(patch_size=4), IMAGE, "'patch_size' parameter"),
        (StridedNetwork(patch_size=17), IMAGE, "patch_size=17 is larger than the images, 16 x 20 pixels"),
        (PooledNetwork(patch_size=8, stride=9), IMAGE, "stride=9 leaves gaps between patches of patch_size=8"),
    ],
)
def test_bad_networks(network, shape, message):
    with pytest.raises(ValueError, match=message):
        network.check(shape)


@pytest.mark.parametrize(
    ("loss", "shape", "message"),
    [
        (SSIMLoss(10), (1, 16, 16), "window=10 of SSIMLoss is not accepted; it must be an odd number from 3 to 16"),
        (SSIMLoss(), (1, 8, 16), "odd number from 3 to 8"),
        (SSIMLoss(c1=0), (1, 16, 16), "'c1' parameter"),
        (SSIMLoss(7), (5,), r"loss=SSIMLoss\(window=7\) compares images, but the network sees vectors"),
        (networks.FeatureLoss(DenseNetwork()), (1, 16, 16), "'features' parameter"),
    ],
)
def test_bad_losses(loss, shape, message):
    with pytest.raises(ValueError, match=message):
        loss.check(shape)


@pytest.mark.parametrize("options", [{"lr": 0}, {"batch_size": 0}, {"validation_share": 1.0}, {"patience": 0}])
def test_bad_training(options):
    with pytest.raises(ValueError, match=f"'{next(iter(options))}' parameter"):
        Training(**options).check()


# Losses by hand


def test_squared_and_structural_losses():
    x, y = torch.rand(2, 3, 2, 12, 12, generator=seeded())
    assert_allclose(SquaredLoss().losses(x, y, mean_values), ((x - y) ** 2).mean(dim=(1, 2, 3)), rtol=1e-6)
    expected = 1 - ssim_map(x, y, window=5, c1=0.1, c2=0.2)
    loss = SSIMLoss(5, c1=0.1, c2=0.2)
    assert_array_equal(loss.residuals(x, y), expected)
    assert_allclose(loss.losses(x, y, mean_values), expected.mean(dim=(1, 2, 3)), rtol=1e-6)


def test_only_features_with_a_network_are_compared(rng):
    from skanomaly import PatchFeatures

    with pytest.raises(TypeError, match="features of FeatureLoss is of type PatchFeatures, which has no network"):
        networks.FeatureLoss(PatchFeatures()).fit_samples(rng.random((2, 32, 32)))


# Training


def line(training, **options):
    """Train f(x) = a x + b on the line 2 x + 1, and return history and the two numbers."""
    module = torch.nn.Linear(1, 1)
    module.load_state_dict({"weight": torch.zeros(1, 1), "bias": torch.zeros(1)})
    x = torch.linspace(-1, 1, 40)[:, None]
    train, valid = training.hold_out(40, seeded())
    options = {"max_epochs": 60, "generator": seeded(), **options}
    seen = []

    def loss(x, noise):
        seen.append(len(x))
        return (module(x) - 2 * x - 1).square().mean()

    history = training.run(module, loss, x[train], x[valid], DenseNetwork(), **options)
    return history, module.weight.item(), module.bias.item(), seen


def test_training_minimises_the_loss_and_validates():
    history, slope, shift, seen = line(Training(lr=0.1, batch_size=8))
    assert_allclose((slope, shift), (2, 1), atol=0.02)
    assert set(history) == {"train_loss", "valid_loss"}
    assert set(seen) == {8, 4}  # 36 = 4 x 8 + 4 to learn from, 4 held out
    plain = line(Training(lr=0.1, batch_size=8, validation_share=0))[0]
    assert set(plain) == {"train_loss"}


def test_auto_is_the_schedule_of_the_network():
    history, *_, seen = line(Training(validation_share=0, patience=None), max_epochs="auto")
    assert len(history["train_loss"]) == DenseNetwork().auto_epochs(40, 32) == 200
    assert set(seen) == {32, 8}


def test_another_step_takes_the_place_of_adam():
    batches = []

    def step(batch):
        batches.append(batch)
        return torch.tensor(0.0)

    _, slope, shift, _ = line(Training(batch_size=18), step=step, keep="last", max_epochs=2)
    assert (slope, shift) == (0, 0)
    assert [len(batch) for batch in batches] == [18] * 4


def test_whole_groups_are_held_out():
    groups = np.repeat(np.random.default_rng(0).permutation(20), 3)
    train, valid = Training(validation_share=0.25).hold_out(60, seeded(), groups)
    assert len(valid) == 15
    assert not set(groups[train]) & set(groups[valid])
    for a, b in zip(
        Training().hold_out(60, seeded()), Training().hold_out(60, seeded(), 100 - np.arange(60)), strict=True
    ):
        assert_array_equal(a, b)  # each its own group, whatever it is called
