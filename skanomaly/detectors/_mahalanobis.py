"""Mahalanobis distance of pooled features."""

import warnings
from numbers import Real

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from sklearn.base import clone
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf
from sklearn.utils._param_validation import HasMethods, StrOptions

from .._kernels.checks import require
from ..base import IncrementalMixin
from ..features import PretrainedPatchFeatures
from ..features._base import layer_widths
from ..features._pooled import PooledFeatures
from ..features._same import check_same_features
from ..thresholds import ChiSquaredLaw
from ._features import FeatureDetector

_COVARIANCES = {"ledoit_wolf": LedoitWolf, "oas": OAS, "empirical": EmpiricalCovariance}


class MahalanobisAD(IncrementalMixin, FeatureDetector):
    r"""MahalanobisAD: Mahalanobis distance of globally averaged features, summed over layers.

    The map of each layer l is averaged over the image, and a Gaussian is fitted to the resulting vectors :math:`v_l` of
    normal images, by default with a shrunk covariance:

    .. math::

        m_l(x) = \sqrt{(v_l - \mu_l)^T \Sigma_l^{-1} (v_l - \mu_l)}, \qquad A(x) = \sum_l m_l(x)

    There are no anomaly maps: the score does not locate anomalies.

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into maps of several layers (`PretrainedPatchFeatures`); None is
        ``PretrainedPatchFeatures(layers=(0, 1, 2, 3, 4), neighborhood=1)``, all layers of the default network. Pass
        an object to choose or search its parameters (``features__layers``), or a `FrozenEstimator` of fitted features.
    covariance : {"ledoit_wolf", "oas", "empirical"} or estimator, default="ledoit_wolf"
        Estimator of :math:`\mu_l` and :math:`\Sigma_l`, from `sklearn.covariance`; the names stand for estimators with
        default parameters. "empirical" needs more images than a layer has features, and is the only one that supports
        `partial_fit` and `merge`.
    pca : None, ("leading", share) or ("trailing", share), default=None
        Principal components in which distances are computed: the leading components that explain this share of the
        variance, in (0, 1) (PCA in the paper: 0.95 or 0.99), or the remaining ones (NPCA: 0.99 to 0.9999). Directions
        in which the training images do not vary belong to neither. A layer without components adds nothing to the
        score.
    threshold : {"conformal", "chi2"}, default="conformal"
        How the threshold is set.

        - "conformal" uses the scores of normal images; see `calibration`.
        - "chi2" uses the chi-squared distribution that squared distances would follow if the features were Gaussian
          with known parameters. It needs features of a single layer. For images it is only a rough guide: with
          "empirical", far more normal images are flagged than requested unless there are many times more training
          images than features (50 % instead of 5 % with 60 training images and 20 features); with a shrunk covariance,
          there may be more or fewer.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        How thresholds are calibrated, unless ``threshold="chi2"``.

        - "cv" uses 10-fold cross-validation. It errs on the safe side, because the Gaussians of the folds are fitted to
          fewer images.
        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : PooledFeatures
        Averages of the fitted features, which are its ``features_``.
    location_ : list of ndarray of shape (d_l,), float64
        Mean :math:`\mu_l` of each layer.
    components_ : list of ndarray of shape (k_l, d_l), float64
        Principal components that are kept in each layer. Defined only if `pca` is not None.
    covariance_ : list of ndarray of shape (k_l, k_l), float64
        Covariance :math:`\Sigma_l` of each layer, in the coordinates of `components_` if `pca` is not None.
    n_samples_seen_ : int
        Number of training images.
    offset_ : float
        Threshold on `score_samples`.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set. Not defined for "chi2".
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`. Not defined for "chi2".

    See Also
    --------
    PaDiM : Gaussian at each position of the image, with anomaly maps.
    GaussianScorer : The same distance for given rows.
    SPADE : Distance to the most similar normal images.

    Notes
    -----
    As in scikit-learn, "empirical" divides by the number of images, so the mean of the squared distances of the
    training images in a layer is d_l.

    The paper uses the nine levels of EfficientNet-B4, ``PretrainedPatchFeatures("tf_efficientnet_b4", layers=("bn1",
    "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6", "bn2"), neighborhood=1,
    image_size=380)``.

    Pickles hold the parameters and the attributes above, not the network.

    References
    ----------
    Rippel, Mertens and Merhof, "Modeling the Distribution of Normal Data in Pre-Trained Deep Features for Anomaly
    Detection", ICPR 2020, arXiv:2005.14140.

    Examples
    --------
    >>> from skanomaly import PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> from skanomaly.detectors import MahalanobisAD
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(
    ...     weights="random", layers=(0, 1, 2), neighborhood=1, image_size=64, random_state=0
    ... )  # a quick control
    >>> detector = MahalanobisAD(features, random_state=0).fit(data.X_train)
    >>> detector.predict(data.X_test).shape
    (5,)
    >>> hasattr(detector, "anomaly_map")
    False
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform_layers"]), None],
        "covariance": [StrOptions(set(_COVARIANCES)), HasMethods(["fit", "mahalanobis"])],
        "pca": [tuple, list, None],
        "threshold": [StrOptions({"conformal", "chi2"})],
        "calibration": [StrOptions({"cv", "split"})],
    }
    _derived = ("_factors",)

    def __init__(
        self,
        features=None,
        *,
        covariance="ledoit_wolf",
        pca=None,
        threshold="conformal",
        false_alarm_rate=0.05,
        calibration="cv",
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.covariance = covariance
        self.pca = pca
        self.threshold = threshold
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        return PretrainedPatchFeatures(layers=(0, 1, 2, 3, 4), neighborhood=1)

    # ----------------------------------------------------------------------------------------- the door

    def _features(self):
        return vars(self).get("features_") or PooledFeatures(super()._features(), verbose=self.verbose)

    def _open(self, X):
        given = self.default_features(X) if self.features is None else self.features
        self.features_ = PooledFeatures(given, verbose=self.verbose)
        samples = self.features_.check_samples(X, reset=True)
        self._keep_settings()
        return samples

    def _prepare(self):
        self._check_pca()
        n_layers = len(layer_widths(self.features_.features_))
        if self.threshold == "chi2" and n_layers > 1:
            raise ValueError(
                f"threshold='chi2' needs features of a single layer, got {n_layers} layers, whose sum does not follow "
                "a chi-squared law. Use threshold='conformal', or features of one layer."
            )

    def _check_pca(self):
        if self.pca is None:
            return
        which, share = self.pca if len(self.pca) == 2 else (None, None)
        if which not in ("leading", "trailing") or not isinstance(share, Real) or not 0 < share < 1:
            raise ValueError(
                f"pca={self.pca!r} must be None, ('leading', share) or ('trailing', share) with share in (0, 1)."
            )

    # ----------------------------------------------------------------------------------------- learning

    def _fit(self, Z):
        if len(Z) < 2:
            raise ValueError(f"MahalanobisAD needs at least 2 images (in every fold), got {len(Z)}.")
        layers = self.features_.split(Z)
        vars(self).pop("components_", None)
        if self.pca is None:
            gaussians = [self._estimate(vectors) for vectors in layers]
        else:
            gaussians = self._estimate_components(layers)
        self._take_over(len(Z), gaussians)
        self._derived_state("_factors", self._factorize)  # raises where there are none

    def _estimate(self, vectors):
        """Return the location and the covariance of vectors (n, k)."""
        if vectors.shape[1] == 0:
            return np.empty(0), np.empty((0, 0))
        named = isinstance(self.covariance, str)
        estimator = (_COVARIANCES[self.covariance]() if named else clone(self.covariance)).fit(vectors)
        return estimator.location_, estimator.covariance_

    def _estimate_components(self, layers):
        """Set the principal components; return the mean of each layer and its covariance in these."""
        self.components_ = [_components(vectors, *self.pca) for vectors in layers]
        self._check_components(len(layers[0]))
        gaussians = []
        for vectors, axes in zip(layers, self.components_, strict=True):
            mean = vectors.mean(axis=0)
            location, covariance = self._estimate((vectors - mean) @ axes.T)
            gaussians.append((mean + location @ axes, covariance))
        return gaussians

    def _check_components(self, n):
        empty = [layer for layer, axes in enumerate(self.components_) if len(axes) == 0]
        found = f"pca={self.pca!r} leaves no component in which the {n} images vary,"
        if len(empty) == len(self.components_):
            raise ValueError(f"{found} in any layer; lower the share or fit more images.")
        if empty:
            warnings.warn(
                f"{found} in the layers {empty} (counted from 0). They add nothing to the score.", stacklevel=2
            )

    def _add(self, Z):
        _check_updates(self, "partial_fit")
        gaussians = [_moments(vectors) for vectors in self.features_.split(Z)]
        if hasattr(self, "covariance_"):
            self._join(len(Z), gaussians)
        else:
            self._take_over(len(Z), gaussians)

    def _absorb(self, other):
        for detector in (self, other):
            _check_updates(detector, "merge")
        check_same_features(self.features_, other.features_, "MahalanobisAD")
        self._join(other.n_samples_seen_, zip(other.location_, other.covariance_, strict=True))

    def _join(self, n, gaussians):
        """Add the Gaussians of n further images."""
        old = zip(self.location_, self.covariance_, strict=True)
        joined = [_merge(self.n_samples_seen_, *a, n, *b) for a, b in zip(old, gaussians, strict=True)]
        self._take_over(self.n_samples_seen_ + n, joined)

    def _take_over(self, n, gaussians):
        self.n_samples_seen_ = n
        self.location_, self.covariance_ = (list(parts) for parts in zip(*gaussians, strict=True))

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "covariance_"):
            return
        widths = layer_widths(self.features_.features_)
        require([len(location) for location in self.location_] == widths, "location_ has other widths than the layers")
        parts = [len(covariance) for covariance in self.covariance_]
        require(hasattr(self, "components_") == (self.pca is not None), "components_ are missing, or too many")
        require(self.pca is not None or parts == widths, "covariance_ has other widths than the layers")
        require(
            all(np.isfinite(part).all() for part in (*self.location_, *self.covariance_)), "Gaussians are not finite"
        )
        law = isinstance(getattr(self, "calibration_", None), ChiSquaredLaw)
        require(not law or self.calibration_.n_features == parts[0], "calibration_ has another number of features")

    def _factorize(self):
        return [self._factor(layer, covariance) for layer, covariance in enumerate(self.covariance_)]

    def _factor(self, layer, covariance):
        """Return the Cholesky factor of a covariance."""
        k = len(covariance)
        try:
            factor = cholesky(covariance, lower=True) if k else covariance
            regular = (np.diag(factor) ** 2 > k * np.finfo(float).eps * np.diag(covariance)).all()
        except LinAlgError:
            regular = False
        if not regular:
            raise ValueError(
                f"The covariance of layer {layer} ({k} features, {self.n_samples_seen_} images) is singular; take "
                "covariance='ledoit_wolf', pca=('leading', 0.99) or more images."
            )
        return factor

    # ----------------------------------------------------------------------------------------- thresholds

    def _calibrate(self, samples, groups):
        if self.threshold != "chi2":
            return super()._calibrate(samples, groups)
        self._learn_all(samples, groups)
        return ChiSquaredLaw(len(self.covariance_[0]))

    def _forget_thresholds(self):
        super()._forget_thresholds()
        if self.threshold == "chi2":  # this law needs no scores
            self.calibration_ = ChiSquaredLaw(len(self.covariance_[0]))

    def _calibrated(self, name, rated=True):
        calibration = super()._calibrated(name, rated)
        if not rated and calibration.scores is None:
            raise AttributeError(
                f"this MahalanobisAD has no {name}: threshold='chi2' sets the threshold from a law, not from scores. "
                "Call calibrate(X_normal) to set it from scores."
            )
        return calibration

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        factors = self._derived_state("_factors", self._factorize)
        layers = enumerate(zip(self.features_.split(Z), factors, strict=True))
        return sum(self._distances(layer, *pair) for layer, pair in layers), None

    def _distances(self, layer, vectors, factor):
        """Return m_l, vector by vector, so that the bits of a sample do not depend on the others."""
        if len(factor) == 0:
            return np.zeros(len(vectors))
        deviations = vectors - self.location_[layer]
        if hasattr(self, "components_"):
            deviations = [self.components_[layer] @ deviation for deviation in deviations]
        return np.array([np.linalg.norm(solve_triangular(factor, d, lower=True)) for d in deviations])


def _check_updates(detector, method):
    if not (isinstance(detector.covariance, str) and detector.covariance == "empirical" and detector.pca is None):
        raise ValueError(
            f"{method} needs covariance='empirical' and pca=None, got covariance={detector.covariance!r} and "
            f"pca={detector.pca!r}, which cannot be updated; fit on all images instead."
        )


def _components(vectors, which, share):
    """Return the principal components (k, d) that explain a share of the variance, or the remaining ones."""
    _, lengths, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    explained = np.cumsum(lengths**2)
    n_leading = 1 + np.searchsorted(explained, share * explained[-1], side="right")
    rank = (lengths > max(vectors.shape) * np.finfo(float).eps * lengths[0]).sum()
    return axes[:n_leading] if which == "leading" else axes[n_leading:rank]


def _moments(vectors):
    mean = vectors.mean(axis=0)
    return mean, (vectors - mean).T @ (vectors - mean) / len(vectors)


def _merge(n, mean, covariance, n_other, mean_other, covariance_other):
    """Return the mean and the covariance of the union of two sets of vectors."""
    share, step = n_other / (n + n_other), mean_other - mean
    between = share * (1 - share) * np.outer(step, step)
    return mean + share * step, (1 - share) * covariance + share * covariance_other + between
