import pickle
import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skanomaly import AnoGAN, Autoencoder, GradientProjection, Pixels, load, save
from skanomaly._torch.net import Net
from skanomaly._torch.search import adam_search
from skanomaly.exceptions import CollapseWarning
from skanomaly.metrics import image_auroc
from skanomaly.networks import DCGAN, SkipGAN, Training

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CollapseWarning")

SMALL = {"features": Pixels(32), "network": DCGAN(6, width=4), "false_alarm_rate": None, "random_state": 0}


@pytest.fixture(scope="module")
def images():
    """Bright discs of several sizes and places on a dark ground (n, 32, 32); the last 12 are rings."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:32, :32]
    centres, radii = rng.uniform(13, 19, (76, 2)), rng.uniform(6, 9, 76)
    distance = np.hypot(rows - centres[:, :1, None], columns - centres[:, 1:, None])
    discs = 1 / (1 + np.exp(distance - radii[:, None, None]))
    discs[64:] -= 0.8 / (1 + np.exp(distance[64:] - radii[64:, None, None] + 2.5))
    return (0.1 + 0.8 * discs + rng.normal(0, 0.01, discs.shape)).clip(0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def trained(images):
    """A detector whose generator has learnt the discs."""
    training = Training(lr=1e-3, batch_size=16)
    detector = AnoGAN(Pixels(32), DCGAN(8, width=8), n_steps=50, training=training, max_epochs=45, chunk_size=4)
    detector.set_params(inversion="encoder", false_alarm_rate=None, random_state=0, search_lr=0.1)
    return detector.fit(images[:56])


def searching(detector, **options):
    """Return a copy of a fitted detector that finds codes in another way."""
    return pickle.loads(pickle.dumps(detector)).set_params(**{"inversion": "search", **options})


@pytest.fixture(scope="module")
def untrained(images):
    return AnoGAN(**SMALL, n_steps=4, max_epochs=0, chunk_size=5).fit(images[:8])


# Training


def test_the_generator_imitates_and_does_not_collapse(trained, images):
    made, mean = trained.generate(64, random_state=0), images[:56].mean(axis=0)
    assert made.shape == (64, 32, 32)
    assert np.corrcoef(made.mean(axis=0).ravel(), mean.ravel())[0, 1] > 0.9
    assert 0.2 < trained.diversity_ < 3
    assert set(trained.history_) == {"train_loss", "discriminator_loss"}
    assert_array_equal(made, trained.generate(64, random_state=0))
    assert np.abs(made - trained.generate(64, random_state=1)).max() > 0.1


def test_diversity_by_hand(trained, images):
    made = trained.generate(600, random_state=0)
    by_hand = made.var(axis=0).sum() / images[:56].var(axis=0).sum()
    assert_allclose(trained.diversity_, by_hand, rtol=0.2)


def test_an_untrained_generator_is_much_worse(trained, images):
    y = np.repeat([1, -1], [8, 12])
    search = searching(trained)
    scores = -search.score_samples(images[56:])
    assert image_auroc(y, scores) > 0.9
    first = clone(search).set_params(max_epochs=0).fit(images[:56])
    worse = -first.score_samples(images[56:])
    assert worse[:8].mean() > 3 * scores[:8].mean()


class Constant(DCGAN):
    """Codes that are all alike."""

    def draw(self, n, generator):
        return 0 * super().draw(n, generator)


def test_a_collapsed_generator_is_reported(images):
    detector = AnoGAN(Pixels(32), Constant(6, width=4), n_steps=1, max_epochs=1, random_state=0)
    with pytest.warns(CollapseWarning, match=r"variance of its images is 0\.000"):
        detector.set_params(false_alarm_rate=None).fit(images[:8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(detector).set_params(max_epochs=0).fit(images[:8])


def test_the_encoder_leaves_the_gan_alone(images):
    search, encoder = (AnoGAN(**SMALL, inversion=how, max_epochs=2).fit(images[:16]) for how in ("search", "encoder"))
    assert set(search.network_state_) == set(encoder.network_state_)
    for name, value in search.network_state_.items():
        assert_array_equal(value, encoder.network_state_[name])
    assert search.encoder_state_ == {}
    assert len(encoder.encoder_history_["train_loss"]) == 2


def test_the_encoder_lowers_the_loss(trained, images):
    losses = trained.encoder_history_["train_loss"]
    assert losses[-5:].mean() < 0.5 * losses[0]
    images = images[56:64]
    error, blind = (
        np.abs(x - images).mean() for x in (trained.reconstruct(images), trained.generate(8, random_state=0))
    )
    assert error < 0.7 * blind
    both = searching(trained, inversion="both", n_steps=10)
    assert (both.score_samples(images) > trained.score_samples(images)).all()


def test_warm_start_goes_on(images):
    detector = AnoGAN(**SMALL, n_steps=1, max_epochs=2, warm_start=True).fit(images[:8])
    before = detector.network_state_
    detector.fit(images[:8])
    assert len(detector.history_["train_loss"]) == 4
    assert any((before[name] != value).any() for name, value in detector.network_state_.items())


# The search


def test_the_code_of_a_linear_generator_is_found():
    rng = torch.Generator().manual_seed(0)
    weights, z = torch.randn(20, 3, generator=rng), torch.randn(5, 3, generator=rng)
    found, energies = adam_search(
        lambda codes: ((codes - z) @ weights.T).abs().mean(dim=1), torch.zeros(5, 3), n_steps=600, lr=0.03
    )
    assert_allclose(found, z, atol=0.05)
    assert_allclose(energies, 0, atol=0.05)


def test_rows_of_the_search_follow_torch_adam():
    """Each row alone, by the optimiser of torch; the last code is returned where the energy only falls."""
    target = torch.tensor([[3.0, -5.0], [8.0, 4.0]])

    def energy(z):
        return (z - target[: len(z)]).square().sum(dim=1)

    found, energies = adam_search(energy, torch.zeros(2, 2), n_steps=7, lr=0.1)
    for row, z, lowest in zip(target, found, energies, strict=True):
        alone = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([alone], lr=0.1)
        for _ in range(7):
            optimizer.zero_grad()
            (alone - row).square().sum().backward()
            optimizer.step()
        assert_allclose(z, alone.detach(), rtol=1e-5)
        assert_allclose(lowest, (alone.detach() - row).square().sum(), rtol=1e-5)


def test_the_best_code_is_kept():
    found, energies = adam_search(lambda z: z.abs().sum(dim=1), torch.full((1, 1), 0.1), n_steps=3, lr=0.1)
    assert abs(found) < 1e-6  # the first step hits zero, the next ones leave it
    assert energies < 1e-6


@pytest.mark.parametrize("inversion", ["search", "encoder", "both"])
def test_scores_do_not_depend_on_the_batch(trained, images, inversion):
    detector, images = searching(trained, inversion=inversion, n_steps=3, chunk_size=5), images[50:62]
    scores = detector.score_samples(images)
    assert_array_equal(detector.score_samples(images[::-1])[::-1], scores)
    assert_array_equal(np.concatenate([detector.score_samples(images[i : i + 1]) for i in range(12)]), scores)
    assert_array_equal(detector.score_samples(images), scores)  # nothing is carried from call to call


def test_chunk_sizes_differ_by_rounding_only(trained, images):
    """In float64 and with few steps, in which rounding does not grow."""
    x = images[56:62, :, :, None].astype(np.float64)
    detector = searching(trained, n_steps=5)
    net = Net.from_state(lambda: DCGAN(8, width=8).build_gan((1, 32, 32)), trained.network_state_, torch.device("cpu"))
    net = Net(net.module, net.device, torch.float64).freeze()
    found = [
        net.run(lambda part: detector._codes(net.module, part), x.transpose(0, 3, 1, 2), length=n, gradients=True)
        for n in (1, 2, 6)
    ]
    assert_allclose(found[0], found[2], atol=1e-5)
    assert_allclose(found[1], found[2], atol=1e-5)
    assert np.abs(found[2] - found[2][:1]).max() > 0.01


def test_a_generated_image_has_a_loss_near_zero(trained, images):
    made = searching(trained).generate(3, random_state=4)
    search = searching(trained, n_steps=150, chunk_size=6)
    search.starts_ = np.concatenate([trained.starts_, -trained.starts_])
    losses = -search.score_samples(np.concatenate([made, images[64:67]]))
    assert np.median(losses[:3]) < 0.005
    assert losses[:3].max() < 0.5 * losses[3:].min()


def test_more_starting_points_never_hurt(images):
    one, three = (AnoGAN(**SMALL, n_steps=3, max_epochs=0, n_restarts=n).fit(images[:8]) for n in (1, 3))
    assert three.starts_.shape == (3, 6)
    assert_array_equal(one.starts_[0], three.starts_[0])
    fewer, more = (-detector.score_samples(images[:4]) for detector in (one, three))
    assert (more <= fewer).all()
    assert (more < fewer).any()


# Scores


def test_scores_by_hand(trained, images):
    images = images[60:68]
    detector = searching(trained, n_steps=5, lam=0.3)
    rebuilt = detector.reconstruct(images)
    f, g = (detector.discriminator_features(x) for x in (images, rebuilt))
    by_hand = 0.7 * np.abs(images - rebuilt).mean(axis=(1, 2)) + 0.3 * np.abs(f - g).mean(axis=(1, 2, 3))
    assert_allclose(-detector.score_samples(images), by_hand, rtol=1e-4)
    maps = detector.set_params(sigma=0).anomaly_map(images)
    smooth = np.abs(images - rebuilt)
    assert np.corrcoef(maps.ravel(), smooth.ravel())[0, 1] > 0.5
    assert_allclose(maps.mean(axis=(1, 2)), smooth.mean(axis=(1, 2)), rtol=0.05)


def test_without_features_the_score_is_the_residual(trained, images):
    detector = searching(trained, n_steps=5, lam=0.0)
    residuals = np.abs(images[56:60] - detector.reconstruct(images[56:60])).mean(axis=(1, 2))
    assert_allclose(-detector.score_samples(images[56:60]), residuals, rtol=1e-5)


def test_levels_of_the_map(trained, images):
    mean, share, most = (
        -searching(trained, n_steps=2, lam=0.0, image_score=level).score_samples(images[56:60])
        for level in ("mean", 0.1, "max")
    )
    assert (mean < share).all()
    assert (share < most).all()


def test_networks_score_in_evaluation_mode(trained):
    net = trained._frozen_net()
    assert not any(layer.training for layer in net.module.modules())
    assert not any(parameter.requires_grad for parameter in net.module.parameters())
    before = {name: value.copy() for name, value in trained.network_state_.items()}
    trained.score_samples(np.zeros((2, 32, 32), np.float32))
    for name, value in before.items():
        assert_array_equal(trained.network_state_[name], value)


@pytest.mark.parametrize("inversion", ["search", "encoder"])
def test_saved_scores_are_equal(trained, images, inversion, tmp_path):
    detector, images = searching(trained, inversion=inversion, n_steps=2), images[60:66]
    save(detector, tmp_path / "model.skops")
    scores = detector.score_samples(images)
    assert_array_equal(load(tmp_path / "model.skops").score_samples(images), scores)
    assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(images), scores)


# What does not fit together


def test_an_encoder_is_a_model_to_project_with(trained, images):
    projection = GradientProjection(AnoGAN(**SMALL, inversion="encoder", max_epochs=1), n_steps=2)
    assert projection.set_params(false_alarm_rate=None).fit(images[:8]).project(images[:2]).shape == (2, 32, 32)
    with pytest.raises(TypeError, match="AnoGAN, which has no loss to differentiate"):
        GradientProjection(AnoGAN(**SMALL)).fit(images[:8])


def test_an_encoder_must_be_fitted(untrained, images):
    assert not hasattr(untrained, "reconstructor")
    with pytest.raises(ValueError, match="fitted with inversion='search'; fit it again"):
        searching(untrained, inversion="both").score_samples(images[:1])


def test_networks_that_do_not_suit(images):
    with pytest.raises(ValueError, match="32 x 32 pixels; the features return 16 x 20"):
        AnoGAN(Pixels((16, 20))).fit(images)
    with pytest.raises(ValueError, match="build_gan"):
        AnoGAN(network=SkipGAN()).fit(images)
    with pytest.raises(ValueError, match="'build'"):
        Autoencoder(network=DCGAN()).fit(images)
    with pytest.raises(ValueError, match=r"AnoGAN\(network=DCGAN\(\)\)"):
        AnoGAN().set_params(network__width=8)


@pytest.mark.parametrize("shape", [(37, 50, 3), (32, 32, 1), (70, 33, 1)])
def test_every_size_and_number_of_channels(shape, rng):
    images = rng.random((3, *shape))
    detector = AnoGAN(**{**SMALL, "features": Pixels(shape[:2])}, n_steps=1, max_epochs=1, chunk_size=3).fit(images)
    assert detector.reconstruct(images).shape == images.squeeze().shape
    assert detector.anomaly_map(images).shape == images.shape[:3]


def test_diversity_of_a_single_image_is_a_number(images):
    """Nothing varies in it, so that no generator can collapse onto less."""
    options = {"max_epochs": 1, "false_alarm_rate": None, "random_state": 0}
    assert AnoGAN(Pixels(32), DCGAN(4, width=2), **options).fit(images[:1]).diversity_ > 1
