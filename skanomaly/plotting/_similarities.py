"""Plots of the structural similarity of images and their reconstructions."""

import numpy as np

from .._inputs.images import check_images
from .._kernels.ssim import ssim_factors
from ..maps import pixels_as_seen
from ._axes import grid_of_axes, show_image

_TITLES = ("original", "reconstruction", "luminance", "contrast", "structure", "SSIM")


class SSIMDisplay:
    """Plot of images, their reconstructions, and the three parts of their structural similarity, side by side.

    Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, C)
        Images, float in [0, 1].
    reconstructions : list of ndarray of shape (H, W, C)
        Reconstructions of the images, float in [0, 1].
    parts : list of tuple of ndarray of shape (H, W)
        Luminance, contrast, structure and SSIM of each pair, as means over the channels.

    Attributes
    ----------
    axes_ : ndarray of shape (n_images, 6) of matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `axes_`.

    See Also
    --------
    ReconstructionDisplay : Plot of images next to their reconstructions, with residuals and anomaly maps.
    skanomaly.metrics.ssim_parts : Compute the parts.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.plotting import SSIMDisplay
    >>> images = np.random.default_rng(0).random((1, 16, 16))
    >>> display = SSIMDisplay.from_predictions(images, images)
    >>> [bool(np.allclose(part, 1)) for part in display.parts[0]]
    [True, True, True, True]
    """

    def __init__(self, images, reconstructions, parts):
        self.images, self.reconstructions, self.parts = images, reconstructions, parts

    @classmethod
    def from_estimator(cls, estimator, X, **options):
        """Plot the reconstructions of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            Fitted detector with `reconstruct`.
        X : array of shape (n, H, W[, C]), or sequence of images or paths, length n
            Images.
        **options
            Keyword arguments passed to `from_predictions`.

        Returns
        -------
        SSIMDisplay
            The display, drawn.

        See Also
        --------
        from_predictions : Plot given reconstructions.
        """
        return cls.from_predictions(pixels_as_seen(estimator, X), estimator.reconstruct(X), **options)

    @classmethod
    def from_predictions(cls, images, reconstructions, *, window=11, c1=0.01, c2=0.03, **plot_options):
        """Plot given reconstructions.

        Parameters
        ----------
        images : array of shape (n, H, W[, C]), or sequence of images or paths, length n
            Images.
        reconstructions : sequence of array-like of shape (H, W) or (H, W, C), length n
            Reconstructions of the images, in [0, 1].
        window : int, default=11
            Side of the windows, in pixels; an odd number, at least 3.
        c1 : float, default=0.01
            Constant that stabilises SSIM where means are small, for pixels in [0, 1].
        c2 : float, default=0.03
            Constant that stabilises SSIM where variances are small, for pixels in [0, 1].
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        SSIMDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the shapes of images and reconstructions differ.

        See Also
        --------
        from_estimator : Plot the reconstructions of a fitted detector.
        """
        source = check_images(images)
        pixels = [source.read(i) for i in range(len(source))]
        restored = [np.asarray(image).reshape(*np.shape(image)[:2], -1) for image in reconstructions]
        shapes = [[image.shape for image in group] for group in (restored, pixels)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"reconstructions have shapes {shapes[0]}, but the images have shapes {shapes[1]}.")
        factors = [ssim_factors(*pair, window, c1, c2) for pair in zip(pixels, restored, strict=True)]
        parts = [tuple(part.mean(axis=2) for part in (*three, np.prod(three, axis=0))) for three in factors]
        return cls(pixels, restored, parts).plot(**plot_options)

    def plot(self, *, axes=None, cmap="viridis"):
        """Draw one row per image: the original, the reconstruction, luminance, contrast, structure and SSIM.

        Parameters
        ----------
        axes : array of shape (n_images, 6) of matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        cmap : str or matplotlib Colormap, default="viridis"
            Colour map of the parts, from 0 to 1; negative values are drawn as 0.

        Returns
        -------
        self
            The display.
        """
        shape = len(self.images), len(_TITLES)
        axes = grid_of_axes(axes, shape, (1.8, 1.9))
        if axes.shape != shape:
            raise ValueError(f"axes has shape {axes.shape}; it must have shape {shape}, one row per image.")
        for row, image, restored, parts in zip(axes, self.images, self.reconstructions, self.parts, strict=True):
            show_image(row[0], image)
            show_image(row[1], restored)
            for ax, part in zip(row[2:], parts, strict=True):
                ax.imshow(part, cmap=cmap, vmin=0, vmax=1)
        for ax, title in zip(axes[0], _TITLES, strict=True):
            ax.set_title(title, fontsize=9)
        for ax in axes.flat:
            ax.set_axis_off()
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self
