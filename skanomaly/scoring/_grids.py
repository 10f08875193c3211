"""The base class of scorers of rows and patch grids."""

from sklearn.utils.validation import check_is_fitted

from .._inputs.samples import Grids
from ..base import BaseDetector


class GridScorer(BaseDetector):
    """Base class of detectors that take rows and patch grids as they are; a row is a 1x1 grid.

    The score of an image is computed over its cells, so thresholds hold for grids with at most as many cells as the
    grids they were set from.
    """

    _private_state = {"_calibrated_cells": "int"}

    _computed_in = None  # dtype of the computations; None stands for the dtype of the samples

    def default_features(self, X=None):
        """Return features that leave rows and patch grids as they are.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        Grids
            Features, unfitted.
        """
        return Grids(type(self).__name__, computed_in=self._computed_in)

    def calibrate(self, X, groups=None):
        """Set the thresholds from fresh normal samples, without fitting the detector again.

        Parameters
        ----------
        X : array-like of shape (n, d) or (n, h, w, d)
            Normal samples that the detector was not fitted on.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as a part number, a burst or a camera roll. Samples of one group are never split
            between training and calibration, and together count as a single sample.

        Returns
        -------
        self
            Fitted estimator.

        Warns
        -----
        CalibrationWarning
            If there are too few samples for `false_alarm_rate`, or more than 1 % of them were in the data of `fit`.
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
                "set false_alarm_rate=None to fit without one."
            )
        return super()._calibrate(samples, groups)

    def _check_decides(self, X, method):
        if _n_cells(X) > self._calibrated_cells:
            name, (height, width) = type(self).__name__, X.shape[1:3]
            raise ValueError(
                f"{method}: the thresholds of this {name} were set from grids of {self._calibrated_cells} cells and do "
                f"not hold for grids of {height}x{width}. Call calibrate with normal grids of that size, or wrap the "
                "pipeline in ConformalDetector; score_samples and anomaly_map need neither."
            )


def check_rows(scorer, X):
    """Check rows whose scores are to be explained.

    Parameters
    ----------
    scorer : GridScorer
        Fitted scorer.
    X : array-like of shape (n, d)
        Rows.

    Returns
    -------
    ndarray of shape (n, 1, 1, d), float32 or float64
        Checked rows as patch grids.
    """
    check_is_fitted(scorer)
    grids = scorer.features_.check_samples(X)
    if grids.shape[1:3] != (1, 1):
        raise ValueError(
            f"X is a patch grid of shape {grids.shape}, but contributions explains the scores of rows only; X must "
            "have shape (n, d). anomaly_map shows where grids are anomalous."
        )
    return grids


def _n_cells(X):
    return X.shape[1] * X.shape[2] if getattr(X, "ndim", 2) == 4 else 1
