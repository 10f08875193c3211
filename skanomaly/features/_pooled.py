"""Global averages of the layers of other features."""

import numpy as np
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from .._kernels.checks import require
from ._base import OuterFeatures, layer_widths


class PooledFeatures(OuterFeatures):
    """Average the features of each layer over the image, and concatenate the layers.

    Parameters
    ----------
    features : estimator
        Features whose layers are averaged; rows are left unchanged.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    n_features_out_ : int
        Total number of features of all layers.

    See Also
    --------
    MahalanobisAD : Detector that scores these averages.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import PatchFeatures
    >>> from skanomaly.features._pooled import PooledFeatures
    >>> images = np.random.default_rng(0).random((2, 64, 64))
    >>> PooledFeatures(PatchFeatures(4)).fit_transform(images).shape
    (2, 16)
    """

    makes_maps = False

    _parameter_constraints = {"features": [HasMethods(["fit_samples", "transform_layers"])], "verbose": ["verbose"]}

    def __init__(self, features, *, verbose=0):
        self.features = features
        self.verbose = verbose

    def _check_state(self):
        if hasattr(self, "n_features_out_"):
            require(
                self.n_features_out_ == sum(layer_widths(self.features_)), "n_features_out_ is not that of the layers"
            )

    def fit_samples(self, samples):
        """Fit the features.

        Parameters
        ----------
        samples : samples
            Samples, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.
        """
        self.features_.fit_samples(samples)
        self.n_features_out_ = sum(layer_widths(self.features_))
        return self

    def transform(self, X):
        """Compute the averages of all layers.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the features accept.

        Returns
        -------
        ndarray of shape (n, sum of d_l), float64
            Averages, layer by layer.
        """
        check_is_fitted(self)
        samples = self.check_samples(X)
        step = self.batch_len or max(len(samples), 1)
        starts = range(0, len(samples), step)
        progress = tqdm(starts, desc="features", unit_scale=step, delay=2, disable=not self.verbose)
        pooled = [_pool(self.features_.transform_layers(samples[start : start + step])) for start in progress]
        return np.concatenate(pooled) if pooled else np.empty((0, self.n_features_out_))

    def split(self, Z):
        """Split averages into layers.

        Parameters
        ----------
        Z : ndarray of shape (n, sum of d_l)
            Averages, as returned by `transform`.

        Returns
        -------
        list of ndarray of shape (n, d_l)
            Averages of each layer.
        """
        return np.split(Z, np.cumsum(layer_widths(self.features_))[:-1], axis=1)


def _pool(layers):
    """Return the means of all layers; each sample is summed in the same order, whatever the batch."""
    means = [
        [part.mean(axis=tuple(range(part.ndim - 1)), dtype=np.float64) for part in sample]
        for sample in zip(*layers.arrays, strict=True)
    ]
    return np.stack([np.concatenate(sample) for sample in means])
