"""Model selection with labelled data: fit on normal samples, score on all."""

import numpy as np
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _num_samples, check_consistent_length, check_is_fitted

from ._inputs.labels import anomalous
from .base import all_or_nothing
from .maps import anomaly_map, iter_anomaly_maps

__all__ = ["FitOnNormal"]


def _estimator_has(name):
    def check(self):
        getattr(getattr(self, "estimator_", self.estimator), name)
        return True

    return check


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
        inner = get_tags(self.estimator).input_tags
        tags.input_tags.allow_nan, tags.input_tags.sparse = inner.allow_nan, inner.sparse
        return tags

    @property
    def n_features_in_(self):
        """Number of features seen by the fitted estimator, where it counts them."""
        return self._fitted.n_features_in_

    @property
    def offset_(self):
        """Threshold of the fitted estimator on `score_samples`."""
        return self._fitted.offset_

    @property
    def _fitted(self):
        if not hasattr(self, "estimator_"):
            raise AttributeError("this FitOnNormal is not fitted")
        return self.estimator_

    def fit(self, X, y=None):
        """Fit on the rows of `X` whose label says normal.

        Parameters
        ----------
        X : array or sequence of n_samples
        y : array-like of shape (n_samples,), optional
            +1 and -1, booleans (True = anomaly), or items with a `label` of +1 or -1, such as the masks of
            `load_mvtec`. None: all samples are normal.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For other labels (0/1 in particular), or if no sample is normal.
        """
        with all_or_nothing(self):
            if y is not None:
                check_consistent_length(X, y)
                normal = np.flatnonzero(~anomalous(y))
                if not len(normal):
                    raise ValueError(f"y labels all {len(y)} samples as anomalies; there is nothing to fit on.")
                X = _safe_indexing(X, normal)
            self.estimator_ = clone(self.estimator).fit(X)
            self.n_normal_ = _num_samples(X)
        return self

    @available_if(_estimator_has("score_samples"))
    def score_samples(self, X):
        """Return the normality of samples by the fitted estimator: higher is more normal."""
        check_is_fitted(self)
        return self.estimator_.score_samples(X)

    @available_if(_estimator_has("decision_function"))
    def decision_function(self, X):
        """Return the decision function of the fitted estimator: negative for anomalies."""
        check_is_fitted(self)
        return self.estimator_.decision_function(X)

    @available_if(_estimator_has("predict"))
    def predict(self, X):
        """Return +1 for samples called normal, -1 for anomalies."""
        check_is_fitted(self)
        return self.estimator_.predict(X)

    def anomaly_map(self, X, *, size=None):
        """Return where the anomalies are, as `skanomaly.anomaly_map` of the fitted estimator."""
        check_is_fitted(self)
        return anomaly_map(self.estimator_, X, size=size)

    def iter_anomaly_maps(self, X, *, size=None):
        """Yield the maps of `anomaly_map` one by one."""
        check_is_fitted(self)
        return iter_anomaly_maps(self.estimator_, X, size=size)
