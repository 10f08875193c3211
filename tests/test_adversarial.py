import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skanomaly._torch.adversarial import CodeStep, SpectralNorm, changed
from skanomaly._torch.state import initialized
from skanomaly.networks import DCGAN

NETWORK = DCGAN(5, width=4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gan():
    return initialized(lambda: NETWORK.build_gan((1, 32, 32)), seeded())


@pytest.fixture
def images(rng):
    return torch.from_numpy(rng.random((6, 1, 32, 32), dtype=np.float32))


def step_of(gan, **options):
    draws = seeded(1)
    return CodeStep(gan, lambda n: NETWORK.draw(n, draws), seeded(2), lr=1e-3, **options)


def test_spectral_norm_against_the_singular_values(gan):
    spectral = SpectralNorm(gan.discriminator, seeded())
    for _ in range(300):
        weights = spectral.weights()
    assert set(weights) == {name for name, _ in gan.discriminator.named_parameters() if name.endswith("weight")}
    for name, weight in weights.items():
        exact = torch.linalg.matrix_norm(gan.discriminator.get_parameter(name).flatten(1), 2)
        assert_allclose((weight * exact).detach(), gan.discriminator.get_parameter(name).detach(), rtol=1e-3)


def test_losses_by_hand(gan, images):
    """The hinge losses of the first step, from copies of all that is random."""
    draws, changes = seeded(1), seeded(2)
    spectral = SpectralNorm(gan.discriminator, changes)
    before = copy.deepcopy(gan)
    with torch.no_grad():
        made = before.generate(NETWORK.draw(6, draws))
        for name, weight in spectral.weights().items():
            before.discriminator.get_parameter(name).copy_(weight)
        real, fake = before.discriminator(2 * changed(torch.cat([images, made]), changes) - 1).split(6)
    losses = step_of(gan)(images)
    expected = np.maximum(0, 1 - real.numpy()).mean() + np.maximum(0, 1 + fake.numpy()).mean()
    assert_allclose(losses["discriminator_loss"], expected, rtol=1e-4)
    assert set(losses) == {"loss", "discriminator_loss"}


def test_the_kept_generator_is_the_average(gan, images):
    step, seen = step_of(gan), []
    expected = {name: value.clone() for name, value in gan.generator.named_parameters()}
    for n in range(1, 4):
        step(images)
        for name, value in gan.generator.named_parameters():
            share = 1 - min(0.995, n / (n + 9))
            expected[name] = (1 - share) * expected[name] + share * value.detach()
        seen.append(next(gan.generator.parameters()).detach().clone())
    step.finish()
    for name, value in gan.generator.named_parameters():
        assert_allclose(value.detach(), expected[name].detach(), atol=1e-6)
    assert (seen[0] != seen[2]).any()


def test_statistics_of_batch_norm_are_those_of_the_kept_generator(gan, images):
    step = step_of(gan)
    step(images)
    step.finish()
    assert not gan.training
    codes = NETWORK.draw(2000, seeded(9))
    values = gan.generator[:2](codes)  # before the first norm
    norm = gan.generator[2]
    assert_allclose(norm.running_mean, values.mean(dim=(0, 2, 3)).detach(), atol=0.2)
    assert_allclose(norm.running_var, values.var(dim=(0, 2, 3)).detach(), rtol=0.2)


def test_features_after_training_are_of_normalised_weights(gan, images):
    step = step_of(gan)
    for _ in range(40):
        step(images)
    step.finish()
    for parameter in gan.discriminator.parameters():
        if parameter.ndim > 1:
            assert_allclose(torch.linalg.matrix_norm(parameter.detach().flatten(1), 2), 1, rtol=0.1)


def test_changes_of_images(images):
    """Equal seeds change equal images equally; a constant image stays constant but for brightness and the cut."""
    assert_array_equal(changed(images, seeded()), changed(images, seeded()))
    assert (changed(images, seeded()) != changed(images, seeded(1))).any()
    flat = changed(torch.full((50, 1, 16, 16), 0.7), seeded())
    assert_allclose(flat.mean(), 0.65, atol=0.05)
    assert all(len(np.unique(np.round(image, 5))) <= 2 for image in flat.numpy())
    shares = (flat == 0.5).float().mean(dim=(1, 2, 3))
    assert 0 < shares.mean() < 0.25


def test_shifts_are_of_an_eighth():
    """A bright row wanders by at most two of 16 rows, whole."""
    image = torch.zeros(200, 1, 16, 16)
    image[:, :, 8] = 1.0
    moved = changed(image, seeded()).amax(dim=(1, 3)).argmax(dim=1)
    assert set(moved.tolist()) >= {6, 7, 8, 9, 10}


def test_gradients_pass(images):
    x = images.requires_grad_()
    changed(x, seeded()).sum().backward()
    assert (x.grad != 0).any(dim=(1, 2, 3)).all()


def test_normalised_weights_stay_as_they_are_in_a_second_training(gan):
    """The first division is already by the largest singular value, whatever the starting vectors are."""
    spectral = SpectralNorm(gan.discriminator, seeded())
    for _ in range(100):
        weights = spectral.weights()
    with torch.no_grad():
        for name, weight in weights.items():
            gan.discriminator.get_parameter(name).copy_(weight)
    for again in SpectralNorm(gan.discriminator, seeded(7)).weights().values():
        exact = torch.linalg.matrix_norm(again.detach().flatten(1), 2)
        assert_allclose(exact, 1, rtol=0.03)
