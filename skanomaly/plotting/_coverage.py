"""Plots of how well a coreset covers the patches that it was selected from."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .._kernels.checks import require
from ._axes import given_or_new


class CoresetCoverageDisplay:
    """Plot of the share of patches within a distance of the nearest patch kept.

    The curve is the distribution of the distances, and ends at the coverage radius. If it rises steeply and has a long
    tail at the right, a few unusual patches set the radius. Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    distances : ndarray of shape (n,)
        Distances of the patches to the nearest patch kept, in ascending order.
    n_kept : int, default=None
        Number of patches kept, shown in the legend.
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
    skanomaly.GreedyCoreset : Select the patches that cover all others best.

    Examples
    --------
    >>> import numpy as np
    >>> from matplotlib.figure import Figure
    >>> from skanomaly import GreedyCoreset
    >>> from skanomaly.plotting import CoresetCoverageDisplay
    >>> X = np.array([[0.0], [1.0], [5.0], [7.0], [9.0]])
    >>> coreset = GreedyCoreset(n_samples=2, random_state=0).fit(X)
    >>> display = CoresetCoverageDisplay.from_estimator(coreset, X, ax=Figure().add_subplot())
    >>> display.distances
    array([0., 0., 1., 2., 4.])
    >>> coreset.coverage_radius_
    4.0
    """

    def __init__(self, distances, *, n_kept=None, name=None):
        self.distances, self.n_kept, self.name = distances, n_kept, name

    @classmethod
    def from_estimator(cls, estimator, X, *, name=None, ax=None, **plot_options):
        """Plot the coverage of a fitted coreset.

        Parameters
        ----------
        estimator : GreedyCoreset
            Fitted coreset.
        X : array-like of shape (n, d) or (n, h, w, d)
            Rows or patch grids that it was fitted on. Distances are those between them, without a projection.
        name : str, default=None
            Name of the curve, shown in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        CoresetCoverageDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the number of patches is not that in `fit`.

        See Also
        --------
        from_predictions : Plot the coverage of given patches.
        """
        check_is_fitted(estimator)
        rows = np.asarray(X)
        rows = rows.reshape(-1, rows.shape[-1])
        n = len(estimator.labels_)
        require(len(rows) == n, f"X has {len(rows)} patches, but the coreset was selected from {n}.")
        kept = rows[estimator.indices_]
        return cls.from_predictions(rows, kept, estimator.labels_, name=name, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, patches, kept, labels, *, name=None, ax=None, **plot_options):
        """Plot the coverage of given patches.

        Parameters
        ----------
        patches : array-like of shape (n, d)
            All patches.
        kept : array-like of shape (m, d)
            Patches kept.
        labels : array-like of shape (n,), int
            Position in `kept` of the patch nearest to each patch.
        name : str, default=None
            Name of the curve, shown in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        CoresetCoverageDisplay
            The display, drawn.

        See Also
        --------
        from_estimator : Plot the coverage of a fitted coreset.
        """
        steps = np.asarray(patches, dtype=np.float64) - np.asarray(kept, dtype=np.float64)[np.asarray(labels)]
        distances = np.sort(np.sqrt(np.einsum("ij,ij->i", steps, steps)))
        return cls(distances, n_kept=len(kept), name=name).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, **line_options):
        """Draw the curve; several displays may share the axes.

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
        share = np.arange(1, len(self.distances) + 1) / len(self.distances)
        options = {"label": self._label(), "drawstyle": "steps-post", **line_options}
        (self.line_,) = ax.plot(self.distances, share, **options)
        ax.set(xlabel="distance to the nearest patch kept", ylabel="share of patches", ylim=(0, 1.02))
        if self.line_.get_label()[:1] != "_":
            ax.legend(loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _label(self):
        count = None if self.n_kept is None else f"{self.n_kept} of {len(self.distances)} kept"
        return f"{self.name} ({count})" if self.name and count else self.name or count
