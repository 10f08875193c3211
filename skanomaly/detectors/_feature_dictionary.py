"""CNN feature dictionary."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin
from sklearn.preprocessing import normalize
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .._kernels.checks import require
from .._kernels.projection import project_l1
from ._features import FeatureDetector


class FeatureDictionary(FeatureDetector):
    r"""CNN feature dictionary: distance to a few patches that represent all normal patches.

    The features x of patches of normal images are divided by their l1 norm and projected onto principal components,
    :math:`z = C (x / \lVert x \rVert_1 - \mu)`. The projections are clustered by k-means, and the patch nearest to each
    cluster centre becomes an item of the dictionary. The score of a patch is its mean distance to the m nearest items;
    the score of an image is its highest patch score:

    .. math:: s_p = \frac{1}{m} \sum_{d \in N_m(z_p)} \lVert z_p - d \rVert_2, \qquad s = \max_p s_p

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into patch grids; None is ``PretrainedPatchFeatures()``, which takes one pass of
        the network per image. The paper uses one pass per patch, as `CropFeatures` does. Pass an object to choose or
        search its parameters (``features__layers``), or a `FrozenEstimator` of fitted features.
    n_components : float, int or None, default=0.95
        Share of the variance explained by the principal components, in (0, 1), or their number; None keeps all.
    n_clusters : int, default=10
        Number of clusters. The dictionary has fewer items if a patch is nearest to several centres. The paper tries 10
        to 1,000; the evaluation on MVTec AD uses 10.
    n_neighbors : int, default=1
        Number m of items whose distances are averaged; all, if there are fewer.
    max_patches : int, default=50_000
        Largest number of patches, drawn at random from all training images, that components, clusters and items are
        computed from. It bounds the memory and time of `fit` beyond the features themselves.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        How thresholds are calibrated.

        - "cv" uses 10-fold cross-validation and computes a dictionary for every fold.
        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the drawn patches, k-means, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    mean_ : ndarray of shape (d,), float64
        Mean of the normalised features.
    components_ : ndarray of shape (n_components, d), float64
        Principal components.
    dictionary_ : ndarray of shape (n_items, d), float32
        Features of the items, as returned by `features_`.
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
    PatchCore : Distance to the nearest patches of a larger bank.
    MLFSC : Error of sparse codes over learned atoms.

    Notes
    -----
    The paper's own features are ``CropFeatures(PretrainedPatchFeatures("resnet18", layers=("/32",), image_size=224))``.
    In the paper, the threshold is set from the distances of training patches to their own dictionary; here, it is set
    from images that the dictionary was not computed from.

    References
    ----------
    Napoletano, Piccoli and Schettini, "Anomaly Detection in Nanofibrous Materials by CNN-Based Self-Similarity",
    Sensors 18(1):209, 2018.
    Bergmann et al., "MVTec AD - A Comprehensive Real-World Dataset for Unsupervised Anomaly Detection", CVPR 2019.

    Examples
    --------
    >>> from skanomaly import FeatureDictionary, PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)  # a quick control
    >>> detector = FeatureDictionary(features, random_state=0).fit(data.X_train)
    >>> detector.predict(data.X_test).shape, detector.anomaly_map(data.X_test).shape
    ((5,), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "n_components": [Interval(Real, 0, 1, closed="neither"), Interval(Integral, 1, None, closed="left"), None],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "max_patches": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"cv", "split"})],
    }

    def __init__(
        self,
        features=None,
        *,
        n_components=0.95,
        n_clusters=10,
        n_neighbors=1,
        max_patches=50_000,
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="cv",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.n_components = n_components
        self.n_clusters = n_clusters
        self.n_neighbors = n_neighbors
        self.max_patches = max_patches
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def _check_state(self):
        super()._check_state()
        if hasattr(self, "dictionary_"):
            require(len(self.mean_) == self.features_.n_features_out_, "mean_ has another width than the features")
            arrays = (self.mean_, self.components_, self.dictionary_)
            require(all(array.size and np.isfinite(array).all() for array in arrays), "arrays are empty or not finite")

    def _fit(self, Z):
        rng = check_random_state(self.random_state)
        rows = self._draw(Z.reshape(-1, Z.shape[-1]), rng)
        self._fit_components(rows, rng)
        projected = project_l1(rows, self.mean_, self.components_)
        chosen = pairwise_distances_argmin(self._centers(projected, rng), projected)
        self.dictionary_ = rows[np.unique(chosen)]

    def _score(self, Z, maps=True):
        n, height, width, n_features = Z.shape
        items, queries = (
            project_l1(rows, self.mean_, self.components_) for rows in (self.dictionary_, Z.reshape(-1, n_features))
        )
        nearest = np.sort(cdist(queries, items), axis=1)[:, : self.n_neighbors]
        grids = (sum(nearest.T) / nearest.shape[1]).reshape(n, height, width)
        return grids.max(axis=(1, 2)), grids

    def _draw(self, rows, rng):
        """Return at most `max_patches` of the rows, in order."""
        if self.n_clusters > min(len(rows), self.max_patches):
            raise ValueError(
                f"n_clusters={self.n_clusters} is larger than the number of patches to cluster: {len(rows)}, of which "
                f"at most max_patches={self.max_patches} are drawn."
            )
        if len(rows) <= self.max_patches:
            return rows
        return rows[np.sort(rng.permutation(len(rows))[: self.max_patches])]

    def _fit_components(self, rows, rng):
        """Set the mean and the principal components of the normalised rows."""
        pca = PCA(self.n_components, random_state=rng.randint(2**31 - 1))
        pca.fit(normalize(rows.astype(np.float64), norm="l1"))
        self.mean_, self.components_ = pca.mean_, pca.components_

    def _centers(self, projected, rng):
        """Return the centres of k-means."""
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", ConvergenceWarning
            )  # raised if there are fewer distinct patches than clusters
            return KMeans(self.n_clusters, random_state=rng.randint(2**31 - 1)).fit(projected).cluster_centers_
