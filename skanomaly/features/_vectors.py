"""Vectors of whole images from a network, pretrained or trained further."""

import copy
from numbers import Real

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.validation import check_is_fitted

from .._networks.vectors import VectorNetwork
from .._torch.device import resolve_device
from .._torch.inference import padded_batches
from .._torch.net import Net
from ._base import OuterFeatures


class VectorFeatures(OuterFeatures):
    """Average the layers of a network over the image, concatenate them, and optionally scale the vector to a norm.

    Parameters
    ----------
    features : PretrainedPatchFeatures
        Features whose network, layers and size of images are used.
    norm : float or None, default=None
        Euclidean norm of every vector; None does not scale.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        Fitted features.
    n_features_out_ : int
        Total number of features of all layers.

    See Also
    --------
    PooledFeatures : Averages of the layers of any features.

    Notes
    -----
    These are features that learn: the network is trained elsewhere, on the samples of `fit_samples`, and then passed to
    `trained`. Until then it is the pretrained one.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import PretrainedPatchFeatures
    >>> from skanomaly.features._vectors import VectorFeatures
    >>> images = np.random.default_rng(0).random((4, 32, 32))
    >>> features = PretrainedPatchFeatures("test_efficientnet", layers=(3, 4), weights="random", image_size=32)
    >>> VectorFeatures(features).fit_transform(images).shape
    (4, 112)
    """

    makes_maps, learns = False, True

    _parameter_constraints = {
        "features": [HasMethods(["fit_samples", "read_batch", "trained"])],
        "norm": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(self, features, *, norm=None):
        self.features = features
        self.norm = norm

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_net"}

    def fit_samples(self, samples):
        """Load the pretrained network and set the geometry.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        return self._take_over(copy.copy(self.features_).fit_samples(samples))

    def trained(self, state):
        """Return the same fitted features with other weights of the network.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights of the backbone by name.

        Returns
        -------
        VectorFeatures
            Fitted features, which hold the weights.
        """
        return copy.copy(self)._take_over(self.features_.trained(state))

    def transform(self, X):
        """Compute the vectors of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.

        Returns
        -------
        ndarray of shape (n, d), float32
            Vectors.
        """
        check_is_fitted(self)
        samples, net, length = self.check_samples(X), self._frozen_net(), self.features_.batch_size
        parts = [
            net.run(net.module, self.features_.read_batch(samples[start:stop]).numpy(), length=length)
            for start, stop in padded_batches(len(samples), length)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.n_features_out_), np.float32)

    def network(self, device, dtype=np.float32):
        """Return a copy of the network, which may be trained.

        Parameters
        ----------
        device : {"auto", "cpu", "cuda", "mps"}
            Device of the copy.
        dtype : dtype, default=float32
            Type of its parameters: float32 or float64.

        Returns
        -------
        Net
            Net whose module is a `VectorNetwork`.
        """
        return Net.of(VectorNetwork(self.features_.network_.copy(), self.norm), resolve_device(device, dtype), dtype)

    def _take_over(self, features):
        vars(self).pop("_net", None)
        self.features_ = features
        self.n_features_out_ = sum(shape[-1] for shape in features.layer_shapes_)
        return self

    def _frozen_net(self):
        """Return the network on the device of the features; it is built once, and again for another device."""
        net = vars(self).get("_net")
        if net is None or net.device != resolve_device(self.features_.device):
            net = self._net = self.network(self.features_.device).freeze()
        return net
