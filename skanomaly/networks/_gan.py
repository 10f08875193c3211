"""Generative adversarial networks of images."""

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ._base import Network

_SMALLEST_SIDE = 32


class AdversarialNetwork(Network):
    """Base class of a generator and a discriminator of whole images."""

    n_steps, epochs, batch_sizes = 1000, (5, 1000), (32, 32)

    _parameter_constraints = {"width": [Interval(Integral, 1, None, closed="left")]}

    def check(self, shape):
        """Raise a ValueError if parameters contradict each other or do not suit the samples.

        Parameters
        ----------
        shape : tuple of int (d,) or (h, w, c)
            Shape of a sample.
        """
        self._validate_params()
        name = type(self).__name__
        if len(shape) == 1:
            raise ValueError(f"network={self!r} sees images, but the samples are rows.")
        if min(shape[:2]) < _SMALLEST_SIDE:
            raise ValueError(
                f"{name} needs images of at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels; the features return "
                f"{shape[0]} x {shape[1]}."
            )

    def view(self, shape, *, cells=False):
        """Return the view that turns samples into inputs of the network.

        Parameters
        ----------
        shape : tuple of int (h, w, c)
            Shape of a sample.
        cells : Ignored
            Not used, present for consistency with `DenseNetwork`.

        Returns
        -------
        Images
            View of whole images.
        """
        from .._torch.views import Images

        height, width, n_channels = shape
        return Images((n_channels, height, width))


class DCGAN(AdversarialNetwork):
    """Generator of images from codes and discriminator, both of strided convolutions, after Radford et al.

    The generator doubles the side of a feature map of about 4 pixels until it has the size of the image, with batch
    norm and ReLU; the discriminator, whose last feature maps are the features f, mirrors it with leaky ReLU (slope 0.2)
    and without norm. Images may have any size of at least 32 x 32 pixels.

    Parameters
    ----------
    code_size : int, default=64
        Length of the code z, whose values are standard normal.
    width : int, default=16
        Number of channels of the largest feature map; it doubles with every halving, up to 8 times this number. The
        paper has 64.

    See Also
    --------
    SkipGAN : Generator of images from images, for `SkipGANomaly`.
    StridedNetwork : Encoder and decoder of strided convolutions.

    Notes
    -----
    By default, training takes 1,000 optimiser steps, in 5 to 1,000 epochs, with batches of 32 images and a learning
    rate of 1e-3; with 2e-4, as in the paper, the generator learns more slowly.

    The training of the paper needs many images, because the discriminator memorises a few hundred. Four measures keep
    it stable: the weights of the discriminator are divided by their largest singular values (Miyato et al.), its loss
    is the hinge loss, all images that it sees are shifted, darkened and cut at random, in a way that gradients pass
    (Zhao et al.), and the generator that is kept is the moving average over all steps (Yazici et al.), whose statistics
    of batch norm are computed after training.

    References
    ----------
    Radford et al., "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
    ICLR 2016, arXiv:1511.06434.
    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018, arXiv:1802.05957.
    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020, arXiv:2006.10738.
    Yazici et al., "The Unusual Effectiveness of Averaging in GAN Training", ICLR 2019, arXiv:1806.04498.

    Examples
    --------
    >>> from skanomaly import AnoGAN, Pixels
    >>> from skanomaly.networks import DCGAN
    >>> detector = AnoGAN(Pixels(32), DCGAN(code_size=20))
    >>> detector.set_params(network__width=32).network
    DCGAN(code_size=20, width=32)
    """

    _parameter_constraints = {
        **AdversarialNetwork._parameter_constraints,
        "code_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, code_size=64, *, width=16):
        self.code_size = code_size
        self.width = width

    def build_gan(self, shape):
        """Return the untrained generator and discriminator.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an image.

        Returns
        -------
        GAN
            Untrained networks.
        """
        from .._networks.gan import dcgan

        return dcgan(shape[0], tuple(shape[1:]), self.code_size, self.width)

    def build_encoder(self, shape):
        """Return an untrained network from images to codes, which mirrors the generator.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an image.

        Returns
        -------
        Module
            Untrained network.
        """
        from .._networks.gan import strided_encoder_of

        return strided_encoder_of(shape[0], tuple(shape[1:]), self.code_size, self.width)

    def draw(self, n, generator):
        """Draw codes.

        Parameters
        ----------
        n : int
            Number of codes.
        generator : torch.Generator
            Generator from which they are drawn.

        Returns
        -------
        Tensor of shape (n, code_size)
            Codes, standard normal.
        """
        import torch

        return torch.randn(n, self.code_size, generator=generator)


class SkipGAN(AdversarialNetwork):
    """Generator of images from images, a U-Net with skip connections, and discriminator, after Akcay et al.

    Strided convolutions with batch norm halve the image down to a side of 1 and transposed ones double it again; each
    feature map on the way up is concatenated to that of the same size on the way down. The discriminator, whose last
    feature maps are the features f, is that of `DCGAN`. Images may have any size of at least 32 x 32 pixels.

    Parameters
    ----------
    width : int, default=16
        Number of channels of the largest feature map; it doubles with every halving, up to 8 times this number. The
        paper has 64.

    See Also
    --------
    DCGAN : Generator of images from codes, for `AnoGAN`.

    Notes
    -----
    By default, training takes 1,000 optimiser steps, in 5 to 1,000 epochs, with batches of 32 images.

    References
    ----------
    Akcay et al., "Skip-GANomaly: Skip Connected and Adversarially Trained Encoder-Decoder Anomaly Detection", IJCNN
    2019, arXiv:1901.08954.

    Examples
    --------
    >>> from skanomaly.networks import SkipGAN
    >>> SkipGAN(width=64)
    SkipGAN(width=64)
    """

    def __init__(self, width=16):
        self.width = width

    def build_skip_gan(self, shape):
        """Return the untrained generator and discriminator.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an image.

        Returns
        -------
        GAN
            Untrained networks.
        """
        from .._networks.gan import skip_gan

        return skip_gan(shape[0], tuple(shape[1:]), self.width)
