"""Way of an image to the input of a network, and of a grid of scores back to the image."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from torch.nn import functional as F

from .._inputs.images import as_pair
from .._kernels.smoothing import SIGMA_SIDE, map_operator, render


class Geometry(NamedTuple):
    """How images are resized to the frame, cropped or padded to the input, and cut into cells.

    With ``resize="stretch"``, every image is resized to the frame. Otherwise, its aspect ratio is kept: it is resized
    to cover the frame ("shorter") or to fit into it ("longer"), and centred. The input is the centre of the frame.
    """

    resize: str
    frame: tuple  # (H, W)
    seen: tuple  # (H, W) of the input, at most the frame
    step: int  # sides of the frame that follow from an image are multiples of it

    def resized_shape(self, size):
        """Return the size to which an image is resized.

        Parameters
        ----------
        size : tuple of int (H, W)
            Size of the image, in pixels.

        Returns
        -------
        tuple of int (H, W)
            Size of the resized image, in pixels.
        """
        if self.resize == "stretch":
            return self.frame
        ratios = [after / before for after, before in zip(self.frame, size, strict=True)]
        scale = max(ratios) if self.resize == "shorter" else min(ratios)
        scaled = [max(1, round(scale * n)) for n in size]
        if self.resize == "longer":
            return tuple(scaled)
        slack = self.step // 2  # by which the frame was rounded
        return tuple(full if n - full <= slack else n for n, full in zip(scaled, self.frame, strict=True))

    def to_input(self, pixels):
        """Return an image as the network sees it.

        Parameters
        ----------
        pixels : Tensor of shape (C, H, W)
            Image.

        Returns
        -------
        Tensor of shape (C, h, w)
            Image of the size `seen`.
        """
        size = self.resized_shape(tuple(pixels.shape[1:]))
        pixels = pixels[None]
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels.contiguous(), size, mode="bilinear", antialias=True)
        (top, bottom), (left, right) = (_margins(n, seen) for n, seen in zip(size, self.seen, strict=True))
        if min(top, bottom, left, right) < 0:
            pads = [max(0, -margin) for margin in (left, right, top, bottom)]
            pixels = F.pad(pixels, pads, mode="replicate")
        top, left = max(top, 0), max(left, 0)
        return pixels[0, :, top : top + self.seen[0], left : left + self.seen[1]]

    def to_image(self, grid, size, out, sigma):
        """Return a grid of scores as the smooth map of an image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the cells.
        size : tuple of int (H, W)
            Size of the image, in pixels.
        out : tuple of int (H, W)
            Size of the map, in pixels.
        sigma : float
            Standard deviation of the Gaussian, in pixels of an image with a side of `SIGMA_SIDE`: of each side if
            images are stretched, of the shorter side of the input otherwise.

        Returns
        -------
        ndarray of shape out, float32
            Map; NaN for pixels that the network did not see.
        """
        sides = self.seen if self.resize == "stretch" else (min(self.seen),) * 2
        rows, columns = (
            map_operator(n_grid, n_seen, n_resized, n_out, sigma * side / SIGMA_SIDE)
            for n_grid, n_seen, n_resized, n_out, side in zip(
                grid.shape, self.seen, self.resized_shape(size), out, sides, strict=True
            )
        )
        return render(rows, grid, columns)


def frame_shape(resize, image_size, size, step):
    """Return the frame of images that are like one of a size (H, W).

    Parameters
    ----------
    resize : {"stretch", "shorter", "longer"}
        How images are resized.
    image_size : int or (int, int)
        Size of the frame, in pixels. An int is both sides for "stretch"; otherwise, it is the side that `resize` names,
        and the other follows from the image: rounded for "shorter", so that nothing is cut off, and rounded up for
        "longer".
    size : tuple of int (H, W)
        Size of the image, in pixels.
    step : int
        Number of pixels of which a side that follows from the image is a multiple.

    Returns
    -------
    tuple of int (H, W)
        Size of the frame, in pixels.
    """
    frame = list(as_pair(image_size))
    if resize != "stretch" and isinstance(image_size, Integral) and size[0] != size[1]:
        named = int(np.argmin(size) if resize == "shorter" else np.argmax(size))
        length, unit = image_size * size[1 - named], step * size[named]
        n_steps = (2 * length + unit) // (2 * unit) if resize == "shorter" else -(-length // unit)
        frame[1 - named] = step * max(1, n_steps)
    return tuple(frame)


def _margins(n_resized, n_seen):
    """Return the lengths that are cut off before and after the centre; negative lengths are added."""
    before = (n_resized - n_seen) // 2
    return before, n_resized - n_seen - before
