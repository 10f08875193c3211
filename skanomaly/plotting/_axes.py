"""The axes that displays draw on, and images on them."""

import numpy as np


def given_or_new(ax):
    """Return the given axes, or those of a new pyplot figure.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes to draw on; None creates a new pyplot figure.

    Returns
    -------
    matplotlib Axes
        Axes to draw on.
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt  # imported here because pyplot selects a backend on import

    return plt.figure().add_subplot()


def grid_of_axes(axes, shape, size):
    """Return the given axes, or those of a new pyplot figure, in rows.

    Parameters
    ----------
    axes : array-like of matplotlib Axes or None
        Axes to draw on; None creates a new pyplot figure.
    shape : tuple of int (n_rows, n_columns)
        Numbers of rows and columns of a new figure.
    size : tuple of float (width, height)
        Size of each of its axes, in inches.

    Returns
    -------
    ndarray of matplotlib Axes
        Axes to draw on.
    """
    if axes is not None:
        return np.asarray(axes)
    import matplotlib.pyplot as plt  # imported here because pyplot selects a backend on import

    figsize = shape[1] * size[0], shape[0] * size[1]
    return plt.figure(figsize=figsize, layout="constrained").subplots(*shape, squeeze=False)


def show_image(ax, image):
    """Draw an image in [0, 1].

    Parameters
    ----------
    ax : matplotlib Axes
        Axes to draw on.
    image : ndarray of shape (H, W) or (H, W, C)
        Image, gray or colour.
    """
    gray = image.ndim == 2 or image.shape[2] == 1
    ax.imshow(image.reshape(image.shape[:2]) if gray else image, cmap="gray" if gray else None, vmin=0, vmax=1)
