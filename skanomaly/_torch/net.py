"""The torch life of networks: arrays go in, arrays come out."""

import numpy as np
import torch

from .inference import padded, padded_batches
from .state import blank, from_arrays, initialized, to_arrays

_DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}


class Net:
    """A module, or several in a `ModuleDict`, on its device and in its dtype.

    A net is never stored: `state` is, from which `from_state` builds it again.

    Parameters
    ----------
    module : Module
        Moved to the device and converted to the dtype.
    device : torch.device
    dtype : torch.dtype, default=torch.float32

    Attributes
    ----------
    module : Module
    device : torch.device
    """

    def __init__(self, module, device, dtype=torch.float32):
        self.module, self.device = module.to(device, dtype), device

    @classmethod
    def untrained(cls, build, generator, device):
        """Return the net of `build()`, its first weights drawn from `generator`, to be trained in float32.

        Parameters
        ----------
        build : callable
            Returns a module; see `initialized`.
        generator : torch.Generator
        device : torch.device
        """
        return cls(initialized(build, generator), device)

    @classmethod
    def from_state(cls, build, state, device, dtype=np.float32):
        """Return the net of `build()` with stored weights.

        Parameters
        ----------
        build : callable
            Returns a module.
        state : dict of str to ndarray
            Returned by `state`.
        device : torch.device
        dtype : dtype, default=float32
            That of the arrays that the net will see: float32 or float64.
        """
        return cls(from_arrays(blank(build), state), device, _DTYPES[np.dtype(dtype)])

    def freeze(self):
        """Put the net into evaluation mode, its parameters without gradients; return it."""
        self.module.eval().requires_grad_(False)
        return self

    def state(self):
        """Return all parameters and buffers, by name, as arrays."""
        return to_arrays(self.module)

    def to_tensor(self, array):
        """Return an array as a tensor of the same dtype, on the device of the net."""
        return torch.from_numpy(array).to(self.device)

    def run(self, function, *arrays, length, gradients=False):
        """Return `function` of arrays as an array, or as a tuple of them; no sample's bits depend on the others.

        Parameters
        ----------
        function : callable
            Takes one tensor of shape (length, ...) for each array, and returns one, or a tuple of them.
        *arrays : ndarray of shape (n, ...)
            They reach the function in batches of `length` samples, the last one filled up with zeros.
        length : int
        gradients : bool, default=False
            If True, the function may ask torch for gradients.

        Returns
        -------
        ndarray of shape (n, ...), or tuple of ndarray
        """
        batches = []
        for start, stop in padded_batches(len(arrays[0]), length):
            with torch.inference_mode(not gradients):
                outputs = function(*(padded(self.to_tensor(array[start:stop]), length) for array in arrays))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            batches.append([output[: stop - start].detach().cpu().numpy() for output in outputs])
        results = tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))
        return results if len(results) > 1 else results[0]
