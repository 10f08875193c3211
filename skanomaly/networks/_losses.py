"""How inputs and their reconstructions are compared."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import HasMethods, Interval


class SquaredLoss(BaseEstimator):
    """Mean squared residual: what ``loss="l2"`` stands for."""

    def check(self, shape):
        """Raise a ValueError for parameters that do not fit together, or not to inputs of a shape.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """

    def fit_samples(self, samples):
        """Learn what the loss needs beside the network from checked training samples: nothing.

        Returns
        -------
        self
        """
        return self

    def residuals(self, x, restored):
        """Return how much values differ, which is what anomaly maps show.

        Parameters
        ----------
        x, restored : Tensor of shape (n, ...)
            Inputs of the network, and their reconstructions.

        Returns
        -------
        Tensor of shape (n, ...)
        """
        return (x - restored).square()

    def losses(self, x, restored, mean):
        """Return the losses that training minimises.

        Parameters
        ----------
        x, restored : Tensor of shape (n, ...)
            Inputs of the network, and their reconstructions.
        mean : callable
            Takes values (n, ...) to their means: (n,) over each input, or one for each sample that inputs are part of.

        Returns
        -------
        Tensor
            In the shape that `mean` returns.
        """
        return mean(self.residuals(x, restored))


class SSIMLoss(SquaredLoss):
    r"""One minus the structural similarity of an image and its reconstruction.

    .. math::

        L = 1 - \mathrm{SSIM}, \qquad \mathrm{SSIM}(p, q) = \frac{(2 \mu_p \mu_q + c_1)(2 \sigma_{pq} + c_2)}
        {(\mu_p^2 + \mu_q^2 + c_1)(\sigma_p^2 + \sigma_q^2 + c_2)}

    of the windows p, q around every pixel; the loss is the mean over all windows.

    Parameters
    ----------
    window : int, default=11
        Side of the windows, odd, in pixels.
    c1, c2 : float, default=0.01, 0.03
        Constants that damp SSIM where means and variances are small, for pixels in [0, 1] (whatever the range of the
        image was). These are the values of Bergmann et al.; elsewhere, 1e-4 and 9e-4 are common.

    See Also
    --------
    FeatureLoss : Squared residuals of pixels and of pretrained feature maps.

    References
    ----------
    Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
    VISAPP 2019, arXiv:1807.02011.

    Examples
    --------
    >>> from skanomaly import Autoencoder
    >>> from skanomaly.networks import SSIMLoss
    >>> Autoencoder(loss=SSIMLoss(window=7)).loss
    SSIMLoss(window=7)
    """

    _parameter_constraints = {
        "window": [Interval(Integral, 1, None, closed="left")],
        "c1": [Interval(Real, 0, None, closed="neither")],
        "c2": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(self, window=11, *, c1=0.01, c2=0.03):
        self.window = window
        self.c1 = c1
        self.c2 = c2

    def check(self, shape):
        """Raise a ValueError for parameters that do not fit together, or not to inputs of a shape.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """
        self._validate_params()
        _check_images(self, shape)
        side = min(shape[1:])
        if self.window % 2 == 0 or not 3 <= self.window <= side:
            raise ValueError(f"window={self.window} of SSIMLoss; accepted are odd numbers from 3 to {side}.")

    def residuals(self, x, restored):
        """Return 1 - SSIM of the window around every pixel.

        Parameters
        ----------
        x, restored : Tensor of shape (n, c, h, w)
            Inputs of the network, and their reconstructions.

        Returns
        -------
        Tensor of shape (n, c, h, w)
        """
        from .._torch.ssim import ssim_map

        return 1 - ssim_map(x, restored, window=self.window, c1=self.c1, c2=self.c2)


class FeatureLoss(SquaredLoss):
    r"""Squared residuals of pixels, plus squared differences of pretrained feature maps.

    .. math:: L = \overline{(x - f(x))^2} + w \sum_l \overline{(F_l(x) - F_l(f(x)))^2},

    where bars are means over all pixels and channels. Anomaly maps show the squared residual of pixels.

    Parameters
    ----------
    features : PretrainedPatchFeatures
        Features whose backbone and layers F are compared; the first layers are usual, ``layers=(0, 1)``.
    weight : float, default=1.0
        Weight w of the feature maps.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        Fitted features.

    See Also
    --------
    SSIMLoss : Structural similarity.

    Examples
    --------
    >>> from skanomaly import Autoencoder, PretrainedPatchFeatures
    >>> from skanomaly.networks import FeatureLoss
    >>> detector = Autoencoder(loss=FeatureLoss(PretrainedPatchFeatures(layers=(0, 1)), weight=0.1))
    """

    _parameter_constraints = {
        "features": [HasMethods(["fit", "transform"])],
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, features, *, weight=1.0):
        self.features = features
        self.weight = weight

    def check(self, shape):
        """Raise a ValueError for parameters that do not fit together, or not to inputs of a shape.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """
        self._validate_params()
        _check_images(self, shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"FeatureLoss compares images of 1 or 3 channels; the inputs have {shape[0]}.")

    def fit_samples(self, samples):
        """Load the pretrained network.

        Parameters
        ----------
        samples : ImageSource
            Checked training images.

        Returns
        -------
        self
        """
        self.features_ = clone(self.features).fit(samples, None)  # a FrozenEstimator insists on y
        if not hasattr(self.features_, "network_"):
            raise TypeError(
                f"features of FeatureLoss is a {type(self.features).__name__}, which has no network to compare images "
                "by; accepted is PretrainedPatchFeatures."
            )
        return self

    def losses(self, x, restored, mean):
        """Return the losses that training minimises.

        Parameters
        ----------
        x, restored : Tensor of shape (n, c, h, w)
            Inputs of the network, and their reconstructions.
        mean : callable
            Takes values (n, ...) to their means: (n,) over each input, or one for each sample that inputs are part of.

        Returns
        -------
        Tensor
            In the shape that `mean` returns.
        """
        layers = zip(self._layer_maps(x), self._layer_maps(restored), strict=True)
        return mean(self.residuals(x, restored)) + self.weight * sum(mean((a - b).square()) for a, b in layers)

    def _layer_maps(self, x):
        return self.features_.network_.layer_maps(x.expand(-1, 3, -1, -1))


def resolve_loss(loss):
    """Return an unfitted clone of a loss; "l2" is the mean squared residual."""
    return SquaredLoss() if isinstance(loss, str) else clone(loss)


def _check_images(loss, shape):
    if len(shape) != 3:
        raise ValueError(f"loss={loss!r} compares images, but the network sees vectors; use loss='l2'.")
