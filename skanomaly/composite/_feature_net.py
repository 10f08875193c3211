"""What the detectors around a feature network have in common."""

import copy

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from .._torch.device import resolve_device
from ..base import all_or_nothing
from ..detectors import MetricFeatures
from ..features import Pixels

FEATURE_NET = [HasMethods(["fit", "score_samples"]), None]  # constraints of `feature_net`


class FeatureNetMixin:
    """Mixin for detectors of images around a detector that learns features of images.

    The parameter `feature_net` is that detector, or a `FrozenEstimator` of a fitted one, or None. Its method
    ``feature_network(device, dtype)`` returns a frozen `Net`, whose module maps images (n, 3, h, w) in [0, 1] to
    features (n, d), is differentiable, and computes the same features alone and in a batch.
    """

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        Pixels
            Features, unfitted.
        """
        return Pixels(96)

    def default_feature_net(self):
        """Return the feature net that ``feature_net=None`` stands for.

        Returns
        -------
        MetricFeatures
            Feature net of a pretrained network that is not trained further, and needs no reference.
        """
        return MetricFeatures(max_epochs=0)

    @property
    def _frozen(self):
        return isinstance(self.feature_net, FrozenEstimator)

    def _features(self):
        given = super()._features()
        return self.default_features() if given is None else given

    def _open(self, X):
        self.feature_net_ = self._first_feature_net()
        samples = super()._open(X)
        if self._frozen:
            check_is_fitted(self.feature_net_)
        else:
            with all_or_nothing(self.feature_net_):
                self.feature_net_._open(samples)
        return samples

    def _first_feature_net(self):
        """Return the frozen feature net, or one to be fitted."""
        given = self.default_feature_net() if self.feature_net is None else self.feature_net
        net = given.estimator if self._frozen else clone(given)
        if not hasattr(net, "feature_network"):
            raise TypeError(
                f"feature_net is of type {type(net).__name__}, which has no feature_network; it must be a "
                "MetricFeatures, a DeepOneClass or another detector that learns features of images, or a "
                "FrozenEstimator of a fitted one."
            )
        if self._frozen:
            return net
        net.set_params(false_alarm_rate=None)
        return net if net.random_state is not None else net.set_params(random_state=self.random_state)

    def _learn(self, samples, Z=None, groups=None):
        self._forget_derived()
        if not self._frozen:
            self.feature_net_ = copy.copy(self.feature_net_)
            self.feature_net_._learn(samples, None, groups)
        super()._learn(samples, Z, groups)

    def _calibrate(self, samples, groups):
        calibration = super()._calibrate(samples, groups)
        if self._frozen and calibration is not None:
            self._fitted_digests = getattr(self.feature_net_, "_fitted_digests", None)
            self._warn_if_seen(samples[calibration.indices])
        return calibration

    def _digests(self, samples):
        fresh, earlier = super()._digests(samples), getattr(self.feature_net_, "_fitted_digests", None)
        return np.union1d(earlier, fresh) if self._frozen and earlier is not None else fresh

    def _feature_network(self):
        """Return the feature network, a frozen `Net`."""
        return self._derived_state("_features_net", self._load_feature_network)

    def _load_feature_network(self):
        return self.feature_net_.feature_network(device=resolve_device(self.device), dtype=np.float32)


def features_of(net, x):
    """Return the features of images.

    Parameters
    ----------
    net : Net
        Feature network.
    x : Tensor of shape (n, 1 or 3, h, w)
        Images; gray is repeated.

    Returns
    -------
    Tensor of shape (n, d)
        Features.
    """
    return net.module(x.expand(-1, 3, -1, -1))
