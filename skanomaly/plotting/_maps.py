"""Plots of images with their anomaly maps."""

import numpy as np
from matplotlib.figure import Figure

from .._inputs.images import check_images
from ._axes import given_or_new


class AnomalyMapDisplay:
    """Plot of an image overlaid with its anomaly map.

    Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    image : ndarray of shape (H, W, C)
        Image, float in [0, 1].
    anomaly_map : ndarray of shape (H, W)
        Anomaly map, higher for anomalies. NaN pixels are left blank.
    mask : ndarray of shape (H, W), bool, default=None
        Mask of the true defects, drawn as a blue outline.
    level : float, default=None
        Threshold above which pixels of the map are called anomalous, drawn as a dashed white outline.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    im_ : matplotlib AxesImage
        Image of the map.

    See Also
    --------
    PROCurveDisplay : Plot of the per-region-overlap curve of anomaly maps.
    ReconstructionDisplay : Plot of images next to their reconstructions.
    plot_overlay_sheet : Plot of many images with their maps on one colour scale.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import AnomalyMapDisplay
    >>> image, score_map = np.zeros((8, 8)), np.eye(8)
    >>> display = AnomalyMapDisplay.from_predictions(image, score_map, ax=Figure().add_subplot())
    >>> display.ax_.images[-1] is display.im_
    True
    """

    def __init__(self, image, anomaly_map, *, mask=None, level=None):
        self.image, self.anomaly_map, self.mask, self.level = image, anomaly_map, mask, level

    @classmethod
    def from_estimator(cls, estimator, image, *, mask=None, ax=None, **plot_options):
        """Plot an image with the anomaly map of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            Fitted detector with `anomaly_map`. Its `pixel_threshold_`, if it has one, is outlined.
        image : str, path-like or array of shape (H, W[, C])
            Image, or the path of one.
        mask : array-like of shape (H, W), default=None
            Mask of the true defects, drawn as a blue outline.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        See Also
        --------
        from_predictions : Plot an image with a given map.
        """
        score_map = estimator.anomaly_map([image])[0]
        level = getattr(estimator, "pixel_threshold_", None)
        return cls.from_predictions(image, score_map, mask=mask, level=level, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, image, anomaly_map, *, mask=None, level=None, ax=None, **plot_options):
        """Plot an image with a given map.

        Parameters
        ----------
        image : str, path-like or array of shape (H, W[, C])
            Image, or the path of one.
        anomaly_map : array-like of shape (H, W)
            Anomaly map, higher for anomalies. NaN pixels are left blank.
        mask : array-like of shape (H, W), default=None
            Mask of the true defects, drawn as a blue outline.
        level : float, default=None
            Threshold above which pixels of the map are called anomalous, drawn as a dashed white outline.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        AnomalyMapDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the sizes of the image, the map and the mask differ.

        See Also
        --------
        from_estimator : Plot an image with the anomaly map of a fitted detector.
        """
        pixels = check_images([image]).read(0)
        score_map = np.asarray(anomaly_map)
        if score_map.shape != pixels.shape[:2]:
            raise ValueError(f"anomaly_map has shape {score_map.shape}, but the image has shape {pixels.shape[:2]}.")
        mask = None if mask is None else np.asarray(mask, bool)
        if mask is not None and mask.shape != score_map.shape:
            raise ValueError(f"mask has shape {mask.shape}, but the image has shape {score_map.shape}.")
        return cls(pixels, score_map, mask=mask, level=level).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, cmap="inferno", vmin=None, vmax=None, alpha=0.55):
        """Draw the image, the map over it, and the outlines of the mask and the threshold.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        cmap : str or matplotlib Colormap, default="inferno"
            Colour map of the anomaly map.
        vmin : float, default=None
            Value at the lower end of the colour map; None is the smallest value of the map. Pass the same range to
            displays that are to be compared.
        vmax : float, default=None
            Value at the upper end of the colour map; None is the largest value of the map.
        alpha : float, default=0.55
            Opacity of the map, in [0, 1].

        Returns
        -------
        self
            The display.
        """
        ax = given_or_new(ax)
        gray = self.image.shape[2] == 1
        ax.imshow(self.image[..., 0] if gray else self.image, cmap="gray" if gray else None, vmin=0, vmax=1)
        self.im_ = ax.imshow(self.anomaly_map, cmap=cmap, vmin=vmin, vmax=vmax, alpha=alpha)
        if self.mask is not None and self.mask.any() and not self.mask.all():
            ax.contour(self.mask, levels=[0.5], colors="deepskyblue", linewidths=1.2)
        if self.level is not None and np.nanmin(self.anomaly_map) < self.level < np.nanmax(self.anomaly_map):
            ax.contour(self.anomaly_map, levels=[self.level], colors="white", linewidths=0.8, linestyles="--")
        ax.set_axis_off()
        self.ax_, self.figure_ = ax, ax.figure
        return self


def plot_overlay_sheet(images, anomaly_maps, *, masks=None, titles=None, level=None, n_columns=8):
    """Plot a sheet of images, each above its anomaly map, with one colour scale for all maps.

    Parameters
    ----------
    images : array of shape (n, H, W[, C]), or sequence of images or paths, length n
        Images.
    anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W), length n
        Anomaly maps, higher for anomalies. NaN pixels are left blank.
    masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W), default=None
        Masks of the true defects, drawn as blue outlines.
    titles : sequence of str, default=None
        Titles of the images.
    level : float, default=None
        Threshold above which pixels of the maps are called anomalous, drawn as dashed white outlines.
    n_columns : int, default=8
        Largest number of images side by side.

    Returns
    -------
    matplotlib Figure
        Figure that belongs to no window; write it to a file with its `savefig`.

    See Also
    --------
    AnomalyMapDisplay : Plot of one image overlaid with its anomaly map.
    """
    n = len(images)
    n_columns = min(n_columns, n)
    n_rows = -(-n // n_columns)
    peaks = [np.nanmax(score_map) for score_map in anomaly_maps]
    vmin = min(np.nanmin(score_map) for score_map in anomaly_maps)
    vmax = max(peaks) if level is None else max(np.quantile(peaks, 0.9), level)
    figure = Figure(figsize=(1.7 * n_columns, 3.7 * n_rows), layout="constrained")
    axes = figure.subplots(2 * n_rows, n_columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for i in range(n):
        row, column = divmod(i, n_columns)
        top, bottom = axes[2 * row, column], axes[2 * row + 1, column]
        display = AnomalyMapDisplay.from_predictions(
            images[i],
            anomaly_maps[i],
            mask=None if masks is None else masks[i],
            level=level,
            ax=bottom,
            vmin=vmin,
            vmax=vmax,
        )
        gray = display.image.shape[2] == 1
        top.imshow(display.image[..., 0] if gray else display.image, cmap="gray" if gray else None, vmin=0, vmax=1)
        if titles is not None:
            top.set_title(titles[i], fontsize=8)
    return figure
