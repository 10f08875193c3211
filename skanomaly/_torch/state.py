"""Conversion of modules to numpy arrays, and initialisation of modules by a given generator."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_WEIGHTED = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)  # the first is the base class of batch and instance norm


def to_arrays(module):
    """Return copies of the parameters and buffers of a module by name, as numpy arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


def from_arrays(module, arrays):
    """Load the result of `to_arrays` into a module, and return the module."""
    module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return module


def check_arrays(build, arrays):
    """Raise a ValueError unless arrays are finite and have the names and shapes of a module.

    Parameters
    ----------
    build : callable
        Function that returns the module.
    arrays : dict of str to ndarray
        Parameters and buffers, from a model file for example.
    """
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in build().state_dict().items()}
    found = {name: array.shape for name, array in arrays.items()}
    wrong = sorted(expected.items() ^ found.items())
    if wrong:
        raise ValueError(f"the weights {wrong[0][0]!r} of the network are missing, too many, or have another shape")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("the weights of the network are not finite")


def blank(build):
    """Return the module that `build` creates, without initial values.

    The constructors of torch's layers would draw from the global generator; here, nothing is drawn.
    """
    with torch.device("meta"):
        module = build()
    return module.to_empty(device="cpu")


def initialized(build, generator):
    """Return the module that `build` creates, with initial weights drawn from `generator`.

    Weights of linear and convolutional layers are uniform with the variance of Glorot and Bengio (2010), and their
    biases are 0. Norm layers start with weight 1, bias 0, mean 0 and variance 1. Other layers with parameters or
    buffers need a method `reset_values`, which sets their values without drawing.

    Parameters
    ----------
    build : callable
        Function that returns a module, or several in a `ModuleDict`.
    generator : torch.Generator
        Generator on the CPU.

    Returns
    -------
    Module
        Module on the CPU, float32.

    Raises
    ------
    TypeError
        If the initial values of a layer are unknown.
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
            f"{type(layer).__name__} has parameters or buffers whose initial values are not known; it must be a "
            "linear, convolutional or norm layer, or have a method reset_values."
        )
    layer.reset_values()
