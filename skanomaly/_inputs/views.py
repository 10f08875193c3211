"""Views of images: mirrored, rotated, brighter or darker."""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import affine_transform

from .images import ImageSource


class View(NamedTuple):
    """Change of an image: mirrored left to right first, then rotated, then multiplied by a factor.

    Parameters
    ----------
    mirrored : bool, default=False
        Whether the image is mirrored.
    angle : float, default=0
        Angle of the rotation about the centre, counter-clockwise, in degrees in [0, 360).
    brightness : float, default=1
        Factor of the pixels, which are clipped to [0, 1].
    """

    mirrored: bool = False
    angle: float = 0.0
    brightness: float = 1.0

    def of(self, pixels):
        """Return the view of an image.

        Parameters
        ----------
        pixels : ndarray of shape (H, W, C), float32 in [0, 1]
            Image.

        Returns
        -------
        ndarray of shape (H, W, C), float32 in [0, 1]
            View of the same size. What a rotation brings in from outside is the image reflected at its borders.
        """
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if self.angle:
            pixels = _rotate(pixels, self.angle)
        if self.brightness != 1:
            pixels = np.clip(pixels * np.float32(self.brightness), 0, 1)
        return np.ascontiguousarray(pixels)


class ViewSource(ImageSource):
    """Several views of each image of a source, one image after another.

    Parameters
    ----------
    source : ImageSource
        Images.
    views : list of View
        Views of each image.
    """

    def __init__(self, source, views):
        vars(self).update(vars(source[np.repeat(np.arange(len(source)), len(views))]))
        self.views = list(views) * len(source)

    def __getitem__(self, index):
        """Return a ViewSource for a slice or an integer array, and an ImageSample for an integer."""
        part = super().__getitem__(index)
        if isinstance(part, ViewSource):
            part.views = [self.views[i] for i in np.arange(len(self))[index]]
        return part

    def read(self, i):
        """Return view `i` as (H, W, C) float32 in [0, 1], C in {1, 3}."""
        return self.views[i].of(super().read(i))

    def name_of_view(self, i):
        """Return the name of view `i`, different for each view of an image, and empty for the image as it is."""
        return "" if self.views[i] == View() else repr(self.views[i])


class ChangedSource(ImageSource):
    """Images of a source, each changed by a function.

    Parameters
    ----------
    source : ImageSource
        Images.
    change : callable
        Function of a source and an index that returns the changed image, of the same size.
    name : str
        Name of the change.
    """

    def __init__(self, source, change, name):
        vars(self).update(vars(source))
        self.source, self.change, self.name = source, change, name

    def __getitem__(self, index):
        """Return a ChangedSource for a slice or an integer array, and an ImageSample for an integer."""
        part = super().__getitem__(index)
        if isinstance(part, ChangedSource):
            part.source = self.source[index]
        return part

    def read(self, i):
        """Return the changed image `i` as (H, W, C) float32 in [0, 1], C in {1, 3}."""
        return self.change(self.source, i)

    def name_of_view(self, i):
        """Return the name of the view of image `i`, followed by that of the change."""
        return f"{self.source.name_of_view(i)} {self.name}"


def _rotate(pixels, angle):
    """Return an image rotated about its centre: exactly for right angles that keep its shape, bilinearly otherwise."""
    height, width = pixels.shape[:2]
    if angle % 180 == 0 or (angle % 90 == 0 and height == width):
        return np.rot90(pixels, round(angle / 90))
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    matrix, center = np.array([[cosine, sine], [-sine, cosine]]), (np.array([height, width]) - 1) / 2
    offset = center - matrix @ center
    channels = pixels.transpose(2, 0, 1)
    return np.stack([affine_transform(c, matrix, offset, order=1, mode="reflect") for c in channels], axis=-1)
