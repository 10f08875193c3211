"""Features of cropped sub-images from a pretrained network."""

from numbers import Integral

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval
from torch.nn import functional as F
from tqdm import tqdm

from .._inputs.images import as_pair
from .._inputs.samples import begin
from .._kernels.smoothing import SIGMA_SIDE, patch_map_operator, render, resize_antialiased
from .._torch.inference import padded_batches, run_padded
from ._base import ImageFeatures, check_image_size, layer_widths
from ._pretrained import PretrainedPatchFeatures


class CropFeatures(ImageFeatures):
    r"""Patch grids of features that see nothing but their own patch.

    Every image is resized to `image_size` (antialiased bilinear; no part is lost) and cut into overlapping squares.
    Each is enlarged bilinearly to the input of a pretrained network by itself, and each layer's map is averaged over
    all of its cells:

    .. math:: z_{ij} = [\, \overline{\phi_{l_1}(x_{ij})}, \overline{\phi_{l_2}(x_{ij})}, \dots \,]

    One pass of the network per patch: 3,721 for an image with the default geometry. `PretrainedPatchFeatures` takes
    one per image, and its patches see their surroundings too.

    Parameters
    ----------
    features : PretrainedPatchFeatures or None, default=None
        The network, its layers, and as its input size the side that crops are enlarged to. None is
        ``PretrainedPatchFeatures(layers=("/32",), image_size=64)``; the paper has ``PretrainedPatchFeatures("resnet18",
        layers=("/32",), image_size=224)``, with 12 times as many pixels. Its `neighborhood`, `dim`, `batch_size` and
        `memory` are not used.
    crop_size, stride : int, default=16, 4
        Side and distance of the crops, in pixels of the resized image. Pixels at the right and bottom that no whole
        crop reaches are not seen. The defaults are those of the evaluation on MVTec AD.
    image_size : int or (int, int), default=256
        Height and width that images are resized to, in pixels.
    batch_size : int, default=64
        Crops per pass. Batches are always filled up to this size, so results do not depend on it being reached.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    features_ : PretrainedPatchFeatures
        The fitted network.
    n_features_out_ : int
        Number of features d of a patch.
    grid_shape_ : tuple of int
        (h, w) of the patch grid.

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
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple],
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
        """Return `X` as checked, lazily read images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, glob string, or ImageSource
            uint8, uint16, bool, or float in [0, 1]; C in {1, 3, 4}.
        reset : bool, default=False
            If True, learn the number of channels, with a fresh network.

        Returns
        -------
        ImageSource
        """
        if reset:
            self._validate_params()
            default = PretrainedPatchFeatures(layers=("/32",), image_size=64)
            self.features_ = begin(default if self.features is None else self.features)
        return self.features_.check_samples(X, reset=reset)

    def fit_samples(self, samples):
        """Load the network and check the geometry; nothing is learnt from the images.

        Parameters
        ----------
        samples : ImageSource
            As returned by `check_samples`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If the image is smaller than a crop, or for parameters that the network refuses.
        """
        size = check_image_size(self.image_size)
        if self.crop_size > min(size):
            raise ValueError(f"crop_size={self.crop_size} is larger than image_size={self.image_size}.")
        self.features_.fit_samples(samples)
        self.grid_shape_ = tuple((n - self.crop_size) // self.stride + 1 for n in size)
        self.n_features_out_ = sum(layer_widths(self.features_))
        return self

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Return a grid of patch scores as a smooth map of the image it came from.

        Every score is placed at the centre of its crop: linear in between, constant beyond the outer centres, Gaussian
        there, bilinear to the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the patches.
        sample : ImageSample
            The image.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths maps, in pixels of a 224 x 224 image; it scales with
            `image_size`.
        size : tuple of int (H, W), optional
            Size of the map; by default that of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
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
