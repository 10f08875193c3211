"""Plots of images with their anomaly maps."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import FuncNorm, ListedColormap
from matplotlib.figure import Figure

from .._inputs.images import check_images
from .._kernels.evidence import evidence, values_of
from ..maps import anomaly_map, pixels_as_seen, scale_of_maps
from ._axes import given_or_new, grid_of_axes, show_image

_TICKS = (0, 1 / 3, 1 / 2, 2 / 3, 4 / 5)  # if `span` is the level: at 0, 0.5, 1, 2 and 4 times the level
_CLEAR, _HAZY = 0.42, 0.67  # evidence up to which maps are transparent, and from which they are not
_HIGHEST = 0.9  # share of the evidence at which colours end, 9 times the level


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
    span : float, default=None
        Distance below the level at which the colour map begins. If given, colours depend on
        ``x / (x + span)``, ``x = value - level + span``, whatever the range of the map: the same colour is the same
        evidence on every image, with the level in the middle. None takes the range of the map.
    predicted_mask : ndarray of shape (H, W), bool, default=None
        Mask of the anomalous pixels, whose outline is drawn in place of that of the level.

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
    AnomalyMapsDisplay : Plot of several images with their maps on one colour scale.
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

    def __init__(self, image, anomaly_map, *, mask=None, level=None, span=None, predicted_mask=None):
        self.image, self.anomaly_map, self.mask, self.level = image, anomaly_map, mask, level
        self.span, self.predicted_mask = span, predicted_mask

    @classmethod
    def from_estimator(cls, estimator, image, *, mask=None, ax=None, **plot_options):
        """Plot an image with the anomaly map of a fitted detector or pipeline.

        Parameters
        ----------
        estimator : estimator
            Fitted detector or pipeline with anomaly maps, as accepted by `skanomaly.anomaly_map`. If it has a
            `pixel_threshold_`, this is outlined, and colours are the same evidence on every image.
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
        (score_map,) = anomaly_map(estimator, [image])
        (image,) = pixels_as_seen(estimator, [image])
        return cls.from_predictions(image, score_map, mask=mask, ax=ax, **scale_of_maps(estimator), **plot_options)

    @classmethod
    def from_predictions(
        cls, image, anomaly_map, *, mask=None, level=None, span=None, predicted_mask=None, ax=None, **plot_options
    ):
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
        span : float, default=None
            Distance below the level at which the colour map begins, such as the level itself; the same colour is then
            the same evidence on every image. None takes the range of the map.
        predicted_mask : array-like of shape (H, W), default=None
            Mask of the anomalous pixels, whose outline is drawn in place of that of the level.
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
            If the sizes of the image, the map and the masks differ, or `span` is given without a level.

        See Also
        --------
        from_estimator : Plot an image with the anomaly map of a fitted detector.
        """
        display = _checked(image, anomaly_map, mask=mask, level=level, span=span, predicted_mask=predicted_mask)
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, cmap="inferno", vmin=None, vmax=None, alpha=0.55, colorbar=False):
        """Draw the image, the map over it, and the outlines of the mask and the threshold.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        cmap : str or matplotlib Colormap, default="inferno"
            Colour map of the anomaly map.
        vmin : float, default=None
            Value at the lower end of the colour map; None is the smallest value of the map. Ignored if `span` is set.
        vmax : float, default=None
            Value at the upper end of the colour map; None is the largest value of the map. Ignored if `span` is set.
        alpha : float, default=0.55
            Opacity of the map, in [0, 1]; with `span`, that of its highest values, and normal parts are transparent.
        colorbar : bool, default=False
            If True, a colour bar is drawn beside the image.

        Returns
        -------
        self
            The display.
        """
        ax = given_or_new(ax)
        show_image(ax, self.image)
        colours = {"cmap": cmap, "vmin": vmin, "vmax": vmax} if self.span is None else _colours(cmap, *self._scale())
        self.im_ = ax.imshow(self.anomaly_map, alpha=self._opacity(alpha), **colours)
        outline(ax, self.mask, colors="deepskyblue", linewidths=1.2)
        self._outline_anomalous(ax)
        ax.set_axis_off()
        self.ax_, self.figure_ = ax, ax.figure
        if colorbar:
            self._draw_colorbar(ax)
        return self

    def _scale(self):
        return self.level, self.span

    def _opacity(self, alpha):
        """Return the opacity, which falls off below the level so that normal parts are seen as they are."""
        if self.span is None:
            return alpha
        rise = (evidence(self.anomaly_map, *self._scale()) - _CLEAR) / (_HAZY - _CLEAR)
        return alpha * np.nan_to_num(np.clip(rise, 0, 1))

    def _outline_anomalous(self, ax):
        style = {"colors": "white", "linewidths": 0.8, "linestyles": "--"}
        if self.predicted_mask is not None:
            outline(ax, self.predicted_mask, **style)
        elif self.level is not None and np.nanmin(self.anomaly_map) < self.level < np.nanmax(self.anomaly_map):
            ax.contour(self.anomaly_map, levels=[self.level], **style)

    def _draw_colorbar(self, beside):
        bar = self.figure_.colorbar(self.im_, ax=beside, shrink=0.9)
        if self.span is not None:
            values = values_of(_TICKS, *self._scale())
            names = [f"{value:.3g}" for value in values]
            names[2] += " threshold"
            bar.set_ticks(values, labels=names)


def _checked(image, anomaly_map, *, level=None, span=None, **masks):
    """Return a display that is not drawn yet, or raise if its parts do not fit together."""
    pixels, score_map = check_images([image]).read(0), np.asarray(anomaly_map)
    if score_map.shape != pixels.shape[:2]:
        raise ValueError(f"anomaly_map has shape {score_map.shape}, but the image has shape {pixels.shape[:2]}.")
    if span is not None and level is None:
        raise ValueError(f"span={span} is given without a level, which is in the middle of the colours.")
    for name, mask in masks.items():
        masks[name] = None if mask is None else np.asarray(mask, bool)
        if mask is not None and masks[name].shape != score_map.shape:
            raise ValueError(f"{name} has shape {masks[name].shape}, but the image has shape {score_map.shape}.")
    return AnomalyMapDisplay(pixels, score_map, level=level, span=span, **masks)


def outline(ax, mask, **style):
    """Draw the outline of a mask, unless there is none.

    Parameters
    ----------
    ax : matplotlib Axes
        Axes to draw on.
    mask : ndarray of shape (H, W), bool, or None
        Mask.
    **style
        Keyword arguments passed to matplotlib's `contour`.
    """
    if mask is not None and mask.any() and not mask.all():
        ax.contour(mask, levels=[0.5], **style)


def _colours(cmap, level, span):
    """Return the colour map and the norm of matplotlib that give a value the colour of its evidence."""
    lowest, highest = values_of([0, _HIGHEST], level, span)
    functions = (lambda values: evidence(values, level, span), lambda shares: values_of(shares, level, span))
    colours = colormaps[cmap] if isinstance(cmap, str) else cmap
    return {
        "cmap": ListedColormap(colours(np.linspace(0, _HIGHEST, 256)), name=colours.name),
        "norm": FuncNorm(functions, lowest, highest, clip=True),
    }


class AnomalyMapsDisplay:
    """Plot of several images overlaid with their anomaly maps, on one colour scale.

    Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    displays : list of AnomalyMapDisplay
        Images with their maps.
    titles : list of str, default=None
        Title of each image.

    Attributes
    ----------
    axes_ : ndarray of shape (n_rows, n_columns) of matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `axes_`.

    See Also
    --------
    AnomalyMapDisplay : Plot of one image overlaid with its anomaly map.
    plot_overlay_sheet : Figure of many images, each above its map.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import AnomalyMapsDisplay
    >>> images, maps = np.zeros((2, 8, 8)), np.array([np.eye(8), 2 * np.eye(8)])
    >>> axes = Figure().subplots(1, 2, squeeze=False)
    >>> display = AnomalyMapsDisplay.from_predictions(images, maps, axes=axes)
    >>> [ax.images[-1].get_clim() for ax in display.axes_.flat]
    [(0.0, 2.0), (0.0, 2.0)]
    """

    def __init__(self, displays, *, titles=None):
        self.displays, self.titles = displays, titles

    @classmethod
    def from_estimator(cls, estimator, X, *, masks=None, titles=None, axes=None, **plot_options):
        """Plot images with the anomaly maps of a fitted detector or pipeline.

        Parameters
        ----------
        estimator : estimator
            Fitted detector or pipeline with anomaly maps, as accepted by `skanomaly.anomaly_map`. If it has a
            `pixel_threshold_`, this is outlined, and colours are the same evidence on every image.
        X : array of shape (n, H, W[, C]), or sequence of images or paths, length n
            Images.
        masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W), default=None
            Masks of the true defects, drawn as blue outlines.
        titles : sequence of str, default=None
            Titles of the images.
        axes : array of matplotlib Axes, default=None
            Axes to draw on, at least one for each image; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        AnomalyMapsDisplay
            The display, drawn.

        See Also
        --------
        from_predictions : Plot images with given maps.
        """
        maps, scale = anomaly_map(estimator, X), scale_of_maps(estimator)
        images = pixels_as_seen(estimator, X)
        return cls.from_predictions(images, maps, masks=masks, titles=titles, axes=axes, **scale, **plot_options)

    @classmethod
    def from_predictions(
        cls, images, anomaly_maps, *, masks=None, titles=None, level=None, span=None, axes=None, **plot_options
    ):
        """Plot images with given maps.

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
        span : float, default=None
            Distance below the level at which the colour map begins, such as the level itself; the same colour is then
            the same evidence on every image. None takes the range of all maps together.
        axes : array of matplotlib Axes, default=None
            Axes to draw on, at least one for each image; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        AnomalyMapsDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the numbers or sizes of images, maps, masks and titles differ.

        See Also
        --------
        from_estimator : Plot images with the anomaly maps of a fitted detector or pipeline.
        """
        given = {"images": images, "anomaly_maps": anomaly_maps, "masks": masks, "titles": titles}
        counts = {name: len(values) for name, values in given.items() if values is not None}
        if len(set(counts.values())) > 1:
            raise ValueError(f"The numbers of {' and '.join(f'{name} ({n})' for name, n in counts.items())} differ.")
        masks = [None] * len(images) if masks is None else masks
        displays = [
            _checked(image, score_map, mask=mask, level=level, span=span)
            for image, score_map, mask in zip(images, anomaly_maps, masks, strict=True)
        ]
        return cls(displays, titles=titles).plot(axes=axes, **plot_options)

    def plot(self, *, axes=None, n_columns=4, cmap="inferno", alpha=0.55):
        """Draw the images, each with its map, and one colour bar.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            Axes to draw on, at least one for each image; None creates a new pyplot figure.
        n_columns : int, default=4
            Largest number of images side by side, in a new figure.
        cmap : str or matplotlib Colormap, default="inferno"
            Colour map of the anomaly maps.
        alpha : float, default=0.55
            Opacity of the maps, in [0, 1].

        Returns
        -------
        self
            The display.
        """
        n = len(self.displays)
        n_columns = min(n_columns, n)
        axes = grid_of_axes(axes, (-(-n // n_columns), n_columns), (2.4, 2.6))
        if axes.size < n:
            raise ValueError(f"axes has {axes.size} axes; it must have at least one for each of the {n} images.")
        maps = [display.anomaly_map for display in self.displays]
        limits = {"vmin": min(map(np.nanmin, maps)), "vmax": max(map(np.nanmax, maps))}
        for i, (ax, display) in enumerate(zip(axes.flat, self.displays, strict=False)):
            display.plot(ax=ax, cmap=cmap, alpha=alpha, **limits)
            if self.titles is not None:
                ax.set_title(self.titles[i], fontsize=9)
        for ax in axes.flat[n:]:
            ax.set_axis_off()
        self.displays[-1]._draw_colorbar(list(axes.flat))
        self.axes_, self.figure_ = axes, axes.flat[0].figure
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
    AnomalyMapsDisplay : Plot of several images on given axes or in a notebook.
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
        show_image(top, display.image)
        if titles is not None:
            top.set_title(titles[i], fontsize=8)
    return figure
