"""Model selection on labelled data: fit on the normal samples, score all samples."""

from functools import wraps

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_consistent_length, check_is_fitted, has_fit_parameter

from ._doc_links import DocLinkMixin
from ._inputs.labels import anomalous
from .base import BaseDetector, all_or_nothing
from .maps import PipelineDetector

__all__ = ["FitOnNormal"]


def _passed_on(name):
    """Return a method that calls the wrapped estimator, and that is missing if the estimator lacks it."""
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

    method.__name__ = name  # for the error where it is missing
    return available_if(check)(method)


def _passed_on_attribute(name):
    def attribute(self):
        if not hasattr(self, "estimator_"):
            raise AttributeError(f"this FitOnNormal is not fitted, so it has no {name} yet")
        return getattr(self.estimator_, name)

    return property(attribute, doc=f"`{name}` of the fitted estimator.")


def _contributions(self, X):
    """Compute the contribution of each column to the anomaly score of rows.

    Parameters
    ----------
    X : array-like of shape (n_samples, d)
        Rows.

    Returns
    -------
    ndarray of shape (n_samples, d), float64
        Contributions, which sum to ``-score_samples(X)`` along each row. Those of a pipeline are of the
        columns that its last step sees.
    """


def _reconstruct(self, X):
    """Reconstruct samples with the fitted estimator.

    Parameters
    ----------
    X : array-like
        Samples, in any form that the estimator accepts.

    Returns
    -------
    ndarray or list of ndarray
        Reconstructions, as returned by the estimator.
    """


def _anomalous(y):
    try:
        return anomalous(y)
    except ValueError as error:
        if set(np.unique(np.asarray(y)).tolist()) != {0, 1}:
            raise
        raise ValueError(
            f"{error} If they were +1 and -1: cross_val_predict replaces labels by 1 and 0 for decision_function, "
            "which it offers for classifiers only; call cross_validate(return_estimator=True, return_indices=True), "
            "and score_samples of each estimator."
        ) from None


_WORDS = {"contributions": _contributions, "reconstruct": _reconstruct}
_OF_PIPELINES = ("anomaly_map", "contributions", "iter_anomaly_maps", "iter_scores_and_maps")


class FitOnNormal(MetaEstimatorMixin, DocLinkMixin, BaseEstimator):
    """Fit an estimator on the normal samples among labelled samples.

    Detectors learn from normal samples and ignore `y`. In a search, however, the training part of each split contains
    anomalies; this wrapper drops them before fitting, in the splits and in the final refit.

    Parameters
    ----------
    estimator : estimator
        Outlier detector, or a pipeline that ends in one.

    Attributes
    ----------
    estimator_ : estimator
        Fitted clone.
    n_normal_ : int
        Number of samples it was fitted on.

    See Also
    --------
    ConformalDetector : Give any detector or pipeline a threshold with a stated false-alarm rate.

    Notes
    -----
    All other methods and attributes are taken from the fitted estimator, and are missing if it lacks them. A pipeline
    of patch features and a scorer of patches has anomaly maps too.

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
        """Return the metadata routing: `groups` are sliced here and passed to the estimator's `fit`.

        Returns
        -------
        MetadataRouter
            Routing information.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add_self_request(self).add(estimator=self.estimator, method_mapping=mapping)

    def fit(self, X, y=None, groups=None):
        """Fit the estimator on the samples that are labelled as normal.

        Parameters
        ----------
        X : array or sequence of n_samples
            Samples, in any form that the estimator accepts.
        y : array-like of shape (n_samples,), default=None
            True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Labelled masks,
            such as those of `load_mvtec`, are accepted too. None means that all samples are normal.
        groups : array-like of shape (n_samples,), default=None
            Group of each sample, such as a part number, a burst or a camera roll. Samples of one group are never split
            between training and calibration, and together count as a single sample. Equal images are always grouped.
            Accepted only if the `fit` of the estimator takes groups.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        ValueError
            If the labels have any other values (0 and 1 are refused because two opposite conventions exist) or no
            sample is normal.
        TypeError
            If `groups` are given but the estimator takes none.
        """
        with all_or_nothing(self):
            check_consistent_length(*(part for part in (X, y, groups) if part is not None))
            if groups is not None and not has_fit_parameter(self.estimator, "groups"):
                raise TypeError(
                    f"groups cannot be passed on, because the fit of {type(self.estimator).__name__} takes none. Wrap "
                    "it in ConformalDetector, whose fit does."
                )
            if y is not None:
                normal = np.flatnonzero(~_anomalous(y))
                if not len(normal):
                    raise ValueError(f"y labels all {len(y)} samples as anomalies; there is nothing to fit on.")
                X = _safe_indexing(X, normal)
                groups = None if groups is None else np.asarray(groups)[normal]
            options = {} if groups is None else {"groups": groups}
            self.estimator_ = clone(self.estimator).fit(X, **options)
            self.n_normal_ = _num_samples(X)
        return self

    def _answering(self, name):
        """Return the object that a method is called on: the estimator, or a pipeline as a detector."""
        fitted = getattr(self, "estimator_", None)
        estimator = self.estimator if fitted is None else fitted
        if name not in _OF_PIPELINES or not isinstance(estimator, Pipeline):
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
    anomaly_regions = _passed_on("anomaly_regions")
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
