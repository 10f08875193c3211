"""A pretrained network that is stored by name and hash, and loaded again when needed."""

import numpy as np
import torch

from .._torch.device import resolve_device
from .backbones import arrays_sha256, backbone_of_state, load_backbone, withheld


class PretrainedNetwork:
    """Feature maps of a frozen pretrained network.

    The network itself is never pickled: it is loaded again on demand, and its weights must then be the same.

    Parameters
    ----------
    backbone : str
        Name of a timm model.
    layers : sequence of int or str
        Layers; see `PretrainedPatchFeatures`.
    weights : str, path-like or None, default=None
        Path of a state dict, or "random". None uses an installed weights package, or else timm's cache or download.
    device : {"auto", "cpu", "cuda", "mps"}, default="auto"
        Device on which the network runs; "auto" takes CUDA, then MPS, then the CPU.
    seed : int, default=0
        Seed of the initialisation if `weights` is "random".
    download : bool, default=True
        If False, weights that are neither installed nor in timm's cache are not downloaded.

    Attributes
    ----------
    backbone : str
        Name of the timm model.
    layers : tuple
        Layers.
    seed : int
        Seed of the initialisation.
    sha256 : str or None
        Hash of all tensors; None before the first `load`.
    source : str or None
        Source of the weights; None before the first `load`.
    """

    _private_state = {"_state": "dict of str to ndarray or None"}  # weights that a model file included

    def __init__(self, backbone, layers, weights=None, device="auto", seed=0, download=True):
        self.backbone, self.layers, self.weights = backbone, tuple(layers), weights
        self.device, self.seed, self.download = device, seed, download
        self.sha256 = self.source = self._state = None

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "_own"}

    def load(self):
        """Load the network if necessary, and check that its weights are still the same.

        Returns
        -------
        self
            The network, loaded.

        Raises
        ------
        ValueError
            If the backbone, a layer or the device is unknown or unavailable, or the weights have changed.
        MissingWeightsError
            If no weights are found; the message says how to get them.
        """
        self._loaded()
        return self

    @property
    def reductions(self):
        """Ratio of the side of the input to the side of the map, for each layer."""
        return self._loaded().reductions

    @property
    def step(self):
        """Number of pixels of which sides of images should be multiples: those of a cell of the coarsest layer."""
        return self._loaded().step

    def layer_maps(self, pixels, which=None):
        """Compute the maps of the layers, differentiable with respect to the pixels.

        Parameters
        ----------
        pixels : Tensor of shape (n, 3, H, W), float in [0, 1]
            Images of any size that the network accepts, not normalised.
        which : sequence of int, default=None
            Positions in `layers` of the requested layers; None requests all. The network stops after the last of them.

        Returns
        -------
        list of Tensor of shape (n, d_l, h_l, w_l)
            Maps, in the order of the layers.

        Raises
        ------
        ValueError
            If the network does not accept the size of the images.
        """
        return self._loaded().maps_of(pixels.to(resolve_device(self.device)), which)

    def layer_shapes(self, input_shape, parameter="size"):
        """Compute the shapes of the maps of the layers.

        Parameters
        ----------
        input_shape : tuple of int (H, W)
            Size of the images, in pixels.
        parameter : str, default="size"
            Name of the parameter that sets the size, for messages.

        Returns
        -------
        list of tuple of int
            Shape (h_l, w_l, d_l) of the map of each layer.

        Raises
        ------
        ValueError
            If the network does not accept the size; the message says which sizes it accepts, where this is known.
        """
        backbone = self._loaded()  # not in inference mode, whose tensors can never have gradients
        backbone.check_size(input_shape, parameter)
        try:
            with torch.inference_mode():
                maps = self.layer_maps(torch.zeros((1, 3, *input_shape), device=resolve_device(self.device)))
        except (AssertionError, RuntimeError) as error:  # from deep inside networks that take few sizes
            raise ValueError(
                f"{parameter}={tuple(input_shape)} is not accepted by {self.backbone!r}, which was made for images of "
                f"the size {(backbone.side, backbone.side)}: {error}"
            ) from error
        return [(*m.shape[2:], m.shape[1]) for m in maps]

    def state(self):
        """Return the parameters and buffers of the network by name, as numpy arrays."""
        if self._state is not None:
            return dict(self._state)
        return {name: value.cpu().numpy().copy() for name, value in self._loaded().module.state_dict().items()}

    def copy(self):
        """Return a backbone of its own with the same weights on the CPU, which may be trained or converted."""
        return backbone_of_state(self.backbone, self.state(), self.layers, torch.device("cpu"))

    def trained(self, state):
        """Return the same network with other weights, which it then holds itself.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights, as returned by `state`.

        Returns
        -------
        PretrainedNetwork
            The network.
        """
        network = PretrainedNetwork(self.backbone, self.layers, self.weights, self.device, self.seed)
        network.use_state(state)
        network.load().source = "training"
        return network

    def use_state(self, state):
        """Use the given weights whenever the network is loaded.

        Parameters
        ----------
        state : dict of str to ndarray
            Weights, as returned by `state`. They are checked against `sha256` when the network is next used.
        """
        self._state = state
        vars(self).pop("_own", None)

    def withhold_weights(self):
        """Replace a path in `weights` by the name of the file, which is never opened."""
        self.weights = withheld(self.weights)

    def _check_state(self):
        """Raise a ValueError unless the weights are those whose hash is stored."""
        state = self._state
        if state is not None and arrays_sha256(state) != self.sha256:
            raise ValueError("the included weights are not those that the model was fitted with")
        if state is not None and not all(np.isfinite(array).all() for array in state.values()):
            raise ValueError("the included weights are not finite")

    def _loaded(self):
        """Return the backbone, loaded if necessary."""
        device = resolve_device(self.device)
        if self._state is None:
            backbone = load_backbone(self.backbone, self.weights, self.layers, device, self.seed, self.download)
        else:
            held_on, backbone = vars(self).get("_own", (None, None))
            if held_on != device:
                backbone = backbone_of_state(self.backbone, self._state, self.layers, device)
                self._own = device, backbone
        if self.sha256 is None:
            self.sha256, self.source = backbone.sha256, backbone.source
        if backbone.sha256 != self.sha256:
            raise ValueError(
                f"The weights of {self.backbone!r} ({backbone.source}) are not the weights used in fit: SHA-256 "
                f"{backbone.sha256[:12]}..., fitted with {self.sha256[:12]}... ({self.source})."
            )
        return backbone
