import pickle
import weakref

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from tiny_feature_net import TinyFeatureNet
from torch.nn import functional

from skanomaly import AnoUNet, Autoencoder, ConformalDetector, Pixels, load, save
from skanomaly._networks.unet import stacked_state
from skanomaly._torch.rebuild import rebuild
from skanomaly._torch.state import from_arrays, initialized, to_arrays
from skanomaly.exceptions import CalibrationWarning
from skanomaly.networks import DenseNetwork, Training, UNet
from skanomaly.plotting import ReconstructionDisplay
from skanomaly.testing import parametrize_with_image_checks

SIDE = 16
PUBLISHED = {"beta": 50.0, "optimizer": "momentum", "lr": 1e-3}
OPTIONS = {"features": Pixels(SIDE), "network": UNet(4, depth=2), "n_steps": 8, "random_state": 0, **PUBLISHED}
TRUSTED = ["tiny_feature_net.TinyFeatureNet"]
pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


def make(**options):
    return AnoUNet(TinyFeatureNet(random_state=0), **{**OPTIONS, "false_alarm_rate": None, **options})


@pytest.fixture(scope="module")
def images():
    """Smooth images of three colours."""
    rng = np.random.default_rng(0)
    return np.clip(rng.normal(0.5, 0.2, (12, 4, 4, 3)), 0, 1).repeat(5, axis=1).repeat(5, axis=2)


@pytest.fixture(scope="module")
def fitted(images):
    return make().fit(images)


def network_of(detector):
    return detector.feature_net_.feature_network().module


def arranged(images):
    return torch.from_numpy(Pixels(SIDE).fit(images).transform(images).transpose(0, 3, 1, 2).copy())


# The networks


def test_the_published_network_has_the_published_layers():
    """64, 128, ..., 1024 channels: blocks, transposed convolutions and the last layer, counted by hand."""
    with torch.device("meta"):
        module = UNet(64, depth=4).build((3, 96, 96))
    blocks = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1024), (1024, 512), (512, 256), (256, 128), (128, 64)]
    expected = sum(9 * a * b + 9 * b * b + 4 * b for a, b in blocks)
    expected += sum(4 * 2 * b * b + b for b in (512, 256, 128, 64)) + 3 * 64 + 3
    assert sum(p.numel() for p in module.parameters()) == expected


def test_a_block_is_batch_normalised_like_a_single_image(rng):
    """Oracle: torch's batch normalisation, in training mode, of one image at a time."""
    module = initialized(lambda: UNet(4, depth=1).build((3, 10, 14)), torch.Generator().manual_seed(0))
    x = torch.from_numpy(rng.random((2, 3, 10, 14), dtype=np.float32))

    def block(x, layers):
        for convolution, norm in (layers[:2], layers[3:5]):
            x = functional.conv2d(x, convolution.weight, padding=1)
            x = functional.relu(functional.batch_norm(x, None, None, norm.weight, norm.bias, True, eps=1e-3))
        return x

    for i in range(2):
        skip = block(x[i : i + 1], module.down[0])
        below = block(functional.max_pool2d(skip, 2), module.down[1])
        merged = block(torch.cat([skip, module.up[0](below)], dim=1), module.merge[0])
        assert_allclose(module(x)[i].detach(), torch.sigmoid(module.last(merged))[0].detach(), atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (13, 18), (9, 23)])
def test_images_of_any_size_keep_their_size(size):
    module = initialized(lambda: UNet(2, depth=2).build((1, *size), 3), torch.Generator().manual_seed(0))
    assert module(torch.rand(3, 1, *size)).shape == (3, 1, *size)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_stacked_networks_equal_separate_ones(rng, optimizer):
    """In float64: each network of a stack goes the way it would go alone."""
    network, x = UNet(3, depth=2), torch.from_numpy(rng.random((3, 3, 12, 12)))
    state = to_arrays(initialized(lambda: network.build((3, 12, 12)), torch.Generator().manual_seed(0)))
    goal, weights = torch.from_numpy(rng.random(3)), torch.tensor([1.0, 5.0], dtype=torch.float64)

    def optimised(x):
        n = len(x)
        with torch.device("meta"):
            module = network.build((3, 12, 12), n)
        module = from_arrays(module.to_empty(device="cpu"), stacked_state(state, n)).double()

        def losses(y):
            return torch.stack([(x - y).abs().flatten(1).mean(1), (y.mean((2, 3)) - goal).abs().mean(1)], dim=1)

        steps = {"n_steps": 5, "patience": None, "real": torch.ones(n, dtype=bool)}
        return rebuild(module, x, losses, weights, optimizer(module.parameters(), lr=1e-2), **steps)[:2]

    together, alone = optimised(x), [optimised(x[i : i + 1]) for i in range(3)]
    for values, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert_allclose(values, torch.cat(parts), atol=1e-9)
    assert together[1].std(dim=0).min() > 1e-4  # the images differ


def test_a_network_stops_by_itself():
    """Losses by hand: image 0 has its lowest at step 2 of 6, image 1 improves until the end."""
    falling = {0: [5, 4, 3, 4, 4, 4, 4], 1: [7, 6, 5, 4, 3, 2, 1]}
    module, calls = torch.nn.Conv2d(1, 1, 1), []

    def losses(y):
        calls.append(len(calls))
        return torch.tensor([[float(falling[i][calls[-1]])] for i in range(2)]) + 0 * y.sum()

    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    options = {"n_steps": 6, "patience": 2, "real": torch.tensor([True, True])}
    _, terms, steps = rebuild(module, torch.rand(2, 1, 2, 2), losses, torch.ones(1), optimizer, **options)
    assert terms[:, 0].tolist() == [3, 1]
    assert steps.tolist() == [4, 6]
    calls.clear()
    rebuild(
        module,
        torch.rand(2, 1, 2, 2),
        losses,
        torch.ones(1),
        optimizer,
        **{**options, "real": torch.tensor([True, False])},
    )
    assert len(calls) == 5  # padding is not waited for


# Losses


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_what_is_shown_is_what_was_optimised(images, reduction):
    """L_R and L_C, recomputed from the rebuilt images that the user sees, are those of the optimisation."""
    beta = 50.0 if reduction == "mean" else 50 * SIDE * SIDE * 3 / 8
    detector = make(reduction=reduction, beta=beta).fit(images)
    x = arranged(images[:3])
    small = x.numpy().transpose(0, 2, 3, 1)
    reduce = getattr(np, reduction)
    for image, explanation in zip(small, detector.iter_explanations(small), strict=True):
        assert_allclose(reduce(np.abs(image - explanation.image)), explanation.residual_loss, rtol=1e-5)
        rebuilt = torch.from_numpy(explanation.image.transpose(2, 0, 1)[None].copy())
        features = network_of(detector)(rebuilt)[0].numpy()
        assert_allclose(reduce(np.abs(features - detector.center_)), explanation.feature_loss, rtol=1e-3, atol=1e-6)
        assert explanation.n_steps == 8


def test_the_center_is_computed_by_the_function_of_the_loss(images):
    """A normal image whose features are C has L_C = 0 to the bit if its network copies it exactly."""
    detector = make(n_steps=0, batch_size=1).fit(images[:1])
    x = arranged(images[:1])
    assert_array_equal(network_of(detector)(x)[0], detector.center_.astype(np.float32))
    many = make(n_steps=0).fit(images)
    assert_allclose(many.center_, network_of(many)(arranged(images)).double().mean(dim=0), rtol=1e-6)


def test_beta_pulls_and_zero_only_copies(images):
    """With beta = 0 the residual falls further, with a large beta the features come nearer to C."""
    losses = {}
    for beta in (0.0, 100.0):
        detector = make(beta=beta, optimizer="adam", lr=2e-2, n_steps=25, batch_size=2).fit(images)
        losses[beta] = np.mean(
            [(e.residual_loss, e.feature_loss) for e in detector.iter_explanations(images[:2])], axis=0
        )
    assert losses[0.0][0] < 0.8 * losses[100.0][0]
    assert losses[100.0][1] < 0.5 * losses[0.0][1]


def test_momentum_steps_are_those_of_the_paper(images):
    """One image, three steps, by hand: v = 0.9 v + g, w = w - lr v on L_R + beta L_C with means."""
    detector = make(n_steps=3, beta=7.0, lr=0.05, optimizer="momentum", batch_size=1).fit(images)
    module = from_arrays(UNet(4, depth=2).build((3, SIDE, SIDE)), detector.network_state_)
    x, center = arranged(images[:1]), torch.from_numpy(detector.center_).float()
    velocities = [0.0] * len(list(module.parameters()))
    for _ in range(3):
        y = module(x)
        loss = (x - y).abs().mean() + 7 * (network_of(detector)(y)[0] - center).abs().mean()
        gradients = torch.autograd.grad(loss, list(module.parameters()))
        velocities = [0.9 * v + g for v, g in zip(velocities, gradients, strict=True)]
        with torch.no_grad():
            for parameter, velocity in zip(module.parameters(), velocities, strict=True):
                parameter -= 0.05 * velocity
    (explanation,) = detector.iter_explanations(x.numpy().transpose(0, 2, 3, 1))
    assert_allclose(explanation.image, module(x)[0].detach().numpy().transpose(1, 2, 0), atol=1e-5)


def test_moving_averages_are_another_picture(images):
    """The author's pictures come from the moving averages, which after few steps are still far from the statistics."""
    own, averages = (make(statistics=s).fit(images).explain(images[:2]) for s in ("image", "averages"))
    assert np.abs(own - averages).mean() > 0.01


# Scores and maps


def test_scores_are_those_of_the_feature_net_and_cost_no_network(images, fitted, monkeypatch):
    monkeypatch.setattr(AnoUNet, "_rebuild", None)
    alone = TinyFeatureNet(random_state=0, false_alarm_rate=None).fit(images)
    assert_array_equal(fitted.score_samples(images), alone.score_samples(images))
    detector = make(false_alarm_rate=0.2).fit(images)
    assert set(detector.predict(images)) <= {-1, 1}


def test_maps_are_residuals(images, fitted):
    small = arranged(images[:2]).numpy().transpose(0, 2, 3, 1)
    expected = np.abs(small - fitted.explain(small)).mean(axis=3)
    unsmoothed = clone(fitted).set_params(sigma=0.0).fit(images)
    assert_allclose(unsmoothed.anomaly_map(small), expected, atol=1e-6)


@pytest.mark.parametrize("parameters", [PUBLISHED, {"beta": 1.0, "optimizer": "adam", "lr": 1e-2}])
def test_results_do_not_depend_on_the_other_images(images, parameters):
    """To the bit, in batches of 4; in batches of 3 up to rounding errors, which Adam amplifies."""
    detector = make(**parameters, n_steps=4).fit(images)
    together = detector.explain(images[:6])
    assert_array_equal(detector.explain(images[:6][::-1])[::-1], together)
    maps = detector.anomaly_map(images[:6][::-1])[::-1]
    for i in (0, 5):
        assert_array_equal(detector.explain(images[i : i + 1])[0], together[i])
        assert_array_equal(detector.anomaly_map(images[i : i + 1])[0], maps[i])
    if parameters is PUBLISHED:
        assert_allclose(detector.set_params(batch_size=3).explain(images[:6]), together, atol=1e-3)


def test_memory_is_bounded_by_the_batch(images, monkeypatch):
    """Never are there more networks than `batch_size`, and those of earlier images are gone."""
    detector, alive, most = make(batch_size=2, n_steps=1).fit(images), weakref.WeakSet(), []
    stack = AnoUNet._stack

    def counted(self, device):
        module = stack(self, device)
        alive.add(module)
        most.append(sum(m.n_nets for m in alive))
        return module

    monkeypatch.setattr(AnoUNet, "_stack", counted)
    assert len(list(detector.iter_explanations(images[:5]))) == 5
    detector.anomaly_map(images[:5])
    assert set(most) == {2}


def test_maps_are_calibrated_only_when_asked(images, monkeypatch):
    detector = make(false_alarm_rate=0.2).fit(images)
    assert detector.calibration_peaks_ is None
    with pytest.raises(AttributeError, match="its maps were not calibrated"):
        detector.anomaly_mask(images[:1])
    (verdict,) = detector.iter_verdicts(images[:1])
    assert verdict.mask is None
    assert verdict.anomaly_map.shape == (20, 20)
    for asked in (make(false_alarm_rate=0.2, calibrate_maps=True), ConformalDetector(make(calibrate_maps=True))):
        peaks = asked.fit(images).calibration_peaks_
        assert (peaks > 0).all()
        assert asked.anomaly_mask(images[:1]).shape == (1, 20, 20)
    wrapped = ConformalDetector(make()).fit(images)
    assert wrapped.calibration_peaks_ is None
    assert wrapped.calibrate(images).calibration_peaks_ is None


# Toward others


def test_explaining_toward_others(images):
    detector = make(beta=200.0, optimizer="adam", lr=2e-2, n_steps=20, batch_size=2).fit(images[:6])
    others = images[6:] ** 3
    center = clone(detector).fit(others).center_
    toward_images, toward_center = (detector.explain(images[:2], toward=goal) for goal in (others, center))
    assert_array_equal(toward_images, toward_center)
    features = network_of(detector)
    distances = [
        np.abs(features(arranged(rebuilt)).numpy() - center).mean()
        for rebuilt in (detector.explain(images[:2]), toward_images)
    ]
    assert distances[1] < 0.5 * distances[0]
    with pytest.raises(ValueError, match=r"toward has 5 values; it must have 8 features"):
        detector.explain(images[:1], toward=np.zeros(5))


# Starting from normal images


def test_starting_from_a_trained_network_takes_few_steps(images):
    training = Training(lr=1e-2, validation_share=0.2, patience=None)
    warm = make(init="normals", beta=0.0, n_steps=0, training=training, max_epochs=15).fit(images)
    assert set(warm.history_) == {"train_loss", "valid_loss"}
    cold = make(beta=0.0, n_steps=8).fit(images)
    losses = [[e.residual_loss for e in detector.iter_explanations(images[:3])] for detector in (warm, cold)]
    assert np.mean(losses[0]) < 0.7 * np.mean(losses[1])


# The house


@parametrize_with_image_checks([make(false_alarm_rate=0.1, calibrate_maps=True, n_steps=2)], n_images=12)
def test_image_detector(detector, check):
    if check.func.__name__ == "check_new_process":
        pytest.skip("the feature net of these tests is not public")
    check(detector)


def test_the_feature_net_stays_as_it_is(images):
    net = TinyFeatureNet(random_state=0, false_alarm_rate=None).fit(images)
    before = {name: value.copy() for name, value in net.state_.items()}
    detector = AnoUNet(FrozenEstimator(net), **OPTIONS, init="normals", max_epochs=1).fit(images)
    detector.explain(images[:2])
    assert detector.feature_net_ is net
    for name, value in before.items():
        assert_array_equal(net.state_[name], value)
    with pytest.warns(CalibrationWarning, match="were in the data that this AnoUNet was fitted on"):
        AnoUNet(FrozenEstimator(net), **OPTIONS).fit(images)


def test_pickles_and_files_give_the_same_bits(images, fitted, tmp_path):
    save(fitted, tmp_path / "model", trusted=TRUSTED)
    for twin in (pickle.loads(pickle.dumps(fitted)), load(tmp_path / "model", trusted=TRUSTED)):
        assert_array_equal(twin.explain(images[:2]), fitted.explain(images[:2]))
        assert_array_equal(twin.score_samples(images), fitted.score_samples(images))


def test_images_of_one_channel(images):
    gray = images[..., 0]
    detector = make().fit(gray)
    assert detector.explain(gray[:2]).shape == (2, 20, 20)


def test_the_display_shows_rebuilt_images_with_their_losses(images, fitted):
    display = ReconstructionDisplay.from_estimator(fitted, images[:2])
    explanations = list(fitted.iter_explanations(images[:2]))
    assert [ax.get_title() for ax in display.axes_[0][:3]] == ["original", "rebuilt", "residual"]
    for i, explanation in enumerate(explanations):
        assert_array_equal(display.reconstructions[i], explanation.image)
        assert f"{explanation.residual_loss:.3g}" in display.axes_[i, 3].get_title()
        assert f"{explanation.feature_loss:.3g}" in display.axes_[i, 3].get_title()


def test_errors(images):
    with pytest.raises(TypeError, match="feature_net is of type Autoencoder, which has no feature_network"):
        AnoUNet(Autoencoder()).fit(images)
    with pytest.raises(
        ValueError, match="depth=4 needs images of at least 32 x 32 pixels; the features return 16 x 16"
    ):
        make(network=UNet(depth=4)).fit(images)
    with pytest.raises(ValueError, match="'network' parameter of AnoUNet"):
        make(network="unet").fit(images)
    with pytest.raises(ValueError, match="'beta' parameter"):
        make(beta=-1).fit(images)
    with pytest.raises(NotFittedError):
        make().explain(images)
    with pytest.raises(NotFittedError):
        AnoUNet(FrozenEstimator(TinyFeatureNet())).fit(images)
    with pytest.raises(ValueError, match="'network' parameter of Autoencoder"):
        Autoencoder(Pixels(16), UNet()).fit(images)
    with pytest.raises((TypeError, ValueError)):
        make(network=DenseNetwork()).fit(images)
