"""Images with their anomaly maps."""

import numpy as np
from matplotlib.figure import Figure

from .._inputs.images import check_images
from ._axes import given_or_new


class AnomalyMapDisplay:
    """An image under its anomaly map.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    image : ndarray of shape (H, W, C), float in [0, 1]
    anomaly_map : ndarray of shape (H, W)
        Higher is more anomalous; NaN pixels are left blank.
    mask : ndarray of shape (H, W), bool, optional
        True defects, drawn as an outline.
    level : float, optional
        Level of the map above which pixels are called anomalous, drawn as a dashed outline.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Of the last `plot`.
    im_ : matplotlib AxesImage
        The map.

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
        """Make and draw a display from a fitted detector.

        Parameters
        ----------
        estimator : detector with `anomaly_map`
        image : path or array of shape (H, W[, C])
        mask : array-like of shape (H, W), optional
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        AnomalyMapDisplay
        """
        score_map = estimator.anomaly_map([image])[0]
        level = getattr(estimator, "pixel_threshold_", None)
        return cls.from_predictions(image, score_map, mask=mask, level=level, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, image, anomaly_map, *, mask=None, level=None, ax=None, **plot_options):
        """Make and draw a display from an image and its map.

        Parameters
        ----------
        image : path or array of shape (H, W[, C])
        anomaly_map : array-like of shape (H, W)
        mask : array-like of shape (H, W), optional
        level : float, optional
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        AnomalyMapDisplay
        """
        pixels = check_images([image]).read(0)
        score_map = np.asarray(anomaly_map)
        if score_map.shape != pixels.shape[:2]:
            raise ValueError(f"anomaly_map has shape {score_map.shape}, the image {pixels.shape[:2]}.")
        mask = None if mask is None else np.asarray(mask, bool)
        if mask is not None and mask.shape != score_map.shape:
            raise ValueError(f"mask has shape {mask.shape}, the image {score_map.shape}.")
        return cls(pixels, score_map, mask=mask, level=level).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, cmap="inferno", vmin=None, vmax=None, alpha=0.55):
        """Draw the image, the map over it, and outlines of mask and level.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default, that of a new pyplot figure.
        cmap : str or Colormap, default="inferno"
        vmin, vmax : float, optional
            Range of the colours; give the same to displays that are to be compared.
        alpha : float, default=0.55
            Opacity of the map.

        Returns
        -------
        self
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
    """Draw a sheet of images, each above its anomaly map, with one colour range for all.

    Parameters
    ----------
    images : array or sequence of images or paths, length n
    anomaly_maps : sequence of array-like of shape (H, W), length n
    masks : sequence of array-like of shape (H, W), optional
        True defects, outlined in blue.
    titles : sequence of str, optional
    level : float, optional
        Outlined in white where the map exceeds it.
    n_columns : int, default=8

    Returns
    -------
    matplotlib Figure
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
