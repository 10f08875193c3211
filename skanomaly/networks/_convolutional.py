"""Convolutional networks for images."""

from numbers import Integral

from sklearn.utils._param_validation import Interval, StrOptions

from ._base import Network

_SMALLEST_SIDE = 8
_AUTO_PATCH_SIZE = 32


class ConvolutionalNetwork(Network):
    """Base class of networks that see images or overlapping patches of them."""

    n_steps, epochs, batch_sizes = 1000, (2, 200), (16, 16)

    _parameter_constraints = {
        "patch_size": [Interval(Integral, _SMALLEST_SIDE, None, closed="left"), StrOptions({"auto"}), None],
        "stride": [Interval(Integral, 1, None, closed="left"), None],
    }

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
            raise ValueError(f"network={self!r} sees images, but the samples are rows; use DenseNetwork().")
        height, width = shape[:2]
        if min(height, width) < _SMALLEST_SIDE:
            raise ValueError(
                f"{name} needs images of at least {_SMALLEST_SIDE} x {_SMALLEST_SIDE} pixels; the features return "
                f"{height} x {width}."
            )
        side = self._patch_side(shape)
        if side is not None and side > min(height, width):
            raise ValueError(f"patch_size={side} is larger than the images, {height} x {width} pixels.")
        if side is not None and (self.stride or 0) > side:
            raise ValueError(f"stride={self.stride} leaves gaps between patches of patch_size={side}.")

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
        Images or Patches
            View of whole images, or of overlapping patches of them.
        """
        from .._torch.views import Images, Patches

        height, width, n_channels = shape
        side = self._patch_side(shape)
        if side is None:
            return Images((n_channels, height, width))
        return Patches((n_channels, side, side), (height, width), self.stride or side // 2)

    def _patch_side(self, shape):
        """Return the side of the patches of samples of a shape; None if the network sees whole images."""
        if self.patch_size == "auto":
            return _AUTO_PATCH_SIZE if min(shape[:2]) >= 2 * _AUTO_PATCH_SIZE else None
        return self.patch_size


class StridedNetwork(ConvolutionalNetwork):
    """Strided convolutions down to a code vector, and a mirrored decoder, after Bergmann et al.

    The layers are those of the paper for 128 x 128 pixels, with fewer or more strided ones for other sizes, and leaky
    ReLU (slope 0.2) between them. The network standardises the channels of its input with the training images.

    Parameters
    ----------
    code_size : int, default=100
        Length of the code.
    patch_size : int, "auto" or None, default="auto"
        Side of the patches that the network sees, in pixels of the resized image; None is the whole image. "auto" is
        32, or the whole image if its shorter side is below 64.
    stride : int or None, default=None
        Maximum distance between neighbouring patches, which are spread evenly from border to border, in pixels; None is
        half of `patch_size`.

    See Also
    --------
    PooledNetwork : Convolutions with pooling, whose code is a feature map.
    DenseNetwork : Dense layers, for rows and feature vectors.

    Notes
    -----
    By default, training takes 1,000 optimiser steps, in 2 to 200 epochs, with batches of 16 images or patches and
    without noise.

    References
    ----------
    Bergmann et al., "Improving Unsupervised Defect Segmentation by Applying Structural Similarity to Autoencoders",
    VISAPP 2019, arXiv:1807.02011.

    Examples
    --------
    >>> from skanomaly.networks import StridedNetwork
    >>> StridedNetwork(code_size=500, patch_size=None)
    StridedNetwork(code_size=500, patch_size=None)
    """

    _parameter_constraints = {
        **ConvolutionalNetwork._parameter_constraints,
        "code_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, code_size=100, *, patch_size="auto", stride=None):
        self.code_size = code_size
        self.patch_size = patch_size
        self.stride = stride

    def build(self, shape, n_codes_per_unit=1):
        """Return the untrained network.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an input.
        n_codes_per_unit : int, default=1
            Number of values that the encoder returns for each value that the decoder takes.

        Returns
        -------
        EncoderDecoder
            Untrained network.
        """
        from .._networks.autoencoders import EncoderDecoder, strided_decoder, strided_encoder

        n_channels, *size = shape
        encoder = strided_encoder(n_channels, tuple(size), n_codes_per_unit * self.code_size)
        return EncoderDecoder(encoder, strided_decoder(n_channels, tuple(size), self.code_size), n_channels)

    def build_decoder(self, shape, n_features):
        """Return an untrained network that decodes features, which it standardises, to whole images.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an image.
        n_features : int
            Number of features, which replaces `code_size`.

        Returns
        -------
        EncoderDecoder
            Untrained network, whose encoder standardises features.
        """
        from .._networks.autoencoders import EncoderDecoder, Standardize, strided_decoder

        n_channels, *size = shape
        decoder = strided_decoder(n_channels, tuple(size), n_features)
        return EncoderDecoder(Standardize(n_features), decoder, n_channels)


class PooledNetwork(ConvolutionalNetwork):
    """Three 3 x 3 convolutions with pooling, and a mirrored decoder, as in the classic Keras example.

    The convolutions have 16, 8 and 8 channels, each followed by ReLU and 2 x 2 max pooling; the code is a feature map
    with 8 channels. The output passes a sigmoid, so that values are in (0, 1), like pixels.

    Parameters
    ----------
    patch_size : int, "auto" or None, default="auto"
        Side of the patches that the network sees, in pixels of the resized image; None is the whole image. "auto" is
        32, or the whole image if its shorter side is below 64.
    stride : int or None, default=None
        Maximum distance between neighbouring patches, which are spread evenly from border to border, in pixels; None is
        half of `patch_size`.

    See Also
    --------
    StridedNetwork : Strided convolutions, whose code is a vector.
    DenseNetwork : Dense layers, for rows and feature vectors.

    Notes
    -----
    By default, training takes 1,000 optimiser steps, in 2 to 200 epochs, with batches of 16 images or patches and
    without noise.

    Examples
    --------
    >>> from skanomaly.networks import PooledNetwork
    >>> PooledNetwork(stride=8)
    PooledNetwork(stride=8)
    """

    bounded = True

    def __init__(self, *, patch_size="auto", stride=None):
        self.patch_size = patch_size
        self.stride = stride

    def build(self, shape, n_codes_per_unit=1):
        """Return the untrained network.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an input.
        n_codes_per_unit : int, default=1
            Number of values that the encoder returns for each value that the decoder takes. It must be 1, because the
            code is a feature map after a ReLU.

        Returns
        -------
        EncoderDecoder
            Untrained network.
        """
        from .._networks.autoencoders import EncoderDecoder, pooled_decoder, pooled_encoder

        if n_codes_per_unit != 1:
            raise ValueError(
                f"network={self!r} has a feature map after a ReLU as its code, which has no mean and variance; "
                "it must be a StridedNetwork or a DenseNetwork."
            )
        n_channels, *size = shape
        return EncoderDecoder(pooled_encoder(n_channels), pooled_decoder(n_channels, tuple(size)))
