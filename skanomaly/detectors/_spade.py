"""SPADE."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from tqdm import tqdm

from .._kernels.galleries import build_galleries, search_gallery
from .._kernels.neighbors import k_nearest
from .._kernels.smoothing import resize_matrix
from ..features import PretrainedPatchFeatures
from ._features import FeatureDetector


class SPADE(FeatureDetector):
    r"""SPADE: the most similar normal images, and the distance to the nearest of their patches.

    The last layer of the features, globally averaged, is the image stage f; the layers before it are the pixel
    stages F. An image y scores its mean distance to its K nearest training images, a patch p of it the mean distance
    to the :math:`\kappa` nearest patches of those images, the gallery G:

    .. math::

        d(y) = \frac{1}{K} \sum_{x \in N_K(y)} \lVert f(x) - f(y) \rVert_2, \qquad
        d(y, p) = \frac{1}{\kappa} \sum_{g \in N_\kappa(F(y, p), G)} \lVert g - F(y, p) \rVert_2, \qquad
        G = \{ F(x, p') : x \in N_K(y), \text{all } p' \}

    The map is d(y, p), bilinearly enlarged and smoothed by a Gaussian.

    Parameters
    ----------
    features : transformer or None, default=None
        Images to maps of several layers (`PretrainedPatchFeatures.transform_levels`); None is
        ``PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1)``. Pass one to choose or search its parameters
        (``features__layers``), or a `FrozenEstimator` of a fitted one.
    n_neighbors : int, default=50
        Training images K in the gallery; all, where there are fewer.
    pixel_neighbors : int, default=1
        Patches :math:`\kappa` whose distances are averaged.
    stages : {"averaged", "concatenated"}, default="averaged"
        How the pixel stages are combined.

        - "averaged": each has a gallery of its own, at its own resolution; its map is resized bilinearly to the
          finest stage, and the maps are averaged.
        - "concatenated": all are resized bilinearly to the finest stage and make one long patch vector, as in the
          paper. Takes several times the memory and time.
    image_score : {"image", "map"}, default="image"
        What an image scores: d(y), or the largest d(y, p). The former is the paper's, and averages over the image, so
        it is blind to small defects (an AUROC below 0.5 on MVTec's grid has been published); the latter is not.
    sigma : float, default=4.0
        Of the smoothing of maps, in pixels of a 224-pixel side.
    false_alarm_rate : float or None, default=0.05
        Share of normal images that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        Which scores of normal images set the thresholds.

        - "loo": each training image against all the others. Exactly what a detector fitted without it says, at the
          price of scoring it: nothing but neighbours is learnt.
        - "cv": 10 folds.
        - "split": a random fifth of the images, which are no neighbours of any. Only this one carries the guarantee
          of split-conformal prediction.
    min_defect_area : int, default=1
        Smallest region in masks, in pixels of the image.
    random_state : int, RandomState instance or None, default=None
        Of the folds and the split.
    verbose : int, default=0
        1 shows a progress bar per stage.

    Attributes
    ----------
    features_ : estimator
        The fitted features.
    n_neighbors_ : int
        K: `n_neighbors`, or the number of training images where that is smaller.
    image_bank_ : ndarray of shape (n, d), float64
        f of the training images.
    stage_banks_ : list of ndarray of shape (n, h, w, d), float32
        F of the training images, one array per gallery.
    offset_ : float
        Threshold on `score_samples`.
    pixel_threshold_ : float
        Threshold on maps.
    calibration_scores_, calibration_levels_ : ndarray of shape (n,)
        What the two were taken from, ascending.

    Notes
    -----
    The paper squares the distances in d(y). Plain ones are taken here, as in the common re-implementation: they have
    the unit of the map. For K = 1 the two rank images alike, for K > 1 they need not.

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
        "features": [HasMethods(["fit", "transform_levels", "map_to_image"]), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "pixel_neighbors": [Interval(Integral, 1, None, closed="left")],
        "stages": [StrOptions({"averaged", "concatenated"})],
        "image_score": [StrOptions({"image", "map"})],
    }

    def __init__(
        self,
        features=None,
        *,
        n_neighbors=50,
        pixel_neighbors=1,
        stages="averaged",
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
        self.stages = stages
        self.image_score = image_score
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.random_state = random_state
        self.verbose = verbose

    def default_features(self):
        """Return the features that ``features=None`` stands for, unfitted."""
        return PretrainedPatchFeatures(layers=(1, 2, 3, 4), neighborhood=1, verbose=self.verbose)

    def _check_samples(self, X, reset):
        samples = super()._check_samples(X, reset)
        if len(self.features_.level_shapes_) < 2:
            raise ValueError("features has 1 layer; needed are pixel stages and, as the last layer, the image stage.")
        return samples

    def _embed(self, samples):
        *stages, last = self.features_.transform_levels(samples)
        if self.stages == "concatenated":
            stages = [_concatenate(stages)]
        return _Stages([_pool(last), *stages])

    def _fit(self, Z):
        self.n_neighbors_ = min(self.n_neighbors, len(Z))
        self.image_bank_, *self.stage_banks_ = Z.arrays
        self._check_gallery(self.n_neighbors_)
        self._galleries = self._build_galleries()

    def _check_gallery(self, n_images):
        fewest = n_images * min(bank.shape[1] * bank.shape[2] for bank in self.stage_banks_)
        if fewest < self.pixel_neighbors:
            raise ValueError(f"pixel_neighbors={self.pixel_neighbors}, but a gallery has {fewest} patches.")

    def _build_galleries(self):
        """Return what the pixel stages search: derived from the banks, hence never pickled."""
        return [build_galleries(bank.reshape(len(bank), -1, bank.shape[-1])) for bank in self.stage_banks_]

    def __getstate__(self):
        return {name: value for name, value in super().__getstate__().items() if name != "_galleries"}

    def _score(self, Z):
        return self._score_by(*k_nearest(self.image_bank_, Z.arrays[0], self.n_neighbors_), Z)

    def _leave_one_out(self, Z):
        if len(Z) < 2:
            raise ValueError(
                "calibration='loo' needs at least 2 images, got 1; set false_alarm_rate=None to go without."
            )
        k, own = min(self.n_neighbors, len(Z) - 1), np.arange(len(Z))
        self._check_gallery(k)
        return self._score_by(*k_nearest(self.image_bank_, Z.arrays[0], k, own, own), Z, progress=self.verbose)

    def _score_by(self, distances, neighbors, Z, progress=False):
        """Score images by their neighbours (n, K), at these distances, and the patches of them."""
        if not hasattr(self, "_galleries"):
            self._galleries = self._build_galleries()
        stages = zip(Z.arrays[1:], self._galleries, strict=True)
        maps = [self._patch_distances(patches, galleries, neighbors, progress) for patches, galleries in stages]
        grids = np.stack([_average(grids) for grids in zip(*maps, strict=True)])
        scores = distances.mean(axis=1) if self.image_score == "image" else grids.max(axis=(1, 2))
        return scores, grids

    def _patch_distances(self, patches, galleries, neighbors, progress=False):
        """Return d(y, p) as (n, h, w) of the patches (n, h, w, d) of one stage."""
        n, height, width, d = patches.shape
        rows = patches.reshape(n, height * width, d)
        distances = [
            search_gallery(galleries, neighbors[i], rows[i], self.pixel_neighbors).mean(axis=1)
            for i in tqdm(range(n), desc="calibration", unit="image", disable=not progress)
        ]
        return np.reshape(distances, (n, height, width))


class _Stages:
    """Arrays of several stages of the same images, to be sliced together."""

    def __init__(self, arrays):
        self.arrays = arrays

    def __len__(self):
        return len(self.arrays[0])

    def __getitem__(self, key):
        return _Stages([array[key] for array in self.arrays])


def _pool(maps):
    """Return the mean vectors (n, d), float64, of maps (n, h, w, d), each summed in the same order."""
    return np.stack([image.mean(axis=(0, 1), dtype=np.float64) for image in maps])


def _concatenate(stages):
    """Return maps [(n, h_l, w_l, d_l)] resized to the finest and concatenated."""
    return np.stack([np.concatenate(_align(image), axis=-1) for image in zip(*stages, strict=True)])


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
