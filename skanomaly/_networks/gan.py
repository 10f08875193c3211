"""Generators, discriminators and encoders of adversarial training."""

import torch
from torch import nn

from .autoencoders import halved_sizes

_SMALLEST_SIDE = 4  # smallest side of the feature maps of discriminators
_MOST_WIDENINGS = 8  # largest number of channels, as a multiple of those of the largest feature map


class GAN(nn.Module):
    """Generator and discriminator of images (n, c, h, w) in [0, 1].

    Parameters
    ----------
    generator : Module
        Network from codes (n, d), or from images between -1 and 1, to images between -1 and 1.
    discriminator : Discriminator
        Network from images between -1 and 1 to logits.

    Attributes
    ----------
    encoder : Module or None
        Network from images between -1 and 1 to codes, if it is set.
    """

    def __init__(self, generator, discriminator):
        super().__init__()
        self.generator, self.discriminator, self.encoder = generator, discriminator, None

    def generate(self, z):
        """Return the images that are generated from codes."""
        return (self.generator(z) + 1) / 2

    def rebuild(self, x):
        """Return the images that are generated from images."""
        return self.generate(2 * x - 1)

    def encode(self, x):
        """Return the codes of images according to the encoder."""
        return self.encoder(2 * x - 1)

    def features(self, x):
        """Return the last feature maps of the discriminator."""
        return self.discriminator.trunk(2 * x - 1)

    def standardize_by(self, images):
        """Do nothing: the networks see pixels between -1 and 1, whatever the images are."""


class Discriminator(nn.Module):
    """Feature maps f, and a linear decision on them.

    Parameters
    ----------
    trunk : Module
        Network from images to feature maps.
    head : Module
        Network from feature maps to logits (n, 1), which are positive for images that seem real.
    """

    def __init__(self, trunk, head):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, x):
        """Return the logits (n,) of images."""
        return self.head(self.trunk(x))[:, 0]


def dcgan(n_channels, size, code_size, width):
    """Return the generator of Radford et al. (2016) and a discriminator, for images of at least 32 x 32 pixels.

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    size : tuple of int (H, W)
        Size of the images, in pixels.
    code_size : int
        Length of the code.
    width : int
        Number of channels of the largest feature map; it doubles with every halving, up to 8 times this number.

    Returns
    -------
    GAN
        Untrained networks.
    """
    return GAN(_code_generator(n_channels, size, code_size, width), _discriminator(n_channels, size, width))


def skip_gan(n_channels, size, width):
    """Return the generator of Akcay et al. (2019), a U-Net down to a side of 1, and a discriminator.

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    size : tuple of int (H, W)
        Size of the images, in pixels.
    width : int
        Number of channels of the largest feature map; it doubles with every halving, up to 8 times this number.

    Returns
    -------
    GAN
        Untrained networks.
    """
    return GAN(SkipGenerator(n_channels, size, width), _discriminator(n_channels, size, width))


def strided_encoder_of(n_channels, size, code_size, width):
    """Return a network like the discriminator, from images (n, c, h, w) to codes (n, code_size)."""
    sizes = halved_sizes(size, _SMALLEST_SIDE)
    return nn.Sequential(*_trunk(n_channels, sizes, width), *_head(sizes, width, code_size))


def _discriminator(n_channels, size, width):
    sizes = halved_sizes(size, _SMALLEST_SIDE)
    return Discriminator(_trunk(n_channels, sizes, width), _head(sizes, width, 1))


def _trunk(n_channels, sizes, width):
    layers, last = [], n_channels
    for new in _widths(sizes, width):
        layers += [nn.Conv2d(last, new, 4, 2, 1), nn.LeakyReLU(0.2)]
        last = new
    return nn.Sequential(*layers)


def _head(sizes, width, n_out):
    return nn.Sequential(nn.Conv2d(_widths(sizes, width)[-1], n_out, sizes[-1]), nn.Flatten())


def _code_generator(n_channels, size, code_size, width):
    sizes = halved_sizes(size, _SMALLEST_SIDE)
    widths = _widths(sizes, width)[::-1]
    layers = [nn.Unflatten(1, (code_size, 1, 1)), nn.ConvTranspose2d(code_size, widths[0], sizes[-1], bias=False)]
    for last, new, target in zip(widths, [*widths[1:], n_channels], sizes[-2::-1], strict=True):
        layers += [nn.BatchNorm2d(last), nn.ReLU(), _doubling(last, new, target)]
    return nn.Sequential(*layers, nn.Tanh())


def _doubling(n_in, n_out, target):
    """Return a transposed convolution from half a size to this size (h, w)."""
    return nn.ConvTranspose2d(n_in, n_out, 4, 2, 1, output_padding=tuple(side % 2 for side in target))


def _widths(sizes, width):
    """Return the number of channels of each feature map."""
    return [width * min(2**i, _MOST_WIDENINGS) for i in range(len(sizes) - 1)]


class SkipGenerator(nn.Module):
    """U-Net of strided convolutions that halve an image down to a side of 1, after Isola et al. (2017).

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    size : tuple of int (H, W)
        Size of the images, in pixels.
    width : int
        Number of channels of the largest feature map.
    """

    def __init__(self, n_channels, size, width):
        super().__init__()
        sizes = halved_sizes(size, 1)
        widths = _widths(sizes, width)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (last, new) in enumerate(zip([n_channels, *widths], widths, strict=False)):
            norm = [nn.BatchNorm2d(new)] if 0 < i < len(widths) - 1 else []  # a side of 1 has no variance
            self.down.append(nn.Sequential(nn.Conv2d(last, new, 4, 2, 1), *norm, nn.LeakyReLU(0.2)))
        for i, (new, target) in reversed(list(enumerate(zip([n_channels, *widths], sizes, strict=False)))[:-1]):
            n_in = widths[i] * (1 if i == len(widths) - 1 else 2)
            end = [nn.BatchNorm2d(new), nn.ReLU()] if i else [nn.Tanh()]
            self.up.append(nn.Sequential(_doubling(n_in, new, target), *end))

    def forward(self, x):
        """Return the images that are generated from images."""
        skips = []
        for down in self.down:
            x = down(x)
            skips.append(x)
        x = self.up[0](skips.pop())
        for up in self.up[1:]:
            x = up(torch.cat([x, skips.pop()], dim=1))
        return x
