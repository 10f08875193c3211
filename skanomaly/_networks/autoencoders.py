"""Encoders and decoders, dense and convolutional."""

import math

import torch
from torch import nn

from .._torch.inference import row_by_row
from .activations import ACTIVATIONS

_SMALLEST_SIDE = 8  # smallest side of the last feature map before the code


class EncoderDecoder(nn.Module):
    """Autoencoder made of an encoder and a decoder.

    Parameters
    ----------
    encoder : Module
        Network from samples to codes.
    decoder : Module
        Network from codes to samples.
    n_channels : int, default=None
        Number of channels of images to be standardised; None does not standardise. The encoder sees (x - mean) / std,
        and the output of the decoder is multiplied by std and shifted by mean. Both are buffers of shape
        (n_channels, 1, 1); see `standardize_by`.
    """

    def __init__(self, encoder, decoder, n_channels=None):
        super().__init__()
        self.encoder, self.decoder, self.standardizes = encoder, decoder, n_channels is not None
        if self.standardizes:
            self.register_buffer("mean", torch.empty(n_channels, 1, 1))
            self.register_buffer("std", torch.empty(n_channels, 1, 1))

    def forward(self, x):
        """Return the reconstruction of x."""
        return self.decode(self.encode(x))

    def encode(self, x):
        """Return the code of x."""
        return self.encoder(self.standardized(x))

    def standardized(self, x):
        """Return the input of the encoder."""
        return (x - self.mean) / self.std if self.standardizes else x

    def decode(self, code):
        """Return the reconstruction from a code."""
        x = self.decoder(code)
        return x * self.std + self.mean if self.standardizes else x

    def reset_values(self):
        """Set the mean to 0 and the standard deviation to 1."""
        if self.standardizes:
            self.mean.zero_()
            self.std.fill_(1.0)

    def standardize_by(self, images):
        """Set the mean and the standard deviation to those of each channel of images, an ndarray (n, C, H, W)."""
        if self.standardizes:
            self.mean.copy_(torch.from_numpy(images.mean(axis=(0, 2, 3), dtype="f8")).view(-1, 1, 1))
            self.std.copy_(torch.from_numpy(images.std(axis=(0, 2, 3), dtype="f8")).view(-1, 1, 1).clamp(min=1e-3))


def dense_layers(widths, activations):
    """Return linear layers from ``widths[0]`` inputs to ``widths[-1]`` outputs, each followed by its activation.

    Parameters
    ----------
    widths : sequence of int
        Numbers of units.
    activations : sequence of str
        Keys of `ACTIVATIONS`, one fewer than `widths`.

    Returns
    -------
    Sequential
        The layers.
    """
    layers = []
    for n_in, n_out, name in zip(widths[:-1], widths[1:], activations, strict=True):
        layers += [_Linear(n_in, n_out), getattr(nn, ACTIVATIONS[name])()]
    return nn.Sequential(*layers)


def strided_encoder(n_channels, size, n_out):
    """Return the convolutional encoder of Bergmann et al. (2018), for images of at least 8 x 8 pixels.

    The original layers are for 128 x 128 pixels; one of the first strided layers is removed for each halving of the
    smaller side, and one is added for each doubling.

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    size : tuple of int (H, W)
        Size of the images, in pixels.
    n_out : int
        Length of the code.

    Returns
    -------
    Sequential
        Network from images (n, n_channels, H, W) to codes (n, n_out).
    """
    layers, last = [], n_channels
    for width, kernel, stride in _strided_plan(size):
        layers += [nn.Conv2d(last, width, kernel, stride, 1), nn.LeakyReLU(0.2)]
        last = width
    return nn.Sequential(*layers, nn.Conv2d(last, n_out, halved_sizes(size, _SMALLEST_SIDE)[-1]), nn.Flatten())


def strided_decoder(n_channels, size, n_in):
    """Return the mirror image of `strided_encoder`, from codes (n, n_in) to images (n, n_channels, H, W)."""
    sides = halved_sizes(size, _SMALLEST_SIDE)
    plan = _strided_plan(size)
    layers, last = [nn.Unflatten(1, (n_in, 1, 1)), nn.ConvTranspose2d(n_in, plan[-1][0], sides[-1])], plan[-1][0]
    targets = list(reversed(sides[:-1]))
    widths = [width for width, _, _ in reversed(plan[:-1])] + [n_channels]
    for (_, kernel, stride), width in zip(reversed(plan), widths, strict=True):
        odd = tuple(side % 2 for side in targets.pop(0)) if stride == 2 else 0
        layers += [nn.LeakyReLU(0.2), nn.ConvTranspose2d(last, width, kernel, stride, 1, output_padding=odd)]
        last = width
    return nn.Sequential(*layers)


def _strided_plan(size):
    """Return (width, kernel, stride) of each convolution before the code."""
    n_halvings = len(halved_sizes(size, _SMALLEST_SIDE)) - 1
    blocks = [
        [(32, 4, 2)],
        [(32, 4, 2), (32, 3, 1)],
        [(64, 4, 2), (64, 3, 1)],
        [(128, 4, 2), (64, 3, 1), (32, 3, 1)],
    ]
    blocks = [blocks[0]] * (n_halvings - 4) + blocks[-min(n_halvings, 4) :]
    return [layer for block in blocks for layer in block]


def halved_sizes(size, smallest):
    """Return the size (H, W) of an image, and of each half of the one before, down to a side of about `smallest`."""
    n_halvings = max(1, min(round(math.log2(min(size) / smallest)), int(math.log2(min(size)))))  # no side of 0
    return [tuple(side >> i for side in size) for i in range(n_halvings + 1)]


def pooled_encoder(n_channels):
    """Return 3 x 3 convolutions with 16, 8 and 8 channels, each followed by max-pooling; the code is a map."""
    layers, last = [], n_channels
    for width in (16, 8, 8):
        layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
        last = width
    return nn.Sequential(*layers)


def pooled_decoder(n_channels, size):
    """Return the mirror image of `pooled_encoder`, with nearest upsampling, a sigmoid and a crop to `size`."""
    layers, last = [], 8
    for width in (8, 8, 16):
        layers += [nn.Conv2d(last, width, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2)]
        last = width
    return nn.Sequential(*layers, nn.Conv2d(last, n_channels, 3, padding=1), nn.Sigmoid(), _Crop(size))


class Standardize(nn.Module):
    """Standardisation of each feature, without parameters.

    Parameters
    ----------
    n_features : int
        Number of features.
    """

    def __init__(self, n_features):
        super().__init__()
        self.register_buffer("mean", torch.empty(n_features))
        self.register_buffer("std", torch.empty(n_features))

    def forward(self, features):
        """Return standardised features (n, d)."""
        return (features - self.mean) / self.std

    def reset_values(self):
        """Set the mean to 0 and the standard deviation to 1."""
        self.mean.zero_()
        self.std.fill_(1.0)

    def fit(self, features):
        """Set the mean and the standard deviation to those of features, a Tensor (n, d)."""
        std, mean = torch.std_mean(features, dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * mean.abs(), std, 1.0))


class _Crop(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return x[..., : self.size[0], : self.size[1]]


class _Linear(nn.Linear):
    """Linear layer whose float64 output for a row does not depend on the position of the row in the batch."""

    def forward(self, x):
        return row_by_row(x, self.weight, self.bias) if x.dtype == torch.float64 else super().forward(x)
