"""MLF-SC."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from torch.nn import functional as F
from tqdm import tqdm

from .._kernels.checks import require
from .._kernels.overlaps import add_residuals, cut_patches
from .._kernels.sparse_coding import learn_dictionaries, omp_codes
from .._torch.inference import padded_batches, run_padded
from ..features import PretrainedPatchFeatures
from ..features._base import layer_widths
from ._features import FeatureDetector, LazyFeatures

_PART_BYTES = 2**28  # largest size of the patches of the channels that are processed at a time
_FLAT = 1e-5  # standard deviation of a channel, as a share of its mean size, below which it counts as constant
_SCALE = 1.5  # scale of the map, in standard deviations, as in the authors' code


class MLFSC(FeatureDetector):
    r"""MLF-SC: error of sparse codes over a dictionary for each feature channel.

    A network is applied to the image at several scales, max-pooled by 1, 2, 4, ..., and one layer is taken at each
    scale, so that all layers have the same grid (`features`). From each channel c, `border` cells are cut off on every
    side, and the rest is standardised by its own mean and standard deviation to :math:`F_c`, which is cut into
    overlapping patches :math:`P_{c,p}`. A dictionary for each channel is learned from the patches of normal images
    under an l1 penalty, and patches are coded by orthogonal matching pursuit with s atoms:

    .. math::

        e_{c,p} = \lVert P_{c,p} - D_c a_{c,p} \rVert^2, \quad \lVert a_{c,p} \rVert_0 \le s, \qquad
        A = \sum_c \sum_{\text{largest } n_{worst}} e_{c,p}, \qquad
        M = \frac{1}{C} \sum_c \Bigl( \frac{F_c - \hat F_c}{1.5} \Bigr)^2

    A is the score of the image and M its map, where :math:`\hat F_c` is the mean of the overlapping reconstructed
    patches. The cells that were cut off get the value of the nearest other cell.

    Parameters
    ----------
    features : PretrainedPatchFeatures or None, default=None
        Network, its input size and its layers. The layer with the largest reduction r sees the whole image, a layer
        with reduction r / 2 sees the image max-pooled by 2, and so on; their order does not matter. None is
        ``PretrainedPatchFeatures(layers=("/8", "/4", "/2"), image_size=256)``, with 80 channels of 32 x 32 cells. The
        parameters `neighborhood`, `dim`, `normalize`, `combine` and `memory` are not used.
    n_components : int, default=5
        Number of atoms of each dictionary.
    n_nonzero_coefs : int, default=3
        Largest number s of atoms in a code. At most `n_components` and ``patch_size**2 - 1`` are used.
    alpha : float, default=1
        Weight of the l1 norm in dictionary learning, at least 0.
    max_iter : int, default=20
        Largest number of passes over the patches. Learning stops when a pass lowers the objective by less than 0.1 %.
    patch_size : int, default=8
        Side of the patches, in grid cells.
    stride : int, default=2
        Distance between neighbouring patches, in grid cells.
    border : int, default=2
        Number of grid cells that are cut off on every side, because the padding of the network affects them.
    n_worst : int, default=5
        Number of patches of each channel whose errors are summed to the score of an image; all, if there are fewer.
    max_images : int, default=400
        Largest number of images that the dictionaries are learned from, drawn at random, and whose features are kept in
        memory during `fit` (250 KB each with the default features, 2.8 MB with the features of the paper). With more
        images, features are computed when needed, for "cv" several times.
    sigma : float, default=4.0
        Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
    false_alarm_rate : float or None, default=0.05
        Share of normal samples that may be flagged, in (0, 1); None sets no threshold.
    calibration : {"cv", "split"}, default="cv"
        How thresholds are calibrated.

        - "cv" uses 10-fold cross-validation and learns the dictionaries 11 times. Dictionaries learned from nine tenths
          of the images hardly differ from those learned from all images, so the threshold is nearly exact.
        - "split" holds out a random 20 % of the images. Only "split" carries the guarantee of split-conformal
          prediction.
    min_defect_area : int, default=1
        Area of the smallest region in masks, in pixels.
    random_state : int, RandomState instance or None, default=None
        Seed of the dictionaries, the drawn images, the folds and the split.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        Fitted features.
    grid_shape_ : tuple of int
        Height and width (h, w) of the common grid of all layers.
    dictionaries_ : ndarray of shape (n_channels, n_components, patch_size^2), float64
        Atoms of each channel; the channels of the layer with the largest reduction come first.
    n_iter_ : int
        Largest number of passes made over the patches of any channel.
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
    SparseCodingScorer : Error of sparse codes over a dictionary for given patch grids or rows.
    FeatureDictionary : Distance to a few normal patches.

    Notes
    -----
    The paper's features are ``PretrainedPatchFeatures("vgg16", layers=("features.21", "features.14", "features.7"),
    image_size=256)``: conv4_3, conv3_3 and conv2_2 before the ReLU, with 512 + 256 + 128 channels. Overlapping patches
    are averaged here; in the authors' code, the last one is kept.

    The standardisation hides stains that merely shift the level of channels over the whole image.

    References
    ----------
    LeapMind, "MLF-SC: Incorporating multi-layer features to sparse coding for anomaly detection", 2021,
    arXiv:2104.04289.

    Examples
    --------
    >>> from skanomaly import MLFSC, PretrainedPatchFeatures
    >>> from skanomaly.datasets import make_surfaces
    >>> data = make_surfaces("grid", n_train=20, n_good=2, n_anomalous=3, size=64, random_state=0)
    >>> features = PretrainedPatchFeatures(
    ...     layers=("/8", "/4", "/2"), weights="random", image_size=64, random_state=0
    ... )  # a quick control
    >>> detector = MLFSC(features, patch_size=4, stride=1, border=1, random_state=0).fit(data.X_train)
    >>> detector.dictionaries_.shape, detector.anomaly_map(data.X_test).shape
    ((80, 5, 16), (5, 64, 64))
    """

    _parameter_constraints = {
        **FeatureDetector._parameter_constraints,
        "features": [HasMethods(["fit_samples", "transform_layers", "map_to_image", "read_batch"]), None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "patch_size": [Interval(Integral, 2, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "border": [Interval(Integral, 0, None, closed="left")],
        "n_worst": [Interval(Integral, 1, None, closed="left")],
        "max_images": [Interval(Integral, 1, None, closed="left")],
        "calibration": [StrOptions({"cv", "split"})],
    }

    def __init__(
        self,
        features=None,
        *,
        n_components=5,
        n_nonzero_coefs=3,
        alpha=1,
        max_iter=20,
        patch_size=8,
        stride=2,
        border=2,
        n_worst=5,
        max_images=400,
        sigma=4.0,
        false_alarm_rate=0.05,
        calibration="cv",
        min_defect_area=1,
        random_state=None,
        verbose=0,
    ):
        self.features = features
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.alpha = alpha
        self.max_iter = max_iter
        self.patch_size = patch_size
        self.stride = stride
        self.border = border
        self.n_worst = n_worst
        self.max_images = max_images
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
        return PretrainedPatchFeatures(layers=("/8", "/4", "/2"), image_size=256, verbose=self.verbose)

    # ------------------------------------------------------------------------------------ images to standardised maps

    def _prepare(self):
        """Set the common grid of all layers."""
        with torch.inference_mode():
            maps = self._layer_maps(torch.zeros(1, 3, *self.features_.input_shape))
        shapes = [tuple(m.shape[2:]) for m in maps]
        if len(set(shapes)) > 1:
            self._refuse(shapes)
        self.grid_shape_ = shapes[0]
        if self.patch_size > min(self.grid_shape_) - 2 * self.border:
            height, width = self.grid_shape_
            raise ValueError(
                f"patch_size={self.patch_size} is larger than the grid of {height} x {width} cells less a border="
                f"{self.border} on every side; use smaller values, or features with a larger image_size."
            )

    def _check_state(self):
        super()._check_state()
        if not hasattr(self, "dictionaries_"):
            return
        n_channels, n_components, n_pixels = self.dictionaries_.shape
        require(n_channels == sum(layer_widths(self.features_)), "dictionaries_ has another number of channels")
        require((n_components, n_pixels) == (self.n_components, self.patch_size**2), "dictionaries_ has another shape")
        require(np.isfinite(self.dictionaries_).all(), "dictionaries_ is not finite")
        coarsest = min(tuple(shape[:2]) for shape in self.features_.layer_shapes_)
        require(tuple(self.grid_shape_) == coarsest, "grid_shape_ is not that of the coarsest layer")
        require(self.patch_size <= min(self.grid_shape_) - 2 * self.border, "grid_shape_ is smaller than a patch")

    def _refuse(self, shapes):
        reductions = sorted(self.features_.network_.reductions, reverse=True)
        found = ", ".join(
            f"{height} x {width} cells for the layer of reduction {reduction}"
            for reduction, (height, width) in zip(reductions, shapes, strict=True)
        )
        raise ValueError(
            f"features must have layers with the same grid, got {found}. Choose an image_size (or crop) that "
            f"{reductions[0]} divides, and layers whose reductions divide {reductions[0]}."
        )

    def _layer_maps(self, pixels):
        """Return the maps (n, c_l, h, w) of images (n, 3, H, W), each computed at a different scale."""
        network = self.features_.network_
        largest = max(network.reductions)
        return [
            network.layer_maps(F.max_pool2d(pixels, largest // network.reductions[layer]), [layer])[0]
            for layer in sorted(range(len(network.reductions)), key=lambda i: -network.reductions[i])
        ]

    def _embed(self, samples):
        lazy = LazyFeatures(self._feature_maps, samples)
        return np.asarray(lazy) if len(samples) <= self.max_images else lazy

    def _feature_maps(self, samples):
        """Return the standardised maps F (n, C, h, w), float32, of images."""
        batch_size, maps = self.features_.batch_size, []
        batches = list(padded_batches(len(samples), batch_size))
        for start, stop in tqdm(batches, desc="features", delay=2, disable=not self.verbose):
            pixels = self.features_.read_batch(samples[start:stop])
            computed = run_padded(lambda x: torch.cat(self._layer_maps(x), dim=1), pixels, batch_size)
            maps.append(_standardize(self._cut(computed.cpu().numpy())))
        return np.concatenate(maps)

    def _cut(self, maps):
        """Return maps without the border and the cells that no whole patch covers."""
        height, width = self._seen_shape()
        return maps[:, :, self.border : self.border + height, self.border : self.border + width]

    def _seen_shape(self):
        return tuple((n - 1) * self.stride + self.patch_size for n in self._patch_grid())

    def _patch_grid(self):
        return tuple((n - 2 * self.border - self.patch_size) // self.stride + 1 for n in self.grid_shape_)

    # ------------------------------------------------------------------------------------ dictionaries and scores

    def _fit(self, Z):
        rng = check_random_state(self.random_state)
        if len(Z) > self.max_images:
            Z = Z[np.sort(rng.permutation(len(Z))[: self.max_images])]
        maps = np.asarray(Z)
        seeds = rng.randint(2**31 - 1, size=maps.shape[1])
        self.dictionaries_ = np.empty((maps.shape[1], self.n_components, self.patch_size**2))
        self.n_iter_ = 0
        for part in tqdm(self._parts(maps), desc="dictionaries", delay=2, disable=not self.verbose):
            self.dictionaries_[part], n_iter = learn_dictionaries(
                cut_patches(maps[:, part].swapaxes(0, 1), self.patch_size, self.stride),
                self.n_components,
                seeds[part],
                alpha=self.alpha,
                max_iter=self.max_iter,
            )
            self.n_iter_ = max(self.n_iter_, int(n_iter.max()))

    def _score(self, Z, maps=True):
        maps = np.asarray(Z)
        n, n_channels, *shape = maps.shape
        errors = np.empty((n_channels, n, int(np.prod(self._patch_grid()))))
        residuals = np.zeros((n, *shape))
        for part in self._parts(maps):
            dictionaries, seen = self.dictionaries_[part], np.ascontiguousarray(maps[:, part].swapaxes(0, 1))
            codes = omp_codes(cut_patches(seen, self.patch_size, self.stride), dictionaries, self._n_nonzero())
            add_residuals(seen, codes, dictionaries, self.patch_size, self.stride, errors[part], residuals)
        return self._sum_worst(errors), self._fill_border(residuals / (n_channels * _SCALE**2))

    def _sum_worst(self, errors):
        """Return A (n,) from the errors e (C, n, p)."""
        worst = np.sort(errors, axis=2)[:, :, : -self.n_worst - 1 : -1]
        return sum(sum(worst.swapaxes(1, 2)))  # in a fixed order, so that bits do not depend on the batch

    def _fill_border(self, levels):
        """Return maps of the whole grid, extended by the nearest values."""
        pads = [
            (self.border, full - self.border - seen)
            for full, seen in zip(self.grid_shape_, levels.shape[1:], strict=True)
        ]
        return np.pad(levels, [(0, 0), *pads], mode="edge")

    def _n_nonzero(self):
        return min(self.n_nonzero_coefs, self.n_components, self.patch_size**2 - 1)

    def _parts(self, maps):
        """Return slices of the channels such that the size of their patches is bounded."""
        n_values = int(np.prod(self._patch_grid())) * self.patch_size**2
        step = max(1, _PART_BYTES // (4 * len(maps) * n_values))
        return [slice(start, start + step) for start in range(0, maps.shape[1], step)]


def _standardize(maps):
    """Return maps (n, C, h, w) standardised for each image and channel; constant maps become 0."""
    flat = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    centered = flat - flat.mean(axis=2, keepdims=True)
    std = np.sqrt(np.square(centered).mean(axis=2, keepdims=True))
    constant = std <= _FLAT * np.abs(flat).mean(axis=2, keepdims=True)
    return np.where(constant, 0, centered / np.where(constant, 1, std)).astype(np.float32).reshape(maps.shape)
