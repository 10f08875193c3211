"""Texture inspection with Gaussian mixtures."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._kernels.blas import one_blas_thread
from .._kernels.mixtures import arrange_mixture, patch_log_density, patches_at
from .._kernels.pyramid import adjacent_levels, enlarge_level, pyramid
from ..features import Pixels
from ._features import FeatureDetector, LazyFeatures
from ._image_scores import IMAGE_SCORE, image_scores

_DTYPE = np.float64  # of log-densities; float32 loses digits where they cross zero, and is little faster
_HELD_OUT_SHARE = 0.2
_IMAGES_AT_A_TIME = 16


class TextureGMM(FeatureDetector):
    r"""TextureGMM: Gaussian mixtures of the patches of a texture, at several resolutions.

    An image is halved repeatedly. At each level l of this pyramid, a Gaussian mixture :math:`p_l` is fitted to patches
    of normal images, and every patch of an image scores

    .. math:: s_l = \frac{-\log p_l(\mathrm{patch}) - m_l}{d_l}

    with m and d the mean and the standard deviation of the negative log-density on normal images that the mixture was
    not fitted to. The map of an image is, at each pixel,

    ===========  =======================================================================
    `combine`    map
    ===========  =======================================================================
    "mean"       mean of :math:`s_l` over the levels
    "adjacent"   :math:`\max_l \min(s_l - t_l, \, s_{l + 1} - t_{l + 1})`
    ===========  =======================================================================

    "adjacent" is HALCON's rule: above 0 are the pixels at which two adjacent levels both exceed their thresholds t,
    the highest scores of the normal images that the mixtures were not fitted to. It suppresses what is unusual at one
    level alone, and outlined defects of regular textures better than "mean" in our benchmarks.

    No network is needed. Use it for textures without a fixed place, such as fabric, leather or sheet metal.

    Parameters
    ----------
    features : transformer or None, default=None
        Features whose grids are cut into patches, such as `Pixels`; None is ``Pixels(gray=True)``. Pass an object to
        choose or search its parameters (``features__image_size``), or a `FrozenEstimator` of fitted features.
    n_levels : int, default=4
        Number of levels of the pyramid.
    patch_size : int, default=7
        Side of a patch, in pixels of its level.
    n_components : int, default=10
        Number of Gaussians of each mixture.
    n_projections : int or None, default=None
        Number of random directions that patches are projected to, with Gaussian weights; None keeps all pixels. Fewer
        directions are faster, and need fewer patches.
    normalization : {"weber"} or None, default=None
        How the pixels x of a patch are normalised: "weber" divides them by their mean m, as
        :math:`(x - m) / (m + 1 / 255)`, so that brightness does not matter; None keeps them.
    combine : {"mean", "adjacent"}, default="mean"
        How levels are combined, see above.
    n_patches : int, default=10_000
        Number of random patches that each mixture is fitted to.
    max_iter : int, default=100
        Maximum number of iterations of expectation maximisation.
    tol : float, default=1e-3
        Gain of the mean log-density below which these iterations stop.
    reg_covar : float, default=1e-6
        Variance that is added to each pixel of the Gaussians, in squared units of the features.
    image_score : {"max", "mean", "contrast"} or float, default="max"
        How the score of an image is computed from its map, at the size at which the features see images: its maximum,
        its mean, its maximum minus its mean, or the mean over this share of its highest pixels, in (0, 1).
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"split", "cv"}, default="split"
        How thresholds are calibrated.

        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
        - "cv" uses 10-fold cross-validation, and fits 11 sets of mixtures.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the patches, the projection, the mixtures, the folds and the splits.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    weights_ : list of ndarray of shape (K,), float64
        Weights of the Gaussians of each level.
    means_ : list of ndarray of shape (K, d), float64
        Means of the Gaussians of each level.
    precisions_cholesky_ : list of ndarray of shape (K, d, d), float64
        Upper triangular factors U of the precisions U U^T of the Gaussians of each level.
    projection_ : ndarray of shape (d, p), float64, or None
        Directions that patches of p pixels are projected to.
    level_means_ : ndarray of shape (n_levels,), float64
        Means m of the negative log-density.
    level_deviations_ : ndarray of shape (n_levels,), float64
        Standard deviations d of the negative log-density.
    level_thresholds_ : ndarray of shape (n_levels,), float64
        Thresholds t of the levels.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_ : ndarray of shape (n,)
        Anomaly scores of the calibration samples, from which `offset_` is set.
    calibration_peaks_ : ndarray of shape (n,)
        Peaks of their anomaly maps, from which `pixel_threshold_` is set.
    calibration_indices_ : ndarray of shape (n,)
        Positions of the calibration samples in the data of `fit` or `calibrate`.

    See Also
    --------
    PatchCore : Distance of deep features to their nearest normal neighbours.
    VariationModel : Deviation of each pixel, for objects at a fixed place.
    MLFSC : Sparse coding of deep features at several resolutions.

    Notes
    -----
    The mixtures are fitted to 80 % of the training images, and m, d and t are computed from the others. This is apart
    from the samples held out to calibrate `offset_`.

    The benchmark of Bergmann et al. uses 10 images zoomed to 400 x 400 pixels, 7 x 7 patches and 4 levels, and adds no
    more detail. The original method projects patches at random and stops early at coarse levels.

    Pickles hold the parameters and the attributes above.

    References
    ----------
    Böttger and Ulrich, "Real-Time Texture Error Detection on Textured Surfaces with Compressed Sensing", Pattern
    Recognition and Image Analysis 2016.
    Bergmann et al., "MVTec AD", CVPR 2019.

    Examples
    --------
    >>> from skanomaly import Pixels, TextureGMM
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("cloth", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> detector = TextureGMM(Pixels(64), n_levels=2, n_components=3, n_patches=2000, random_state=0)
    >>> detector.set_params(false_alarm_rate=0.2).fit(data.X_train).anomaly_map(data.X_test).shape
    (5, 64, 64)
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, 1, None, closed="left")],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_projections": [Interval(Integral, 1, None, closed="left"), None],
        "normalization": [StrOptions({"weber"}), None],
        "combine": [StrOptions({"mean", "adjacent"})],
        "n_patches": [Interval(Integral, 2, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="neither")],
        "image_score": IMAGE_SCORE,
        "calibration": [StrOptions({"split", "cv"})],
    }
    _derived = ("_mixtures",)

    def __init__(
        self,
        features=None,
        *,
        n_levels=4,
        patch_size=7,
        n_components=10,
        n_projections=None,
        normalization=None,
        combine="mean",
        n_patches=10_000,
        max_iter=100,
        tol=1e-3,
        reg_covar=1e-6,
        image_score="max",
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="split",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.n_levels = n_levels
        self.patch_size = patch_size
        self.n_components = n_components
        self.n_projections = n_projections
        self.normalization = normalization
        self.combine = combine
        self.n_patches = n_patches
        self.max_iter = max_iter
        self.tol = tol
        self.reg_covar = reg_covar
        self.image_score = image_score
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
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
        Pixels
            Features, unfitted.
        """
        return Pixels(gray=True)

    def _prepare(self):
        coarsest = min(-(-n // 2 ** (self.n_levels - 1)) for n in self.features_.grid_shape_)
        if coarsest < self.patch_size:
            raise ValueError(
                f"n_levels={self.n_levels} halves grids of {self.features_.grid_shape_} down to a side of {coarsest}, "
                f"which is less than patch_size={self.patch_size}; take fewer levels, smaller patches or larger images."
            )

    def _embed(self, samples):
        return LazyFeatures(self.features_.transform, samples)

    # ----------------------------------------------------------------------------------------- learning

    def _learn(self, samples, Z=None, groups=None):
        self._fit(self._embedded(samples, Z), groups)

    def _fit(self, Z, groups=None):
        if len(Z) < 2:
            raise ValueError(f"TextureGMM needs at least 2 images, got {len(Z)}.")
        rng = check_random_state(self.random_state)
        train, held_out = _divide(len(Z), groups, rng)
        n_values = self.patch_size**2 * self.features_.n_features_out_
        self.projection_ = None
        if self.n_projections is not None:
            self.projection_ = rng.normal(size=(self.n_projections, n_values)) / np.sqrt(n_values)
        mixtures = [self._fit_mixture(patches, rng) for patches in self._draw_patches(Z[train], rng)]
        self.weights_, self.means_, self.precisions_cholesky_ = map(list, zip(*mixtures, strict=True))
        self._standardize_levels(Z[held_out])

    def _draw_patches(self, Z, rng):
        """Return random patches (n, d) of each level."""
        drawn, per_image = [[] for _ in range(self.n_levels)], -(-self.n_patches // len(Z))
        for images in Z.batches(_IMAGES_AT_A_TIME):
            for image in images:
                for patches, level in zip(drawn, pyramid(image, self.n_levels), strict=True):
                    n = (level.shape[0] - self.patch_size + 1) * (level.shape[1] - self.patch_size + 1)
                    places = rng.randint(n, size=min(n, per_image))
                    found = patches_at(level, places, self.patch_size, self.normalization == "weber")
                    patches.append((found if self.projection_ is None else self.projection_ @ found).T)
        return [np.concatenate(patches).astype(np.float64) for patches in drawn]

    def _fit_mixture(self, patches, rng):
        """Return the weights, means and factors of precisions of a mixture."""
        mixture = GaussianMixture(
            min(self.n_components, len(patches)),
            max_iter=self.max_iter,
            tol=self.tol,
            reg_covar=self.reg_covar,
            random_state=rng.randint(2**31),
        )
        with one_blas_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the density is good long before
            mixture.fit(patches)
        return mixture.weights_, mixture.means_, mixture.precisions_cholesky_

    def _standardize_levels(self, Z):
        """Set the means, deviations and thresholds of the levels from images that the mixtures were not fitted to."""
        found = []
        for images in Z.batches(_IMAGES_AT_A_TIME):
            for image in images:
                levels = self._surprises(image)
                found.append([(level.mean(), level.var(), level.max()) for level in levels])
        means, variances, peaks = np.moveaxis(np.array(found, np.float64), 2, 0)
        self.level_means_ = means.mean(axis=0)
        deviations = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
        rounding = 10 * np.finfo(_DTYPE).eps * np.abs(self.level_means_)
        self.level_deviations_ = np.where(deviations > rounding, deviations, 1.0)
        self.level_thresholds_ = (peaks.max(axis=0) - self.level_means_) / self.level_deviations_

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        grids = np.stack([self._combined(image) for image in np.asarray(Z)])
        return image_scores(self, grids, self.image_score), grids

    def _combined(self, image):
        """Return the map (h, w) of an image (h, w, C)."""
        size = image.shape[:2]
        surprises = zip(self._surprises(image), self.level_means_, self.level_deviations_, strict=True)
        scores = [(surprise - mean) / deviation for surprise, mean, deviation in surprises]
        levels = [enlarge_level(level, i, self.patch_size, size) for i, level in enumerate(scores)]
        if self.combine == "mean":
            return sum(levels) / len(levels)
        return adjacent_levels(levels, self.level_thresholds_)

    def _surprises(self, image):
        """Return the negative log-densities of all patches of an image, at each level."""
        mixtures, weber = self._derived_state("_mixtures", self._arranged), self.normalization == "weber"
        return [
            -patch_log_density(level, mixture, self.patch_size, weber, self.projection_)
            for level, mixture in zip(pyramid(image, self.n_levels), mixtures, strict=True)
        ]

    def _arranged(self):
        fitted = zip(self.weights_, self.means_, self.precisions_cholesky_, strict=True)
        return [arrange_mixture(*parameters, dtype=_DTYPE) for parameters in fitted]


def _divide(n, groups, rng):
    """Return the positions of samples to fit to, and of a random share of whole groups to judge by."""
    groups = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    n_groups = groups.max() + 1
    if n_groups < 2:
        return np.arange(n), np.arange(n)
    chosen = rng.permutation(n_groups)[: max(1, round(_HELD_OUT_SHARE * n_groups))]
    judges = np.isin(groups, chosen)
    return np.flatnonzero(~judges), np.flatnonzero(judges)
