"""Patch features of a pretrained network that is applied to every patch separately."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval
from torch.nn import functional as F
from tqdm import tqdm

from .._inputs.images import as_pair
from .._inputs.samples import begin
from .._kernels.checks import require
from .._kernels.smoothing import SIGMA_SIDE, patch_map_operator, render, resize_antialiased
from .._torch.inference import padded_batches, run_padded
from ._base import IMAGE_SIZE, ImageFeatures, check_image_size, layer_widths
from ._pretrained import PretrainedPatchFeatures


class CropFeatures(ImageFeatures):
    r"""Compute patch features from a pretrained network that sees every patch separately.

    Every image is resized to `image_size` (antialiased bilinear, without cropping) and cut into overlapping squares.
    Each square is enlarged bilinearly to the input size of the network, and the map of each layer is averaged over all
    of its cells:

    .. math:: z_{ij} = [\, \overline{\phi_{l_1}(x_{ij})}, \overline{\phi_{l_2}(x_{ij})}, \dots \,]

    This takes one pass of the network per patch, which is 3,721 passes per image with the default geometry.
    `PretrainedPatchFeatures` needs a single pass per image, but its patches also depend on their surroundings.

    Parameters
    ----------
    features : PretrainedPatchFeatures or None, default=None
        Network, its layers and its input size, to which crops are enlarged; None is
        ``PretrainedPatchFeatures(layers=("/32",), image_size=64)``. The paper uses
        ``PretrainedPatchFeatures("resnet18", layers=("/32",), image_size=224)``, with 12 times as many pixels. The
        parameters `neighborhood`, `dim`, `combine`, `normalize`, `batch_size` and `memory` are not used.
    crop_size : int, default=16
        Side of the crops, in pixels of the resized image. The default is from the evaluation on MVTec AD.
    stride : int, default=4
        Distance between neighbouring crops, in pixels of the resized image. Pixels at the right and bottom that no
        whole crop covers are ignored. The default is from the evaluation on MVTec AD.
    image_size : int or (int, int), default=256
        Height and width that images are resized to, in pixels; an int stands for both.
    batch_size : int, default=64
        Number of crops per pass. Batches are always padded to this size, so that the features of a crop do not depend
        on the number of crops.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        Fitted features of the network.
    n_features_out_ : int
        Number of features d of a patch.
    grid_shape_ : tuple of int
        Height and width (h, w) of the patch grid.

    See Also
    --------
    FeatureDictionary : Detector whose paper uses these features.
    PatchFeatures : Patches of pixels, without a network.
    PretrainedPatchFeatures : Patch features from a single pass of the network.

    References
    ----------
    Napoletano, Piccoli and Schettini, "Anomaly Detection in Nanofibrous Materials by CNN-Based Self-Similarity",
    Sensors 18(1):209, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import CropFeatures, PretrainedPatchFeatures
    >>> images = np.random.default_rng(0).random((2, 64, 64))
    >>> network = PretrainedPatchFeatures(layers=("/16",), weights="random", image_size=32, random_state=0)
    >>> CropFeatures(network, stride=16, image_size=64).fit_transform(images).shape
    (2, 4, 4, 112)
    """

    _parameter_constraints = {
        "features": [HasMethods(["fit_samples", "transform_layers"]), None],
        "crop_size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "image_size": IMAGE_SIZE,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "verbose": ["verbose"],
    }

    def __init__(self, features=None, *, crop_size=16, stride=4, image_size=256, batch_size=64, verbose=0):
        self.features = features
        self.crop_size = crop_size
        self.stride = stride
        self.image_size = image_size
        self.batch_size = batch_size
        self.verbose = verbose

    def check_samples(self, X, *, reset=False):
        """Check `X` and return it as images that are decoded when needed.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, str, or ImageSource
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.
        reset : bool, default=False
            If True, fresh features of the network are created, and the number of channels is set from the images.

        Returns
        -------
        ImageSource
            Checked images.
        """
        if reset:
            self._validate_params()
            default = PretrainedPatchFeatures(layers=("/32",), image_size=64)
            self.features_ = begin(default if self.features is None else self.features)
        return self.features_.check_samples(X, reset=reset)

    def _check_state(self):
        if hasattr(self, "n_features_out_"):
            grid = tuple((n - self.crop_size) // self.stride + 1 for n in check_image_size(self.image_size))
            require(tuple(self.grid_shape_) == grid and min(grid) >= 1, "grid_shape_ is not that of the parameters")
            require(
                self.n_features_out_ == sum(layer_widths(self.features_)), "n_features_out_ is not that of the layers"
            )

    def fit_samples(self, samples):
        """Load the network and check the geometry; nothing is learnt from the images.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        self
            Fitted estimator.

        Raises
        ------
        ValueError
            If the resized image is smaller than a crop, or the network does not accept its parameters.
        """
        size = check_image_size(self.image_size)
        if self.crop_size > min(size):
            raise ValueError(f"crop_size={self.crop_size} is larger than image_size={self.image_size}.")
        self.features_.fit_samples(samples)
        self.grid_shape_ = tuple((n - self.crop_size) // self.stride + 1 for n in size)
        self.n_features_out_ = sum(layer_widths(self.features_))
        return self

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Turn a grid of patch scores into a smooth map of the image.

        Scores are placed at the centres of their crops, interpolated linearly (constant beyond the outer centres),
        smoothed by a Gaussian and resized bilinearly to the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the patches.
        sample : ImageSample
            Image that the scores belong to.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image.
        size : tuple of int (H, W), default=None
            Size of the map; None gives it the size of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
            Anomaly map: higher is more anomalous.
        """
        first = (self.crop_size - 1) / 2
        rows, columns = (
            patch_map_operator(n_grid, first, self.stride, n_resized, n_out, sigma * n_resized / SIGMA_SIDE)
            for n_grid, n_resized, n_out in zip(grid.shape, as_pair(self.image_size), size or sample.size, strict=True)
        )
        return render(rows, grid, columns)

    def _embed(self, source):
        grids = np.empty((len(source), *self.grid_shape_, self.n_features_out_), np.float32)
        for i in tqdm(range(len(source)), desc="features", unit="image", delay=2, disable=not self.verbose):
            grids[i] = self._patches(self._crops(source.read(i))).reshape(grids.shape[1:])
        return grids

    def _crops(self, pixels):
        """Return the crops (h w, 3, crop_size, crop_size) of an image (H, W, C)."""
        if pixels.shape[:2] != as_pair(self.image_size):
            pixels = resize_antialiased(pixels, as_pair(self.image_size))
        pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (self.crop_size, self.crop_size), axis=(0, 1))
        return windows[:: self.stride, :: self.stride].reshape(-1, 3, self.crop_size, self.crop_size)

    def _patches(self, crops):
        """Return the features (n, d) of crops (n, 3, crop_size, crop_size)."""
        network, features = self.features_.network_, np.empty((len(crops), self.n_features_out_), np.float32)
        size = self.features_.input_shape

        def run(x):
            maps = network.layer_maps(F.interpolate(x, size, mode="bilinear"))
            return torch.cat([m.mean(dim=(2, 3)) for m in maps], dim=1)

        for start, stop in padded_batches(len(crops), self.batch_size):
            batch = torch.from_numpy(crops[start:stop])
            features[start:stop] = run_padded(run, batch, self.batch_size).cpu().numpy()
        return features
