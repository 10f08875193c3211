"""Patch features from the feature maps of a pretrained network."""

import copy
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from os import PathLike

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch.nn import functional as F
from tqdm import tqdm

from .._inputs.images import MAX_PIXELS, as_pair
from .._kernels.checks import require
from .._networks.backbones import withheld
from .._networks.pretrained import PretrainedNetwork
from .._torch.device import resolve_device
from .._torch.inference import padded_batches, run_padded
from ._base import DATA_RANGE, IMAGE_SIZE, ImageFeatures, Layers, check_image_size
from ._cache import FeatureCache, recall
from ._geometry import Geometry, frame_shape
from ._same import NO_EFFECT

_MISFIT = "The network returns other shapes than when these features were fitted; fit them again."


class PretrainedPatchFeatures(ImageFeatures):
    r"""Compute patch features from the feature maps of a pretrained network.

    Every image is resized to `image_size` (antialiased bilinear), optionally cropped, normalised as the weights require
    and passed through the network. The map of each of the `layers` is averaged over `neighborhood` x `neighborhood`
    cells (stride 1, zero padding) and resized bilinearly to the grid of the finest layer; the layers are concatenated:

    .. math:: z_{ij} = [\, \bar\phi_{l_1}(x)_{ij}, \bar\phi_{l_2}(x)_{ij}, \dots \,]

    With `dim`, layers are combined as in the code of PatchCore's authors instead: the neighbourhoods of each layer are
    flattened and average-pooled along their entries to `dim` values; then the layers are concatenated and pooled to
    `dim` values again.

    Parameters
    ----------
    backbone : str, default="tf_efficientnet_lite0"
        Name of a timm model.
    layers : sequence of int or str, default=(2, 3)
        Layers of the network. Each is an index into timm's ``feature_info``, a reduction such as "/8", which stands for
        the last feature map with an eighth of the side of the input, or the name of a module, whose output is used.
        Transformers give one vector per patch of the image, after a block (by index, negative from the end) or after
        any module; "norm" is their last normalisation. Class and register tokens are left out.
    weights : str, path-like or None, default=None
        Path of a state dict (.safetensors or .pth, read without executing code), or "random" for an untrained network.
        None uses an installed weights package, or else timm's cache or download. Model files do not store the path:
        after `skanomaly.load`, it reads "withheld: <name of the file>" and must be set again before the network is
        used.
    download : bool, default=True
        If False, weights are not downloaded: they must be in a model file, in an installed weights package or in timm's
        cache. Model files do not store this parameter; `skanomaly.load` sets it.
    image_size : int or (int, int), default=224
        Height and width that images are resized to, in pixels; an int stands for both. For values of `resize` other
        than "stretch", an int stands for the side that `resize` names. The patches of a transformer must divide the
        size; its positions are interpolated.
    resize : {"stretch", "shorter", "longer"}, default="stretch"
        How images are resized.

        - "stretch" resizes height and width independently.
        - "shorter" keeps the aspect ratio, resizes the shorter side to `image_size`, and cuts off what images with
          another aspect ratio than the first one in `fit` have beyond it. Map pixels there are NaN.
        - "longer" keeps the aspect ratio, resizes the longer side to `image_size`, and repeats the border pixels around
          images with another aspect ratio. Maps show the image alone.

        The other side follows from the first image in `fit`: a multiple of the patches of the network, or of the cells
        of its coarsest layer. To that end, "shorter" changes the aspect ratio by up to half a patch, and "longer"
        repeats border pixels over up to a patch. If `image_size` is a pair, images are resized to cover it ("shorter"),
        or to fit into it ("longer").
    crop : int, (int, int) or None, default=None
        Height and width of the centre crop after resizing, in pixels; None keeps the whole image. Map pixels outside
        the crop are NaN. PatchCore's paper resizes to 256 and crops to 224.
    combine : {"concatenated", "averaged"}, default="concatenated"
        How the layers are combined; averaged layers must have the same number of channels, or `dim` be set. SubspaceAD
        averages layers of a transformer.
    neighborhood : int, default=3
        Side of the neighbourhood over which maps are averaged, in cells; odd, 1 for no averaging.
    dim : int or None, default=None
        Number of features after adaptive pooling (PatchCore's authors use 1024); None keeps the channels of the layers.
    normalize : bool, default=False
        If True, every patch is divided by its Euclidean norm, so that Euclidean distances order patches as cosine
        distances do: the whole vector in `transform`, that of each layer in `transform_layers`. Vectors of zeros stay.
        AnomalyDINO normalises transformers; for convolutional networks, it may hurt.
    batch_size : int, default=4
        Number of images per pass. Batches are always padded to this size, so that the features of an image do not
        depend on the number of images. Use 1 for the lowest latency of single images, and more on a GPU.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which the network runs; "auto" takes CUDA, then MPS, then the CPU.
    data_range : float, (float, float) or None, default=None
        Value in integer images that corresponds to 1.0, such as 4095 for a 12-bit camera, or the two values, in images
        of any type, that correspond to 0.0 and 1.0. None is the largest value of uint8 and uint16, and [0, 1] for
        floats.
    channels : {"rgb", "bgr"}, default="rgb"
        Order of the channels of arrays; "bgr" is the order of OpenCV. Files are not affected.
    max_pixels : int, default=169_000_000
        Largest number of pixels that an image may have.
    memory : path-like or None, default=None
        Folder of a feature cache, which several processes may share; None for no cache. Patch grids are stored by the
        content of the image and all settings that affect them, so that a search or a second run passes each image
        through the network only once. The folder must be new or empty, or hold such a cache. Model files do not store
        this parameter.
    memory_limit : int, default=21_474_836_480
        Largest size of the feature cache, in bytes; the least recently used patch grids are deleted. Model files do not
        store this parameter.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights. Used only if ``weights="random"``.
    verbose : int, default=0
        If 1, progress bars are shown.

    Attributes
    ----------
    n_features_out_ : int
        Number of features d of a patch.
    grid_shape_ : tuple of int
        Height and width (h, w) of the patch grid.
    frame_shape_ : tuple of int
        Height and width to which images are resized, in pixels, before `crop`.
    step_ : int
        Number of pixels of which a side of `frame_shape_` is a multiple if it follows from the first image.
    layer_shapes_ : list of tuple of int
        Shape (h_l, w_l, d_l) of the map of each layer.
    n_channels_ : int
        Number of channels of the first image in `fit`, 1 or 3; the network always sees three.
    network_ : PretrainedNetwork
        Network, for maps of single layers and for gradients.
    weights_source_ : str
        Source of the weights.
    weights_sha256_ : str
        Hash of the weights, which is checked whenever they are loaded again.

    See Also
    --------
    CropFeatures : Patch features from a network that sees every patch separately.
    PatchFeatures : Patches of pixels, without a network.

    Notes
    -----
    Pickles hold the parameters and the attributes above; the network is loaded again on demand.

    The layers of the papers:

    - PatchCore: ``PretrainedPatchFeatures("wide_resnet50_2", layers=(2, 3), image_size=256, crop=224, dim=1024)``;
    - SPADE: ``PretrainedPatchFeatures("wide_resnet50_2", layers=(1, 2, 3, 4), neighborhood=1, image_size=256,
      crop=224)``;
    - PaDiM: ``PretrainedPatchFeatures("resnet18", layers=(1, 2, 3), neighborhood=1, image_size=256, crop=224)``, or
      "wide_resnet50_2"; for EfficientNet-B5, ``layers=("blocks.1.3", "blocks.3.6", "blocks.4.5")`` are the paper's
      blocks 7, 20 and 26 of 39, counted from 1, which lie in the stages 2, 4 and 5 that it names;
    - Rippel et al. (`MahalanobisAD`): the nine levels of ``PretrainedPatchFeatures("tf_efficientnet_b4",
      layers=("bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5", "blocks.6", "bn2"),
      neighborhood=1, image_size=380)``: stem, block groups and head, each after its activation;
    - MLF-SC: ``PretrainedPatchFeatures("vgg16", layers=("features.21", "features.14", "features.7"),
      image_size=256)``, which are conv4_3, conv3_3 and conv2_2 before the ReLU.

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
    >>> [layer.shape for layer in features.transform_layers(images).arrays]
    [(2, 8, 8, 40), (2, 4, 4, 112)]
    """

    _parameter_constraints = {
        "backbone": [str],
        "layers": [Iterable],
        "weights": [str, PathLike, None],
        "download": ["boolean"],
        "image_size": IMAGE_SIZE,
        "resize": [StrOptions({"stretch", "shorter", "longer"})],
        "crop": [*IMAGE_SIZE, None],
        "combine": [StrOptions({"concatenated", "averaged"})],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "dim": [Interval(Integral, 1, None, closed="left"), None],
        "normalize": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [StrOptions({"auto", "cpu", "cuda", "mps"})],
        "data_range": DATA_RANGE,
        "channels": [StrOptions({"rgb", "bgr"})],
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
        download=True,
        image_size=224,
        resize="stretch",
        crop=None,
        combine="concatenated",
        neighborhood=3,
        dim=None,
        normalize=False,
        batch_size=4,
        device="auto",
        data_range=None,
        channels="rgb",
        max_pixels=MAX_PIXELS,
        memory=None,
        memory_limit=20 * 2**30,
        random_state=None,
        verbose=0,
    ):
        self.backbone = backbone
        self.layers = layers
        self.weights = weights
        self.download = download
        self.image_size = image_size
        self.resize = resize
        self.crop = crop
        self.combine = combine
        self.neighborhood = neighborhood
        self.dim = dim
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device
        self.data_range = data_range
        self.channels = channels
        self.max_pixels = max_pixels
        self.memory = memory
        self.memory_limit = memory_limit
        self.random_state = random_state
        self.verbose = verbose

    def fit_samples(self, samples):
        """Load the network and set the geometry; nothing but the size of the first image is used of the images.

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
            If the backbone, a layer or the device is unknown or unavailable, or parameters contradict each other.
        MissingWeightsError
            If no weights are found; the message says how to get them.
        """
        self._check_parameters()
        seed = int(check_random_state(self.random_state).randint(2**31))
        self.network_ = PretrainedNetwork(
            self.backbone, self.layers, self.weights, self.device, seed, self.download
        ).load()
        self.weights_source_, self.weights_sha256_ = self.network_.source, self.network_.sha256
        self._fit_geometry(samples[0].size)
        self.n_features_out_ = self._n_features()
        return self

    def transform_layers(self, X):
        """Compute the features of each layer at its own resolution.

        Parameters
        ----------
        X : array of shape (n, H, W[, C]), sequence of images or paths, or str
            Images of dtype uint8, uint16, bool, or float in [0, 1], with C in {1, 3, 4}; a str is the path of a
            folder, or a glob pattern.

        Returns
        -------
        Layers
            Features of the layers, in the order of `layers`: its ``arrays`` have shape (n, h_l, w_l, d_l) and are
            averaged over `neighborhood` x `neighborhood` cells; `dim` and `combine` are not used.
        """
        check_is_fitted(self)
        sizes = [int(np.prod(shape)) for shape in self.layer_shapes_]
        flat = self._extract(self.check_samples(X), "layers", (sum(sizes),))
        parts = np.split(flat, np.cumsum(sizes)[:-1], axis=1)
        return Layers([part.reshape(-1, *shape) for part, shape in zip(parts, self.layer_shapes_, strict=True)])

    def _embed(self, source):
        return self._extract(source, "grid", (*self.grid_shape_, self.n_features_out_))

    def _extract(self, source, output, shape):
        values = np.empty((len(source), *shape), np.float32)
        if len(source) and self.memory is None:
            self._compute(source, output, values)
        elif len(source):
            cache, settings = FeatureCache(self.memory, self.memory_limit), self._cache_settings(output)
            recall(cache, source, settings, values, lambda part, computed: self._compute(part, output, computed))
        return values

    def _compute(self, source, output, values):
        """Compute the output for all images; the next batch is read while the network processes the current one."""
        run = {"grid": self._patches, "layers": self._layers}[output]
        batches = list(padded_batches(len(source), self.batch_size))
        with (
            ThreadPoolExecutor(1) as reader,
            tqdm(total=len(source), desc="features", unit="image", delay=2, disable=not self.verbose) as bar,
        ):
            upcoming = reader.submit(self.read_batch, source[slice(*batches[0])])
            for i, (start, stop) in enumerate(batches):
                pixels = upcoming.result()
                if i + 1 < len(batches):
                    upcoming = reader.submit(self.read_batch, source[slice(*batches[i + 1])])
                computed = run_padded(run, pixels, self.batch_size)
                require(tuple(computed.shape[1:]) == values.shape[1:], _MISFIT)
                values[start:stop] = computed.cpu().numpy()
                bar.update(stop - start)

    def _cache_settings(self, output):
        """Return all settings that the features depend on."""
        settings = {
            name: value if isinstance(value, (int, float, str, type(None))) else str(value)
            for name, value in self.get_params().items()
            if name not in NO_EFFECT
        }
        settings["backbone"], settings["layers"] = self.network_.backbone, str(self.network_.layers)  # those of fit
        settings["weights"], settings["format"] = self.weights_sha256_, 5
        settings["image_size"], settings["crop"] = str(self.frame_shape_), str(self.input_shape)
        settings["device"], settings["output"] = resolve_device(self.device).type, output
        return settings

    def map_to_image(self, grid, sample, sigma=4.0, *, size=None):
        """Turn a grid of patch scores into a smooth map of the image.

        Scores are resized bilinearly to the network input, smoothed by a Gaussian and resized bilinearly to the image.

        Parameters
        ----------
        grid : ndarray of shape (h, w)
            Scores of the patches.
        sample : ImageSample
            Image that the scores belong to.
        sigma : float, default=4.0
            Standard deviation of the Gaussian that smooths anomaly maps, in pixels of a 224 x 224 image: of each side
            if images are stretched, of the shorter side of the input otherwise.
        size : tuple of int (H, W), default=None
            Size of the map; None gives it the size of the image.

        Returns
        -------
        ndarray of shape (H, W), float32
            Anomaly map: higher is more anomalous. NaN outside the crop.
        """
        image_size = self.frame_shape_ if sample is None else sample.size
        return self._geometry().to_image(grid, image_size, size or image_size, sigma)

    def set_params(self, **params):
        """Set the parameters of this estimator.

        New `weights`, a new `device` and a new `download` take effect immediately on fitted features.

        Parameters
        ----------
        **params : dict
            Estimator parameters.

        Returns
        -------
        self
            Fitted estimator.
        """
        super().set_params(**params)
        if "network_" in vars(self):
            network = self.network_
            network.weights, network.device, network.download = self.weights, self.device, self.download
        return self

    @property
    def input_shape(self):
        """Height and width of the network input, in pixels."""
        return self.frame_shape_ if self.crop is None else as_pair(self.crop)

    def read_batch(self, samples):
        """Read images, resized and cropped for the network.

        Parameters
        ----------
        samples : ImageSource
            Images, as returned by `check_samples`.

        Returns
        -------
        Tensor of shape (n, 3, H, W), float32
            Images of size `input_shape` in [0, 1], not yet normalised.
        """
        return torch.stack([self._read(samples, i) for i in range(len(samples))])

    def network_state(self):
        """Return the weights of the fitted network.

        Returns
        -------
        dict of str to ndarray
            Parameters and buffers by name.
        """
        check_is_fitted(self)
        return self.network_.state()

    def use_network_state(self, state):
        """Use the given weights whenever the fitted network is loaded.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights, as returned by `network_state`. They are checked against ``weights_sha256_`` when the network is
            next used.
        """
        self.network_.use_state(state)

    def trained(self, state):
        """Return the same fitted features with other weights of the network, which they then hold themselves.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights, as returned by `network_state`.

        Returns
        -------
        PretrainedPatchFeatures
            Fitted features.
        """
        features = copy.copy(self)
        features.network_ = self.network_.trained(state)
        features.weights_source_, features.weights_sha256_ = features.network_.source, features.network_.sha256
        return features

    def withhold_weights(self):
        """Replace a path in `weights` by the name of the file, which is never opened."""
        self.set_params(weights=withheld(self.weights))

    def _check_state(self):
        """Raise a ValueError if attributes from a model file do not fit together."""
        if "network_" not in vars(self):
            return
        self._check_parameters()
        network, shapes = self.network_, self.layer_shapes_
        require(len(shapes) == len(tuple(self.layers)), "there is not one of layer_shapes_ per layer")
        require(all(len(shape) == 3 and min(shape) >= 1 for shape in shapes), "layer_shapes_ has impossible shapes")
        require(tuple(self.grid_shape_) == max(tuple(shape[:2]) for shape in shapes), "grid_shape_ is not the finest")
        require(self.n_features_out_ == self._n_features(), "n_features_out_ is not that of the layers")
        require(len(self.frame_shape_) == 2 and min(self.frame_shape_) >= 1, "frame_shape_ is not a shape")
        require(max(self.frame_shape_) ** 2 <= MAX_PIXELS, "frame_shape_ is too large")
        require(max(self.grid_shape_) <= max(self.frame_shape_), "grid_shape_ is not coarser than the frame")
        mine = (self.backbone, tuple(self.layers), self.weights_sha256_)
        same = (network.backbone, tuple(network.layers), network.sha256) == mine
        require(same, "network_ is not the network of the parameters")

    def _check_parameters(self):
        check_image_size(self.image_size)
        if self.neighborhood % 2 == 0:
            raise ValueError(f"neighborhood={self.neighborhood} must be odd.")
        if not tuple(self.layers):
            raise ValueError("layers is empty; name at least one layer.")

    def _fit_geometry(self, size):
        """Set the sizes of the frame and the layers, for images like the first one, whose size is (H, W)."""
        self.step_ = self.network_.step
        self.frame_shape_ = frame_shape(self.resize, self.image_size, size, self.step_)
        if any(kept > resized for kept, resized in zip(self.input_shape, self.frame_shape_, strict=True)):
            resized = "" if self.resize == "stretch" else f", for which images are resized to {self.frame_shape_}"
            raise ValueError(f"crop={self.crop} is larger than image_size={self.image_size}{resized}.")
        parameter = "image_size" if self.crop is None else "crop"
        self.layer_shapes_ = self.network_.layer_shapes(self.input_shape, parameter)
        self.grid_shape_ = max(shape[:2] for shape in self.layer_shapes_)

    def _n_features(self):
        widths = [shape[2] for shape in self.layer_shapes_]
        if self.combine == "concatenated" or self.dim:
            return self.dim or sum(widths)
        if len(set(widths)) > 1:
            raise ValueError(
                f"combine='averaged' needs layers with the same number of channels, but they have {widths}; choose "
                "other layers, or set dim."
            )
        return widths[0]

    def _geometry(self):
        return Geometry(self.resize, self.frame_shape_, self.input_shape, self.step_)

    def _read(self, source, i):
        """Return image i, as the network sees it, as (3, H, W) in [0, 1]."""
        pixels = torch.from_numpy(source.read(i)).permute(2, 0, 1)
        return self._geometry().to_input(pixels).expand(3, -1, -1)

    def _patches(self, pixels):
        """Return the patch grid (n, h, w, d) of pixels (n, 3, H, W) in [0, 1]."""
        maps = self.network_.layer_maps(pixels)
        if self.dim is None:
            maps = [F.avg_pool2d(m, self.neighborhood, 1, self.neighborhood // 2) for m in maps]
        else:
            maps = [_pool_neighborhoods(m, self.neighborhood, self.dim) for m in maps]
        layers = [_align(m, self.grid_shape_).permute(0, 2, 3, 1) for m in maps]
        patches = torch.cat(layers, dim=-1) if self.combine == "concatenated" else sum(layers) / len(layers)
        patches = patches if self.dim is None else _pool_last(patches, self.dim)
        return F.normalize(patches, dim=-1) if self.normalize else patches

    def _layers(self, pixels):
        """Return the flattened maps of all layers, concatenated: (n, sum of h_l w_l d_l)."""
        maps = self.network_.layer_maps(pixels)
        maps = [F.avg_pool2d(m, self.neighborhood, 1, self.neighborhood // 2) for m in maps]
        maps = [F.normalize(m, dim=1) for m in maps] if self.normalize else maps
        return torch.cat([m.permute(0, 2, 3, 1).flatten(1) for m in maps], dim=1)


def _align(maps, grid_shape):
    """Return maps (n, c, h_l, w_l) resized to the grid: (n, c, h, w)."""
    return maps if maps.shape[2:] == grid_shape else F.interpolate(maps, grid_shape, mode="bilinear")


def _pool_neighborhoods(maps, neighborhood, dim):
    """Return the neighbourhood of each cell, flattened channel by channel and pooled: (n, dim, h, w)."""
    n, _, height, width = maps.shape
    flat = F.unfold(maps, neighborhood, padding=neighborhood // 2).transpose(1, 2)
    return _pool_last(flat, dim).transpose(1, 2).reshape(n, dim, height, width)


def _pool_last(values, dim):
    """Return `values` with the last axis average-pooled to `dim` entries."""
    shape = values.shape[:-1]
    return F.adaptive_avg_pool1d(values.reshape(-1, 1, values.shape[-1]), dim).reshape(*shape, dim)
