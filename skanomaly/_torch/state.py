"""The state of a module as numpy arrays, and modules whose first weights come from a generator of one's own."""

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # the first is that of batch and instance norm


def to_arrays(module):
    """Return parameters and buffers of a module by name, as numpy arrays of their own."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def from_arrays(module, arrays):
    """Fill a module with the result of `to_arrays`; return it."""
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return module


def blank(build):
    """Return the module that `build()` makes, with memory but without values.

    The constructors of torch's layers draw first weights from the global generator; here they draw nothing.
    """
    with torch.device("meta"):
        module = build()
    return module.to_empty(device="cpu")


def initialized(build, generator):
    """Return the module that `build()` makes, its first weights drawn from `generator`.

    Weights of linear and convolutional layers are uniform with the variance of Glorot and Bengio (2010), biases 0.
    Norm layers start with weight 1, bias 0, and statistics of mean 0 and variance 1. Other layers with parameters or
    buffers of their own have a method `reset_values`, which fills them without drawing.

    Parameters
    ----------
    build : callable
        Returns a module, or several in a `ModuleDict`.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Module
        On the CPU, float32.

    Raises
    ------
    TypeError
        For a layer whose first values are not known.
    """
    module = blank(build)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, _WEIGHTED):
                _draw_weights(layer, generator)
            elif isinstance(layer, _NORMS):
                layer.reset_parameters()
            elif [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
                _reset_values(layer)
    return module


def _draw_weights(layer, generator):
    fan_in, fan_out = layer.weight[0].numel(), layer.weight.numel() // layer.weight.shape[1]
    limit = math.sqrt(6 / (fan_in + fan_out))
    layer.weight.uniform_(-limit, limit, generator=generator)
    if layer.bias is not None:
        layer.bias.zero_()


def _reset_values(layer):
    if not hasattr(layer, "reset_values"):
        raise TypeError(
            f"{type(layer).__name__} has parameters or buffers of its own whose first values are not known; accepted "
            "are linear, convolutional and norm layers, and modules with a method reset_values."
        )
    layer.reset_values()
