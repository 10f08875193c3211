"""What scorers of rows and patch grids share."""

from .._inputs.samples import Grids
from ..base import BaseDetector


class GridScorer(BaseDetector):
    """Detectors that take rows and patch grids as they are; a row is a 1x1 grid.

    An image's score is taken over its cells, so that thresholds hold for grids of at most as many cells as those that
    they are taken from.
    """

    _computed_in = None  # type of the computations; None is that of the samples

    def default_features(self, X=None):
        """Return the features that let rows and patch grids pass as they are.

        Parameters
        ----------
        X : ignored
            The features are the same for rows and grids.

        Returns
        -------
        Grids
            Unfitted.
        """
        return Grids(type(self).__name__, computed_in=self._computed_in)

    def calibrate(self, X, groups=None):
        """Set the thresholds from fresh normal samples, without learning from them.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Normal samples that the scorer was not fitted on.
        groups : array-like of shape (n_samples,), optional
            Group of each sample, as in `fit`.

        Returns
        -------
        self

        Warns
        -----
        CalibrationWarning
            If the samples are too few, or more than 1 % of them were in the data of `fit`.
        """
        super().calibrate(X, groups)
        self._calibrated_cells = _n_cells(X)
        return self

    def _open(self, X):
        samples = super()._open(X)
        self._calibrated_cells = _n_cells(samples)
        return samples

    def _calibrate(self, samples, groups):
        if self.false_alarm_rate is not None and len(samples) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 samples to set a threshold, got n_samples = {len(samples)}; "
                "set false_alarm_rate=None to go without."
            )
        return super()._calibrate(samples, groups)

    def _check_decides(self, X, method):
        if _n_cells(X) > self._calibrated_cells:
            name, (height, width) = type(self).__name__, X.shape[1:3]
            raise ValueError(
                f"{method}: the thresholds of this {name} were taken from grids of {self._calibrated_cells} cells and "
                f"do not hold for grids of {height}x{width}. Call calibrate on normal grids of that size, or wrap the "
                "pipeline in ConformalDetector; score_samples and anomaly_map work as they are."
            )


def _n_cells(X):
    return X.shape[1] * X.shape[2] if getattr(X, "ndim", 2) == 4 else 1
