"""The dense autoencoder of whole images, with a sigmoid and binary cross-entropy."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skanomaly import Autoencoder, Pixels
from skanomaly.networks import DenseNetwork, PooledNetwork, StridedNetwork, Training


@pytest.fixture(scope="module")
def digits():
    """Zeros to train on; other zeros and other digits to tell apart."""
    data = load_digits()
    images = (data.images / 16).astype(np.float32)
    zeros, others = images[data.target == 0], images[data.target != 0][:100]
    return zeros[:120], np.concatenate([zeros[120:], others]), np.repeat([False, True], [len(zeros) - 120, 100])


def dense(**options):
    options = {"max_epochs": 60, "false_alarm_rate": None, "random_state": 0, "sigma": 0.0, **options}
    network = DenseNetwork((16,), output_activation="sigmoid")
    return Autoencoder(Pixels(8), network, loss="bce", training=Training(batch_size=16, lr=1e-2), **options)


def test_other_digits_are_anomalies(digits):
    train, test, anomalous = digits
    found = {
        epochs: roc_auc_score(anomalous, -dense(max_epochs=epochs, image_score="mean").fit(train).score_samples(test))
        for epochs in (0, 60)
    }
    assert found[60] > 0.97
    assert found[60] > found[0] + 0.05


def test_maps_are_squared_residuals_and_the_loss_is_torchs(digits):
    train, test, _ = digits
    detector = dense(max_epochs=3).fit(train)
    restored = detector.reconstruct(test)
    assert 0 < restored.min() < restored.max() < 1
    assert_allclose(detector.anomaly_map(test), (test - restored) ** 2, atol=1e-6)
    pairs = torch.from_numpy(restored), torch.from_numpy(test)
    cross_entropy = torch.nn.functional.binary_cross_entropy(*pairs, reduction="none").mean(dim=(1, 2))
    model = detector.reconstructor()
    assert_allclose(model.run(model.losses, test[..., None]), cross_entropy, rtol=1e-5)


def test_the_image_is_flattened_into_one_code(digits):
    module = DenseNetwork((16,), output_activation="sigmoid").build((1, 8, 8))
    assert not module.standardizes
    assert module.encode(torch.zeros(5, 1, 8, 8)).shape == (5, 16)
    assert sum(p.numel() for p in module.parameters()) == (64 + 1) * 16 + (16 + 1) * 64
    assert DenseNetwork((16,)).build((1, 8, 8)).standardizes


def test_cross_entropy_needs_pixels_and_bounded_outputs(rng):
    images = rng.random((6, 16, 16))
    for network in (StridedNetwork(4), DenseNetwork((4,))):
        with pytest.raises(ValueError, match="loss='bce' compares pixels in .0, 1., but the outputs of network="):
            Autoencoder(Pixels(16), network, loss="bce").fit(images)
    with pytest.raises(ValueError, match="loss='bce' compares pixels in .0, 1., but the network sees vectors"):
        Autoencoder(network=DenseNetwork((2,), output_activation="sigmoid"), loss="bce").fit(rng.random((20, 4)))
    options = {"max_epochs": 1, "false_alarm_rate": None, "random_state": 0}
    Autoencoder(Pixels(16), PooledNetwork(), loss="bce", **options).fit(images)
