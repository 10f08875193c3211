"""The toll gate: validation, the sign, the threshold. Think twice before adding to it."""

import copy
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ._kernels.regions import largest_level, remove_small_regions
from .thresholds import conformal_p_values, conformal_threshold

__all__ = ["BaseDetector", "all_or_nothing"]

_N_FOLDS = 10
_HELD_OUT_SHARE = 0.2


_with_maps = available_if(lambda detector: detector._makes_maps)


@contextmanager
def all_or_nothing(estimator):
    """Check the parameters; restore the estimator as it was if the block raises."""
    estimator._validate_params()
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class BaseDetector(OutlierMixin, BaseEstimator):
    """Everything that all detectors share: sklearn's sign and labels, calibration, maps and masks.

    A subclass validates and computes; inside, higher is more anomalous:

    - ``_check_samples(X, reset)`` returns samples that have a length and take slices and integer arrays;
    - ``_embed(samples)`` returns what the model learns from (default: the samples themselves): an array, or anything
      that has a length and takes slices and integer arrays;
    - ``_fit(Z)`` learns from embedded samples, setting attributes only;
    - ``_score(Z)`` returns scores (n,) float64 and score grids (n, h, w), or None where ``_makes_maps`` is False:
      then the methods for maps and masks do not exist;
    - ``_leave_one_out(Z)``, where "loo" is accepted: the same for the training samples, each without itself;
    - ``_render(grid, size)`` turns one score grid into a map of `size` (default: the grid is the map).
    """

    _parameter_constraints = {
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither"), None],
        "min_defect_area": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"loo", "cv", "split"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _batch_len = None  # samples scored at a time; None: all
    _makes_maps = True

    def fit(self, X, y=None):
        """Learn what is normal from normal samples, then set the threshold.

        Parameters
        ----------
        X : array-like
            Normal samples only, in a form that the class accepts.
        y : ignored
            For API consistency. Wrap in `FitOnNormal` to fit on labelled data.

        Returns
        -------
        self
        """
        with all_or_nothing(self):
            samples = self._check_samples(X, reset=True)
            Z = self._embed(samples)
            if self.false_alarm_rate is None:
                self._fit(Z)
                self._forget_thresholds()
            else:
                self._set_thresholds(*_CALIBRATIONS[self.calibration](self, Z, _sizes(samples)))
        return self

    def score_samples(self, X):
        """Return the normality of samples: higher is more normal.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        scores = [self._score(Z)[0] for Z, _ in self._embedded_batches(X)]
        return -np.concatenate(scores)

    def decision_function(self, X):
        """Return ``score_samples(X) - offset_``: negative for anomalies.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        scores = self.score_samples(X)
        self._check_calibrated("decision_function")
        return scores - self.offset_

    def predict(self, X):
        """Return +1 for samples called normal, -1 for anomalies.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n_samples,), int64
        """
        decision = self.decision_function(X)
        self._check_decides(X, "predict")
        return np.where(decision < 0, -1, 1)

    def p_values(self, X):
        """Return conformal p-values: (1 + calibration scores at least as anomalous) / (n + 1).

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        scores = self.score_samples(X)
        self._check_calibrated("p_values")
        self._check_decides(X, "p_values")
        return conformal_p_values(-scores, self.calibration_scores_)

    def calibrate(self, X):
        """Set the thresholds from fresh normal samples, without learning from them.

        Parameters
        ----------
        X : array-like
            Normal samples that the detector was not fitted on.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        with all_or_nothing(self):
            if self.false_alarm_rate is None:
                raise ValueError("false_alarm_rate is None: set it before calling calibrate.")
            batches = [self._normal_statistics(*self._score(Z), sizes) for Z, sizes in self._embedded_batches(X)]
            self._set_thresholds(*(np.concatenate(values) for values in zip(*batches, strict=True)))
        return self

    @_with_maps
    def iter_anomaly_maps(self, X, *, size=None):
        """Yield the anomaly map of one image after another, in bounded memory.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.
        size : tuple of int (H, W), optional
            Of the maps; by default each has the size of its image.

        Yields
        ------
        ndarray of shape (H, W), float32
            Higher is more anomalous; NaN where the detector did not look.
        """
        for _, score_map in self.iter_scores_and_maps(X, size=size):
            yield score_map

    @_with_maps
    def iter_scores_and_maps(self, X, *, size=None):
        """Yield the score and the anomaly map of one image after another, from one pass over the images.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.
        size : tuple of int (H, W), optional
            Of the maps; by default each has the size of its image.

        Yields
        ------
        score : float
            As in `score_samples`: higher is more normal.
        score_map : ndarray of shape (H, W), float32
            As in `anomaly_map`.
        """
        for Z, sizes in self._embedded_batches(X):
            scores, grids = self._score(Z)
            for score, grid, own_size in zip(scores, grids, sizes, strict=True):
                yield -float(score), self._render(grid, size or own_size)

    @_with_maps
    def anomaly_map(self, X, *, size=None):
        """Return where the anomalies are: higher is more anomalous.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.
        size : tuple of int (H, W), optional
            Of the maps; by default each has the size of its image.

        Returns
        -------
        ndarray of shape (n_samples, H, W), float32, or list of ndarray where sizes differ
            NaN where the detector did not look.
        """
        return stack_if_equal(list(self.iter_anomaly_maps(X, size=size)))

    @_with_maps
    def anomaly_mask(self, X):
        """Return the pixels called anomalous.

        The level is set so that at most a share `false_alarm_rate` of unseen normal images is expected to have
        any pixel in the mask. Regions smaller than `min_defect_area` are dropped.

        Parameters
        ----------
        X : array-like
            Samples in a form that the class accepts.

        Returns
        -------
        ndarray of shape (n_samples, H, W), bool, or list of ndarray where sizes differ
        """
        check_is_fitted(self)
        self._check_calibrated("anomaly_mask")
        self._check_decides(X, "anomaly_mask")
        return stack_if_equal(
            [
                remove_small_regions(score_map > self.pixel_threshold_, self.min_defect_area)
                for score_map in self.iter_anomaly_maps(X)
            ]
        )

    def _embed(self, samples):
        return samples

    def _render(self, grid, size):
        return np.minimum(grid, np.finfo(np.float32).max).astype(np.float32)

    def _check_decides(self, X, method):
        """Raise where the thresholds do not apply to samples like X."""

    def _embedded_batches(self, X):
        """Yield (Z, sizes) batch by batch."""
        check_is_fitted(self)
        samples = self._check_samples(X, reset=False)
        step = self._batch_len or max(len(samples), 1)
        starts = range(0, len(samples), step)
        for start in tqdm(starts, desc="scoring", unit_scale=step, delay=2, disable=not self.verbose):
            batch = samples[start : start + step]
            yield self._embed(batch), _sizes(batch)

    def _normal_statistics(self, scores, grids, sizes):
        """Return what the thresholds are taken from: the scores, and the highest level of each map."""
        if grids is None:
            return (scores,)
        levels = [
            largest_level(self._render(grid, size), self.min_defect_area)
            for grid, size in zip(grids, sizes, strict=True)
        ]
        return scores, np.array(levels)

    def _set_thresholds(self, scores, levels=None):
        statistics = (scores,) if levels is None else (scores, levels)
        thresholds = [conformal_threshold(values, self.false_alarm_rate) for values in statistics]
        self.calibration_scores_ = np.sort(scores)
        self.offset_ = -thresholds[0]
        if levels is not None:
            self.calibration_levels_ = np.sort(levels)
            self.pixel_threshold_ = thresholds[1]

    def _forget_thresholds(self):
        for name in ("calibration_scores_", "calibration_levels_", "offset_", "pixel_threshold_"):
            vars(self).pop(name, None)

    def _check_calibrated(self, method):
        if not hasattr(self, "offset_"):
            raise AttributeError(
                f"{type(self).__name__} has no threshold, which {method} needs: fit with a false_alarm_rate, or "
                "set one and call calibrate(X_normal)."
            )


def stack_if_equal(arrays):
    """Return one array where the shapes of the items are equal, else the list."""
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays


def _sizes(samples):
    """Return the (H, W) of every sample."""
    if hasattr(samples, "sizes"):
        return samples.sizes
    return [samples.shape[1:3]] * len(samples)


def _select(sizes, indices):
    return [sizes[i] for i in indices]


def _leave_one_out(detector, Z, sizes):
    detector._fit(Z)
    return detector._normal_statistics(*detector._leave_one_out(Z), sizes)


def _cross_validate(detector, Z, sizes):
    """Score every sample by a copy of the detector that was fitted without its fold."""
    folds = min(_N_FOLDS, len(Z))
    if folds < 2:
        raise ValueError("calibration='cv' needs at least 2 samples, got 1; set false_alarm_rate=None to go without.")
    seed = check_random_state(detector.random_state).randint(2**31)
    statistics, order = [], []
    for train, held_out in KFold(folds, shuffle=True, random_state=seed).split(np.arange(len(Z))):
        twin = copy.copy(detector)
        twin._fit(Z[train])
        statistics.append(_score_unseen(twin, Z, sizes, held_out))
        order.append(held_out)
    detector._fit(Z)
    back = np.argsort(np.concatenate(order))
    return tuple(np.concatenate(values)[back] for values in zip(*statistics, strict=True))


def _hold_out(detector, Z, sizes):
    """Fit on one share of the samples, score the rest."""
    n_held_out = max(1, round(_HELD_OUT_SHARE * len(Z)))
    if n_held_out >= len(Z):
        raise ValueError(
            f"calibration='split' needs at least 2 samples, got {len(Z)}; set false_alarm_rate=None to go without."
        )
    order = check_random_state(detector.random_state).permutation(len(Z))
    held_out, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
    detector._fit(Z[train])
    return _score_unseen(detector, Z, sizes, held_out)


def _score_unseen(detector, Z, sizes, held_out):
    step = detector._batch_len or len(held_out)
    runs = [held_out[start : start + step] for start in range(0, len(held_out), step)]
    statistics = [detector._normal_statistics(*detector._score(Z[run]), _select(sizes, run)) for run in runs]
    return tuple(np.concatenate(values) for values in zip(*statistics, strict=True))


_CALIBRATIONS = {"loo": _leave_one_out, "cv": _cross_validate, "split": _hold_out}
