"""The state of a module as numpy arrays, and modules whose first weights come from a generator of one's own."""

import math

import torch
from torch import nn


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

    Weights are uniform with the variance of Glorot and Bengio (2010), biases 0. Buffers are left without values.

    Parameters
    ----------
    build : callable
        Returns a module of linear and convolutional layers.
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    Module
        On the CPU, float32.
    """
    module = blank(build)
    for layer in module.modules():
        if isinstance(getattr(layer, "weight", None), nn.Parameter):
            _initialize(layer, generator)
    return module


def _initialize(layer, generator):
    if not isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        raise TypeError(f"{type(layer).__name__} has weights, but only linear and convolutional layers are known here.")
    fan_in, fan_out = layer.weight[0].numel(), layer.weight.numel() // layer.weight.shape[1]
    limit = math.sqrt(6 / (fan_in + fan_out))
    with torch.no_grad():
        layer.weight.uniform_(-limit, limit, generator=generator)
        if layer.bias is not None:
            layer.bias.zero_()
