"""Plots of the results of several detectors on several data sets."""

import numpy as np

from ._axes import given_or_new


class ComparisonDisplay:
    """Plot of a metric of several detectors on several data sets, with intervals.

    Create one with `from_comparison`.

    Parameters
    ----------
    values : ndarray of shape (n_detectors, n_datasets)
        Values of the metric; NaN where there is none.
    intervals : ndarray of shape (n_detectors, n_datasets, 2)
        Lower and upper bounds of the intervals.
    detectors : list of str
        Names of the detectors.
    datasets : list of str
        Names of the data sets.
    metric : str, default=None
        Name of the metric, shown at the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    points_ : list of matplotlib ErrorbarContainer
        Points and intervals of each detector.

    See Also
    --------
    skanomaly.evaluation.compare : Compute the results.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import ComparisonDisplay
    >>> values = np.array([[0.8, 0.9], [0.85, 0.7]])
    >>> intervals = np.stack([values - 0.05, values + 0.05], axis=2)
    >>> display = ComparisonDisplay(values, intervals, ["A", "B"], ["screw", "tile"])
    >>> [label.get_text() for label in display.plot(ax=Figure().add_subplot()).ax_.get_yticklabels()]
    ['screw', 'tile']
    """

    def __init__(self, values, intervals, detectors, datasets, *, metric=None):
        self.values, self.intervals = values, intervals
        self.detectors, self.datasets, self.metric = detectors, datasets, metric

    @classmethod
    def from_comparison(cls, comparison, metric="image_auroc", *, differences=False, ax=None):
        """Plot a metric of a comparison, or its paired differences to the baseline.

        Parameters
        ----------
        comparison : skanomaly.evaluation.Comparison
            Results of `compare`.
        metric : str, default="image_auroc"
            Name of the metric.
        differences : bool, default=False
            If True, the differences to the baseline are shown instead of the values.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.

        Returns
        -------
        ComparisonDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If no detector has the metric.
        """
        if metric not in comparison.metrics:
            known = ", ".join(comparison.metrics)
            raise ValueError(f"metric={metric!r} is not one of those in the comparison, {known}.")
        if differences and len(comparison.detectors) < 2:
            raise ValueError("differences=True needs a comparison of at least two detectors.")
        rows, key = (comparison.differences(metric), "difference") if differences else (comparison.rows, metric)
        low, high = ("low", "high") if differences else (f"{metric}_low", f"{metric}_high")
        found = {(row["detector"], row["dataset"]): [row.get(k, np.nan) for k in (key, low, high)] for row in rows}
        detectors = [name for name in comparison.detectors if any(pair[0] == name for pair in found)]
        table = np.array([[found.get((d, s), [np.nan] * 3) for s in comparison.datasets] for d in detectors], float)
        name = f"difference in {metric}" if differences else metric
        return cls(table[..., 0], table[..., 1:], detectors, comparison.datasets, metric=name).plot(ax=ax)

    def plot(self, *, ax=None):
        """Draw the points of each detector, with intervals, in one row per data set.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.

        Returns
        -------
        self
            The display.
        """
        ax = given_or_new(ax)
        rows = np.arange(len(self.datasets))
        shifts = np.linspace(-0.3, 0.3, len(self.detectors)) if len(self.detectors) > 1 else [0.0]
        self.points_ = []
        for name, values, intervals, shift in zip(self.detectors, self.values, self.intervals, shifts, strict=True):
            errors = np.array([values - intervals[:, 0], intervals[:, 1] - values])
            errors = np.maximum(errors, 0)  # percentile intervals need not contain the value
            self.points_.append(ax.errorbar(values, rows + shift, xerr=errors, fmt="o", capsize=2, label=name))
        ax.set_yticks(rows, self.datasets)
        ax.invert_yaxis()
        ax.set_xlabel(self.metric or "")
        ax.grid(axis="x", alpha=0.3)
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
