"""A pretrained network that is stored by name and hash, and read again when it is needed."""

import torch

from .._torch.device import resolve_device
from .backbones import backbone_of_state, load_backbone, withheld


class PretrainedNetwork:
    """Feature maps of a frozen network.

    The network itself is never pickled: it is read again on demand, and must then have the weights it had at first.

    Parameters
    ----------
    backbone : str
        Any model name of timm.
    layers : sequence of int or str
        Feature indices, "/8" for the last feature map with an eighth of the input's side, or names of modules.
    weights : str, path or None, default=None
        Path of a state dict, "random", or None: an installed weights package, else timm's cache or download.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Where the network runs.
    seed : int, default=0
        Seed of the initialisation where `weights` is "random".

    Attributes
    ----------
    sha256, source : str
        Hash of all tensors, and where they came from; None before the first `load`.
    """

    def __init__(self, backbone, layers, weights=None, device="auto", seed=0):
        self.backbone, self.layers, self.weights = backbone, tuple(layers), weights
        self.device, self.seed = device, seed
        self.sha256 = self.source = self._state = None

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_own"}

    def load(self):
        """Read the network, unless that was done, and check that it is the same as at first.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For an unknown backbone or layer, a device that is not there, or other weights than at first.
        MissingWeightsError
            Where no weights are found; the message says how to get them.
        """
        self._loaded()
        return self

    @property
    def reductions(self):
        """Side of the input over side of the feature map, of every layer."""
        return self._loaded().reductions

    def layer_maps(self, pixels, which=None):
        """Return the maps of layers as tensors, through which gradients reach the pixels.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, H, W), float in [0, 1]
            Of any size that the network accepts; it is normalised here.
        which : sequence of int, optional
            Places in `layers` of those wanted; by default all.

        Returns
        -------
        list of Tensor of shape (n, d_l, h_l, w_l)
        """
        backbone = self._loaded()
        pixels = pixels.to(resolve_device(self.device), memory_format=torch.channels_last)
        mean, std = (pixels.new_tensor(values).view(1, 3, 1, 1) for values in (backbone.mean, backbone.std))
        maps = backbone.maps((pixels - mean) / std)
        return maps if which is None else [maps[i] for i in which]

    def layer_shapes(self, input_shape):
        """Return the shape (h_l, w_l, d_l) of every layer's map.

        Parameters
        ----------
        input_shape : tuple of int (H, W)
            Size of the images, in pixels.

        Returns
        -------
        list of tuple of int
        """
        self.load()  # not within inference mode, whose tensors have no gradients for good
        with torch.inference_mode():
            maps = self.layer_maps(torch.zeros((1, 3, *input_shape), device=resolve_device(self.device)))
        return [(*m.shape[2:], m.shape[1]) for m in maps]

    def state(self):
        """Return the tensors of the network by name, as numpy arrays."""
        return {name: value.cpu().numpy() for name, value in self._loaded().module.state_dict().items()}

    def use_state(self, state):
        """Make the network of these tensors from now on, wherever it is loaded.

        Parameters
        ----------
        state : dict of str to ndarray
            As returned by `state`; checked against `sha256` when the network is next needed.
        """
        self._state = state
        vars(self).pop("_own", None)

    def withhold_weights(self):
        """Replace a path in `weights` by the bare name of the file, which is never opened."""
        self.weights = withheld(self.weights)

    def _loaded(self):
        """Return the backbone."""
        device = resolve_device(self.device)
        if self._state is None:
            backbone = load_backbone(self.backbone, self.weights, self.layers, device, self.seed)
        else:
            backbone = vars(self).get("_own") or backbone_of_state(self.backbone, self._state, self.layers, device)
            self._own = backbone
        if self.sha256 is None:
            self.sha256, self.source = backbone.sha256, backbone.source
        if backbone.sha256 != self.sha256:
            raise ValueError(
                f"The weights of {self.backbone!r} ({backbone.source}) are not those of fit: SHA-256 "
                f"{backbone.sha256[:12]}..., fitted with {self.sha256[:12]}... ({self.source})."
            )
        return backbone
