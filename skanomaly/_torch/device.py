"""Resolution of devices."""

import numpy as np
import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(device, dtype=np.float32):
    """Return the torch device that a parameter `device` stands for.

    Parameters
    ----------
    device : str
        One of `DEVICES`; "auto" takes CUDA, then MPS, then the CPU.
    dtype : dtype, default=float32
        Type of the arrays. MPS does not support float64, for which the CPU is used instead.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError
        If the device is not available.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = str(device).split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(name for name, there in available.items() if there)
        raise ValueError(f"device={device!r} is not available on this machine; it must be one of auto, {usable}.")
    return torch.device("cpu" if kind == "mps" and np.dtype(dtype) == np.float64 else device)
