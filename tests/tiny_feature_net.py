"""A feature net for tests of the detectors around one: a tiny convolutional network with random weights."""

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import nn

from skanomaly import Pixels
from skanomaly._inputs.samples import Mapless
from skanomaly._torch.net import Net
from skanomaly.base import BaseDetector

N_FEATURES = 8


def build():
    first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
    return nn.Sequential(first, nn.ELU(), nn.Conv2d(6, N_FEATURES, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TinyFeatureNet(BaseDetector):
    """Distance of the features of an image to their mean over normal images."""

    def __init__(self, *, false_alarm_rate=0.05, calibration="split", min_defect_area=1, random_state=None, verbose=0):
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self, X=None):
        return Mapless(Pixels(16))

    def _features(self):
        return getattr(self, "features_", self.default_features())

    def feature_network(self, device="cpu", dtype=np.float32):
        return Net.from_state(build, self.state_, torch.device(device), dtype).freeze()

    def _fit(self, Z):
        generator = torch.Generator().manual_seed(int(check_random_state(self.random_state).randint(2**31)))
        self.state_ = Net.untrained(build, generator, torch.device("cpu")).state()
        self.mean_ = self._of(Z).mean(axis=0)

    def _score(self, Z, maps=True):
        return np.linalg.norm(self._of(Z) - self.mean_, axis=1), None

    def _of(self, Z):
        net = self.feature_network()
        x = np.repeat(Z, 4 - Z.shape[3], axis=3)[..., :3].transpose(0, 3, 1, 2).copy()
        return net.run(net.module, x, length=4).astype(np.float64)
