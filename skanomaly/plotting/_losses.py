"""How the losses fell in training."""

import numpy as np

from ._axes import given_or_new


class LossCurveDisplay:
    """Losses over the epochs of training, with the epoch whose network was kept.

    Make one with `from_estimator` or `from_history`.

    Parameters
    ----------
    history : dict of str to ndarray of shape (n_epochs,)
        Losses by name.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
        Of the last `plot`.
    lines_ : dict of str to matplotlib Line2D
        The curve of each loss.
    kept_line_ : matplotlib Line2D or None
        At the epoch with the smallest validation loss; None without one.

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
        """Make and draw a display of the training of a fitted estimator.

        Parameters
        ----------
        estimator : fitted estimator with `history_`
            For `GradientProjection`, pass its `model_`.
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        TypeError
            If the estimator has no `history_`.
        ValueError
            As in `from_history`.
        """
        if not hasattr(estimator, "history_"):
            raise TypeError(
                f"estimator is a {type(estimator).__name__} without history_; accepted is a fitted detector that "
                "trains a network."
            )
        return cls.from_history(estimator.history_, ax=ax, **plot_options)

    @classmethod
    def from_history(cls, history, *, ax=None, **plot_options):
        """Make and draw a display from losses.

        Parameters
        ----------
        history : dict of str to array-like of shape (n_epochs,)
            "valid_loss", if there, decides which epoch was kept.
        ax : matplotlib Axes, optional
        **plot_options
            Passed on to `plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ValueError
            For losses of different length, or of no epoch.
        """
        history = {name: np.asarray(losses, np.float64) for name, losses in history.items()}
        shapes = {losses.shape for losses in history.values()}
        if len(shapes) != 1 or len(min(shapes)) != 1 or min(shapes) == (0,):
            raise ValueError(
                f"history has losses of shapes {sorted(shapes)}; accepted is one value per epoch, as many of each."
            )
        return cls(history).plot(ax=ax, **plot_options)

    def plot(self, *, ax=None, log=False):
        """Draw one curve for each loss, and the epoch that was kept.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default, that of a new pyplot figure.
        log : bool, default=False
            Draw losses on a logarithmic axis (those of a `VAE` may be negative).

        Returns
        -------
        self
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
