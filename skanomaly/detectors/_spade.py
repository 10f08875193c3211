"""SPADE."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from tqdm import tqdm

from .._kernels.galleries import build_galleries, search_gallery
from .._kernels.neighbors import k_nearest
from .._kernels.smoothing import resize_matrix
from ..features import PretrainedPatchFeatures
from ..features._base import Layers, layer_widths
from ._features import FeatureDetector


class SPADE(FeatureDetector):
    r"""SPADE: distance to the most similar normal images, and to the nearest of their patches.

    The last layer of the features, globally averaged, describes the image: f. The layers before it describe its
    patches: F. An image y scores its mean distance to its K nearest training images, a patch p of it the mean distance
    to the :math:`\kappa` nearest patches of those images, the gallery G:

    .. math::

        d(y) = \frac{1}{K} \sum_{x \in N_K(y)} \lVert f(x) - f(y) \rVert_2, \qquad
        d(y, p) = \frac{1}{\kappa} \sum_{g \in N_\kappa(F(y, p), G)} \lVert g - F(y, p) \rVert_2, \qquad
        G = \{ F(x, p') : x \in N_K(y), \text{all } p' \}

    The map is d(y, p), bilinearly enlarged and smoothed by a Gaussian.

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into maps of several layers (`PretrainedPatchFeatures`); None stands for
        ``PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1)``. Pass an object to choose or search its
        parameters (``features__layers``), or a `FrozenEstimator` of a fitted one.
    n_neighbors : int, default=50
        Number of training images K in the gallery; all, where there are fewer.
    pixel_neighbors : int, default=1
        Number of patches :math:`\kappa` whose distances are averaged.
    combine : {"averaged", "concatenated"}, default="averaged"
        How the layers that describe patches are combined.

        - "averaged": each layer has a gallery of its own, at its own resolution; its map is resized bilinearly to the
          finest layer, and the maps are averaged.
        - "concatenated": all layers are resized bilinearly to the finest one and make one long patch vector, as in the
          paper. Takes several times the memory and time.
    image_score : {"image", "map"}, default="image"
        Score of an image: d(y), or the largest d(y, p). The former is the paper's and needs no map, but averages over
        the image, so it is blind to small defects (an AUROC below 0.5 on MVTec's grid has been published); the latter
        is not, and takes as long as the map.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo": each training image is scored by the others (by the other groups, with `groups`). This is exactly what
          a detector fitted without it says, at the price of scoring it: nothing but neighbours is learnt.
        - "cv": 10-fold cross-validation.
        - "split": a random 20 % of the training images are held out. Only this one carries the guarantee of
          split-conformal prediction.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels of the image.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, a progress bar is shown.

    Attributes
    ----------
    features_ : estimator
        The fitted features.
    n_neighbors_ : int
        K: `n_neighbors`, or the number of training images where that is smaller.
    image_bank_ : ndarray of shape (n, d), float64
        f of the training images.
    patch_banks_ : list of ndarray of shape (n, h, w, d), float32
        F of the training images, one array per gallery.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_, calibration_peaks_ : ndarray of shape (n,)
        Anomaly scores, and highest levels of the anomaly maps, that the two are taken from.
    calibration_indices_ : ndarray of shape (n,)
        Positions of these samples in the data of `fit` or `calibrate`.

    See Also
    --------
    PatchCore : One memory bank of patches for all images.
    MahalanobisAD : Gaussians of globally averaged layers.

    Notes
    -----
    The paper squares the distances in d(y). Plain ones are taken here, as in the common re-implementation: they have
    the unit of the map. For K = 1 the two rank images alike, for K > 1 they need not. The paper's network is
    ``PretrainedPatchFeatures("wide_resnet50_2", layers=(1, 2, 3, 4), neighborhood=1, image_size=256, crop=224)``.

    Distances are exact. No index is built for a gallery, which changes with every image: that of the whole bank is
    cut into images once.

    Pickles hold the parameters and the attributes above, not the network; with the default features 0.5 MB per training
    image for "averaged", 2.2 MB for "concatenated". A fitted detector in use takes up to twice that.

    References
    ----------
    Cohen and Hoshen, "Sub-Image Anomaly Detection with Deep Pyramid Correspondences", 2020, arXiv:2005.02357.

    Examples
    --------
    >>> from skanomaly import PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> from skanomaly.detectors import SPADE
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(
    ...     weights="random", layers=(2, 3, 4), neighborhood=1, image_size=64, random_state=0
    ... )  # a quick control
    >>> detector = SPADE(features, n_neighbors=5).fit(data.X_train)
    >>> detector.predict(data.X_test).shape, detector.anomaly_map(data.X_test).shape
    ((5,), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform_layers", "map_to_image"]), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "pixel_neighbors": [Interval(Integral, 1, None, closed="left")],
        "combine": [StrOptions({"averaged", "concatenated"})],
        "image_score": [StrOptions({"image", "map"})],
    }
    _derived = ("_galleries",)

    def __init__(
        self,
        features=None,
        *,
        n_neighbors=50,
        pixel_neighbors=1,
        combine="averaged",
        image_score="image",
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.n_neighbors = n_neighbors
        self.pixel_neighbors = pixel_neighbors
        self.combine = combine
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
        X : ignored
            The default is the same for all images.

        Returns
        -------
        PretrainedPatchFeatures
            Unfitted.
        """
        return PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1, verbose=self.verbose)

    def _prepare(self):
        if len(layer_widths(self.features_)) < 2:
            raise ValueError(
                f"SPADE needs features of at least 2 layers, the last of which describes the image and the others its "
                f"patches; {type(self.features_).__name__} has 1."
            )

    def _embed(self, samples):
        *patches, last = self.features_.transform_layers(samples).arrays
        return Layers([_pool(last), *patches])

    def _fit(self, Z):
        self.n_neighbors_ = min(self.n_neighbors, len(Z))
        self.image_bank_, self.patch_banks_ = Z.arrays[0], self._patches(Z)
        self._check_gallery(self.n_neighbors_)

    def _patches(self, Z):
        """Return F as a list of arrays (n, h, w, d), one for each gallery."""
        return [_concatenate(Z.arrays[1:])] if self.combine == "concatenated" else Z.arrays[1:]

    def _check_gallery(self, n_images):
        fewest = n_images * min(bank.shape[1] * bank.shape[2] for bank in self.patch_banks_)
        if fewest < self.pixel_neighbors:
            raise ValueError(f"pixel_neighbors={self.pixel_neighbors}, but a gallery has {fewest} patches.")

    def _score(self, Z, maps=True):
        distances, neighbors = k_nearest(self.image_bank_, Z.arrays[0], self.n_neighbors_)
        if self.image_score == "image" and not maps:
            return distances.mean(axis=1), None
        return self._summarize(distances, self._maps(self._patches(Z), neighbors))

    def _leave_one_out(self, Z, groups):
        """Score every image by those of other groups; K is what it would be without its own."""
        scores, grids, sizes = np.empty(len(Z)), [None] * len(Z), np.bincount(groups)[groups]
        for size in np.unique(sizes):
            run, k = np.flatnonzero(sizes == size), min(self.n_neighbors, len(Z) - size)
            self._check_gallery(k)
            distances, neighbors = k_nearest(self.image_bank_, self.image_bank_[run], k, groups, groups[run])
            maps = self._maps([bank[run] for bank in self.patch_banks_], neighbors, progress=self.verbose)
            scores[run], own = self._summarize(distances, maps)
            for i, grid in zip(run, own, strict=True):
                grids[i] = grid
        return scores, np.stack(grids)

    def _summarize(self, distances, grids):
        """Return the scores of images, and their maps, from the distances (n, K) to their neighbours."""
        return distances.mean(axis=1) if self.image_score == "image" else grids.max(axis=(1, 2)), grids

    def _maps(self, patches, neighbors, progress=False):
        """Return d(y, p) as (n, h, w) of images with these neighbours (n, K)."""
        galleries = self._derived_state("_galleries", self._build_galleries)
        maps = [self._search(*pair, neighbors, progress) for pair in zip(patches, galleries, strict=True)]
        return np.stack([_average(grids) for grids in zip(*maps, strict=True)])

    def _build_galleries(self):
        return [build_galleries(bank.reshape(len(bank), -1, bank.shape[-1])) for bank in self.patch_banks_]

    def _search(self, patches, galleries, neighbors, progress):
        """Return the distances (n, h, w) of patches (n, h, w, d) to those of their gallery."""
        n, height, width, d = patches.shape
        rows = patches.reshape(n, height * width, d)
        distances = [
            search_gallery(galleries, neighbors[i], rows[i], self.pixel_neighbors).mean(axis=1)
            for i in tqdm(range(n), desc="calibration", unit="image", disable=not progress)
        ]
        return np.reshape(distances, (n, height, width))


def _pool(maps):
    """Return the mean vectors (n, d), float64, of maps (n, h, w, d), each summed in the same order."""
    return np.stack([image.mean(axis=(0, 1), dtype=np.float64) for image in maps])


def _concatenate(layers):
    """Return maps [(n, h_l, w_l, d_l)] resized to the finest and concatenated."""
    return np.stack([np.concatenate(_align(image), axis=-1) for image in zip(*layers, strict=True)])


def _average(grids):
    """Return the mean (h, w) of grids [(h_l, w_l)] resized to the finest."""
    return np.mean(_align([grid[..., None] for grid in grids]), axis=0)[..., 0]


def _align(grids):
    """Return grids [(h_l, w_l, d_l)] resized bilinearly to the finest, in their own dtype."""
    size = max(grid.shape[:2] for grid in grids)
    return [grid if grid.shape[:2] == size else _resize(grid, size) for grid in grids]


def _resize(grid, size):
    rows, columns = (resize_matrix(n, m).astype(grid.dtype) for n, m in zip(grid.shape[:2], size, strict=True))
    return columns @ np.tensordot(rows, grid, axes=1)
