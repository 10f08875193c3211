"""Scorers with the signature ``scorer(estimator, X, y)``, for `GridSearchCV` and `cross_val_score`.

Those of pixels see one map at a time. Curves over all thresholds need the scores of all pixels; these are kept as
counts of distinct float32 scores, whose lowest bits are dropped where there are more than 2**20. Up to about 20 images
of 224 x 224 pixels, the metrics are therefore exact, and beyond, those of maps that are rounded by less than 0.01 %.
"""

import numpy as np

from .._kernels.localization import pixel_curves
from ..maps import iter_anomaly_maps
from ._detection import f1_max, image_ap, image_auroc, tnr_tpr
from ._regions import VALUES, mean_over_regions

_MAX_DISTINCT = 2**20


class Scorer:
    """Base class of scorers: each class has one instance, without state, which copies, pickles and model files yield.

    Model files may hold objects of known classes, but no functions. A subclass implements ``_score(estimator, X, y)``.
    """

    __slots__ = ()
    _name, _instance = None, None

    def __new__(cls):
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __reduce__(self):
        return self._name  # of the instance in this module

    def __repr__(self):
        return self._name

    def __call__(self, estimator, X, y):
        """Score an estimator.

        Parameters
        ----------
        estimator : estimator
            Fitted detector or pipeline with the method that the scorer needs: `score_samples` or `decision_function`,
            `predict`, `iter_verdicts`, or anomaly maps, as accepted by `skanomaly.anomaly_map`.
        X : array-like of shape (n_samples, n_features), images or paths
            Test samples, in a form that the estimator accepts.
        y : array-like of shape (n_samples,), or sequence of array-like of shape (H, W)
            True labels: +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). For scorers of
            maps, defect masks: True (or non-zero) on defects, empty for normal images. Labelled masks, such as those of
            `load_mvtec`, are accepted by all scorers.

        Returns
        -------
        float or dict of float
            Value of the metric, in [0, 1], or the values of several metrics by name.
        """
        return self._score(estimator, X, y)


def _anomaly_score(estimator, X):
    score = getattr(estimator, "score_samples", None) or estimator.decision_function
    return -np.asarray(score(X))


class ImageAUROCScorer(Scorer):
    """Score an estimator by its `image_auroc`.

    See Also
    --------
    image_auroc : The metric itself, computed from labels and scores.
    """

    __slots__ = ()
    _name = "image_auroc_scorer"

    def _score(self, estimator, X, y):
        return image_auroc(y, _anomaly_score(estimator, X))


class ImageAPScorer(Scorer):
    """Score an estimator by its `image_ap`.

    See Also
    --------
    image_ap : The metric itself, computed from labels and scores.
    """

    __slots__ = ()
    _name = "image_ap_scorer"

    def _score(self, estimator, X, y):
        return image_ap(y, _anomaly_score(estimator, X))


class F1MaxScorer(Scorer):
    """Score an estimator by its `f1_max`.

    See Also
    --------
    f1_max : The metric itself, computed from labels and scores.
    """

    __slots__ = ()
    _name = "f1_max_scorer"

    def _score(self, estimator, X, y):
        return f1_max(y, _anomaly_score(estimator, X))


class TNRScorer(Scorer):
    """Score an estimator by its true-negative rate: the share of the normal samples that are predicted to be normal.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """

    __slots__ = ()
    _name = "tnr_scorer"

    def _score(self, estimator, X, y):
        return tnr_tpr(y, estimator.predict(X))[0]


class TPRScorer(Scorer):
    """Score an estimator by its true-positive rate: the share of the anomalies that are predicted to be anomalies.

    See Also
    --------
    tnr_tpr : The metric itself, computed from labels.
    """

    __slots__ = ()
    _name = "tpr_scorer"

    def _score(self, estimator, X, y):
        return tnr_tpr(y, estimator.predict(X))[1]


def _known(y, results):
    """Yield (mask, result) of the images whose masks are known; the results are released one by one."""
    for mask, result in zip(y, results, strict=True):
        if getattr(mask, "known", True):
            yield mask, result


def _curves(estimator, X, y, saturation=None):
    return pixel_curves(_known(y, iter_anomaly_maps(estimator, X)), saturation, max_distinct=_MAX_DISTINCT)


def _mean_over_regions(estimator, X, y, name):
    masks = (verdict.mask for verdict in estimator.iter_verdicts(X))
    return mean_over_regions(_known(y, masks), VALUES[name])


class PixelAUROCScorer(Scorer):
    """Score an estimator by the `pixel_auroc` of its anomaly maps.

    See Also
    --------
    pixel_auroc : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "pixel_auroc_scorer"

    def _score(self, estimator, X, y):
        return float(_curves(estimator, X, y).auroc())


class PixelAPScorer(Scorer):
    """Score an estimator by the `pixel_ap` of its anomaly maps.

    See Also
    --------
    pixel_ap : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "pixel_ap_scorer"

    def _score(self, estimator, X, y):
        return float(_curves(estimator, X, y).average_precision())


class PixelF1MaxScorer(Scorer):
    """Score an estimator by the `pixel_f1_max` of its anomaly maps.

    See Also
    --------
    pixel_f1_max : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "pixel_f1_max_scorer"

    def _score(self, estimator, X, y):
        return float(_curves(estimator, X, y).f1_max())


class AUPROScorer(Scorer):
    """Score an estimator by the `aupro` of its anomaly maps, up to a false-positive rate of 0.3.

    See Also
    --------
    aupro : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "aupro_scorer"

    def _score(self, estimator, X, y):
        return float(_curves(estimator, X, y).aupro(0.3))


class AUSPROScorer(Scorer):
    """Score an estimator by the `auspro` of its anomaly maps, up to a false-positive rate of 0.05.

    See Also
    --------
    auspro : The metric itself, computed from masks and maps.
    """

    __slots__ = ()
    _name = "auspro_scorer"

    def _score(self, estimator, X, y):
        return float(_curves(estimator, X, y, saturation=1.0).aupro(0.05))


class PixelMetricsScorer(Scorer):
    """Score an estimator by all metrics of its anomaly maps, from a single pass over the images.

    It returns the dict of `pixel_auroc`, `pixel_ap`, `pixel_f1_max` and `aupro`. In a search, pass
    ``scoring=pixel_metrics_scorer`` with ``refit="aupro"``, or the name of another metric to choose by.

    See Also
    --------
    aupro_scorer : Score an estimator by a single metric.
    """

    __slots__ = ()
    _name = "pixel_metrics_scorer"

    def _score(self, estimator, X, y):
        curves = _curves(estimator, X, y)
        return {
            "pixel_auroc": float(curves.auroc()),
            "pixel_ap": float(curves.average_precision()),
            "pixel_f1_max": float(curves.f1_max()),
            "aupro": float(curves.aupro(0.3)),
        }


class RegionHitRateScorer(Scorer):
    """Score an estimator by the `region_hit_rate` of its anomaly masks.

    See Also
    --------
    region_hit_rate : The metric itself, computed from masks.
    """

    __slots__ = ()
    _name = "region_hit_rate_scorer"

    def _score(self, estimator, X, y):
        return _mean_over_regions(estimator, X, y, "region_hit_rate")


class RegionIoUScorer(Scorer):
    """Score an estimator by the `region_iou` of its anomaly masks.

    See Also
    --------
    region_iou : The metric itself, computed from masks.
    """

    __slots__ = ()
    _name = "region_iou_scorer"

    def _score(self, estimator, X, y):
        return _mean_over_regions(estimator, X, y, "region_iou")


image_auroc_scorer = ImageAUROCScorer()
image_ap_scorer = ImageAPScorer()
f1_max_scorer = F1MaxScorer()
tnr_scorer = TNRScorer()
tpr_scorer = TPRScorer()
pixel_auroc_scorer = PixelAUROCScorer()
pixel_ap_scorer = PixelAPScorer()
pixel_f1_max_scorer = PixelF1MaxScorer()
aupro_scorer = AUPROScorer()
auspro_scorer = AUSPROScorer()
pixel_metrics_scorer = PixelMetricsScorer()
region_hit_rate_scorer = RegionHitRateScorer()
region_iou_scorer = RegionIoUScorer()
