"""The one file that knows about devices."""

import numpy as np
import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(device, dtype=np.float32):
    """Return the torch device for a `device` parameter; "auto" takes CUDA, then MPS, then the CPU.

    Parameters
    ----------
    device : str
        One of `DEVICES`.
    dtype : dtype, default=float32
        That of the arrays; MPS has no float64, which is computed on the CPU instead.

    Raises
    ------
    ValueError
        If this machine does not have the device.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = str(device).split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(name for name, there in available.items() if there)
        raise ValueError(f"device={device!r} is not available on this machine; accepted: auto, {usable}.")
    return torch.device("cpu" if kind == "mps" and np.dtype(dtype) == np.float64 else device)
