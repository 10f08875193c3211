"""Images next to what a model makes of them."""

import numpy as np
from matplotlib.figure import Figure

from .._inputs.images import check_images

_TITLES = ("original", "reconstruction", "residual", "anomaly map")


class ReconstructionDisplay:
    """Images, what a model gives back of them, the residual, and the anomaly map, side by side.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, C), float in [0, 1]
    reconstructions : list of ndarray of shape (H, W) or (H, W, C), float in [0, 1]
    anomaly_maps : list of ndarray of shape (H, W)
        Higher is more anomalous; NaN pixels are left blank.

    Attributes
    ----------
    residuals : list of ndarray of shape (H, W)
        |image - reconstruction|, mean of channels.
    axes_ : ndarray of matplotlib Axes of shape (n_images, 4)
        Of the last `plot`.
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly.plotting import ReconstructionDisplay
    >>> image, score_map = np.zeros((1, 8, 8)), np.eye(8)[None]
    >>> display = ReconstructionDisplay.from_predictions(image, image + 0.5, score_map)
    >>> display.axes_.shape
    (1, 4)
    >>> display.residuals[0].max()
    np.float64(0.5)
    """

    def __init__(self, images, reconstructions, anomaly_maps):
        self.images, self.reconstructions, self.anomaly_maps = images, reconstructions, anomaly_maps
        self.residuals = [_residual(*pair) for pair in zip(images, reconstructions, strict=True)]

    @classmethod
    def from_estimator(cls, estimator, X, **plot_options):
        """Make and draw a display from a fitted detector.

        Parameters
        ----------
        estimator : detector with `anomaly_map`, and with `project` or `reconstruct`
            Projections are shown where it has both.
        X : array or sequence of images or paths
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        ReconstructionDisplay
        """
        projects = hasattr(estimator, "project")
        if not (projects or hasattr(estimator, "reconstruct")):
            raise TypeError(
                f"estimator is a {type(estimator).__name__}; accepted is a detector with `project` or `reconstruct`."
            )
        restored = (estimator.project if projects else estimator.reconstruct)(X)
        options = {"restored": "projection" if projects else "reconstruction", **plot_options}
        return cls.from_predictions(X, restored, estimator.anomaly_map(X), **options)

    @classmethod
    def from_predictions(cls, images, reconstructions, anomaly_maps, **plot_options):
        """Make and draw a display from images and what was made of them.

        Parameters
        ----------
        images : array or sequence of images or paths, length n
        reconstructions : sequence of array-like of shape (H, W) or (H, W, C), length n
            In [0, 1]. Images in colour may have gray ones, and the reverse.
        anomaly_maps : sequence of array-like of shape (H, W), length n
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        ReconstructionDisplay
        """
        source = check_images(images, min_samples=1)
        pixels = [source.read(i) for i in range(len(source))]
        restored = [np.asarray(image) for image in reconstructions]
        score_maps = [np.asarray(score_map) for score_map in anomaly_maps]
        for name, arrays in (("reconstructions", restored), ("anomaly_maps", score_maps)):
            shapes, wanted = [array.shape[:2] for array in arrays], [image.shape[:2] for image in pixels]
            if shapes != wanted:
                raise ValueError(f"{name} have shapes {shapes}, the images {wanted}.")
        return cls(pixels, restored, score_maps).plot(**plot_options)

    def plot(self, *, axes=None, restored="reconstruction", cmap="inferno", vmin=None, vmax=None):
        """Draw one row per image: original, reconstruction, residual, map.

        Parameters
        ----------
        axes : array of matplotlib Axes of shape (n_images, 4), optional
            By default, those of a new figure.
        restored : str, default="reconstruction"
            Title of the second column.
        cmap : str or Colormap, default="inferno"
            Of residuals and maps.
        vmin, vmax : float, optional
            Range of the colours of maps; by default, that of all maps. Residuals begin at 0.

        Returns
        -------
        self
        """
        n = len(self.images)
        if axes is None:
            axes = Figure(figsize=(7.2, 1.9 * n), layout="constrained").subplots(n, 4, squeeze=False)
        axes = np.asarray(axes)
        if axes.shape != (n, 4):
            raise ValueError(f"axes has shape {axes.shape}; accepted is {(n, 4)}, a row for each image.")
        levels = {
            "vmin": min(map(np.nanmin, self.anomaly_maps)) if vmin is None else vmin,
            "vmax": max(map(np.nanmax, self.anomaly_maps)) if vmax is None else vmax,
        }
        highest = max(residual.max() for residual in self.residuals)
        for i, row in enumerate(axes):
            _show(row[0], self.images[i])
            _show(row[1], self.reconstructions[i])
            row[2].imshow(self.residuals[i], cmap=cmap, vmin=0, vmax=highest)
            row[3].imshow(self.anomaly_maps[i], cmap=cmap, **levels)
        for ax, title in zip(axes[0], (_TITLES[0], restored, *_TITLES[2:]), strict=True):
            ax.set_title(title, fontsize=9)
        for ax in axes.flat:
            ax.set_axis_off()
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self


def _show(ax, image):
    gray = image.ndim == 2 or image.shape[2] == 1
    ax.imshow(image.reshape(image.shape[:2]) if gray else image, cmap="gray" if gray else None, vmin=0, vmax=1)


def _residual(image, restored):
    restored = restored.reshape(*restored.shape[:2], -1)
    if image.shape[2] < restored.shape[2]:
        restored = restored.mean(axis=2, keepdims=True)
    return np.abs(image - restored).mean(axis=2)
