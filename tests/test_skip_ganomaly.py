import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from torch.nn import functional

from skanomaly import GradientProjection, Pixels, SkipGANomaly, load, save
from skanomaly._torch.adversarial import SkipStep
from skanomaly._torch.state import initialized
from skanomaly.metrics import image_auroc
from skanomaly.networks import DCGAN, SkipGAN, Training

OPTIONS = {"features": Pixels(32), "network": SkipGAN(4), "false_alarm_rate": None, "random_state": 0}


@pytest.fixture(scope="module")
def images():
    """Smooth waves (n, 32, 32); the last 8 of a direction that the others do not have."""
    rng = np.random.default_rng(0)
    phases = rng.uniform(0, 2 * np.pi, (40, 1, 1)) + np.linspace(0, 12, 32)[:, None]
    waves = 0.5 + 0.4 * np.sin(phases).repeat(32, axis=2)
    waves[32:] = 0.5 + 0.4 * np.sign(waves[32:].transpose(0, 2, 1) - 0.5)
    return (waves + rng.normal(0, 0.02, waves.shape)).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def trained(images):
    return SkipGANomaly(**OPTIONS, training=Training(lr=2e-3, batch_size=8), max_epochs=15).fit(images[:24])


def test_anomalies_are_found_and_an_untrained_network_is_worse(trained, images):
    y = np.repeat([1, -1], 8)
    scores = -trained.score_samples(images[24:])
    assert image_auroc(y, scores) > 0.9
    untrained = clone(trained).set_params(max_epochs=0).fit(images[:24])
    assert -untrained.score_samples(images[24:32]).mean() > 5 * scores[:8].mean()
    assert set(trained.history_) == {"train_loss", "discriminator_loss"}


def test_scores_by_hand(trained, images):
    images = images[28:36]
    rebuilt = trained.reconstruct(images)
    f, g = (trained.discriminator_features(x) for x in (images, rebuilt))
    squares = 4 * (images - rebuilt) ** 2
    by_hand = 0.9 * squares.mean(axis=(1, 2)) + 0.1 * ((f - g) ** 2).mean(axis=(1, 2, 3))
    assert_allclose(-trained.score_samples(images), by_hand, rtol=1e-3)
    residual = pickle.loads(pickle.dumps(trained)).set_params(lam=0.0)
    assert_allclose(-residual.score_samples(images), squares.mean(axis=(1, 2)), rtol=1e-3)


def test_scores_do_not_depend_on_the_batch(trained, images):
    """Batch norm uses the statistics of training, not those of the batch."""
    scores = trained.score_samples(images)
    assert_array_equal(trained.score_samples(images[::-1])[::-1], scores)
    assert_array_equal(np.concatenate([trained.score_samples(images[i : i + 1]) for i in range(40)]), scores)
    assert not any(layer.training for layer in trained._frozen_net().module.modules())


def test_saved_scores_are_equal(trained, images, tmp_path):
    save(trained, tmp_path / "model.skops")
    scores = trained.score_samples(images[:3])
    assert_array_equal(load(tmp_path / "model.skops").score_samples(images[:3]), scores)
    assert_array_equal(pickle.loads(pickle.dumps(trained)).score_samples(images[:3]), scores)


def test_losses_of_a_step_by_hand(images):
    """The losses before the first update of each network; the generator's sees the updated discriminator."""
    gan = initialized(lambda: SkipGAN(4).build_skip_gan((1, 32, 32)), torch.Generator().manual_seed(0)).train()
    x = torch.from_numpy(images[:4, None])
    with torch.no_grad():
        made = gan.generator(2 * x - 1)
    logits, guesses = (gan.discriminator(part) for part in (2 * x - 1, made))
    f, g = (gan.discriminator.trunk(part) for part in (2 * x - 1, made))
    right = functional.binary_cross_entropy_with_logits
    by_hand = right(logits, torch.ones(4)) + right(guesses, torch.zeros(4)) + 2 * functional.mse_loss(g, f)
    found = SkipStep(gan, (3, 50, 2), lr=1e-9)(x)
    assert_allclose(found["discriminator_loss"], by_hand.detach(), rtol=1e-5)
    by_hand = (
        3 * right(guesses, torch.ones(4)) + 50 * functional.l1_loss(made, 2 * x - 1) + 2 * functional.mse_loss(g, f)
    )
    assert_allclose(found["loss"], by_hand.detach(), rtol=1e-4)


def test_it_is_a_model_to_project_with(trained, images):
    projection = GradientProjection(clone(trained).set_params(max_epochs=1), n_steps=2, false_alarm_rate=None)
    assert projection.fit(images[:8]).project(images[:2]).shape == (2, 32, 32)


@pytest.mark.parametrize("shape", [(37, 50, 3), (70, 33, 1)])
def test_every_size_and_number_of_channels(shape, rng):
    images = rng.random((3, *shape))
    detector = SkipGANomaly(**{**OPTIONS, "features": Pixels(shape[:2])}, max_epochs=1).fit(images)
    assert detector.reconstruct(images).shape == images.squeeze().shape


def test_networks_that_do_not_suit(images):
    with pytest.raises(ValueError, match="32 x 32 pixels; the features return 16 x 16"):
        SkipGANomaly(Pixels(16)).fit(images)
    with pytest.raises(ValueError, match="build_skip_gan"):
        SkipGANomaly(network=DCGAN()).fit(images)


@pytest.mark.parametrize("size", [(32, 47), (48, 48), (63, 63), (96, 100)])
def test_images_of_any_size(size, rng):
    X = rng.random((4, *size), dtype=np.float32)
    detector = SkipGANomaly(Pixels(size), SkipGAN(2), max_epochs=0, false_alarm_rate=None, random_state=0)
    assert detector.fit(X).anomaly_map(X[:2]).shape == (2, *size)
