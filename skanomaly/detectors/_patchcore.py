"""PatchCore."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from tqdm import tqdm

from .._calibration import grouped
from .._inputs.images import check_images
from .._kernels.checks import require
from .._kernels.coreset import cover_again, covering_radius
from .._kernels.smoothing import average_grids, harmonic_grids
from ..features import PretrainedPatchFeatures
from ..features._base import Layers, layer_widths
from ..reduction import GreedyCoreset
from ..scoring import KNNScorer
from ..scoring._knn import LeftOut, highest_cells
from ._features import FeatureDetector
from ._image_scores import image_score_or, image_scores

_SMALL, _LARGE = 256, 320  # sides to which small and other images are resized; enlarged patches have less context
_MOST_SCALING = 64  # images that set the scales of the layers
_FAR = 1e300  # score that leaves the harmonic mean of the squares to the other layers, but for its number of layers


class PatchCore(FeatureDetector):
    r"""PatchCore: distance to the nearest patches of a coreset of normal patches.

    The patch features of all training images (`PretrainedPatchFeatures`) are reduced to a bank by the greedy k-centre
    rule (`GreedyCoreset`), one bank :math:`M_l` for each layer l at its own resolution. The score of a test patch in a
    layer is its mean distance to the k nearest patches in the bank, divided by :math:`\mu_l`, the mean of this distance
    over normal patches when the patches of their own image are left out of the bank. The scores of the layers are
    enlarged bilinearly to the finest layer, and combined by the root of the harmonic mean of their squares, which is
    high only where all layers find the patch unusual:

    .. math::

        s_l(p) = \frac{1}{\mu_l} \frac{1}{k} \sum_{m \in N_k(p_l)} \lVert p_l - m \rVert_2, \qquad
        s(p) = \Bigl( \frac{1}{L} \sum_l s_l(p)^{-2} \Bigr)^{-1/2}

    where :math:`N_k(p_l)` are the k patches of :math:`M_l` nearest to :math:`p_l`.

    The map is the grid of patch scores, bilinearly enlarged and smoothed by a Gaussian, and the score of an image is
    the maximum of its map.

    In the paper, k is 1, and the layers are concatenated to a single grid, with one bank and no scaling. The score of
    an image is that of its highest patch :math:`p^*`, which is re-weighted where the bank itself is sparse:

    .. math::

        s^* = \max_p \min_{m \in M} \lVert p - m \rVert_2, \qquad
        s = \Bigl( 1 - \frac{e^{\lVert p^* - m^* \rVert}}{\sum_{m \in N_b(m^*)} e^{\lVert p^* - m \rVert}} \Bigr) s^*

    Parameters
    ----------
    features : transformer or None, default=None
        Features that turn images into patch grids, at the resolution of each layer; None is
        ``PretrainedPatchFeatures(image_size=320)``, or 256 if most training images have no side of more than 256
        pixels. Pass an object to choose or search its parameters (``features__layers``), or a `FrozenEstimator` of
        fitted features.
    combine : {"harmonic", "averaged", "concatenated"}, default="harmonic"
        How the layers are combined.

        - "harmonic" uses a bank for each layer, at its own resolution, and combines the scores by the root of the
          harmonic mean of their squares, so that an anomaly has to stand out in every layer.
        - "averaged" takes the arithmetic mean of the same scores, so that one layer alone can raise the score.
        - "concatenated" resizes all layers bilinearly to the finest one and concatenates them, as in the paper.
    coreset_ratio : float or None, default=None
        Share of the patches that is kept in a bank, in (0, 1]; None keeps `coreset_size` patches.
    coreset_size : int, default=2500
        Number of patches that are kept in a bank; all, if there are fewer. Used only if `coreset_ratio` is None.
    projection : int, transformer or None, default=None
        Projection in which the coreset is selected; see `GreedyCoreset`.
    n_neighbors : int, default=2
        Number k of bank patches whose distances are averaged, at most the number of patches in a bank.
    image_score : {"max", "mean", "contrast", "patch"} or float, default="max"
        How the score of an image is computed from its map, at the size at which the features see images.

        - "max" is the maximum, "mean" the mean, and "contrast" the maximum minus the mean.
        - A float in (0, 1) is the mean over this share of its highest pixels.
        - "patch" is the score of the highest patch, re-weighted, as in the paper.
    reweight : int or False, default=9
        Number b of bank patches in the re-weighting; False for none. Used only if `image_score` is "patch". With
        several banks, the factors at the highest patch are averaged.
    sigma : float, default=2.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"loo", "cv", "split"}, default="loo"
        How thresholds are calibrated.

        - "loo" scores each training image by the banks without the patches of that image (of its group, with
          `groups`); if this leaves patches of other images uncovered, some of these are added.
        - "cv" uses 10-fold cross-validation and selects banks for every fold.
        - "split" holds out a random 20 % of the images, which the banks never see. Only "split" carries the guarantee
          of split-conformal prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which coresets are selected and neighbours are searched; "auto" takes CUDA, then MPS, then the CPU.
        The network of the features has a parameter of its own.
    random_state : int, RandomState instance or None, default=None
        Seed of the coreset, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : estimator
        Fitted features.
    coresets_ : list of GreedyCoreset
        Fitted coreset of each layer.
    scorers_ : list of KNNScorer
        Fitted scorer of each layer; ``scorers_[l].bank_`` is its bank.
    scales_ : ndarray of shape (n_layers,), float64
        Mean distance :math:`\mu_l` of each layer; infinite for a layer whose features are the same everywhere, which
        is left out of the mean; 1 for a single layer, if all training images are in one group, or if fewer than
        `n_neighbors` patches of a bank are left without one group.
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
    SPADE : Distance to the nearest patches of the most similar images, without a coreset.
    PaDiM : Gaussian of normal patches at each position of the image.
    KNNScorer : The score of one layer, for given patch grids or rows.
    GreedyCoreset : The selection of a bank.

    Notes
    -----
    The scales are the means over at most 64 training images; in "loo", over those that are not in the group of the
    image that is scored.

    Measured false alarms (`benchmarks/bench_thresholds.py`): 40 draws of 80 training images of MVTec's screw and 120
    fresh normal ones, lite0 features, default settings. For a false_alarm_rate of 0.05, .040 of the fresh images are
    flagged, and .040 have any masked pixel; for 0.2, .165 and .165. If the thresholds were exact, 95 % of such means
    would lie within .040-.059 and .180-.215: "loo" errs on the safe side.

    Variants:

    - the paper: ``PatchCore(PretrainedPatchFeatures("wide_resnet50_2", image_size=256, crop=224, dim=1024),
      combine="concatenated", coreset_ratio=0.1, projection=128, n_neighbors=1, image_score="patch", sigma=4.0)``; the
      authors' code does not re-weight, which is ``reweight=False``, and squares distances, which ranks images alike;
    - anomalib: ``PatchCore(PretrainedPatchFeatures("wide_resnet50_2", image_size=256, crop=224),
      combine="concatenated", coreset_ratio=0.1, projection=SparseRandomProjection(eps=0.9), n_neighbors=1,
      image_score="patch", sigma=4.0)``.

    Pickles hold the parameters and the attributes above, not the network.

    References
    ----------
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265.

    Examples
    --------
    >>> from skanomaly import PatchCore, PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)  # a quick control
    >>> detector = PatchCore(features, random_state=0).fit(data.X_train)
    >>> detector.predict(data.X_test).shape, detector.anomaly_map(data.X_test).shape
    ((5,), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform_layers", "map_to_image"]), None],
        "combine": [StrOptions({"harmonic", "averaged", "concatenated"})],
        "coreset_ratio": [*GreedyCoreset._parameter_constraints["ratio"], None],
        "coreset_size": [Interval(Integral, 1, None, closed="left")],
        "projection": GreedyCoreset._parameter_constraints["projection"],
        "n_neighbors": KNNScorer._parameter_constraints["n_neighbors"],
        "device": KNNScorer._parameter_constraints["device"],
        "image_score": image_score_or("patch"),
        "reweight": KNNScorer._parameter_constraints["reweight"],
    }
    _derived = ("_means",)  # mean distances from which the scales were set, needed only by "loo"

    def __init__(
        self,
        features=None,
        *,
        combine="harmonic",
        coreset_ratio=None,
        coreset_size=2500,
        projection=None,
        n_neighbors=2,
        image_score="max",
        reweight=9,
        sigma=2.0,
        false_alarm_rate=0.05,
        calibration="loo",
        min_defect_area=1,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.combine = combine
        self.coreset_ratio = coreset_ratio
        self.coreset_size = coreset_size
        self.projection = projection
        self.n_neighbors = n_neighbors
        self.image_score = image_score
        self.reweight = reweight
        self.sigma = sigma
        self.false_alarm_rate = false_alarm_rate
        self.calibration = calibration
        self.min_defect_area = min_defect_area
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _embed(self, samples):
        if self.combine == "concatenated":
            return Layers([self.features_.transform(samples)])
        return self.features_.transform_layers(samples)

    def default_features(self, X=None):
        """Return the features that ``features=None`` stands for.

        Parameters
        ----------
        X : images or None, default=None
            Training images. Small ones are enlarged less.

        Returns
        -------
        PretrainedPatchFeatures
            Features, unfitted.
        """
        small = X is not None and np.median([max(size) for size in check_images(X).sizes]) <= _SMALL
        return PretrainedPatchFeatures(image_size=_SMALL if small else _LARGE, verbose=self.verbose)

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "scorers_"):
            return
        widths = layer_widths(self.features_)
        widths = [self.features_.n_features_out_] if self.combine == "concatenated" else widths
        require(
            [scorer.bank_.shape[1] for scorer in self.scorers_] == widths, "the banks have other widths than the layers"
        )
        require(len(self.coresets_) == len(self.scorers_) == len(self.scales_), "there is not one scale per bank")
        require((self.scales_ > 0).all() and np.isfinite(self.scales_).any(), "scales_ are not positive")
        same = all(scorer.n_neighbors == self.n_neighbors for scorer in self.scorers_)
        require(same, "n_neighbors differs between the detector and its banks")

    # ----------------------------------------------------------------------------------------- learning

    def _learn(self, samples, Z=None, groups=None):
        Z = self._embedded(samples, Z)
        self._fit(Z)
        self._set_scales(Z, grouped(samples, groups, warn=False))

    def _fit(self, Z):
        self.coresets_ = [self._coreset_of(layer) for layer in Z.arrays]
        self.scorers_ = [self._scorer_of(*pair) for pair in zip(Z.arrays, self.coresets_, strict=True)]
        self.scales_ = np.ones(len(Z.arrays))

    def _coreset_of(self, layer):
        ratio, n_patches = self.coreset_ratio, len(_rows(layer))
        size = min(self.coreset_size, n_patches) if ratio is None else max(1, round(ratio * n_patches))
        return GreedyCoreset(
            n_samples=size,
            projection=self.projection,
            device=self.device,
            random_state=self.random_state,
            verbose=self.verbose,
        ).fit(layer)

    def _scorer_of(self, layer, coreset):
        scorer = KNNScorer(self.n_neighbors, reweight=self.reweight, device=self.device, false_alarm_rate=None)
        return scorer.set_bank(_rows(layer)[coreset.indices_], _image_of_row(layer)[coreset.indices_])

    def _set_scales(self, Z, groups):
        """Set the scales from some of the images, each scored without its own group, unless too few rows are left."""
        owners = [groups[scorer.bank_images_] for scorer in self.scorers_]
        fewest = min(len(of_rows) - np.bincount(of_rows).max() for of_rows in owners)
        if len(Z.arrays) == 1 or fewest < self.n_neighbors:
            return
        chosen = _evenly_spaced(len(Z))
        left_out = [LeftOut(groups[chosen], groups[scorer.bank_images_]) for scorer in self.scorers_]
        self._means = _means(self._distances(Z[chosen], left_out))
        self.scales_ = _scales(self._means)

    # ----------------------------------------------------------------------------------------- scoring

    def _score(self, Z, maps=True):
        grids = self._combined(self._distances(Z), [self.scales_] * len(Z))
        return self._image_scores(Z, grids), grids

    def _leave_one_out(self, Z, groups):
        """Score each image by banks and scales without its own group."""
        left_out = self._left_out(Z, groups)
        grids = self._combined(self._distances(Z, left_out), self._scales_without(groups))
        return self._image_scores(Z, grids, left_out), grids

    def _distances(self, Z, left_out=None):
        """Return the patch distances [(n, h_l, w_l)] of each layer."""
        left_out = [None] * len(Z.arrays) if left_out is None else left_out
        layers = zip(self.scorers_, Z.arrays, left_out, strict=True)
        return [scorer.patch_scores(layer, without) for scorer, layer, without in layers]

    def _combined(self, distances, scales):
        """Return the scores (n, h, w) for distances [(n, h_l, w_l)] and the scales (L,) of each image."""
        combine, neutral = (harmonic_grids, _FAR) if self.combine == "harmonic" else (average_grids, 0.0)
        images = (zip(*image, strict=True) for image in zip(zip(*distances, strict=True), scales, strict=True))
        return np.stack([combine([_scaled(*layer, neutral) for layer in image]) for image in images])

    def _scales_without(self, groups):
        """Return the scales (L,) for each image, set from images of other groups."""
        others = groups[:, None] != groups[_evenly_spaced(len(groups))]
        if len(self.scales_) == 1:
            return [self.scales_] * len(groups)
        return [_scales(self._means[:, chosen]) if chosen.any() else self.scales_ for chosen in others]

    def _image_scores(self, Z, grids, left_out=None):
        if self.image_score != "patch":
            return image_scores(self, grids, self.image_score)
        scores, cells = highest_cells(grids)
        return scores * np.mean(list(self._weights(Z, grids, cells, left_out)), axis=0) if self.reweight else scores

    def _weights(self, Z, grids, cells, left_out):
        """Return the factors (n,) of each layer at the patches that contain the centres of the given cells."""
        left_out = [None] * len(Z.arrays) if left_out is None else left_out
        for scorer, layer, without in zip(self.scorers_, Z.arrays, left_out, strict=True):
            sizes = zip(cells, grids.shape[1:], layer.shape[1:3], strict=True)
            row, column = (((2 * cell + 1) * size) // (2 * finest) for cell, finest, size in sizes)
            yield scorer.patch_weights(layer[np.arange(len(layer)), row, column], without)

    # ----------------------------------------------------------------------------------------- leaving groups out

    def _left_out(self, Z, groups):
        """Return, for each layer, banks that cover all other groups but have no patches of the image's own group."""
        layers = zip(self.coresets_, self.scorers_, Z.arrays, strict=True)
        return [self._bank_without(*layer, groups) for layer in layers]

    def _bank_without(self, coreset, scorer, layer, groups):
        """Return the bank of a layer without the patches of each group.

        Removing the patches of a group from the bank leaves holes: patches of other groups whose nearest bank patch was
        removed. The farthest of these orphans is added repeatedly, until all lie within the radius of the full bank.
        """
        rows, bank_groups = _rows(layer), groups[scorer.bank_images_]
        radius = covering_radius(rows, scorer.bank_, coreset.labels_)
        lost_with = bank_groups[coreset.labels_]
        orphans = np.flatnonzero(lost_with != groups[_image_of_row(layer)])
        distances, _ = scorer.kneighbors(rows[orphans], 1, lost_with[orphans], bank_groups)
        added = []
        for group in tqdm(range(groups.max() + 1), desc="calibration", unit="image", disable=not self.verbose):
            chosen = lost_with[orphans] == group
            hole = rows[orphans[chosen]]
            added.append(hole[cover_again(hole, distances[chosen, 0], float(radius))])
        return LeftOut(groups, bank_groups, [added[group] for group in groups])


def _rows(layer):
    return layer.reshape(-1, layer.shape[-1])


def _image_of_row(layer):
    return np.repeat(np.arange(len(layer)), layer.shape[1] * layer.shape[2])


def _evenly_spaced(n):
    """Return the indices of the images that set the scales."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_SCALING)).round().astype(int))


def _means(distances):
    """Return the mean distance (L, n) of each layer and image."""
    return np.array([[grid.mean() for grid in layer] for layer in distances])


def _scales(means):
    """Return the scales (L,) for mean distances (L, n) of left-out images.

    They are infinite for layers of which all distances are 0, or 1 if these are all layers.
    """
    scales = means.mean(axis=1)
    return np.where(scales > 0, scales, np.inf if scales.any() else 1.0)


def _scaled(grid, scale, neutral):
    """Return a grid of distances in units of a scale, or a grid without influence if the scale is infinite."""
    return grid / scale if np.isfinite(scale) else np.full_like(grid, neutral)
