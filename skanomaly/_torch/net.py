"""Networks as functions from arrays to arrays."""

import numpy as np
import torch

from .inference import padded, padded_batches
from .state import blank, from_arrays, initialized, to_arrays

_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


class Net:
    """Module, or several in a `ModuleDict`, on a device and in a dtype.

    A net is never stored. Store its `state` instead, from which `from_state` builds it again.

    Parameters
    ----------
    module : Module
        Module, which is moved to the device and converted to the dtype.
    device : torch.device
        Device of the module.
    dtype : torch.dtype, default=torch.float32
        Type of the parameters and buffers.

    Attributes
    ----------
    module : Module
        Module on its device.
    device : torch.device
        Device of the module.
    """

    def __init__(self, module, device, dtype=torch.float32):
        self.module, self.device = module.to(device, dtype), device

    @classmethod
    def untrained(cls, build, generator, device):
        """Return a float32 net with initial weights drawn from `generator`.

        Parameters
        ----------
        build : callable
            Function that returns a module; see `initialized`.
        generator : torch.Generator
            Generator on the CPU.
        device : torch.device
            Device of the module.

        Returns
        -------
        Net
            The net.
        """
        return cls(initialized(build, generator), device)

    @classmethod
    def from_state(cls, build, state, device, dtype=np.float32):
        """Return a net with stored weights.

        Parameters
        ----------
        build : callable
            Function that returns a module.
        state : dict of str to ndarray
            Parameters and buffers, as returned by `state`.
        device : torch.device
            Device of the module.
        dtype : dtype, default=float32
            Type of the arrays that the net is applied to: float32 or float64.

        Returns
        -------
        Net
            The net.
        """
        return cls.of(from_arrays(blank(build), state), device, dtype)

    @classmethod
    def of(cls, module, device, dtype=np.float32):
        """Return a net around a module, for arrays of a type.

        Parameters
        ----------
        module : Module
            Module, which is moved to the device and converted.
        device : torch.device
            Device of the module.
        dtype : dtype, default=float32
            Type of the arrays that the net is applied to: float32 or float64.

        Returns
        -------
        Net
            The net.
        """
        return cls(module, device, _DTYPES[np.dtype(dtype)])

    def freeze(self):
        """Put the net into evaluation mode, disable gradients of its parameters, and return it."""
        self.module.eval().requires_grad_(False)
        return self

    def state(self):
        """Return all parameters and buffers by name, as arrays."""
        return to_arrays(self.module)

    def to_tensor(self, array):
        """Return an array as a tensor of the same dtype, on the device of the net."""
        return torch.from_numpy(array).to(self.device)

    def run(self, function, *arrays, length, gradients=False):
        """Apply a function to arrays batch by batch; the bits of a sample do not depend on the other samples.

        Parameters
        ----------
        function : callable
            Function of one tensor of shape (length, ...) for each array; it returns a tensor or a tuple of tensors.
        *arrays : ndarray of shape (n, ...)
            Arrays, which are passed in batches of `length` samples; the last batch is padded with zeros.
        length : int
            Number of samples in a batch.
        gradients : bool, default=False
            If True, the function may compute gradients.

        Returns
        -------
        ndarray of shape (n, ...), or tuple of ndarray
            Results for all samples.
        """
        batches = []
        for start, stop in padded_batches(len(arrays[0]), length):
            with torch.inference_mode(not gradients):
                outputs = function(*(padded(self.to_tensor(array[start:stop]), length) for array in arrays))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            batches.append([output[: stop - start].detach().cpu().numpy() for output in outputs])
        results = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        return results if len(results) > 1 else results[0]
