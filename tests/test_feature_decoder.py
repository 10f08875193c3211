import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from tiny_feature_net import N_FEATURES, TinyFeatureNet

from skanomaly import Autoencoder, FeatureDecoder, KNNScorer, Pixels, load, save
from skanomaly.exceptions import CalibrationWarning
from skanomaly.networks import DenseNetwork, StridedNetwork, Training
from skanomaly.plotting import ReconstructionDisplay
from skanomaly.testing import parametrize_with_image_checks

SIDE = 16
OPTIONS = {
    "features": Pixels(SIDE),
    "training": Training(lr=3e-3, batch_size=8, validation_share=0.1),
    "max_epochs": 10,
    "sigma": 1.0,
    "random_state": 0,
}
TRUSTED = ["tiny_feature_net.TinyFeatureNet"]
pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


def make(**options):
    return FeatureDecoder(TinyFeatureNet(random_state=0), **{**OPTIONS, "false_alarm_rate": None, **options})


@pytest.fixture(scope="module")
def images():
    """Plain images of many colours, whose features say which."""
    colours = np.random.default_rng(0).random((60, 1, 1, 3))
    return np.broadcast_to(colours, (60, SIDE, SIDE, 3)).copy()


@pytest.fixture(scope="module")
def fitted(images):
    return make().fit(images[:40])


def test_the_decoder_draws_what_the_features_say(images, fitted):
    """Colours of fresh images are reconstructed: not by an untrained decoder, and not from features of others."""
    fresh = images[40:]

    def error(restored):
        return np.square(restored - fresh).mean()

    untrained = make(max_epochs=0).fit(images[:40])
    restored = fitted.reconstruct(fresh)
    assert error(restored) < 0.3 * error(untrained.reconstruct(fresh))
    assert error(restored) < 0.3 * error(restored[::-1])


def test_scores_and_maps_are_the_squared_residual(images, fitted):
    """Recomputed from the weights: g(F(x)), standardised features and colours, and the mean square of the rest."""
    x = torch.from_numpy(images[40:44].astype(np.float32).transpose(0, 3, 1, 2).copy())
    state = {name: torch.from_numpy(value) for name, value in fitted.network_state_.items()}
    codes = fitted.feature_net_.feature_network().module(x)
    assert codes.shape == (4, N_FEATURES)
    decoder = StridedNetwork(N_FEATURES, patch_size=None).build((3, SIDE, SIDE)).decoder
    decoder.load_state_dict({n.removeprefix("decoder."): v for n, v in state.items() if n.startswith("decoder.")})
    with torch.no_grad():
        drawn = decoder((codes - state["encoder.mean"]) / state["encoder.std"]) * state["std"] + state["mean"]
    residual = (x - drawn).square().mean(dim=1)
    assert_allclose(-fitted.score_samples(images[40:44]), residual.mean(dim=(1, 2)), rtol=1e-4)
    exact = clone(fitted).set_params(sigma=0.0, image_score="max").fit(images[:40])
    assert_allclose(exact.anomaly_map(images[40:44]), residual, rtol=1e-3, atol=1e-6)
    assert_allclose(-exact.score_samples(images[40:44]), residual.amax(dim=(1, 2)), rtol=1e-3)


def test_features_are_standardised_with_those_of_the_training_images(images):
    detector = make(training=Training(validation_share=0.0), max_epochs=0).fit(images[:40])
    x = torch.from_numpy(images[:40].astype(np.float32).transpose(0, 3, 1, 2).copy())
    codes = detector.feature_net_.feature_network().module(x).double()
    assert_allclose(detector.network_state_["encoder.mean"], codes.mean(dim=0), atol=1e-6)
    assert_allclose(detector.network_state_["encoder.std"], codes.std(dim=0, correction=0), rtol=1e-4)


def test_defects_that_normal_images_lack_stay_in_the_residual(images, fitted):
    defective = images[40:].copy()
    defective[:, 4:10, 4:10] = 1 - defective[:, 4:10, 4:10].round()
    maps = fitted.anomaly_map(defective)
    assert maps[:, 4:10, 4:10].mean() > 3 * maps[:, 12:, 12:].mean()
    assert fitted.score_samples(defective).mean() < fitted.score_samples(images[40:]).mean() - 0.01


def test_the_feature_net_is_fitted_once_and_stays_as_it_is(images, fitted):
    net = TinyFeatureNet(random_state=0, false_alarm_rate=None).fit(images[:40])
    before = {name: value.copy() for name, value in net.state_.items()}
    detector = FeatureDecoder(FrozenEstimator(net), **OPTIONS, false_alarm_rate=None).fit(images[:40])
    assert detector.feature_net_ is net
    for name, value in before.items():
        assert_array_equal(net.state_[name], value)
    assert_array_equal(detector.score_samples(images), fitted.score_samples(images))
    with pytest.warns(CalibrationWarning, match="were in the data that this FeatureDecoder was fitted on"):
        FeatureDecoder(FrozenEstimator(net), **{**OPTIONS, "max_epochs": 1}).fit(images[:40])


def test_results_do_not_depend_on_the_other_images(images, fitted):
    scores = fitted.score_samples(images[:7])
    assert_array_equal(fitted.score_samples(images[:7][::-1])[::-1], scores)
    assert_array_equal(fitted.score_samples(images[3:4]), scores[3:4])


def test_pickles_and_files_give_the_same_bits(images, fitted, tmp_path):
    save(fitted, tmp_path / "model", trusted=TRUSTED)
    for twin in (pickle.loads(pickle.dumps(fitted)), load(tmp_path / "model", trusted=TRUSTED)):
        assert_array_equal(twin.score_samples(images[:8]), fitted.score_samples(images[:8]))


def test_the_display_shows_reconstructions(images, fitted):
    display = ReconstructionDisplay.from_estimator(fitted, images[:2])
    assert_array_equal(display.reconstructions[1], fitted.reconstruct(images[:2])[1])


@parametrize_with_image_checks([make(false_alarm_rate=0.1, max_epochs=1)], n_images=12)
def test_image_detector(detector, check):
    if check.func.__name__ == "check_new_process":
        pytest.skip("the feature net of these tests is not public")
    check(detector)


def test_errors(images):
    with pytest.raises(TypeError, match="feature_net is of type KNNScorer, which has no feature_network"):
        FeatureDecoder(KNNScorer()).fit(images)
    with pytest.raises(ValueError, match=r"sees patches, but features are of whole images; pass\s+StridedNetwork"):
        make(features=Pixels(32), network=StridedNetwork(patch_size=16)).fit(images)
    with pytest.raises(ValueError, match="'network' parameter of FeatureDecoder"):
        make(network=DenseNetwork()).fit(images)
    with pytest.raises(ValueError, match="'network' parameter of Autoencoder"):
        Autoencoder(Pixels(SIDE), "decoder").fit(images)
