"""SPADE."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from tqdm import tqdm

from .._kernels.checks import require
from .._kernels.galleries import build_galleries, search_gallery, search_window
from .._kernels.neighbors import k_nearest
from .._kernels.smoothing import average_grids, resize_to_finest
from ..features import PretrainedPatchFeatures
from ..features._base import Layers, layer_widths
from ._features import FeatureDetector
from ._image_scores import image_score_or, image_scores


class SPADE(FeatureDetector):
    r"""SPADE: distance to the most similar normal images, and to the nearest of their patches.

    The global average f of the last layer describes an image, and the layers F before it describe its patches. The
    score of an image y is its mean distance to its K nearest training images. The score of a patch p is the mean
    distance to its :math:`\kappa` nearest patches in the gallery G, which holds all patches of these images:

    .. math::

        d(y) = \frac{1}{K} \sum_{x \in N_K(y)} \lVert f(x) - f(y) \rVert_2, \qquad
        d(y, p) = \frac{1}{\kappa} \sum_{g \in N_\kappa(F(y, p), G)} \lVert g - F(y, p) \rVert_2, \qquad
        G = \{ F(x, p') : x \in N_K(y), \text{all } p' \}

    The map is d(y, p), bilinearly enlarged and smoothed by a Gaussian.

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into maps of several layers (`PretrainedPatchFeatures`); None is
        ``PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1)``. Pass an object to choose or search its
        parameters (``features__layers``), or a `FrozenEstimator` of fitted features.
    n_neighbors : int, default=50
        Number K of training images in the gallery; all, if there are fewer.
    pixel_neighbors : int, default=1
        Number of patches :math:`\kappa` whose distances are averaged.
    window : int or None, default=None
        Largest difference, in cells of the layer, between the row or column of a patch and that of the gallery patches
        it is compared with; None compares it with all of them. For parts that always lie in the same place. RAD uses 1.
    combine : {"averaged", "concatenated"}, default="averaged"
        How the layers that describe patches are combined.

        - "averaged" uses a gallery for each layer, at its own resolution; the maps of all layers are resized bilinearly
          to the finest layer and averaged.
        - "concatenated" resizes all layers bilinearly to the finest one and concatenates them, as in the paper. It
          takes several times the memory and time.
    image_score : {"image", "max", "mean", "contrast"} or float, default="image"
        How the score of an image is computed.

        - "image" is d(y), as in the paper. It needs no map, but averages over the image, so it misses small defects (an
          AUROC below 0.5 has been published for MVTec's grid).
        - "max" is the maximum of the map at the size at which the features see images, "mean" its mean, and "contrast"
          its maximum minus its mean.
        - A float in (0, 1) is the mean over this share of its highest pixels.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training image by the other images (by the other groups, with `groups`), exactly as a
          detector fitted without it would.
        - "cv" uses 10-fold cross-validation.
        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    n_neighbors_ : int
        Number K of training images in the gallery: `n_neighbors`, or fewer if there are fewer training images.
    image_bank_ : ndarray of shape (n, d), float64
        Vectors f of the training images.
    patch_banks_ : list of ndarray of shape (n, h_l, w_l, d_l), float32
        Patches F of the training images, one array per gallery.
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
    PatchCore : Distance to the nearest patches of a bank for all images.
    MahalanobisAD : Gaussians of features averaged over the image.

    Notes
    -----
    The paper squares the distances in d(y). Here, as in the common re-implementation, they are not squared, so that
    they have the unit of the map. For K = 1, both rank images alike; for K > 1, they may differ. The paper's network is
    ``PretrainedPatchFeatures("wide_resnet50_2", layers=(1, 2, 3, 4), neighborhood=1, image_size=256, crop=224)``.

    Distances are exact. Since the gallery differs for every image, no index is built for it; the bank is divided into
    images once.

    Pickles hold the parameters and the attributes above, not the network. With the default features, they take 0.5 MB
    per training image for "averaged" and 2.2 MB for "concatenated"; a fitted detector in use takes up to twice as much.

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
        "window": [Interval(Integral, 0, None, closed="left"), None],
        "combine": [StrOptions({"averaged", "concatenated"})],
        "image_score": image_score_or("image"),
    }
    _derived = ("_galleries",)

    def __init__(
        self,
        features=None,
        *,
        n_neighbors=50,
        pixel_neighbors=1,
        window=None,
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
        self.window = window
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
        X : Ignored
            Not used, present for API consistency by convention.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        return PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1, verbose=self.verbose)

    def _prepare(self):
        if len(layer_widths(self.features_)) < 2:
            raise ValueError(
                f"SPADE needs features of at least 2 layers, of which the last describes the image and the others its "
                f"patches; {type(self.features_).__name__} has 1."
            )

    def _embed(self, samples):
        *patches, last = self.features_.transform_layers(samples).arrays
        return Layers([_pool(last), *patches])

    def _fit(self, Z):
        self.n_neighbors_ = min(self.n_neighbors, len(Z))
        self.image_bank_, self.patch_banks_ = Z.arrays[0], self._patches(Z)
        self._check_gallery(self.n_neighbors_)

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "patch_banks_"):
            return
        n, d = self.image_bank_.shape
        *layers, last = self.features_.layer_shapes_
        if self.combine == "concatenated":
            layers = [(*max(shape[:2] for shape in layers), sum(shape[2] for shape in layers))]
        banks = [(n, *shape) for shape in layers]
        require([bank.shape for bank in self.patch_banks_] == banks, "patch_banks_ has other shapes than the layers")
        require(d == last[2] and 1 <= self.n_neighbors_ <= n, "image_bank_ has another shape")
        require(all(np.isfinite(bank).all() for bank in (self.image_bank_, *self.patch_banks_)), "banks are not finite")
        self._check_gallery(self.n_neighbors_)

    def _patches(self, Z):
        """Return F as a list of arrays (n, h, w, d), one for each gallery."""
        return [_concatenate(Z.arrays[1:])] if self.combine == "concatenated" else Z.arrays[1:]

    def _check_gallery(self, n_images):
        reach = np.inf if self.window is None else self.window + 1  # of the window of a corner
        fewest = n_images * min(
            int(min(n, reach) * min(m, reach)) for _, n, m, _ in (b.shape for b in self.patch_banks_)
        )
        if fewest < self.pixel_neighbors:
            within = "" if self.window is None else f" within window={self.window}"
            raise ValueError(
                f"pixel_neighbors={self.pixel_neighbors}, but a gallery has only {fewest} patches{within}."
            )

    def _score(self, Z, maps=True):
        distances, neighbors = k_nearest(self.image_bank_, Z.arrays[0], self.n_neighbors_)
        if self.image_score == "image" and not maps:
            return distances.mean(axis=1), None
        return self._summarize(distances, self._maps(self._patches(Z), neighbors))

    def _leave_one_out(self, Z, groups):
        """Score each image by the images of other groups; K is adapted to their number."""
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
        """Return the scores and the maps of images with distances (n, K) to their neighbours."""
        if self.image_score == "image":
            return distances.mean(axis=1), grids
        return image_scores(self, grids, self.image_score), grids

    def _maps(self, patches, neighbors, progress=False):
        """Return d(y, p) as (n, h, w) for images with neighbours (n, K)."""
        windowed = self.window is not None
        galleries = self.patch_banks_ if windowed else self._derived_state("_galleries", self._build_galleries)
        maps = [self._search(*pair, neighbors, progress) for pair in zip(patches, galleries, strict=True)]
        return np.stack([average_grids(grids) for grids in zip(*maps, strict=True)])

    def _build_galleries(self):
        return [build_galleries(bank.reshape(len(bank), -1, bank.shape[-1])) for bank in self.patch_banks_]

    def _search(self, patches, gallery, neighbors, progress):
        """Return the mean distances (n, h, w) of patches (n, h, w, d) to the nearest of their galleries."""
        distances = [
            self._nearest(gallery, neighbors[i], patches[i]).mean(axis=2)
            for i in tqdm(range(len(patches)), desc="calibration", unit="image", disable=not progress)
        ]
        return np.reshape(distances, patches.shape[:3])

    def _nearest(self, gallery, images, patches):
        """Return the distances (h, w, kappa) of the patches (h, w, d) of an image to the nearest of some images."""
        if self.window is not None:
            return search_window(gallery, images, patches, self.pixel_neighbors, self.window)
        rows = patches.reshape(-1, patches.shape[2])
        return search_gallery(gallery, images, rows, self.pixel_neighbors).reshape(*patches.shape[:2], -1)


def _pool(maps):
    """Return the means (n, d), float64, of maps (n, h, w, d); each is summed in the same order."""
    return np.stack([image.mean(axis=(0, 1), dtype=np.float64) for image in maps])


def _concatenate(layers):
    """Return maps [(n, h_l, w_l, d_l)] resized to the finest and concatenated."""
    return np.stack([np.concatenate(resize_to_finest(image), axis=-1) for image in zip(*layers, strict=True)])
