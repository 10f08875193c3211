"""Sheets of generated images."""

import numpy as np

from ._axes import given_or_new


class GeneratedSamplesDisplay:
    """Sheet of images from a generator, by which one sees whether it has collapsed and what it takes for normal.

    Create one with `from_estimator` or `from_images`.

    Parameters
    ----------
    images : ndarray of shape (n, H, W) or (n, H, W, C)
        Images, in [0, 1].

    Attributes
    ----------
    sheet_ : ndarray of shape (n_rows * H, n_columns * W) or (n_rows * H, n_columns * W, C)
        Sheet of the last call of `plot`; empty places are NaN.
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.

    See Also
    --------
    ReconstructionDisplay : Plot of images next to their reconstructions.
    LossCurveDisplay : Plot of the losses over the epochs of training.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import GeneratedSamplesDisplay
    >>> images = np.random.default_rng(0).random((10, 8, 8))
    >>> GeneratedSamplesDisplay.from_images(images, ax=Figure().add_subplot()).sheet_.shape
    (24, 32)
    """

    def __init__(self, images):
        self.images = images

    @classmethod
    def from_estimator(cls, estimator, n=64, *, random_state=None, ax=None, **plot_options):
        """Plot images that a fitted detector generates.

        Parameters
        ----------
        estimator : estimator
            Fitted detector with `generate`, such as `AnoGAN`.
        n : int, default=64
            Number of images.
        random_state : int, RandomState instance or None, default=None
            Seed of the images.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        GeneratedSamplesDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no `generate`.

        See Also
        --------
        from_images : Plot given images.
        """
        if not hasattr(estimator, "generate"):
            raise TypeError(f"estimator is a {type(estimator).__name__}; it must be a detector with `generate`.")
        return cls.from_images(estimator.generate(n, random_state=random_state), ax=ax, **plot_options)

    @classmethod
    def from_images(cls, images, *, ax=None, **plot_options):
        """Plot given images.

        Parameters
        ----------
        images : array-like of shape (n, H, W) or (n, H, W, C)
            Images, in [0, 1].
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        GeneratedSamplesDisplay
            The display, drawn.

        See Also
        --------
        from_estimator : Plot images that a fitted detector generates.
        """
        return cls(np.asarray(images)).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, n_columns=None):
        """Draw the images row by row.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        n_columns : int, default=None
            Number of images in a row; None makes the sheet as nearly square as possible.

        Returns
        -------
        self
            The display.
        """
        n, height, width, *channels = self.images.shape
        columns = n_columns or int(np.ceil(np.sqrt(n)))
        rows = -(-n // columns)
        places = np.full((rows * columns, height, width, *channels), np.nan)
        places[:n] = self.images
        grid = places.reshape(rows, columns, height, width, *channels)
        self.sheet_ = grid.swapaxes(1, 2).reshape(rows * height, columns * width, *channels)
        self.ax_ = given_or_new(ax)
        self.ax_.imshow(self.sheet_, cmap=None if channels else "gray", vmin=0, vmax=1)
        self.ax_.set_axis_off()
        self.figure_ = self.ax_.figure
        return self
