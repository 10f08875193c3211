"""Model selection with labelled data: fit on normal samples, score on all."""

from functools import wraps

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_consistent_length, check_is_fitted, has_fit_parameter

from ._inputs.labels import anomalous
from .base import BaseDetector, all_or_nothing
from .maps import PipelineDetector

__all__ = ["FitOnNormal"]


def _passed_on(name):
    """Return a method that the wrapped estimator answers; it is missing where the estimator lacks it."""
    example = getattr(BaseDetector, name, None) or _WORDS[name]

    def check(self):
        getattr(self._answering(name), name)  # an AttributeError says what is missing, and why
        return True

    @wraps(example)
    def method(self, X, *args, **kwargs):
        check_is_fitted(self)
        answering = self._answering(name)
        answer = getattr(answering, name)(X, *args, **kwargs)
        return self if answer is answering else answer

    return available_if(check)(method)


def _passed_on_attribute(name):
    def attribute(self):
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"this FitOnNormal is not fitted, and has no {name} yet")
        return getattr(self.estimator_, name)

    return property(attribute, doc=f"`{name}` of the fitted estimator.")


def _contributions(self, X):
    """Return what every column adds to the anomaly score of rows, as the estimator says.

    Parameters
    ----------
    X : array-like of shape (n_samples, d)
        Rows.

    Returns
    -------
    ndarray of shape (n_samples, d), float64
        The rows add up to ``-score_samples(X)``.
    """


def _reconstruct(self, X):
    """Return the reconstruction of samples by the estimator.

    Parameters
    ----------
    X : array-like
        Samples in a form that the estimator accepts.

    Returns
    -------
    ndarray or list of ndarray
        As the estimator's `reconstruct` returns it.
    """


_WORDS = {"contributions": _contributions, "reconstruct": _reconstruct}
_OF_MAPS = ("anomaly_map", "iter_anomaly_maps", "iter_scores_and_maps")


class FitOnNormal(MetaEstimatorMixin, BaseEstimator):
    """Fit an estimator on the normal samples among labelled ones.

    Detectors learn from normal samples and ignore `y`. Within a search, the training part of each split holds
    anomalies as well; this wrapper drops them before fitting, in the splits and in the final refit.

    Parameters
    ----------
    estimator : estimator
        Any outlier detector, or a pipeline that ends in one.

    Attributes
    ----------
    estimator_ : estimator
        The fitted clone.
    n_normal_ : int
        Number of samples it was fitted on.

    Notes
    -----
    All methods but `fit` are those of the fitted estimator, and are missing where it lacks them; a pipeline from images
    to patches to scores has anomaly maps too.

    See Also
    --------
    ConformalDetector : Give any estimator a threshold with a stated false-alarm rate.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from skanomaly import FitOnNormal, KNNScorer
    >>> from skanomaly.metrics import image_auroc_scorer
    >>> rng = np.random.default_rng(0)
    >>> X = np.vstack([rng.normal(size=(30, 2)), rng.normal(4, 1, size=(9, 2))])
    >>> y = np.repeat([1, -1], [30, 9])
    >>> search = GridSearchCV(
    ...     FitOnNormal(KNNScorer()), {"estimator__n_neighbors": [1, 3]},
    ...     cv=StratifiedKFold(3), scoring=image_auroc_scorer,
    ... ).fit(X, y)
    >>> search.best_estimator_.n_normal_
    30
    >>> bool(search.best_score_ > 0.9)
    True
    """

    _parameter_constraints = {"estimator": [HasMethods(["fit"])]}

    def __init__(self, estimator):
        self.estimator = estimator

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        tags.input_tags = get_tags(self.estimator).input_tags
        return tags

    def get_metadata_routing(self):
        """Return how metadata is routed: `groups` are sliced here and passed to the estimator's `fit`.

        Returns
        -------
        MetadataRouter
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add_self_request(self).add(estimator=self.estimator, method_mapping=mapping)

    def fit(self, X, y=None, groups=None):
        """Fit on the rows of `X` whose label says normal.

        Parameters
        ----------
        X : array or sequence of n_samples
            Samples in a form that the estimator accepts.
        y : array-like of shape (n_samples,), optional
            +1 and -1, booleans (True = anomaly), or items with a `label` of +1 or -1, such as the masks of
            `load_mvtec`. None: all samples are normal.
        groups : array-like of shape (n_samples,), optional
            Group of each sample, for estimators whose `fit` takes groups; see `BaseDetector.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For other labels (0/1 in particular), or if no sample is normal.
        TypeError
            For groups where the estimator takes none.
        """
        with all_or_nothing(self):
            check_consistent_length(*(part for part in (X, y, groups) if part is not None))
            if groups is not None and not has_fit_parameter(self.estimator, "groups"):
                raise TypeError(
                    f"groups cannot be passed on: the fit of {type(self.estimator).__name__} takes none. Wrap it in "
                    "ConformalDetector, which does."
                )
            if y is not None:
                normal = np.flatnonzero(~anomalous(y))
                if not len(normal):
                    raise ValueError(f"y labels all {len(y)} samples as anomalies; there is nothing to fit on.")
                X = _safe_indexing(X, normal)
                groups = None if groups is None else np.asarray(groups)[normal]
            options = {} if groups is None else {"groups": groups}
            self.estimator_ = clone(self.estimator).fit(X, **options)
            self.n_normal_ = _num_samples(X)
        return self

    def _answering(self, name):
        """Return what answers a method: the estimator, or the detector that a pipeline is for its maps."""
        fitted = getattr(self, "estimator_", None)
        estimator = self.estimator if fitted is None else fitted
        if name not in _OF_MAPS or not isinstance(estimator, Pipeline):
            return estimator
        detector = PipelineDetector(estimator)
        return detector if fitted is None else detector.of_fitted()

    score_samples = _passed_on("score_samples")
    decision_function = _passed_on("decision_function")
    predict = _passed_on("predict")
    p_values = _passed_on("p_values")
    select = _passed_on("select")
    calibrate = _passed_on("calibrate")
    anomaly_map = _passed_on("anomaly_map")
    anomaly_mask = _passed_on("anomaly_mask")
    iter_anomaly_maps = _passed_on("iter_anomaly_maps")
    iter_scores_and_maps = _passed_on("iter_scores_and_maps")
    iter_verdicts = _passed_on("iter_verdicts")
    contributions = _passed_on("contributions")
    reconstruct = _passed_on("reconstruct")

    n_features_in_ = _passed_on_attribute("n_features_in_")
    feature_names_in_ = _passed_on_attribute("feature_names_in_")
    features_ = _passed_on_attribute("features_")
    false_alarm_rate = _passed_on_attribute("false_alarm_rate")
    calibration_ = _passed_on_attribute("calibration_")
    calibration_scores_ = _passed_on_attribute("calibration_scores_")
    offset_ = _passed_on_attribute("offset_")
    pixel_threshold_ = _passed_on_attribute("pixel_threshold_")
