"""Plots of per-region-overlap curves."""

from .._kernels.localization import pro_curve
from .._kernels.ranking import area_under
from ..maps import anomaly_map
from ._axes import given_or_new


class PROCurveDisplay:
    """Plot of the per-region overlap against the false-positive rate.

    The curve shows, over all thresholds, the mean share of a defect region above the threshold against the share of
    the normal pixels above it. Its mean height is the AU-PRO of `skanomaly.metrics.aupro`. Create one with
    `from_estimator` or `from_predictions`.

    Parameters
    ----------
    fpr : ndarray of shape (n_points,)
        False-positive rates, from 0 to the upper limit.
    pro : ndarray of shape (n_points,)
        Per-region overlaps, in [0, 1].
    aupro : float, default=None
        Mean height of the curve, shown in the legend.
    name : str, default=None
        Name of the curve, shown in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    line_ : matplotlib Line2D
        The curve.

    See Also
    --------
    AnomalyMapDisplay : Plot of an image overlaid with its anomaly map.
    ScoreDisplay : Histogram of anomaly scores.
    skanomaly.metrics.aupro : Area under the curve.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import PROCurveDisplay
    >>> mask = np.eye(8, dtype=bool)[None]
    >>> display = PROCurveDisplay.from_predictions(mask, mask.astype(float), ax=Figure().add_subplot())
    >>> display.aupro
    1.0
    """

    def __init__(self, fpr, pro, *, aupro=None, name=None):
        self.fpr, self.pro, self.aupro, self.name = fpr, pro, aupro, name

    @classmethod
    def from_estimator(cls, estimator, X, masks, *, max_fpr=0.3, name=None, ax=None, **plot_options):
        """Plot the curve of the anomaly maps of a fitted detector or pipeline.

        Parameters
        ----------
        estimator : estimator
            Fitted detector or pipeline with anomaly maps, as accepted by `skanomaly.anomaly_map`.
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Test images; a str is the path of a folder, or a glob pattern.
        masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
            Defect masks: True (or non-zero) on defects, empty for normal images.
        max_fpr : float, default=0.3
            Upper limit of the false-positive rate, in (0, 1].
        name : str, default=None
            Name of the curve, shown in the legend; None is the name of the class of the estimator.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        PROCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no maps.
        ValueError
            If the sizes of masks and maps differ, there are no defective or no normal pixels, or `max_fpr` is not in
            (0, 1].

        See Also
        --------
        from_predictions : Plot the curve of given anomaly maps.
        """
        name = type(estimator).__name__ if name is None else name
        maps = anomaly_map(estimator, X)
        return cls.from_predictions(masks, maps, max_fpr=max_fpr, name=name, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, masks, anomaly_maps, *, max_fpr=0.3, name=None, ax=None, **plot_options):
        """Plot the curve of given anomaly maps.

        Parameters
        ----------
        masks : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
            Defect masks: True (or non-zero) on defects, empty for normal images.
        anomaly_maps : array-like of shape (n, H, W), or sequence of array-like of shape (H, W)
            Anomaly maps, higher for anomalies. NaN pixels are ignored.
        max_fpr : float, default=0.3
            Upper limit of the false-positive rate, in (0, 1].
        name : str, default=None
            Name of the curve, shown in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        PROCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the sizes of masks and maps differ, there are no defective or no normal pixels, or `max_fpr` is not in
            (0, 1].

        See Also
        --------
        from_estimator : Plot the curve of the anomaly maps of a fitted detector or pipeline.
        """
        fpr, pro = pro_curve(masks, anomaly_maps, max_fpr)
        display = cls(fpr, pro, aupro=float(area_under(fpr, pro, max_fpr)), name=name)
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, **line_options):
        """Draw the curve, with its AU-PRO in the legend; several displays may share the axes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **line_options
            Keyword arguments passed to matplotlib's `plot`, such as ``color`` or ``linestyle``.

        Returns
        -------
        self
            The display.
        """
        ax = given_or_new(ax)
        (self.line_,) = ax.plot(self.fpr, self.pro, **{"label": self._label(), **line_options})
        ax.set(xlabel="false-positive rate", ylabel="per-region overlap", ylim=(0, 1.02))
        ax.margins(x=0)
        if self.line_.get_label()[:1] != "_":
            ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label(self):
        area = None if self.aupro is None else f"AU-PRO = {self.aupro:.3f}"
        if self.name is None or area is None:
            return self.name or area
        return f"{self.name} ({area})"
