"""The layers of a network: what names stand for, and what they put out."""

import difflib
import threading


def resolve_layers(layers, module, name):
    """Return each layer as an index into timm's ``feature_info``, or as the name of a module.

    Parameters
    ----------
    layers : sequence of (int or str)
        Indices, "/8" for the last feature map with an eighth of the input's side, or names of modules.
    module : Module
        Any timm model.
    name : str
        That of the model, for messages.

    Raises
    ------
    ValueError
        For what is not a layer; the message lists those there are, and near names.
    """
    info = [dict(entry) for entry in getattr(module.feature_info, "info", module.feature_info)]
    modules = [key for key, _ in module.named_modules() if key]
    return tuple(_resolve(layer, info, modules, name) for layer in layers)


def _resolve(layer, info, modules, name):
    if isinstance(layer, str):
        matching = [i for i, entry in enumerate(info) if f"/{entry['reduction']}" == layer]
        if matching or layer in modules:
            return matching[-1] if matching else layer
    elif -len(info) <= layer < len(info):
        return layer % len(info)
    available = ", ".join(f"{i} (/{entry['reduction']})" for i, entry in enumerate(info))
    near = difflib.get_close_matches(str(layer), modules, n=5, cutoff=0.5) or [entry["module"] for entry in info]
    raise ValueError(
        f"layers: {layer!r} is not a layer of {name!r}; it has {available}, and modules by name, such as "
        f"{', '.join(map(repr, near))}."
    )


class LayerMaps:
    """A network as a function that returns the maps of layers.

    Parameters
    ----------
    module : Module
        Any timm model; its layers that are asked for by name get a hook.
    layers : tuple of (int or str)
        As returned by `resolve_layers`.
    """

    def __init__(self, module, layers):
        self.module, self.layers = module, layers
        self._caught = threading.local()  # several threads may share the network
        for name in {layer for layer in layers if isinstance(layer, str)}:
            module.get_submodule(name).register_forward_hook(self._catch(name))

    def __call__(self, x, which=None):
        """Return the maps (n, c_l, h_l, w_l) of a normalised batch (n, 3, H, W), in the order of the layers.

        Parameters
        ----------
        x : Tensor of shape (n, 3, H, W)
        which : sequence of int, optional
            Places of the layers wanted; by default all. The network runs no further than these need.

        Raises
        ------
        ValueError
            For a module whose output is not a map.
        """
        layers = self.layers if which is None else [self.layers[i] for i in which]
        names = {layer for layer in layers if isinstance(layer, str)}
        self._caught.outputs = {}
        maps = self._run(x, sorted(set(layers) - names), names) | self._caught.outputs
        del self._caught.outputs
        for name in names:
            self._check_map(name, maps.get(name))
        return [maps[layer] for layer in layers]

    def _check_map(self, name, output):
        if output is not None and output.ndim == 4 and getattr(self.module, "output_fmt", "NCHW") == "NCHW":
            return
        found = "takes no part in the features" if output is None else f"puts out {tuple(output.shape)}"
        raise ValueError(
            f"layers: the module {name!r} {found}, but a map (n, channels, height, width) is needed. Take another "
            "module, or a layer by its index."
        )

    def _run(self, x, indices, names):
        """Pass a batch through the network; return the maps of the layers that have an index."""
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
                self._caught.outputs[name] = output.clone()  # what follows may work in place

        return hook
