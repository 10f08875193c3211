"""Layers of a network: resolution of their names, and their outputs."""

import difflib
import threading


def resolve_layers(layers, module, name):
    """Resolve each layer to an index into timm's ``feature_info`` or the name of a module.

    Parameters
    ----------
    layers : sequence of (int or str)
        Layers. Each is an index into ``feature_info``, a reduction such as "/8", which stands for the last feature map
        with an eighth of the side of the input, or the name of a module.
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
            If the output of a module is not a map.
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
        found = "takes no part in the features" if output is None else f"has an output of shape {tuple(output.shape)}"
        raise ValueError(
            f"layers: the module {name!r} {found}, but a map (n, channels, height, width) is needed. Use another "
            "module, or the index of a layer."
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
