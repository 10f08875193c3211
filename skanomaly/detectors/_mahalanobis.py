"""Mahalanobis distance of pooled features."""

from numbers import Real

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.stats import chi2
from sklearn.base import clone
from sklearn.covariance import OAS, EmpiricalCovariance, LedoitWolf
from sklearn.utils._param_validation import HasMethods, StrOptions
from sklearn.utils.validation import check_is_fitted
from tqdm import tqdm

from ..base import all_or_nothing
from ..features import PretrainedPatchFeatures
from ._features import FeatureDetector

_COVARIANCES = {"ledoit_wolf": LedoitWolf, "oas": OAS, "empirical": EmpiricalCovariance}


class MahalanobisAD(FeatureDetector):
    r"""Mahalanobis distances of globally averaged features, summed over the levels of a network.

    The map of every level l is averaged over the image; the vectors :math:`v_l` of normal images make a Gaussian, whose
    covariance is shrunk where images are few:

    .. math::

        m_l(x) = \sqrt{(v_l - \mu_l)^T \Sigma_l^{-1} (v_l - \mu_l)}, \qquad A(x) = \sum_l m_l(x)

    There are no maps: the method says whether, not where.

    Parameters
    ----------
    features : transformer or None, default=None
        Images to maps of several layers (`PretrainedPatchFeatures.transform_levels`); None is
        ``PretrainedPatchFeatures(layers=(0, 1, 2, 3, 4), neighborhood=1)``, all levels of the default network at the
        224 pixels it was trained with. The paper takes EfficientNet-B4 at 380.
    covariance : {"ledoit_wolf", "oas", "empirical"} or estimator, default="ledoit_wolf"
        Estimator of :math:`\mu_l` and :math:`\Sigma_l`, one of `sklearn.covariance`; the names stand for those with
        default parameters. "empirical" needs more images than a level has features, and is the only one that can
        learn in parts.
    pca : None, ("leading", share) or ("trailing", share), default=None
        Principal components in which the distances are taken: the leading ones that explain this share of the variance,
        in (0, 1) (the paper's PCA: 0.95 or 0.99), or those that are left (its NPCA: 0.99 to 0.9999). Directions in
        which no training image varies are in neither.
    threshold : {"conformal", "chi2"}, default="conformal"
        "conformal" takes the threshold from scores of normal images. "chi2" takes it from the law that squared
        distances of a Gaussian would follow if its parameters were known, and is for a single level. It flags far more
        normal images than asked for unless there are many more training images than features.
    false_alarm_rate : float or None, default=0.05
        Share of normal images that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        Which scores of normal images set a conformal threshold.

        - "cv": of 10 folds, each by Gaussians of the others. These know fewer images, which errs on the safe side.
        - "split": of a random fifth of the images, which no Gaussian sees. Only this one carries the guarantee of
          split-conformal prediction.
    random_state : int, RandomState instance or None, default=None
        Of the folds and the split.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    features_ : estimator
        The fitted features.
    location_ : list of ndarray of shape (d_l,), float64
        :math:`\mu_l` of every level.
    components_ : list of ndarray of shape (k_l, d_l), float64
        The principal components kept; only with `pca`.
    covariance_ : list of ndarray of shape (k_l, k_l), float64
        :math:`\Sigma_l` of every level, with `pca` in those coordinates, else k_l = d_l.
    n_samples_seen_ : int
        Training images.
    offset_ : float
        Threshold on `score_samples`.
    calibration_scores_ : ndarray of shape (n,)
        What it was taken from, ascending; not with ``threshold="chi2"``.

    Notes
    -----
    "empirical" divides by the number of images n, like scikit-learn: the squared distances of one level then average
    d_l over the training images.

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
        "features": [HasMethods(["fit", "transform_levels"]), None],
        "covariance": [StrOptions(set(_COVARIANCES)), HasMethods(["fit", "mahalanobis"])],
        "pca": [tuple, list, None],
        "threshold": [StrOptions({"conformal", "chi2"})],
        "calibration": [StrOptions({"cv", "split"})],
    }
    _makes_maps = False

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

    def fit(self, X, y=None):
        """Learn what is normal from normal images, then set the threshold.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            Normal images only.
        y : ignored
            For API consistency. Wrap in `FitOnNormal` to fit on labelled data.

        Returns
        -------
        self
        """
        if self.threshold != "chi2":
            return super().fit(X)
        with all_or_nothing(self):
            self._fit(self._embed(self._check_samples(X, reset=True)))
        return self

    def p_values(self, X):
        """Return p-values: conformal ones, or of the chi2 law where that sets the threshold.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string

        Returns
        -------
        ndarray of shape (n_samples,), float64
        """
        if hasattr(self, "calibration_scores_") or self.threshold != "chi2":
            return super().p_values(X)
        scores = self.score_samples(X)
        self._check_calibrated("p_values")
        return chi2.sf(scores**2, len(self.covariance_[0]))

    def partial_fit(self, X, y=None):
        """Learn from further normal images; a conformal threshold is dropped until `calibrate` sets it again.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Unless ``covariance="empirical"`` and ``pca=None``: the others cannot be updated.
        """
        with all_or_nothing(self):
            self._check_updates("partial_fit")
            first = not hasattr(self, "covariance_")
            vectors = self._embed(self._check_samples(X, reset=first))
            levels = [_moments(part) for part in self._split(vectors)]
            self._learn(len(vectors), levels, add=not first)
        return self

    def merge(self, other):
        """Take over what another MahalanobisAD has learnt, exactly as if its images had been in `fit`.

        A conformal threshold is dropped until `calibrate` sets it again; `other` is not changed.

        Parameters
        ----------
        other : MahalanobisAD
            Fitted with the same features.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If its features are others, or unless both have ``covariance="empirical"`` and ``pca=None``.
        """
        for detector in (self, other):
            check_is_fitted(detector)
            detector._check_updates("merge")
        self._check_same_features(other)
        with all_or_nothing(self):
            self._learn(other.n_samples_seen_, list(zip(other.location_, other.covariance_, strict=True)), add=True)
        return self

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_factors"}

    def default_features(self):
        """Return the features that ``features=None`` stands for, unfitted."""
        return PretrainedPatchFeatures(layers=(0, 1, 2, 3, 4), neighborhood=1)

    # ----------------------------------------------------------------------------------------- the door

    def _check_samples(self, X, reset):
        if reset:
            self._check_pca()
        samples = super()._check_samples(X, reset)
        n_levels = len(self.features_.level_shapes_)
        if reset and self.threshold == "chi2" and n_levels > 1:
            raise ValueError(
                f"threshold='chi2' is for one level, features has {n_levels} layers: their sum follows no chi2 law. "
                "Take threshold='conformal', or features of one layer."
            )
        return samples

    def _check_pca(self):
        if self.pca is None:
            return
        which, share = self.pca if len(self.pca) == 2 else (None, None)
        if which not in ("leading", "trailing") or not isinstance(share, Real) or not 0 < share < 1:
            raise ValueError(
                f"pca={self.pca!r} must be None, ('leading', share) or ('trailing', share) with share in (0, 1)."
            )

    def _check_updates(self, method):
        if not (isinstance(self.covariance, str) and self.covariance == "empirical" and self.pca is None):
            raise ValueError(
                f"{method} needs covariance='empirical' and pca=None, got covariance={self.covariance!r} and "
                f"pca={self.pca!r}, which cannot be updated; fit on all images instead."
            )

    def _embed(self, samples):
        """Return the vectors of all levels, side by side: (n, sum of d_l), float64."""
        starts = range(0, len(samples), self._batch_len)
        return np.concatenate(
            [
                _pool(self.features_.transform_levels(samples[start : start + self._batch_len]))
                for start in tqdm(
                    starts, desc="features", unit_scale=self._batch_len, delay=2, disable=not self.verbose
                )
            ]
        )

    def _split(self, vectors):
        sizes = [shape[-1] for shape in self.features_.level_shapes_]
        return np.split(vectors, np.cumsum(sizes)[:-1], axis=1)

    # ----------------------------------------------------------------------------------------- learning

    def _fit(self, Z):
        if len(Z) < 2:
            raise ValueError(f"MahalanobisAD needs at least 2 images (in every fold), got {len(Z)}.")
        levels = self._split(Z)
        vars(self).pop("components_", None)
        if self.pca is None:
            self._learn(len(Z), [self._estimate(level) for level in levels])
        else:
            means = [level.mean(axis=0) for level in levels]
            self.components_ = [_components(level, *self.pca) for level in levels]
            pairs = list(zip(levels, means, self.components_, strict=True))
            inside = [self._estimate((level - mean) @ axes.T) for level, mean, axes in pairs]
            moved = [mean + location @ axes for (_, mean, axes), (location, _) in zip(pairs, inside, strict=True)]
            self._learn(len(Z), list(zip(moved, (covariance for _, covariance in inside), strict=True)))
        self._factors = self._factorize()

    def _estimate(self, vectors):
        """Return the location and the covariance of vectors (n, k)."""
        named = isinstance(self.covariance, str)
        estimator = (_COVARIANCES[self.covariance]() if named else clone(self.covariance)).fit(vectors)
        return estimator.location_, estimator.covariance_

    def _learn(self, n, levels, add=False):
        """Set the Gaussians of n images, or add them to those seen before, and drop what followed from the old."""
        if add:
            old = zip(self.location_, self.covariance_, strict=True)
            levels = [_merge(self.n_samples_seen_, *a, n, *b) for a, b in zip(old, levels, strict=True)]
            n += self.n_samples_seen_
        self.n_samples_seen_ = n
        self.location_, self.covariance_ = (list(parts) for parts in zip(*levels, strict=True))
        vars(self).pop("_factors", None)
        self._forget_thresholds()
        if self.threshold == "chi2" and self.false_alarm_rate is not None:
            self.offset_ = -np.sqrt(chi2.isf(self.false_alarm_rate, len(self.covariance_[0])))

    def _factorize(self):
        """Return the Cholesky factors of the covariances."""
        factors = []
        for level, covariance in enumerate(self.covariance_):
            k = len(covariance)
            try:
                factor = cholesky(covariance, lower=True)
                regular = (np.diag(factor) ** 2 > k * np.finfo(float).eps * np.diag(covariance)).all()
            except LinAlgError:
                regular = False
            if not regular:
                raise ValueError(
                    f"The covariance of level {level} ({k} features, {self.n_samples_seen_} images) is singular; take "
                    "covariance='ledoit_wolf', pca=('leading', 0.99) or more images."
                )
            factors.append(factor)
        return factors

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z):
        if not hasattr(self, "_factors"):
            self._factors = self._factorize()
        return sum(self._distances(level, vectors) for level, vectors in enumerate(self._split(Z))), None

    def _distances(self, level, vectors):
        """Return m_l, vector by vector: bits must not depend on the others."""
        deviations = vectors - self.location_[level]
        if hasattr(self, "components_"):
            deviations = [self.components_[level] @ deviation for deviation in deviations]
        factor = self._factors[level]
        return np.array([np.linalg.norm(solve_triangular(factor, d, lower=True)) for d in deviations])


def _pool(levels):
    """Return the means of all maps [(n, h_l, w_l, d_l)], side by side, each summed in the same order."""
    return np.stack(
        [np.concatenate([m.mean(axis=(0, 1), dtype=np.float64) for m in image]) for image in zip(*levels, strict=True)]
    )


def _components(vectors, which, share):
    """Return the leading principal components that explain a share of the variance, or those left: (k, d)."""
    _, lengths, axes = np.linalg.svd(vectors - vectors.mean(axis=0), full_matrices=False)
    explained = np.cumsum(lengths**2)
    n_leading = 1 + np.searchsorted(explained, share * explained[-1], side="right")
    rank = (lengths > max(vectors.shape) * np.finfo(float).eps * lengths[0]).sum()
    kept = axes[:n_leading] if which == "leading" else axes[n_leading:rank]
    if len(kept) == 0:
        raise ValueError(
            f"pca={(which, share)!r} leaves no component of the {rank} in which {len(vectors)} images vary; lower the "
            "share or fit more images."
        )
    return kept


def _moments(vectors):
    mean = vectors.mean(axis=0)
    return mean, (vectors - mean).T @ (vectors - mean) / len(vectors)


def _merge(n, mean, covariance, n_other, mean_other, covariance_other):
    """Return the mean and the covariance of two sets of vectors together."""
    share, step = n_other / (n + n_other), mean_other - mean
    between = share * (1 - share) * np.outer(step, step)
    return mean + share * step, (1 - share) * covariance + share * covariance_other + between
