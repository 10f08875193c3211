"""Pipelines and estimators of other libraries as detectors, and their anomaly maps."""

from numbers import Real

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from sklearn.utils._param_validation import HasMethods, Interval
from sklearn.utils.metaestimators import available_if

from ._inputs.images import check_images
from ._inputs.samples import Mapless, Rows
from ._kernels.evidence import span_of
from .base import BaseDetector, stack_if_equal

__all__ = ["PipelineDetector", "anomaly_map", "as_detector", "iter_anomaly_maps", "scale_of_maps"]


def _explains_columns(detector):
    features, estimator = detector._features(), detector.estimator
    if features.makes_maps:
        raise AttributeError(
            f"this {type(estimator).__name__} has no contributions of columns because {type(features).__name__} looks "
            "at images; anomaly_map shows where they are anomalous."
        )
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    return last.contributions is not None  # an AttributeError says what is missing, and why


class PipelineDetector(BaseDetector):
    """Wrap a pipeline, or an estimator of another library, as a detector without a threshold.

    The first step of a pipeline becomes the features if it follows their protocol, and the other steps the model;
    everything else becomes the model behind `Rows`.

    Parameters
    ----------
    estimator : estimator
        Pipeline whose last step scores samples, or estimator with `score_samples` or `decision_function`.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    model_ : estimator
        Model fitted on the features.
    """

    _parameter_constraints = {
        "estimator": [HasMethods(["fit"])],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
    }
    false_alarm_rate, min_defect_area = None, 1

    def __init__(self, estimator, *, sigma=4.0, verbose=0):
        self.estimator = estimator
        self.sigma = sigma
        self.verbose = verbose

    @property
    def estimator_(self):
        """Fitted estimator."""
        if not _begins_with_features(self.estimator):
            return self.model_
        head = getattr(self.features_, "features", self.features_)
        return Pipeline([(self.estimator.steps[0][0], head), *self.model_.steps])

    @available_if(_explains_columns)
    def contributions(self, X):
        """Compute the share of each column in the anomaly scores of rows, with the last step of the pipeline.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Shares of the columns that the last step sees.
        """
        shares = []
        for _, Z in self._batches(X):
            last, Z = self._as_last_step_sees(Z)
            shares.append(last.contributions(Z))
        return np.concatenate(shares)

    def of_fitted(self):
        """Use the parts of an estimator that is already fitted.

        Returns
        -------
        self
            Fitted detector.
        """
        self.features_ = self.default_features()
        self.model_ = self._model()
        self._keep_settings()
        return self

    def default_features(self, X=None):
        """Return the features at the head of the pipeline, or `Rows`.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        estimator
            Features, as they are in the pipeline.
        """
        if not _begins_with_features(self.estimator):
            return Rows()
        makes_maps = isinstance(self.estimator[-1], BaseDetector) and len(self.estimator) > 1
        return self.estimator[0] if makes_maps else Mapless(self.estimator[0])

    def _features(self):
        return getattr(self, "features_", self.default_features())

    def _model(self):
        return self.estimator[1:] if _begins_with_features(self.estimator) else self.estimator

    def _fit(self, Z):
        self.model_ = clone(self._model()).fit(getattr(Z, "X", Z))

    def _score(self, Z, maps=True):
        if self.features_.makes_maps:
            last, Z = self._as_last_step_sees(Z)
            return last._score(last._embed(last.features_.check_samples(Z)), maps)
        model = self.model_
        score = getattr(model, "score_samples", None) or model.decision_function
        return -np.asarray(score(getattr(Z, "X", Z)), dtype=np.float64), None

    def _as_last_step_sees(self, Z):
        """Return the last step of the model, and the samples as transformed by the steps before it."""
        Z = getattr(Z, "X", Z)
        if not isinstance(self.model_, Pipeline):
            return self.model_, Z
        *head, last = [step for _, step in self.model_.steps]
        for step in head:
            Z = Z if step in (None, "passthrough") else step.transform(Z)
        return last, Z


def _begins_with_features(estimator):
    return isinstance(estimator, Pipeline) and hasattr(estimator[0], "fit_samples")


def as_detector(estimator, **options):
    """Return an estimator as a detector: itself if it is one, or else a `PipelineDetector`.

    Parameters
    ----------
    estimator : estimator
        Unfitted estimator; use ``as_detector(estimator).of_fitted()`` for a fitted one.
    **options
        Parameters of `PipelineDetector`.

    Returns
    -------
    BaseDetector
        The detector, unfitted.
    """
    return estimator if isinstance(estimator, BaseDetector) else PipelineDetector(estimator, **options)


def anomaly_map(estimator, X, *, size=None, sigma=4.0):
    """Compute the anomaly maps of images with a fitted detector or pipeline.

    Parameters
    ----------
    estimator : estimator
        Fitted detector with `anomaly_map`, or fitted `Pipeline` whose first step turns images into patch grids and
        whose last step scores them.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images; a str is the path of a folder, or a glob pattern.
    size : tuple of int (H, W), default=None
        Size of the maps; None gives each map the size of its image.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image. Used only for
        pipelines, since a detector has its own.

    Returns
    -------
    ndarray of shape (n, H, W), float32, or list of ndarray if the sizes differ
        Anomaly maps: higher is more anomalous. NaN where the detector did not look.

    Raises
    ------
    TypeError
        If the estimator has no anomaly maps.

    See Also
    --------
    iter_anomaly_maps : Yield the maps one by one.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skanomaly import GreedyCoreset, KNNScorer, PretrainedPatchFeatures, anomaly_map
    >>> images = np.random.default_rng(0).random((4, 48, 48))
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)
    >>> pipeline = make_pipeline(features, GreedyCoreset(random_state=0), KNNScorer()).fit(images)
    >>> anomaly_map(pipeline, images).shape
    (4, 48, 48)
    """
    return stack_if_equal(list(iter_anomaly_maps(estimator, X, size=size, sigma=sigma)))


def iter_anomaly_maps(estimator, X, *, size=None, sigma=4.0):
    """Yield the anomaly map of each image, in bounded memory.

    Parameters
    ----------
    estimator : estimator
        Fitted detector with `anomaly_map`, or fitted `Pipeline` whose first step turns images into patch grids and
        whose last step scores them.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images; a str is the path of a folder, or a glob pattern.
    size : tuple of int (H, W), default=None
        Size of the maps; None gives each map the size of its image.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image. Used only for
        pipelines, since a detector has its own.

    Yields
    ------
    ndarray of shape (H, W), float32
        Anomaly map: higher is more anomalous. NaN where the detector did not look.

    Raises
    ------
    TypeError
        If the estimator has no anomaly maps.

    See Also
    --------
    anomaly_map : Return all maps at once.
    """
    yield from _with_maps(estimator, sigma).iter_anomaly_maps(X, size=size)


def _with_maps(estimator, sigma):
    """Return the detector that makes the maps of an estimator."""
    if hasattr(estimator, "iter_anomaly_maps"):
        return estimator
    if isinstance(estimator, Pipeline):
        detector = PipelineDetector(estimator, sigma=sigma).of_fitted()
        if hasattr(detector, "anomaly_map"):
            return detector
    raise TypeError(
        f"{type(estimator).__name__} has no anomaly maps; estimator must be a detector with `anomaly_map`, or a "
        "Pipeline that begins with patch features of images and ends in a scorer of patches."
    )


def images_as_seen(estimator, X):
    """Open images as the features of an estimator do, with their range of values and order of channels.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline of images.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images, in a form that the estimator accepts.

    Returns
    -------
    ImageSource
        Images, decoded when needed, in [0, 1].
    """
    while not hasattr(estimator, "features_") and hasattr(estimator, "estimator_"):
        estimator = estimator.estimator_
    features = estimator[0] if isinstance(estimator, Pipeline) else getattr(estimator, "features_", None)
    names = [name for name in ("data_range", "max_pixels", "channels") if hasattr(features, name)]
    return check_images(X, **{name: getattr(features, name) for name in names})


def pixels_as_seen(estimator, X):
    """Read images as the features of an estimator do.

    Parameters
    ----------
    estimator : estimator
        Fitted detector or pipeline of images.
    X : array of shape (n, H, W[, C]), sequence of images or paths, or str
        Images, in a form that the estimator accepts.

    Returns
    -------
    list of ndarray of shape (H, W, C)
        Images, in [0, 1].
    """
    source = images_as_seen(estimator, X)
    return [source.read(i) for i in range(len(source))]


def scale_of_maps(estimator):
    """Return the one scale on which all maps of an estimator can be compared.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator.

    Returns
    -------
    dict
        Threshold on maps ("level"), and the distance below it at which evidence begins ("span"), as options of
        displays; both are None for an estimator without a threshold on maps.
    """
    level, calibration = (getattr(estimator, name, None) for name in ("pixel_threshold_", "calibration_"))
    span = None if level is None or calibration is None else span_of(level, calibration.peaks)
    return {"level": level, "span": span}
