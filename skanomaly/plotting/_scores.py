"""Anomaly scores of normal and anomalous samples."""

import numpy as np
from sklearn.utils.validation import check_array, check_consistent_length

from .._inputs.labels import anomalous
from ._axes import given_or_new


class ScoreDisplay:
    """Histogram of anomaly scores, with the threshold as a vertical line.

    Make one with `from_estimator` or `from_predictions`.

    Parameters
    ----------
    anomaly_score : ndarray of shape (n_samples,), float
        Higher is more anomalous.
    anomalous : ndarray of shape (n_samples,), bool, optional
        True for anomalies; None draws one histogram of all samples.
    threshold : float, optional
        Score above which a sample is called an anomaly.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Of the last `plot`.
    bars_ : dict of str to matplotlib BarContainer
        The histogram of each kind present: "normal" and "anomaly", or "all samples".
    threshold_line_ : matplotlib Line2D or None

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
    def from_estimator(cls, estimator, X, y=None, *, ax=None, **plot_options):
        """Make and draw a display of the scores that a fitted estimator gives.

        The threshold is ``-estimator.offset_`` if the estimator has one. A `Pipeline` has none.

        Parameters
        ----------
        estimator : estimator with `score_samples`
            One of ours or of scikit-learn's outlier detectors.
        X : samples, as the estimator accepts them
        y : array-like of shape (n_samples,), optional
            +1 and -1, or booleans (True = anomaly).
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        ScoreDisplay

        Raises
        ------
        ValueError
            As in `from_predictions`.
        """
        offset = getattr(estimator, "offset_", None)
        threshold = None if offset is None else -np.asarray(offset).item()  # OneClassSVM has an array of one
        anomaly_score = -np.asarray(estimator.score_samples(X))
        return cls.from_predictions(anomaly_score, y, threshold=threshold, ax=ax, **plot_options)

    @classmethod
    def from_predictions(cls, anomaly_score, y_true=None, *, threshold=None, ax=None, **plot_options):
        """Make and draw a display from scores.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_samples,)
            Higher is more anomalous.
        y_true : array-like of shape (n_samples,), optional
            +1 and -1, or booleans (True = anomaly).
        threshold : float, optional
            Score above which a sample is called an anomaly.
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        ScoreDisplay

        Raises
        ------
        ValueError
            For scores that are not finite or not 1-dimensional, other labels, or another number of them.
        """
        scores = check_array(anomaly_score, ensure_2d=False, dtype=np.float64, input_name="anomaly_score")
        if scores.ndim != 1:
            raise ValueError(f"anomaly_score must be 1-dimensional, got shape {scores.shape}.")
        truth = None if y_true is None else anomalous(y_true, "y_true")
        check_consistent_length(scores, truth)
        return cls(scores, anomalous=truth, threshold=threshold).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, bins=30, density=False):
        """Draw the histograms over shared bins, and the threshold.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default, that of a new pyplot figure.
        bins : int, sequence of float or str, default=30
            Number of bins over the range of all scores, their edges, or a rule of `numpy.histogram_bin_edges`.
        density : bool, default=False
            Give every histogram the area 1, for kinds of very different number.

        Returns
        -------
        self
        """
        ax = given_or_new(ax)
        edges = np.histogram_bin_edges(self.anomaly_score, bins)
        self.bars_ = {}
        for kind, (scores, color) in self._kinds().items():
            *_, self.bars_[kind] = ax.hist(scores, edges, density=density, label=kind, color=color, alpha=0.6)
        self.threshold_line_ = None
        if self.threshold is not None:
            self.threshold_line_ = ax.axvline(self.threshold, color="black", linestyle="--", label="threshold")
        ax.set(xlabel="anomaly score", ylabel="density" if density else "number of samples")
        ax.margins(y=0.18)  # room for the legend
        ax.legend(loc="upper center", ncols=3, columnspacing=1, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _kinds(self):
        """Return scores and colour of each kind present."""
        if self.anomalous is None:
            return {"all samples": (self.anomaly_score, "gray")}
        kinds = {
            "normal": (self.anomaly_score[~self.anomalous], "tab:blue"),
            "anomaly": (self.anomaly_score[self.anomalous], "tab:orange"),
        }
        return {kind: (scores, color) for kind, (scores, color) in kinds.items() if len(scores)}
