"""U-Nets that copy images, one or several side by side."""

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_EPS, _MOMENTUM = 1e-3, 0.01  # of Keras


class StackedUNets(nn.Module):
    """U-Nets with weights of their own in a single module: each sees its own image.

    All convolutions are grouped, one group for each U-Net, and channels are normalised over the pixels of an image, so
    that no U-Net depends on another. The weights of all U-Nets are concatenated along the first axis; `stacked_state`
    makes copies of one.

    Parameters
    ----------
    n_channels : int
        Number of channels of the images.
    width : int
        Number of channels of the first block of a U-Net, doubled after each pooling.
    depth : int
        Number of poolings.
    n_nets : int, default=1
        Number of U-Nets. A single one takes any number of images.
    averages : bool, default=False
        If True, moving averages of the statistics are kept, which replace them in evaluation mode.
    """

    def __init__(self, n_channels, width, depth, n_nets=1, averages=False):
        super().__init__()
        widths = [width << i for i in range(depth + 1)]
        options = {"n_nets": n_nets, "averages": averages}
        self.n_nets = n_nets
        self.down = nn.ModuleList(_block(*pair, **options) for pair in zip([n_channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(n_nets * below, n_nets * above, 2, 2, groups=n_nets) for above, below in pairwise(widths)
        )
        self.merge = nn.ModuleList(_block(2 * w, w, **options) for w in widths[:-1])
        self.last = nn.Conv2d(n_nets * width, n_nets * n_channels, 1, groups=n_nets)

    def forward(self, x):
        """Return the images (n, c, H, W) that the U-Nets make of images; image i passes U-Net i."""
        n_images = len(x)
        x = x.reshape(n_images // self.n_nets, -1, *x.shape[2:])
        skips = []
        for i, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2, ceil_mode=True) if i else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(reversed(self.up), reversed(self.merge), strict=True):
            x = merge(self._beside(skips.pop(), up(x)))
        return torch.sigmoid(self.last(x)).reshape(n_images, -1, *x.shape[2:])

    def _beside(self, skip, x):
        """Return maps of the encoder and the decoder, concatenated U-Net by U-Net."""
        height, width = skip.shape[2:]
        parts = (part.unflatten(1, (self.n_nets, -1)) for part in (skip, x[..., :height, :width]))
        return torch.cat(list(parts), dim=2).flatten(1, 2)


def stacked_state(state, n_nets):
    """Return the state of `n_nets` copies of a U-Net, given the state of one, both as arrays by name."""
    return {name: np.concatenate([value] * n_nets) if value.ndim else value for name, value in state.items()}


def _block(n_in, n_out, *, n_nets, averages):
    """Return two 3 x 3 convolutions, each normalised and followed by ReLU."""
    layers = []
    for n_from in (n_in, n_out):
        layers += [
            nn.Conv2d(n_nets * n_from, n_nets * n_out, 3, padding=1, groups=n_nets, bias=False),
            nn.InstanceNorm2d(n_nets * n_out, _EPS, _MOMENTUM, affine=True, track_running_stats=averages),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)
