"""Patch features from the middle of a pretrained network."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional as F
from tqdm import tqdm

from .._inputs.images import MAX_PIXELS, as_pair, check_images
from .._kernels.smoothing import SIGMA_SIDE, map_operator, render
from .._networks.backbones import add_embedded_weights, load_backbone, withheld
from .._torch.device import resolve_device
from .._torch.inference import padded_batches, run_padded
from ..base import all_or_nothing
from ._cache import FeatureCache, cache_key

_CACHE_RUN = 64  # images between two writes to the cache
NO_EFFECT = ("memory", "memory_limit", "verbose", "max_pixels", "random_state")  # no effect on the values


class PretrainedPatchFeatures(TransformerMixin, BaseEstimator):
    r"""Patch grids from the feature maps of a pretrained network.

    Every image is resized to `image_size` (both sides, antialiased bilinear; no part is lost), optionally cropped,
    normalised as the weights demand, and sent through the network. Each of the `layers` is averaged over
    `neighborhood` x `neighborhood` cells (stride 1, zeros beyond the border), resized bilinearly to the grid of the
    finest one, and concatenated:

    .. math:: z_{ij} = [\, \bar\phi_{l_1}(x)_{ij}, \bar\phi_{l_2}(x)_{ij}, \dots \,]

    With `dim`, the recipe of PatchCore's authors instead: each layer's neighbourhoods are flattened and average-pooled
    along their entries to `dim` values, the layers are stacked, and pooled to `dim` again.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        Any model name of timm.
    layers : sequence of int or str, default=(2, 3)
        Feature indices, or "/8" for the last feature map with an eighth of the input's side.
    weights : str, path or None, default=None
        A state dict (.safetensors or .pth, read without executing code). None takes an installed weights package,
        else timm's cache or download. "random" is an untrained network, for controls. A path is not kept in model
        files: after `skanomaly.load` it reads "withheld: <name of the file>", and has to be set again before the
        network is needed.
    image_size : int or (int, int), default=224
        Height and width that images are resized to, in pixels.
    crop : int, (int, int) or None, default=None
        Height and width of the centre that is kept after resizing. PatchCore's paper resizes to 256 and keeps 224;
        map pixels outside are NaN.
    neighborhood : int, default=3
        Side p of the averaged neighbourhood, odd; 1 for none.
    dim : int or None, default=None
        Number of features by adaptive pooling (the authors use 1024); None concatenates the layers.
    batch_size : int, default=4
        Images per pass. Batches are always filled up to this size, so results do not depend on it being reached:
        take 1 for the fastest single image, more on a GPU.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where the network runs.
    data_range : float or None, default=None
        What 1.0 stands for in integer images (4095 for a 12-bit camera); None is the largest value of the dtype.
    max_pixels : int, default=169_000_000
        Largest accepted number of pixels of one image.
    memory : path or None, default=None
        Folder of a feature cache: patch grids are stored by the content of the image and every setting that matters, so
        that a search or a second run passes each image through the network once. Safe for several processes. A new
        or an empty folder; one that holds anything else is refused. Not kept in model files.
    memory_limit : int, default=21_474_836_480
        Largest size of that folder, in bytes; grids used longest ago are deleted. Not kept in model files.
    random_state : int, RandomState instance or None, default=None
        Only used by ``weights="random"``.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    n_features_out_ : int
        Number of features d of a patch.
    grid_shape_ : tuple of int
        (h, w) of the patch grid.
    level_shapes_ : list of tuple of int
        (h_l, w_l, d_l) of every layer.
    weights_source_, weights_sha256_ : str
        Where the weights came from, and the hash of all tensors, which is checked whenever they are read again.

    Notes
    -----
    Pickles hold parameters and the attributes above; the network is read again on demand.

    References
    ----------
    Roth et al., "Towards Total Recall in Industrial Anomaly Detection", CVPR 2022, arXiv:2106.08265.

    Examples
    --------
    >>> import numpy as np
    >>> from skanomaly import PretrainedPatchFeatures
    >>> images = np.random.default_rng(0).random((2, 64, 64))
    >>> features = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)
    >>> features.fit_transform(images).shape
    (2, 8, 8, 152)
    """

    _size = [Interval(Integral, 1, None, closed="left"), tuple]
    _parameter_constraints = {
        "backbone": [str],
        "layers": [Iterable],
        "weights": [str, PathLike, None],
        "image_size": _size,
        "crop": [*_size, None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "dim": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [StrOptions({"auto", "cpu", "cuda", "mps"})],
        "data_range": [Interval(Real, 0, None, closed="neither"), None],
        "max_pixels": [Interval(Integral, 1, None, closed="left")],
        "memory": [str, PathLike, None],
        "memory_limit": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone="tf_efficientnet_lite0",
        *,
        layers=(2, 3),
        weights=None,
        image_size=224,
        crop=None,
        neighborhood=3,
        dim=None,
        batch_size=4,
        device="auto",
        data_range=None,
        max_pixels=MAX_PIXELS,
        memory=None,
        memory_limit=20 * 2**30,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.layers = layers
        self.weights = weights
        self.image_size = image_size
        self.crop = crop
        self.neighborhood = neighborhood
        self.dim = dim
        self.batch_size = batch_size
        self.device = device
        self.data_range = data_range
        self.max_pixels = max_pixels
        self.memory = memory
        self.memory_limit = memory_limit
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None):
        """Load the network and check `X`; nothing is learnt from the images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            uint8, uint16, bool, or float in [0, 1]; C in {1, 3, 4}.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For an unknown backbone or layer, or a device that is not there.
        MissingWeightsError
            Where no weights are found; the message says how to get them.
        ImageReadError
            For files that are no images; the message names all of them.
        """
        with all_or_nothing(self):
            self._check_geometry()
            self.check_samples(X)
            vars(self).pop("weights_sha256_", None)  # of an earlier fit, whose network may be another
            self._seed = int(check_random_state(self.random_state).randint(2**31))
            backbone = self._load()
            self.weights_source_, self.weights_sha256_ = backbone.source, backbone.sha256
            height, width = self.input_shape
            probe = torch.zeros((1, 3, height, width), device=resolve_device(self.device))
            with torch.inference_mode():
                shapes = [(*m.shape[2:], m.shape[1]) for m in backbone(probe)]
            self.level_shapes_ = shapes
            self.grid_shape_ = max(shape[:2] for shape in shapes)
            self.n_features_out_ = self.dim or sum(backbone.channels)
        return self

    def transform(self, X):
        """Return the patch grids of images.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            As in `fit`; sizes and number of channels may differ from fit.

        Returns
        -------
        ndarray of shape (n, h, w, d), float32
        """
        check_is_fitted(self)
        return self._extract(X, "grid", (*self.grid_shape_, self.n_features_out_))

    def transform_levels(self, X):
        """Return the maps of every layer by itself, at its own resolution.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or glob string
            As in `transform`.

        Returns
        -------
        list of ndarray of shape (n, h_l, w_l, d_l), float32
            In the order of `layers`; averaged over `neighborhood` cells, without `dim`.
        """
        check_is_fitted(self)
        sizes = [int(np.prod(shape)) for shape in self.level_shapes_]
        flat = self._extract(X, "levels", (sum(sizes),))
        parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self.level_shapes_, strict=True)]

    def layer_maps(self, pixels):
        """Return the maps of every layer as tensors, through which gradients reach the pixels.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, H, W), float in [0, 1]
            The size may be other than `input_shape`.

        Returns
        -------
        list of Tensor of shape (n, d_l, h_l, w_l)
            In the order of `layers`, as the network gives them.
        """
        check_is_fitted(self)
        backbone = self._load()
        pixels = pixels.to(resolve_device(self.device), memory_format=torch.channels_last)
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
        return backbone((pixels - mean) / std)

    def _extract(self, X, output, shape):
        source = self.check_samples(X)
        values = np.empty((len(source), *shape), np.float32)
        if self.memory is None:
            self._compute(source, output, values)
        else:
            self._recall(source, output, values)
        return values

    def _compute(self, source, output, values):
        """Fill the output of all images; the next batch is read while the network works on this one."""
        run = {"grid": self._patches, "levels": self._levels}[output]
        batches = list(padded_batches(len(source), self.batch_size))
        with (
            ThreadPoolExecutor(1) as reader,
            tqdm(total=len(source), desc="features", unit="image", delay=2, disable=not self.verbose) as bar,
        ):
            upcoming = reader.submit(self._read_batch, source, *batches[0])
            for i, (start, stop) in enumerate(batches):
                pixels = upcoming.result()
                if i + 1 < len(batches):
                    upcoming = reader.submit(self._read_batch, source, *batches[i + 1])
                computed = run_padded(run, pixels, self.batch_size)
                values[start:stop] = computed.cpu().numpy()
                bar.update(stop - start)

    def _recall(self, source, output, values):
        """Fill the output from the cache, and compute and store what is not there."""
        cache = FeatureCache(self.memory, self.memory_limit)
        settings = {
            name: value if isinstance(value, (int, float, str, type(None))) else str(value)
            for name, value in self.get_params().items()
            if name not in NO_EFFECT
        }
        settings["weights"], settings["format"] = self.weights_sha256_, 2
        settings["device"], settings["output"] = resolve_device(self.device).type, output
        keys = [cache_key(source, i, settings) for i in range(len(source))]
        missing = {}
        for i, key in enumerate(keys):
            value = None if key in missing else cache.get(key)
            if value is None:
                missing.setdefault(key, []).append(i)
            else:
                values[i] = value
        firsts = [places[0] for places in missing.values()]
        for start, stop in padded_batches(len(firsts), _CACHE_RUN):
            run = firsts[start:stop]
            computed = np.empty((len(run), *values.shape[1:]), np.float32)
            self._compute(source[np.array(run)], output, computed)
            for i, value in zip(run, computed, strict=True):
                cache.put(keys[i], value)
                values[missing[keys[i]]] = value
        if firsts:
            cache.trim()

    def check_samples(self, X):
        """Return `X` as checked, lazily read images."""
        return check_images(X, data_range=self.data_range, max_pixels=self.max_pixels)

    def map_to_image(self, grid, size, sigma=4.0):
        """Return a grid of patch scores as a smooth map of the image it came from.

        Bilinear from the patches to the network input, Gaussian there, bilinear to the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
        size : tuple of int (H, W)
            Of the image.
        sigma : float
            Of the Gaussian, in pixels of a 224-pixel side; it scales with that of the network input.

        Returns
        -------
        ndarray of shape (H, W), float32
            NaN outside the crop.
        """
        rows, columns = (
            map_operator(n_grid, n_cropped, n_resized, n_out, sigma * n_cropped / SIGMA_SIDE)
            for n_grid, n_cropped, n_resized, n_out in zip(
                grid.shape, self.input_shape, as_pair(self.image_size), size, strict=True
            )
        )
        return render(rows, grid, columns)

    @property
    def input_shape(self):
        """Height and width of what the network sees, in pixels."""
        return as_pair(self.image_size if self.crop is None else self.crop)

    def network_state(self):
        """Return the tensors of the fitted network by name, as numpy arrays."""
        check_is_fitted(self)
        return {name: value.cpu().numpy() for name, value in self._load().module.state_dict().items()}

    def use_network_state(self, state):
        """Let the network be made of these tensors where its weights are not installed.

        Parameters
        ----------
        state : dict of str to ndarray
            As returned by `network_state`; checked against ``weights_sha256_`` when the network is next needed.
        """
        add_embedded_weights(self.weights_sha256_, state)

    def withhold_weights(self):
        """Replace a path in `weights` by the bare name of the file, which is never opened."""
        if self.weights is not None and self.weights != "random":
            self.weights = withheld(self.weights)

    def _check_geometry(self):
        for kept, resized in zip(self.input_shape, as_pair(self.image_size), strict=True):
            if kept > resized:
                raise ValueError(f"crop={self.crop} is larger than image_size={self.image_size}.")
        if self.neighborhood % 2 == 0:
            raise ValueError(f"neighborhood={self.neighborhood} must be odd.")
        if not tuple(self.layers):
            raise ValueError("layers is empty; name at least one layer.")

    def _load(self):
        """Return the backbone, the same one as in fit."""
        backbone = load_backbone(
            self.backbone,
            self.weights,
            tuple(self.layers),
            resolve_device(self.device),
            self._seed,
            getattr(self, "weights_sha256_", None),
        )
        if backbone.sha256 != getattr(self, "weights_sha256_", backbone.sha256):
            raise ValueError(
                f"The weights of {self.backbone!r} ({backbone.source}) are not those of fit: SHA-256 "
                f"{backbone.sha256[:12]}..., fitted with {self.weights_sha256_[:12]}... ({self.weights_source_})."
            )
        return backbone

    def _read_batch(self, source, start, stop):
        return torch.stack([self._read(source, i) for i in range(start, stop)])

    def _read(self, source, i):
        """Return image i, resized and cropped, (3, H, W) in [0, 1]."""
        pixels = torch.from_numpy(source.read(i)).permute(2, 0, 1)[None]
        size = as_pair(self.image_size)
        if pixels.shape[2:] != size:
            pixels = F.interpolate(pixels.contiguous(), size, mode="bilinear", antialias=True)
        height, width = self.input_shape
        top, left = (size[0] - height) // 2, (size[1] - width) // 2
        return pixels[0, :, top : top + height, left : left + width].expand(3, -1, -1)

    def _patches(self, pixels):
        """Return the patch grid (n, h, w, d) of pixels (n, 3, H, W) in [0, 1]."""
        maps = self.layer_maps(pixels)
        if self.dim is None:
            maps = [F.avg_pool2d(m, self.neighborhood, 1, self.neighborhood // 2) for m in maps]
        else:
            maps = [_pool_neighborhoods(m, self.neighborhood, self.dim) for m in maps]
        maps = [_align(m, self.grid_shape_) for m in maps]
        patches = torch.cat([m.permute(0, 2, 3, 1) for m in maps], dim=-1)
        return patches if self.dim is None else _pool_last(patches, self.dim)

    def _levels(self, pixels):
        """Return the maps of all layers, one after another, as (n, sum of h_l w_l d_l)."""
        maps = self.layer_maps(pixels)
        maps = [F.avg_pool2d(m, self.neighborhood, 1, self.neighborhood // 2) for m in maps]
        return torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in maps], dim=1)


def _align(maps, grid_shape):
    """Return the maps (n, c, h_l, w_l) resized to the grid (n, c, h, w)."""
    return maps if maps.shape[2:] == grid_shape else F.interpolate(maps, grid_shape, mode="bilinear")


def _pool_neighborhoods(maps, neighborhood, dim):
    """Return (n, dim, h, w): each cell's neighbourhood, flattened channel by channel, pooled to `dim` values."""
    n, _, height, width = maps.shape
    flat = F.unfold(maps, neighborhood, padding=neighborhood // 2).transpose(1, 2)
    return _pool_last(flat, dim).transpose(1, 2).reshape(n, dim, height, width)


def _pool_last(values, dim):
    """Return `values` with the last axis average-pooled to `dim` entries."""
    shape = values.shape[:-1]
    return F.adaptive_avg_pool1d(values.reshape(-1, 1, values.shape[-1]), dim).reshape(*shape, dim)
