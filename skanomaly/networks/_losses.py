"""Losses that compare inputs with their reconstructions."""

from numbers import Integral, Real

from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import HasMethods, Interval

from .._doc_links import DocLinkMixin


class SquaredLoss(DocLinkMixin, BaseEstimator):
    """Mean squared residual, for which ``loss="l2"`` stands.

    The attribute ``bounded`` says whether reconstructions must be in [0, 1].
    """

    bounded = False

    def check(self, shape):
        """Raise a ValueError if parameters contradict each other or do not suit the inputs.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """

    def fit_samples(self, samples):
        """Do nothing, since the loss needs no fitting.

        Parameters
        ----------
        samples : Ignored
            Not used, present for consistency with `FeatureLoss`.

        Returns
        -------
        self
            Loss instance.
        """
        return self

    def residuals(self, x, restored):
        """Compute the squared residuals, which anomaly maps show.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Inputs of the network.
        restored : Tensor of shape (n, ...)
            Their reconstructions.

        Returns
        -------
        Tensor of shape (n, ...)
            Squared residuals.
        """
        return (x - restored).square()

    def losses(self, x, restored, mean):
        """Compute the losses that training minimises.

        Parameters
        ----------
        x : Tensor of shape (n, ...)
            Inputs of the network.
        restored : Tensor of shape (n, ...)
            Their reconstructions.
        mean : callable
            Function of values (n, ...) that returns their means over each input, (n,), or over each sample, if samples
            are split into several inputs.

        Returns
        -------
        Tensor
            Losses, in the shape that `mean` returns.
        """
        return mean(self.residuals(x, restored))


class CrossEntropyLoss(SquaredLoss):
    """Mean binary cross-entropy of pixels in [0, 1], for which ``loss="bce"`` stands; maps show squared residuals."""

    bounded = True

    def check(self, shape):
        """Raise a ValueError if parameters contradict each other or do not suit the inputs.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """
        if len(shape) != 3:
            raise ValueError("loss='bce' compares pixels in [0, 1], but the network sees vectors; use loss='l2'.")

    def losses(self, x, restored, mean):
        """Compute the losses that training minimises.

        Parameters
        ----------
        x : Tensor of shape (n, c, h, w)
            Inputs of the network, in [0, 1].
        restored : Tensor of shape (n, c, h, w)
            Their reconstructions, in [0, 1].
        mean : callable
            Function of values (n, ...) that returns their means over each input, (n,), or over each sample, if samples
            are split into several inputs.

        Returns
        -------
        Tensor
            Losses, in the shape that `mean` returns.
        """
        from torch.nn import functional as F

        return mean(F.binary_cross_entropy(restored, x, reduction="none"))


class SSIMLoss(SquaredLoss):
    r"""One minus the structural similarity (SSIM) of an image and its reconstruction.

    .. math::

        L = 1 - \mathrm{SSIM}, \qquad \mathrm{SSIM}(p, q) = \frac{(2 \mu_p \mu_q + c_1)(2 \sigma_{pq} + c_2)}
        {(\mu_p^2 + \mu_q^2 + c_1)(\sigma_p^2 + \sigma_q^2 + c_2)}

    for the windows p, q around each pixel; the loss is the mean over all windows.

    Parameters
    ----------
    window : int, default=11
        Side of the windows, in pixels; an odd number, at least 3.
    c1 : float, default=0.01
        Constant that stabilises SSIM where means are small, for pixels in [0, 1]; images are converted to this range.
        The default is the value of Bergmann et al.; elsewhere, 1e-4 is common.
    c2 : float, default=0.03
        Constant that stabilises SSIM where variances are small, for pixels in [0, 1]. The default is the value of
        Bergmann et al.; elsewhere, 9e-4 is common.

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
        """Raise a ValueError if parameters contradict each other or do not suit the inputs.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """
        self._validate_params()
        _check_images(self, shape)
        side = min(shape[1:])
        if self.window % 2 == 0 or not 3 <= self.window <= side:
            raise ValueError(
                f"window={self.window} of SSIMLoss is not accepted; it must be an odd number from 3 to {side}."
            )

    def residuals(self, x, restored):
        """Compute 1 - SSIM of the window around each pixel.

        Parameters
        ----------
        x : Tensor of shape (n, c, h, w)
            Inputs of the network.
        restored : Tensor of shape (n, c, h, w)
            Their reconstructions.

        Returns
        -------
        Tensor of shape (n, c, h, w)
            Values of 1 - SSIM.
        """
        from .._torch.ssim import ssim_map

        return 1 - ssim_map(x, restored, window=self.window, c1=self.c1, c2=self.c2)


class FeatureLoss(SquaredLoss):
    r"""Squared residuals of pixels, plus squared differences of pretrained feature maps.

    .. math:: L = \overline{(x - f(x))^2} + w \sum_l \overline{(F_l(x) - F_l(f(x)))^2},

    where bars denote means over all pixels and channels. Anomaly maps show the squared residuals of pixels.

    Parameters
    ----------
    features : PretrainedPatchFeatures
        Features that define the backbone and the layers F to compare; usually the first ones, ``layers=(0, 1)``.
    weight : float, default=1.0
        Weight w of the differences of feature maps.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        Fitted features.

    See Also
    --------
    SSIMLoss : One minus the structural similarity.

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
        """Raise a ValueError if parameters contradict each other or do not suit the inputs.

        Parameters
        ----------
        shape : tuple of int (d,) or (c, h, w)
            Shape of an input of the network.
        """
        self._validate_params()
        _check_images(self, shape)
        if shape[0] not in (1, 3):
            raise ValueError(f"FeatureLoss compares images with 1 or 3 channels; the inputs have {shape[0]}.")

    def fit_samples(self, samples):
        """Load the pretrained network.

        Parameters
        ----------
        samples : ImageSource
            Checked training images.

        Returns
        -------
        self
            Fitted loss.
        """
        self.features_ = clone(self.features).fit(samples, None)  # a FrozenEstimator insists on y
        if not hasattr(self.features_, "network_"):
            raise TypeError(
                f"features of FeatureLoss is of type {type(self.features).__name__}, which has no network to compare "
                "images with; it must be PretrainedPatchFeatures."
            )
        return self

    def losses(self, x, restored, mean):
        """Compute the losses that training minimises.

        Parameters
        ----------
        x : Tensor of shape (n, c, h, w)
            Inputs of the network.
        restored : Tensor of shape (n, c, h, w)
            Their reconstructions.
        mean : callable
            Function of values (n, ...) that returns their means over each input, (n,), or over each sample, if samples
            are split into several inputs.

        Returns
        -------
        Tensor
            Losses, in the shape that `mean` returns.
        """
        layers = zip(self._layer_maps(x), self._layer_maps(restored), strict=True)
        return mean(self.residuals(x, restored)) + self.weight * sum(mean((a - b).square()) for a, b in layers)

    def _layer_maps(self, x):
        return self.features_.network_.layer_maps(x.expand(-1, 3, -1, -1))


def resolve_loss(loss):
    """Return an unfitted clone of a loss.

    Parameters
    ----------
    loss : "l2", "bce", SSIMLoss or FeatureLoss
        Loss; "l2" is the mean squared residual, and "bce" the mean binary cross-entropy.

    Returns
    -------
    SquaredLoss, CrossEntropyLoss, SSIMLoss or FeatureLoss
        Unfitted loss.
    """
    if isinstance(loss, str):
        return SquaredLoss() if loss == "l2" else CrossEntropyLoss()
    return clone(loss)


def _check_images(loss, shape):
    if len(shape) != 3:
        raise ValueError(f"loss={loss!r} compares images, but the network sees vectors; use loss='l2'.")
