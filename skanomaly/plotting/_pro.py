"""Per-region-overlap curves."""

from .._kernels.localization import pro_curve
from .._kernels.ranking import area_under
from ..maps import anomaly_map
from ._axes import given_or_new


class PROCurveDisplay:
    """Per-region overlap against the false-positive rate, up to a limit of the latter.

    The mean share of a defect region that lies above a threshold, against the share of normal pixels above it, over
    all thresholds; its mean height is the AU-PRO of `skanomaly.metrics.aupro`. Make one with `from_estimator` or
    `from_predictions`.

    Parameters
    ----------
    fpr : ndarray of shape (n_points,)
        From 0 to the limit.
    pro : ndarray of shape (n_points,)
    aupro : float, optional
        Mean height of the curve, shown in the legend.
    name : str, optional
        Of the curve, in the legend.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Of the last `plot`.
    line_ : matplotlib Line2D
        The curve.

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
        """Make and draw a display of the maps that a fitted detector or pipeline gives.

        Parameters
        ----------
        estimator : estimator
            With maps, as `skanomaly.anomaly_map` accepts it.
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
        masks : array-like of shape (n, H, W), or sequence of array-like (H, W)
            True (or non-zero) on defects; those of normal images are empty.
        max_fpr : float, default=0.3
            Where the curve ends, in (0, 1].
        name : str, optional
            By default, that of the estimator's class.
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        PROCurveDisplay

        Raises
        ------
        TypeError
            If the estimator has no maps.
        ValueError
            As in `from_predictions`.
        """
        name = type(estimator).__name__ if name is None else name
        maps = anomaly_map(estimator, X)
        return cls.from_predictions(masks, maps, max_fpr=max_fpr, name=name, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, masks, anomaly_maps, *, max_fpr=0.3, name=None, ax=None, **plot_options):
        """Make and draw a display from masks and maps.

        Parameters
        ----------
        masks : array-like of shape (n, H, W), or sequence of array-like (H, W)
            True (or non-zero) on defects; those of normal images are empty.
        anomaly_maps : array-like of shape (n, H, W), or sequence of array-like (H, W)
            Higher for anomalies; NaN pixels are left out.
        max_fpr : float, default=0.3
            Where the curve ends, in (0, 1].
        name : str, optional
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        PROCurveDisplay

        Raises
        ------
        ValueError
            For sizes that differ, masks without defects or without normal pixels, or another `max_fpr`.
        """
        fpr, pro = pro_curve(masks, anomaly_maps, max_fpr)
        display = cls(fpr, pro, aupro=area_under(fpr, pro, max_fpr), name=name)
        return display.plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, **line_options):
        """Draw the curve, with its AU-PRO in the legend; several displays may share the axes.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default, that of a new pyplot figure.
        **line_options
            Passed on to matplotlib's `plot`, such as ``color`` or ``linestyle``.

        Returns
        -------
        self
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
