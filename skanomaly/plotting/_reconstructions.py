"""Plots of images next to their reconstructions."""

import numpy as np

from .._inputs.images import check_images
from ..maps import pixels_as_seen
from ._axes import grid_of_axes, show_image

_TITLES = ("original", "reconstruction", "residual", "anomaly map")


class ReconstructionDisplay:
    """Plot of images, their reconstructions, the residuals and the anomaly maps, side by side.

    Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    images : list of ndarray of shape (H, W, C)
        Images, float in [0, 1].
    reconstructions : list of ndarray of shape (H, W) or (H, W, C)
        Reconstructions of the images, float in [0, 1].
    anomaly_maps : list of ndarray of shape (H, W)
        Anomaly maps, higher for anomalies. NaN pixels are left blank.
    scores : array-like of shape (n_images,), default=None
        Anomaly scores, higher for anomalies, which are written above the maps; None writes none.
    captions : list of str, default=None
        Captions of the anomaly maps, such as losses; None has no captions.

    Attributes
    ----------
    residuals : list of ndarray of shape (H, W)
        Mean over the channels of the absolute difference between image and reconstruction.
    axes_ : ndarray of shape (n_images, 4) of matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `axes_`.

    See Also
    --------
    AnomalyMapDisplay : Plot of an image overlaid with its anomaly map.
    LossCurveDisplay : Plot of the losses over the epochs of training.
    SSIMDisplay : Plot of the parts of the structural similarity.

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

    def __init__(self, images, reconstructions, anomaly_maps, scores=None, captions=None):
        self.images, self.reconstructions, self.anomaly_maps = images, reconstructions, anomaly_maps
        self.scores, self.captions = scores, captions
        self.residuals = [_residual(*pair) for pair in zip(images, reconstructions, strict=True)]

    @classmethod
    def from_estimator(cls, estimator, X, **plot_options):
        """Plot the reconstructions, or projections, of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            Fitted detector with `iter_explanations`, whose losses are written above the maps, or with `anomaly_map`
            and `project` or `reconstruct`. If it has several of these, the first is used. If it has
            `iter_scores_and_maps`, its anomaly scores are written above the maps.
        X : array of shape (n, H, W[, C]), or sequence of images or paths, length n
            Images.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has none of these methods.

        See Also
        --------
        from_predictions : Plot given reconstructions and anomaly maps.
        """
        if hasattr(estimator, "iter_explanations"):
            return cls._explain(estimator, X, **plot_options)
        projects = hasattr(estimator, "project")
        if not (projects or hasattr(estimator, "reconstruct")):
            raise TypeError(
                f"estimator is a {type(estimator).__name__}; it must be a detector with `project` or `reconstruct`."
            )
        restored = (estimator.project if projects else estimator.reconstruct)(X)
        options = {"restored": "projection" if projects else "reconstruction", **plot_options}
        images = pixels_as_seen(estimator, X)
        if not hasattr(estimator, "iter_scores_and_maps"):
            return cls.from_predictions(images, restored, estimator.anomaly_map(X), **options)
        scores, score_maps = zip(*estimator.iter_scores_and_maps(X), strict=True)
        return cls.from_predictions(images, restored, score_maps, scores=-np.array(scores), **options)

    @classmethod
    def _explain(cls, estimator, X, **plot_options):
        found = list(estimator.iter_explanations(X))
        captions = [f"L_R {e.residual_loss:.3g}, L_C {e.feature_loss:.3g}" for e in found]
        options = {"restored": "rebuilt", "captions": captions, **plot_options}
        restored, maps = [e.image for e in found], [e.anomaly_map for e in found]
        return cls.from_predictions(pixels_as_seen(estimator, X), restored, maps, **options)

    @classmethod
    def from_predictions(cls, images, reconstructions, anomaly_maps, *, scores=None, captions=None, **plot_options):
        """Plot given reconstructions and anomaly maps.

        Parameters
        ----------
        images : array of shape (n, H, W[, C]), or sequence of images or paths, length n
            Images.
        reconstructions : sequence of array-like of shape (H, W) or (H, W, C), length n
            Reconstructions of the images, in [0, 1]. The reconstruction of a colour image may be gray, and the other
            way round.
        anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W), length n
            Anomaly maps, higher for anomalies. NaN pixels are left blank.
        scores : array-like of shape (n,), default=None
            Anomaly scores, higher for anomalies, which are written above the maps; None writes none.
        captions : sequence of str of length n, default=None
            Captions of the anomaly maps, such as losses; None has no captions.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        ReconstructionDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the sizes of images, reconstructions and maps, or the numbers of images and scores, differ.

        See Also
        --------
        from_estimator : Plot the reconstructions, or projections, of a fitted detector.
        """
        source = check_images(images, min_samples=1)
        pixels = [source.read(i) for i in range(len(source))]
        restored = [np.asarray(image) for image in reconstructions]
        score_maps = [np.asarray(score_map) for score_map in anomaly_maps]
        for name, arrays in (("reconstructions", restored), ("anomaly_maps", score_maps)):
            shapes, wanted = [array.shape[:2] for array in arrays], [image.shape[:2] for image in pixels]
            if shapes != wanted:
                raise ValueError(f"{name} have shapes {shapes}, but the images have shapes {wanted}.")
        if scores is not None and np.shape(scores) != (len(pixels),):
            raise ValueError(f"scores has shape {np.shape(scores)}, but there are {len(pixels)} images.")
        return cls(pixels, restored, score_maps, scores, captions).plot(**plot_options)

    def plot(self, *, axes=None, restored="reconstruction", cmap="inferno", vmin=None, vmax=None):
        """Draw one row per image: the original, the reconstruction, the residual and the anomaly map.

        Parameters
        ----------
        axes : array of shape (n_images, 4) of matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        restored : str, default="reconstruction"
            Title of the second column.
        cmap : str or matplotlib Colormap, default="inferno"
            Colour map of the residuals and the anomaly maps. The scale of the residuals begins at 0.
        vmin : float, default=None
            Value at the lower end of the colour map of the anomaly maps; None is their smallest value.
        vmax : float, default=None
            Value at the upper end of the colour map of the anomaly maps; None is their largest value.

        Returns
        -------
        self
            The display.
        """
        n = len(self.images)
        axes = grid_of_axes(axes, (n, 4), (1.8, 1.9))
        if axes.shape != (n, 4):
            raise ValueError(f"axes has shape {axes.shape}; it must have shape {(n, 4)}, one row per image.")
        levels = {
            "vmin": min(map(np.nanmin, self.anomaly_maps)) if vmin is None else vmin,
            "vmax": max(map(np.nanmax, self.anomaly_maps)) if vmax is None else vmax,
        }
        highest = max(residual.max() for residual in self.residuals)
        for i, row in enumerate(axes):
            show_image(row[0], self.images[i])
            show_image(row[1], self.reconstructions[i])
            row[2].imshow(self.residuals[i], cmap=cmap, vmin=0, vmax=highest)
            row[3].imshow(self.anomaly_maps[i], cmap=cmap, **levels)
        for ax, title in zip(axes[0], (_TITLES[0], restored, *_TITLES[2:]), strict=True):
            ax.set_title(title, fontsize=9)
        for ax, note in zip(axes[:, 3], self._notes(), strict=True):
            ax.set_title("\n".join(filter(None, (ax.get_title(), note))), fontsize=9)
        for ax in axes.flat:
            ax.set_axis_off()
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        return self

    def _notes(self):
        """Return what is written above each map: its score, or its caption, or nothing."""
        if self.captions is not None:
            return self.captions
        return [""] * len(self.images) if self.scores is None else [f"score {score:.3g}" for score in self.scores]


def _residual(image, restored):
    restored = restored.reshape(*restored.shape[:2], -1)
    if image.shape[2] < restored.shape[2]:
        restored = restored.mean(axis=2, keepdims=True)
    return np.abs(image - restored).mean(axis=2)
