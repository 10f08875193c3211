"""Plots of the anomaly scores of normal and anomalous samples."""

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length

from .._inputs.labels import anomalous
from ._axes import given_or_new


class ScoreDisplay:
    """Histogram of anomaly scores, with the threshold as a vertical line.

    Create one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    anomaly_score : ndarray of shape (n_samples,)
        Anomaly scores, higher for anomalies.
    anomalous : ndarray of shape (n_samples,), bool, default=None
        True labels, True for anomalies. If None, one histogram of all samples is drawn.
    threshold : float, default=None
        Score above which a sample is called an anomaly, drawn as a vertical line.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    bars_ : dict of str to matplotlib BarContainer
        Histogram of each class present: "normal" and "anomaly", or "all samples".
    threshold_line_ : matplotlib Line2D or None
        Vertical line at the threshold; None if there is no threshold.

    See Also
    --------
    AnomalyMapDisplay : Plot of an image overlaid with its anomaly map.
    LossCurveDisplay : Plot of the losses over the epochs of training.
    PROCurveDisplay : Plot of the per-region-overlap curve of anomaly maps.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import ScoreDisplay
    >>> ax = Figure().add_subplot()
    >>> display = ScoreDisplay.from_predictions([0.1, 0.2, 0.9], [1, 1, -1], threshold=0.5, ax=ax)
    >>> list(display.bars_)
    ['normal', 'anomaly']
    """

    def __init__(self, anomaly_score, *, anomalous=None, threshold=None):
        self.anomaly_score, self.anomalous, self.threshold = anomaly_score, anomalous, threshold

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, threshold="auto", ax=None, **plot_options):
        """Plot the anomaly scores that a fitted estimator assigns to samples.

        Parameters
        ----------
        estimator : estimator
            Fitted outlier detector with `score_samples`, of skanomaly or scikit-learn.
        X : array-like of shape (n_samples, n_features), images or paths
            Samples, in a form that the estimator accepts.
        y : array-like of shape (n_samples,), default=None
            True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). If None, one
            histogram of all samples is drawn.
        threshold : float, "auto" or None, default="auto"
            Score above which a sample is called an anomaly, drawn as a vertical line; None draws none. "auto" is
            ``-estimator.offset_``, if the estimator has one; a `Pipeline` has none.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        ScoreDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the labels have any other values, or their number is not that of the samples.

        See Also
        --------
        from_predictions : Plot given anomaly scores.
        """
        if isinstance(threshold, str):
            offset = getattr(estimator, "offset_", None)
            threshold = None if offset is None else -np.asarray(offset).item()  # OneClassSVM has an array of length 1
        anomaly_score = -np.asarray(estimator.score_samples(X))
        return cls.from_predictions(anomaly_score, y, threshold=threshold, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, anomaly_score, y_true=None, *, threshold=None, ax=None, **plot_options):
        """Plot given anomaly scores.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_samples,)
            Anomaly scores, higher for anomalies.
        y_true : array-like of shape (n_samples,), default=None
            True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). If None, one
            histogram of all samples is drawn.
        threshold : float, default=None
            Score above which a sample is called an anomaly, drawn as a vertical line.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        ScoreDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the scores are not finite or not 1-dimensional, the labels have any other values, or their number is
            not that of the scores.

        See Also
        --------
        from_estimator : Plot the anomaly scores that a fitted estimator assigns to samples.
        """
        scores = check_array(anomaly_score, ensure_2d=False, dtype=np.float64, input_name="anomaly_score")
        if scores.ndim != 1:
            raise ValueError(f"anomaly_score must be 1-dimensional, got shape {scores.shape}.")
        truth = None if y_true is None else anomalous(y_true, "y_true")
        check_consistent_length(scores, truth)
        return cls(scores, anomalous=truth, threshold=threshold).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, bins=30, density=False, log_score=False, log_count=False):
        """Draw the histograms over common bins, and the threshold.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        bins : int, sequence of float or str, default=30
            Number of bins over the range of all scores, edges of the bins, or a rule of `numpy.histogram_bin_edges`.
        density : bool, default=False
            If True, every histogram has area 1, which helps to compare classes of very different size.
        log_score : bool, default=False
            If True, the axis of the scores is logarithmic, and so are the bins, unless their edges are given.
        log_count : bool, default=False
            If True, the axis of the counts is logarithmic, which shows rare classes.

        Returns
        -------
        self
            The display.

        Raises
        ------
        ValueError
            If `log_score` is True, but some scores are not positive.
        """
        edges = self._edges(bins, log_score)
        ax = given_or_new(ax)
        self.bars_ = {}
        for kind, (scores, color) in self._kinds().items():
            *_, self.bars_[kind] = ax.hist(scores, edges, density=density, label=kind, color=color, alpha=0.6)
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axvline(self.threshold, color="black", linestyle="--", label="threshold")
        if log_score:
            ax.set_xscale("log")
        if log_count:
            ax.set_yscale("log")
        ax.set(xlabel="anomaly score", ylabel="density" if density else "number of samples")
        ax.margins(y=0.18)  # room for the legend
        ax.legend(loc="upper center", ncols=3, columnspacing=1, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _edges(self, bins, log_score):
        """Return the edges of the bins."""
        if not log_score:
            return np.histogram_bin_edges(self.anomaly_score, bins)
        lowest = self.anomaly_score.min()
        if lowest <= 0:
            raise ValueError(f"log_score=True needs positive scores, but the lowest is {lowest:g}.")
        if np.ndim(bins):
            return np.asarray(bins)
        edges = 10 ** np.histogram_bin_edges(np.log10(self.anomaly_score), bins)
        edges[[0, -1]] = lowest, self.anomaly_score.max()  # not missed by a rounding error
        return edges

    def _kinds(self):
        """Return the scores and the colour of each class present."""
        if self.anomalous is None:
            return {"all samples": (self.anomaly_score, "gray")}
        kinds = {
            "normal": (self.anomaly_score[~self.anomalous], "tab:blue"),
            "anomaly": (self.anomaly_score[self.anomalous], "tab:orange"),
        }
        return {kind: (scores, color) for kind, (scores, color) in kinds.items() if len(scores)}
