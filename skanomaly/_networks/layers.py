"""Layers of a network: resolution of their names, and their outputs."""

import difflib
import threading
from itertools import groupby

from .sizes import patch_shape


def resolve_layers(layers, module, name):
    """Resolve each layer to an index into timm's ``feature_info`` or the name of a module.

    Parameters
    ----------
    layers : sequence of (int or str)
        Layers. Each is an index into ``feature_info``, a reduction such as "/8", which stands for the last feature map
        with an eighth of the side of the input, or the name of a module, such as "norm".
    module : Module
        A timm model.
    name : str
        Name of the model, for messages.

    Returns
    -------
    tuple of (int or str)
        Indices and names of modules.

    Raises
    ------
    ValueError
        If a layer is unknown; the message lists the layers and similar names of modules.
    """
    info = layer_info(module)
    modules = [key for key, _ in module.named_modules() if key]
    return tuple(_resolve(layer, info, modules, name) for layer in layers)


def layer_info(module):
    """Return timm's ``feature_info`` of a model as a list of dicts, one for each layer that has an index."""
    return [dict(entry) for entry in getattr(module.feature_info, "info", module.feature_info)]


def _resolve(layer, info, modules, name):
    if isinstance(layer, str):
        matching = [i for i, entry in enumerate(info) if f"/{entry['reduction']}" == layer]
        if matching or layer in modules:
            return matching[-1] if matching else layer
    elif -len(info) <= layer < len(info):
        return layer % len(info)
    near = difflib.get_close_matches(str(layer), modules, n=5, cutoff=0.5) or [entry["module"] for entry in info[:5]]
    raise ValueError(
        f"layers: {layer!r} is not a layer of {name!r}; it has {_listed(info)}, and modules by name, such as "
        f"{', '.join(map(repr, near))}."
    )


def _listed(info):
    """Return the indices of layers with their reductions, such as "0 (/2), 1 to 3 (/4)"."""
    runs = [list(run) for _, run in groupby(range(len(info)), key=lambda i: info[i]["reduction"])]
    return ", ".join(
        f"{run[0]}{f' to {run[-1]}' if len(run) > 1 else ''} (/{info[run[0]]['reduction']})" for run in runs
    )


class LayerMaps:
    """Function that returns the maps of the layers of a network.

    Parameters
    ----------
    module : Module
        A timm model; forward hooks are registered on the modules in `layers`.
    layers : tuple of (int or str)
        Layers, as returned by `resolve_layers`.
    """

    def __init__(self, module, layers):
        self.module, self.layers = module, layers
        self._caught = threading.local()  # several threads may share the network
        for name in {layer for layer in layers if isinstance(layer, str)}:
            module.get_submodule(name).register_forward_hook(self._catch(name))

    def __call__(self, x, which=None):
        """Compute the maps of the layers.

        Parameters
        ----------
        x : Tensor of shape (n, 3, H, W)
            Normalised batch.
        which : sequence of int, default=None
            Positions in `layers` of the requested layers; None requests all. The network stops after the last of them.

        Returns
        -------
        list of Tensor of shape (n, c_l, h_l, w_l)
            Maps, in the order of the layers.

        Raises
        ------
        ValueError
            If the output of a module is neither a map nor a token for each patch.
        """
        layers = self.layers if which is None else [self.layers[i] for i in which]
        names = {layer for layer in layers if isinstance(layer, str)}
        self._caught.outputs = {}
        maps = self._run(x, sorted(set(layers) - names), names)
        caught = self._caught.outputs
        del self._caught.outputs
        maps |= {name: self._as_map(name, caught.get(name), tuple(x.shape[2:])) for name in names}
        return [maps[layer] for layer in layers]

    def _as_map(self, name, output, size):
        """Return the output of a module for images of a size (H, W) as a map (n, c, h, w)."""
        if output is not None and output.ndim == 4:
            channels = [3, 1] if getattr(self.module, "output_fmt", None) == "NHWC" else [1, 3]
            for axis in channels:
                found = output.movedim(axis, 1)
                if _fits(found.shape[2:], size):
                    return found
        if output is not None and output.ndim == 3:
            grid = tuple(n // step for n, step in zip(size, patch_shape(self.module), strict=True))
            n_prefix = output.shape[1] - grid[0] * grid[1]  # tokens of the class and registers
            if n_prefix in (0, getattr(self.module, "num_prefix_tokens", 0)):
                return output[:, n_prefix:].unflatten(1, grid).permute(0, 3, 1, 2)
        found = "takes no part in the features" if output is None else f"has an output of shape {tuple(output.shape)}"
        raise ValueError(
            f"layers: the module {name!r} {found}, but a map (n, channels, height, width) or one token for each patch "
            "is needed. Use another module, or the index of a layer."
        )

    def _run(self, x, indices, names):
        """Pass a batch through the network; return the maps of the layers given by index."""
        if not indices:
            self.module.forward_features(x)
            return {}
        if names:
            _, found = self.module.forward_intermediates(x, indices=indices)
        else:
            found = self.module.forward_intermediates(x, indices=indices, intermediates_only=True, stop_early=True)
        return dict(zip(indices, found, strict=True))

    def _catch(self, name):
        def hook(module, inputs, output):
            if hasattr(self._caught, "outputs"):
                self._caught.outputs[name] = output.clone()  # later modules may modify it in place

        return hook


def _fits(grid, size):
    """Return whether a grid (h, w) has the aspect ratio of images of a size (H, W), up to one cell."""
    return abs(grid[0] * size[1] - grid[1] * size[0]) <= max(size)
