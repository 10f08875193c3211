"""Loss curves of training."""

import numpy as np

from ._axes import given_or_new


class LossCurveDisplay:
    """Plot of the losses over the epochs of training, marking the epoch whose network was kept.

    Create one with `from_estimator` or `from_history`.

    Parameters
    ----------
    history : dict of str to ndarray of shape (n_epochs,)
        Losses of every epoch, by name.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the last call of `plot`.
    figure_ : matplotlib Figure
        Figure of `ax_`.
    lines_ : dict of str to matplotlib Line2D
        Curve of each loss.
    kept_line_ : matplotlib Line2D or None
        Vertical line at the epoch with the smallest validation loss; None if there is no validation loss.

    See Also
    --------
    ReconstructionDisplay : Plot of images next to their reconstructions.
    ScoreDisplay : Histogram of anomaly scores.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from skanomaly.plotting import LossCurveDisplay
    >>> history = {"train_loss": [3.0, 2.0, 1.0], "valid_loss": [3.0, 2.5, 2.6]}
    >>> display = LossCurveDisplay.from_history(history, ax=Figure().add_subplot())
    >>> list(display.lines_)
    ['train_loss', 'valid_loss']
    """

    def __init__(self, history):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **plot_options):
        """Plot the losses recorded while an estimator was fitted.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator with `history_`. For `GradientProjection`, pass its `model_`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the estimator has no `history_`.
        ValueError
            If the losses have different lengths, or there is no epoch.

        See Also
        --------
        from_history : Plot losses given as arrays.
        """
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"estimator is a {type(estimator).__name__} without history_; it must be a fitted detector that "
                "trains a network."
            )
        return cls.from_history(estimator.history_, ax=ax, **plot_options)

    @classmethod
    def from_history(cls, history, *, ax=None, **plot_options):
        """Plot losses given as arrays.

        Parameters
        ----------
        history : dict of str to array-like of shape (n_epochs,)
            Losses of every epoch, by name. The smallest "valid_loss", if present, marks the epoch that was kept.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        **plot_options
            Keyword arguments passed to `plot`.

        Returns
        -------
        LossCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If the losses have different lengths, or there is no epoch.

        See Also
        --------
        from_estimator : Plot the losses recorded while an estimator was fitted.
        """
        history = {name: np.asarray(losses, np.float64) for name, losses in history.items()}
        shapes = {losses.shape for losses in history.values()}
        if len(shapes) != 1 or len(min(shapes)) != 1 or min(shapes) == (0,):
            raise ValueError(
                f"history has losses of shapes {sorted(shapes)}; every loss must have one value per epoch."
            )
        return cls(history).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, log=False):
        """Draw one curve per loss, and a vertical line at the epoch that was kept.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new pyplot figure.
        log : bool, default=False
            If True, the axis of the losses is logarithmic. The losses of a `VAE` may be negative.

        Returns
        -------
        self
            The display.
        """
        ax = given_or_new(ax)
        self.lines_, self.kept_line_ = {}, None
        for name, losses in self.history.items():
            (self.lines_[name],) = ax.plot(np.arange(1, len(losses) + 1), losses, label=name.replace("_", " "))
        if "valid_loss" in self.history:
            kept = 1 + int(np.argmin(self.history["valid_loss"]))
            self.kept_line_ = ax.axvline(kept, color="black", linestyle="--", label="kept")
        ax.set(xlabel="epoch", ylabel="loss", yscale="log" if log else "linear")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
