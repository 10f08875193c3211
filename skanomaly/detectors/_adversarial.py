"""Base class of the detectors that train a generative adversarial network."""

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from ..features import Pixels
from ..networks import Training
from ._reconstruction import ReconstructionDetector

_IMAGE_SIZE = 64  # of the paper of AnoGAN


class AdversarialDetector(ReconstructionDetector):
    """Base class of detectors of images that train a generator and a discriminator.

    A subclass implements ``default_network``, ``_build()`` and ``_optimize(module, data, held_out, generator)``, which
    calls ``_alternate`` with a training step of `_torch.adversarial`.
    """

    _parameter_constraints = {
        **ReconstructionDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform", "map_to_image", "inverse_transform"]), None],
    }

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
        return Pixels(_IMAGE_SIZE)

    def default_training(self):
        """Return the training settings that ``training=None`` stands for.

        Returns
        -------
        Training
            Settings.
        """
        return Training(validation_share=0.0)

    def discriminator_features(self, X):
        """Compute the features f of images, the last feature maps of the discriminator.

        Parameters
        ----------
        X : array-like
            Images, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n, c, h, w), float32
            Feature maps.
        """
        check_is_fitted(self)
        return np.concatenate([self._run(lambda gan, x: gan.features(x), Z) for _, Z in self._batches(X)])

    def _features(self):
        given = super()._features()
        return self.default_features() if given is None else given

    def _alternate(self, step, gan, data, generator):
        """Train both networks with a training step for all epochs; return the losses of each epoch by name."""
        training = clone(self.training_).set_params(patience=None)  # the losses of a GAN do not measure its quality
        return training.run(
            gan,
            None,
            data,
            data[:0],
            self.network_,
            max_epochs=self.max_epochs,
            generator=generator,
            step=step,
            keep="last",
            verbose=self.verbose,
        )

    def _run(self, function, Z, *, length=None, gradients=False):
        """Return function(gan, x) of embedded images; no result depends on the other images, to the bit."""
        net, view = self._derived_state("_net", self._frozen_net), self._view()
        return net.run(
            lambda x: function(net.module, x),
            view.arrange(view.standardize(Z)),
            length=length or view.batch_len,
            gradients=gradients,
        )
