"""The base class of all detectors: fitting, calibration, scores, labels, maps and masks."""

import copy
import threading
import warnings
from collections import namedtuple
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ._calibration import CALIBRATIONS, check_groups, concatenated, grouped, statistics, training_views
from ._doc_links import DocLinkMixin
from ._inputs.files import find_images, name_files
from ._inputs.labels import warn_of_anomalies
from ._inputs.samples import begin, digests
from ._kernels.checks import require
from ._kernels.regions import remove_small_regions
from .exceptions import CalibrationWarning, ImageReadError
from .thresholds import Calibration, check_rate, select_anomalies

__all__ = ["BaseDetector", "IncrementalMixin", "Verdict", "all_or_nothing"]

_MOST_SEEN = 0.01  # `calibrate` warns if a larger share of its samples was in the data of `fit`
_DERIVING = threading.RLock()

Verdict = namedtuple("Verdict", "score label p_value anomaly_map mask regions")
Verdict.__doc__ = """Verdict of a detector on one sample.

Parameters
----------
score : float
    Normality, as returned by `score_samples`: higher is more normal.
label : {1, -1}
    Label, as returned by `predict`.
p_value : float
    Conformal p-value, as returned by `p_values`.
anomaly_map : ndarray of shape (H, W), float32, or None
    Anomaly map, as returned by `anomaly_map`; None for a detector without maps.
mask : ndarray of shape (H, W), bool, or None
    Mask of the anomalous pixels, as returned by `anomaly_mask`; None for a detector without maps or without a threshold
    for them.
regions : list of Region, or None
    Connected regions of the mask, the largest first, as returned by `anomaly_regions`; None without a mask.
"""


def _has_maps(detector):
    features = detector._features()
    if features is not None and not features.makes_maps:
        raise AttributeError(
            f"this {type(detector).__name__} has no anomaly maps because {type(features).__name__} does not make any."
        )
    return True


_with_maps = available_if(_has_maps)


@contextmanager
def all_or_nothing(estimator):
    """Check the parameters, and restore the estimator if the block raises.

    Parameters
    ----------
    estimator : estimator
        Estimator that the block changes.

    Yields
    ------
    None
        Control is passed to the block.
    """
    estimator._validate_params()
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class BaseDetector(OutlierMixin, DocLinkMixin, BaseEstimator):
    """Base class of all detectors, with scikit-learn's conventions for scores and labels.

    A detector sees samples through ``features_``, which check and embed them (``check_samples``, ``fit_samples``,
    ``transform``) and turn score grids into maps of the image (``map_to_image``). Internally, higher scores are more
    anomalous. A subclass implements

    - ``default_features(X)``: return the unfitted features that ``features=None`` stands for;
    - ``_fit(Z)``: learn from the embedded normal samples. It may only set attributes and must not modify arrays in
      place, because shallow copies of the detector are fitted as well;
    - ``_score(Z, maps=True)``: return scores (n,), float64, and score grids (n, h, w). The grids are None if the
      features make no maps, or if `maps` is False and computing them takes extra time;
    - ``_leave_one_out(Z, groups)``, only if "loo" is accepted: return the same for the samples of ``_fit``, each scored
      without the samples of its group.

    It may override ``_prepare()`` (check parameters against the fitted ``features_``), ``_embed(samples)`` (default:
    ``features_.transform``) and ``_learn(samples, Z=None, groups=None)`` (default: fit the features, embed, ``_fit``).
    State that can be derived from fitted attributes is not pickled: list its names in ``_derived`` and build it with
    ``_derived_state(name, build)``. Other private attributes are stored if their types are listed in
    ``_private_state``. ``_check_state()`` may raise a ValueError if the attributes of a model file do not fit together;
    their documented types have been checked before. If maps are too expensive to set a threshold from,
    ``_calibrates_maps`` is False.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    calibration_ : Calibration or ChiSquaredLaw
        Scores of the calibration samples and peaks of their maps, from which thresholds and p-values are computed.
        Defined only if `false_alarm_rate` was not None in `fit`.
    min_defect_area_ : int
        Area of the smallest region in masks, in pixels.
    sigma_ : float
        Standard deviation of the Gaussian that smooths anomaly maps.
    """

    _parameter_constraints = {
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither"), None],
        "min_defect_area": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"loo", "cv", "split"})],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }
    _derived = ()
    _calibrates_maps = True
    _private_state = {"_fitted_digests": "ndarray of shape (n_digests,), uint64, or None"}

    # ----------------------------------------------------------------------------------------- fitting

    def fit(self, X, y=None, groups=None):
        """Fit the detector on normal samples and set the thresholds.

        Parameters
        ----------
        X : array-like
            Normal samples, in any form that the detector accepts. Use `FitOnNormal` to fit on labelled data.
        y : Ignored
            Not used, present for API consistency by convention.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as a part number, a burst or a camera roll. Samples of one group are never split
            between training and calibration, and together count as a single sample. Equal images are always grouped.

        Returns
        -------
        self
            Fitted estimator.

        Warns
        -----
        CalibrationWarning
            If there are too few samples for `false_alarm_rate`.
        DataWarning
            If `y` labels samples as anomalies, which are learnt from like all others.
        """
        warn_of_anomalies(y, type(self).__name__)
        with all_or_nothing(self):
            samples = self._open(X)
            if self.verbose and getattr(samples, "left_aside", ()):
                tqdm.write(f"left aside, not images: {name_files(samples.left_aside)}")
            self.calibration_ = self._calibrate(samples, check_groups(groups, len(samples)))
            if self.calibration_ is None:
                self._forget_thresholds()
            else:
                self.calibration_.warn_if_short(self.false_alarm_rate)
            self._fitted_digests = self._digests(samples)
        return self

    def fit_predict(self, X, y=None, groups=None):
        """Fit the detector on samples that may contain anomalies, and find those.

        Samples from which the thresholds are calibrated are labelled by their calibration scores, for which the
        detector has not learnt from them: with "loo" and "cv", these are all samples. With "split", the other samples
        are labelled as by `predict`.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        y : Ignored
            Not used, present for API consistency by convention.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as a part number, a burst or a camera roll. Samples of one group are never split
            between training and calibration, and together count as a single sample. Equal images are always grouped.

        Returns
        -------
        ndarray of shape (n_samples,), int64
            Label of each sample: +1 or -1. At most about a share `false_alarm_rate` is -1.
        """
        self.fit(X, y, groups=groups)
        calibration = self._calibrated("fit_predict")
        if calibration.indices is None:
            return self.predict(X)
        labels = self.predict(X) if self.calibration == "split" else np.ones(len(calibration.scores), np.int64)
        labels[calibration.indices] = np.where(-calibration.scores < self.offset_, -1, 1)
        return labels

    def calibrate(self, X, groups=None):
        """Set the thresholds from fresh normal samples, without fitting the detector again.

        Parameters
        ----------
        X : array-like
            Normal samples that the detector was not fitted on, in any form that it accepts.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as a part number, a burst or a camera roll. Samples of one group are never split
            between training and calibration, and together count as a single sample. Equal images are always grouped.

        Returns
        -------
        self
            Fitted estimator.

        Warns
        -----
        CalibrationWarning
            If there are too few samples for `false_alarm_rate`, or more than 1 % of them were in the data of `fit`.
        """
        check_is_fitted(self)
        with all_or_nothing(self):
            if self.false_alarm_rate is None:
                raise ValueError("false_alarm_rate is None: set it before calling calibrate.")
            samples = self.features_.check_samples(X)
            groups = check_groups(groups, len(samples))
            self._keep_settings()
            batches = [
                statistics(self, *self._score(Z, self._calibrates_maps), batch) for batch, Z in self._batches(samples)
            ]
            self.calibration_ = Calibration(*concatenated(batches), groups=grouped(samples, groups))
            self.calibration_.warn_if_short(self.false_alarm_rate)
            self._warn_if_seen(samples)
        return self

    def set_params(self, **params):
        """Set the parameters of this estimator.

        A new `false_alarm_rate` takes effect immediately on a calibrated detector; `sigma` and `min_defect_area` take
        effect at the next `fit` or `calibrate`. Parameters that only combine or summarise scores, such as
        `image_score`, change the scores at once; call `calibrate` after them.

        Parameters
        ----------
        **params : dict
            Estimator parameters.

        Returns
        -------
        self
            Estimator.

        Raises
        ------
        ValueError
            If a parameter does not exist, or the `false_alarm_rate` of a calibrated detector is not in (0, 1).
        """
        rated = params.get("false_alarm_rate") is not None and hasattr(self, "calibration_")
        if rated:
            check_rate(params["false_alarm_rate"])  # before anything is set
        super().set_params(**params)
        if rated:
            self.calibration_.warn_if_short(self.false_alarm_rate)
        return self

    # ----------------------------------------------------------------------------------------- scores and decisions

    def score_samples(self, X, *, on_error="raise"):
        """Compute the normality of samples: higher is more normal.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        on_error : {"raise", "nan"}, default="raise"
            What happens if image files cannot be read: "raise" raises an `ImageReadError` that names them, "nan" gives
            them the score NaN.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Normality of each sample, the negative of its anomaly score.
        """
        if on_error == "nan":
            return self._scores_or_nan(find_images(X)[0] if isinstance(X, str) else X)
        if on_error != "raise":
            raise ValueError(f"on_error={on_error!r} is not accepted; it must be 'raise' or 'nan'.")
        return -np.concatenate([_without_nan(self._score(Z, maps=False)[0]) for _, Z in self._batches(X)])

    def _scores_or_nan(self, X):
        """Return the normality of samples, which are halved until only those that cannot be read are left."""
        try:
            return self.score_samples(X)
        except ImageReadError:
            half = len(X) // 2
            if half == 0:
                return np.array([np.nan])
            return np.concatenate([self._scores_or_nan(X[:half]), self._scores_or_nan(X[half:])])

    def decision_function(self, X):
        """Compute ``score_samples(X) - offset_``, which is negative for anomalies.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            Shifted normality of each sample.
        """
        scores = self.score_samples(X)
        self._check_calibrated("decision_function")
        return scores - self.offset_

    def predict(self, X):
        """Predict whether samples are normal (+1) or anomalous (-1).

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n_samples,), int64
            Label of each sample: +1 or -1.
        """
        decision = self.decision_function(X)
        self._check_decides(X, "predict")
        return np.where(decision < 0, -1, 1)

    def p_values(self, X):
        """Compute the conformal p-values of samples.

        The p-value of a sample is (1 + number of calibration scores at least as anomalous) / (n + 1).

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n_samples,), float64
            The p-value of each sample, in [1 / (n + 1), 1]; small for anomalies.
        """
        scores = self.score_samples(X)
        self._check_calibrated("p_values")
        self._check_decides(X, "p_values")
        return self.calibration_.p_values(-scores)

    def select(self, X, fdr=0.1):
        """Select anomalies such that the expected share of normal samples among them is at most `fdr`.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        fdr : float, default=0.1
            False discovery rate, in (0, 1).

        Returns
        -------
        ndarray of shape (n_samples,), bool
            True for the selected samples.

        Warns
        -----
        CalibrationWarning
            If there are too few calibration samples to select a single anomaly among so many samples.

        See Also
        --------
        skanomaly.select_anomalies : Select anomalies by given p-values.
        """
        return select_anomalies(self.p_values(X), fdr=fdr, n_calibration=self.calibration_.n)

    def iter_verdicts(self, X):
        """Yield the score, label, p-value, map, mask and regions of each sample, in one pass and in bounded memory.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Yields
        ------
        Verdict
            Named tuple (score, label, p_value, anomaly_map, mask, regions).
        """
        check_is_fitted(self)
        self._check_calibrated("iter_verdicts")
        self._check_decides(X, "iter_verdicts")
        for batch, Z in self._batches(X):
            scores, grids = self._score(Z)
            _without_nan(scores)
            p_values, masked = self.calibration_.p_values(scores), self.calibration_.peaks is not None
            for i, score in enumerate(-scores):
                score_map = None if grids is None else self._render(grids[i], batch[i])
                mask = self._mask(score_map) if masked and score_map is not None else None
                regions = None if mask is None else self.calibration_.regions(score_map, mask, self.min_defect_area_)
                label = 1 - 2 * int(score < self.offset_)
                yield Verdict(float(score), label, float(p_values[i]), score_map, mask, regions)

    # ----------------------------------------------------------------------------------------- maps and masks

    @_with_maps
    def iter_anomaly_maps(self, X, *, size=None):
        """Yield the anomaly map of each image, in bounded memory.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        size : tuple of int (H, W), default=None
            Size of the maps; None gives each map the size of its image.

        Yields
        ------
        ndarray of shape (H, W), float32
            Anomaly map: higher is more anomalous. NaN where the detector did not look.
        """
        for _, score_map in self.iter_scores_and_maps(X, size=size):
            yield score_map

    @_with_maps
    def iter_scores_and_maps(self, X, *, size=None):
        """Yield the score and the anomaly map of each image, in one pass and in bounded memory.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        size : tuple of int (H, W), default=None
            Size of the maps; None gives each map the size of its image.

        Yields
        ------
        score : float
            Normality, as returned by `score_samples`: higher is more normal.
        score_map : ndarray of shape (H, W), float32
            Anomaly map, as returned by `anomaly_map`.
        """
        for batch, Z in self._batches(X):
            scores, grids = self._score(Z)
            for i, score in enumerate(_without_nan(scores)):
                yield -float(score), self._render(grids[i], batch[i], size)

    @_with_maps
    def anomaly_map(self, X, *, size=None):
        """Compute the anomaly maps of images.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.
        size : tuple of int (H, W), default=None
            Size of the maps; None gives each map the size of its image.

        Returns
        -------
        ndarray of shape (n_samples, H, W), float32, or list of ndarray if the sizes differ
            Anomaly maps: higher is more anomalous. NaN where the detector did not look.
        """
        return stack_if_equal(list(self.iter_anomaly_maps(X, size=size)))

    @_with_maps
    def anomaly_mask(self, X):
        """Compute the masks of the anomalous pixels of images.

        The threshold is set such that at most a share `false_alarm_rate` of unseen normal images is expected to have
        any pixel in the mask. Regions smaller than `min_defect_area` are dropped.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        ndarray of shape (n_samples, H, W), bool, or list of ndarray if the sizes differ
            Masks, True for anomalous pixels.
        """
        check_is_fitted(self)
        self._check_calibrated("anomaly_mask")
        self._check_decides(X, "anomaly_mask")
        return stack_if_equal([self._mask(score_map) for score_map in self.iter_anomaly_maps(X)])

    @_with_maps
    def anomaly_regions(self, X):
        """Find the connected regions of anomalous pixels in images.

        They are the regions of `anomaly_mask`. At most a share `false_alarm_rate` of unseen normal images is expected
        to have any. This threshold is that of the maps: `predict` compares scores with a threshold of its own, so that
        an image may be labelled as an anomaly without any region, or the other way round.

        Parameters
        ----------
        X : array-like
            Samples, in any form that the detector accepts.

        Returns
        -------
        list of list of Region
            Regions of each image, the largest first: named tuples (box, center, area, peak, peak_position, p_value).
        """
        check_is_fitted(self)
        self.pixel_threshold_  # noqa: B018 (an AttributeError says what is missing, and why)
        return [verdict.regions for verdict in self.iter_verdicts(X)]

    # ----------------------------------------------------------------------------------------- fitted attributes

    @property
    def offset_(self):
        """Threshold on `score_samples`, set from the calibration scores and `false_alarm_rate`."""
        return -self._calibrated("offset_").threshold(self.false_alarm_rate)

    @property
    def pixel_threshold_(self):
        """Threshold on maps, set from the peaks of the calibration maps and `false_alarm_rate`."""
        calibration = self._calibrated("pixel_threshold_")
        if calibration.peaks is None:
            reason = "it makes no anomaly maps" if self._calibrates_maps else "its maps were not calibrated"
            raise AttributeError(f"this {type(self).__name__} has no pixel_threshold_ because {reason}.")
        return calibration.pixel_threshold(self.false_alarm_rate)

    @property
    def calibration_scores_(self):
        """Anomaly score (n,) of each calibration sample: higher is more anomalous."""
        return self._calibrated("calibration_scores_", rated=False).scores

    @property
    def calibration_peaks_(self):
        """Peak (n,) of the anomaly map of each calibration sample."""
        return self._calibrated("calibration_peaks_", rated=False).peaks

    @property
    def calibration_indices_(self):
        """Position (n,) of each calibration sample in the data of `fit` or `calibrate`."""
        return self._calibrated("calibration_indices_", rated=False).indices

    @property
    def n_features_in_(self):
        """Number of features seen during `fit`; missing for images."""
        return self._of_features("n_features_in_")

    @property
    def feature_names_in_(self):
        """Feature names seen during `fit`; missing for images and if `X` had no names that are all strings."""
        return self._of_features("feature_names_in_")

    # ----------------------------------------------------------------------------------------- hooks

    def _features(self):
        """Return the fitted features, or else the parameter `features`, or else None."""
        return getattr(self, "features_", getattr(self, "features", None))

    def _open(self, X):
        """Create fresh features and return the samples as checked by them."""
        given = getattr(self, "features", None)
        self.features_ = begin(self.default_features(X) if given is None else given)
        samples = self.features_.check_samples(X, reset=True)
        self._keep_settings()
        return samples

    def _keep_settings(self):
        """Freeze the parameters that thresholds depend on, so that masks agree with them."""
        self.min_defect_area_ = getattr(self, "min_defect_area", 1)
        self.sigma_ = getattr(self, "sigma", 0.0)

    def _calibrate(self, samples, groups):
        """Fit the detector; return its `Calibration`, or None if `false_alarm_rate` is None."""
        if self.false_alarm_rate is None:
            return self._learn_all(samples, groups)
        return CALIBRATIONS[self.calibration](self, samples, groups)

    def _learn_all(self, samples, groups):
        """Learn from all views of samples that no threshold needs."""
        views, groups, _ = training_views(self.features_, samples, groups)
        self._learn(views, groups=groups)

    def _prepare(self):
        """Check parameters against the fitted features."""

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        protocol = ("check_samples", "fit_samples", "transform", "makes_maps")
        features = self._features()
        if hasattr(self, "features_"):
            found = all(hasattr(features, name) for name in protocol)
            require(found, f"features_ is a {type(features).__name__}, which is no features")
            check_is_fitted(features) if hasattr(features, "fit") else None
        require(getattr(self, "min_defect_area_", 1) >= 1, "min_defect_area_ is less than 1")
        require(0 <= getattr(self, "sigma_", 0) < np.inf, "sigma_ is negative or infinite")
        if hasattr(self, "calibration_") and hasattr(features, "makes_maps"):
            peaks = getattr(self.calibration_, "peaks", None)
            needed = bool(features.makes_maps and self._calibrates_maps)
            require((peaks is not None) == needed, "calibration_ lacks peaks, or has too many")

    def _embed(self, samples):
        return self.features_.transform(samples)

    def _learn(self, samples, Z=None, groups=None):
        """Learn from samples; `Z` is their embedding, if features that learn nothing have already computed it."""
        self._fit(self._embedded(samples, Z))

    def _embedded(self, samples, Z):
        """Begin to learn from samples; return their embedding `Z`, which is computed if it is None."""
        self._forget_derived()
        if Z is None:
            self.features_ = copy.copy(self.features_).fit_samples(samples)
            self._prepare()
            Z = self._embed(samples)
        return Z

    def _digests(self, samples):
        """Return the digests of all samples that were learnt from, in this fit and before."""
        return digests(samples)

    def _check_decides(self, X, method):
        """Raise if the thresholds do not apply to samples like X."""

    # ----------------------------------------------------------------------------------------- mechanics

    def _batches(self, X):
        """Yield (samples, Z) batch by batch."""
        check_is_fitted(self)
        samples = self.features_.check_samples(X)
        step = self.features_.batch_len or max(len(samples), 1)
        starts = range(0, len(samples), step)
        for start in tqdm(starts, desc="scoring", unit_scale=step, delay=2, disable=not self.verbose):
            batch = samples[start : start + step]
            yield batch, self._embed(batch)

    def _render(self, grid, sample, size=None):
        """Return the anomaly map of a sample."""
        return self.features_.map_to_image(grid, sample, self.sigma_, size=size)

    def _mask(self, score_map):
        return remove_small_regions(score_map > self.pixel_threshold_, self.min_defect_area_)

    def _derived_state(self, name, build):
        """Return the result of `build`, which is called once, whatever the number of threads."""
        if vars(self).get(name) is None:
            with _DERIVING:
                if vars(self).get(name) is None:
                    vars(self)[name] = build()
        return vars(self)[name]

    def _forget_derived(self):
        for name in self._derived:
            vars(self).pop(name, None)

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name not in self._derived}

    def __sklearn_tags__(self):
        tags, features = super().__sklearn_tags__(), self._features()
        if hasattr(features, "__sklearn_tags__"):
            tags.input_tags = get_tags(features).input_tags
        return tags

    def _of_features(self, name):
        if not hasattr(self, "features_"):
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return getattr(self.features_, name)

    def _calibrated(self, name, rated=True):
        """Return the calibration, or raise an AttributeError that says what `name` needs."""
        calibration = vars(self).get("calibration_")
        if calibration is None or (rated and self.false_alarm_rate is None):
            raise AttributeError(
                f"{type(self).__name__} has no threshold, which {name} needs: fit with a false_alarm_rate, or set one "
                "and call calibrate(X_normal)."
            )
        return calibration

    def _check_calibrated(self, method):
        self._calibrated(method)

    def _forget_thresholds(self):
        vars(self).pop("calibration_", None)

    def _warn_if_seen(self, samples):
        fresh, fitted = digests(samples), getattr(self, "_fitted_digests", None)
        if fresh is None or fitted is None:
            return
        share = np.isin(fresh, fitted).mean()
        if share > _MOST_SEEN:
            warnings.warn(
                f"{share:.0%} of the samples were in the data that this {type(self).__name__} was fitted on. It scores "
                "them as more normal than fresh samples, so thresholds set from them flag more than false_alarm_rate; "
                "pass fresh normal samples.",
                CalibrationWarning,
                stacklevel=3,
            )


class IncrementalMixin:
    """Mixin for detectors that can be fitted batch by batch, and merged.

    A subclass implements ``_add(Z)``, which learns from further embedded samples, and ``_absorb(other)``, which adds
    what another detector has learnt, or raises if the two do not match. Both may only set attributes and must not
    modify arrays in place, so that an error leaves the detector unchanged.
    """

    def partial_fit(self, X, y=None):
        """Learn from further normal samples.

        The thresholds are dropped; call `calibrate` to set them again.

        Parameters
        ----------
        X : array-like
            Normal samples, in any form that the detector accepts.
        y : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        self
            Fitted estimator.
        """
        with all_or_nothing(self):
            fitted = hasattr(self, "features_")
            if fitted:
                samples = self.features_.check_samples(X)
            else:
                samples = self._open(X)
                self.features_.fit_samples(samples)
                self._prepare()
            self._add(self._embed(training_views(self.features_, samples, None)[0]))
            self._forget_thresholds()
            self._forget_derived()
            seen = digests(samples)
            self._fitted_digests = _joined(getattr(self, "_fitted_digests", None), seen) if fitted else seen
        return self

    def merge(self, other):
        """Add what another detector has learnt, as if its samples had been in the data of `fit`.

        The thresholds are dropped; call `calibrate` to set them again.

        Parameters
        ----------
        other : detector of the same class
            Detector fitted with the same features and parameters; it is not changed.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        TypeError
            If `other` is of another class.
        ValueError
            If the features or parameters of the two differ; the message names the difference.
        """
        check_is_fitted(self)
        if type(other) is not type(self):
            raise TypeError(f"other is of type {type(other).__name__}; it must be a fitted {type(self).__name__}.")
        check_is_fitted(other)
        with all_or_nothing(self):
            self._absorb(other)
            self._forget_thresholds()
            self._forget_derived()
            self._fitted_digests = _joined(
                getattr(self, "_fitted_digests", None), getattr(other, "_fitted_digests", None)
            )
        return self


def _without_nan(scores):
    """Return scores, or raise a ValueError if some are NaN, which `predict` would take for normal."""
    n_wrong = np.count_nonzero(np.isnan(scores))
    require(n_wrong == 0, f"{n_wrong} scores are NaN, because values in the samples or in the model are too large.")
    return scores


def stack_if_equal(arrays):
    """Stack arrays if their shapes are equal.

    Parameters
    ----------
    arrays : list of ndarray
        Arrays, at least one.

    Returns
    -------
    ndarray or list of ndarray
        The arrays stacked along a new first axis if their shapes are equal, else `arrays` itself.
    """
    return np.stack(arrays) if len({array.shape for array in arrays}) == 1 else arrays


def _joined(digests, more):
    return None if digests is None or more is None else np.concatenate([digests, more])
