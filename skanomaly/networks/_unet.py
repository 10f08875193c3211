"""U-Nets for images."""

from numbers import Integral

from sklearn.utils._param_validation import Interval

from ._base import Network


class UNet(Network):
    """U-Net that copies images: convolutions with pooling, and a mirrored decoder that also sees the encoder's maps.

    A block is two 3 x 3 convolutions, each followed by normalisation over the pixels of the image (which is batch
    normalisation of a single image) and ReLU. The image passes a block, and `depth` times a 2 x 2 max pooling and a
    block with twice as many channels; on the way back, a 2 x 2 transposed convolution replaces the pooling, and the
    block sees its output next to the maps of the same resolution. A 1 x 1 convolution and a sigmoid end the network.

    Parameters
    ----------
    channels : int, default=8
        Number of channels of the first block.
    depth : int, default=3
        Number of poolings.

    See Also
    --------
    StridedNetwork : Strided convolutions, whose code is a vector.
    skanomaly.AnoUNet : Detector that trains a U-Net for each image.

    Notes
    -----
    The published network of Ano-Unet is ``UNet(64, depth=4)``, with 31 million parameters.

    By default, training on normal images takes 300 optimiser steps, in 2 to 100 epochs, with batches of 8 images.

    References
    ----------
    Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015,
    arXiv:1505.04597.

    Examples
    --------
    >>> from skanomaly.networks import UNet
    >>> UNet(64, depth=4)
    UNet(channels=64, depth=4)
    """

    n_steps, epochs, batch_sizes = 300, (2, 100), (8, 8)

    _parameter_constraints = {
        "channels": [Interval(Integral, 1, None, closed="left")],
        "depth": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, channels=8, depth=3):
        self.channels = channels
        self.depth = depth

    def check(self, shape):
        """Raise a ValueError if parameters are invalid or do not suit the images.

        Parameters
        ----------
        shape : tuple of int (h, w, c)
            Shape of an image.
        """
        self._validate_params()
        smallest = 2 ** (self.depth + 1)
        if min(shape[:2]) < smallest:
            raise ValueError(
                f"depth={self.depth} needs images of at least {smallest} x {smallest} pixels; the features return "
                f"{shape[0]} x {shape[1]}."
            )

    def build(self, shape, n_nets=1, averages=False):
        """Return untrained networks with weights of their own, side by side in one module.

        Parameters
        ----------
        shape : tuple of int (c, h, w)
            Shape of an image.
        n_nets : int, default=1
            Number of networks.
        averages : bool, default=False
            If True, moving averages of the statistics are kept, which replace them in evaluation mode.

        Returns
        -------
        StackedUNets
            Untrained networks.
        """
        from .._networks.unet import StackedUNets

        return StackedUNets(shape[0], self.channels, self.depth, n_nets, averages)
