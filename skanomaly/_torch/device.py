"""Resolution of devices."""

from contextlib import contextmanager
from threading import RLock

import numpy as np
import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
_PRECISION = RLock()
_SEEDING = RLock()  # of the global generators, which all threads share


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


def resolve_gpu(device, dtype=np.float32):
    """Return the GPU that a parameter `device` stands for, or None if it stands for the CPU; see `resolve_device`."""
    resolved = resolve_device(device, dtype)
    return None if resolved.type == "cpu" else resolved


@contextmanager
def full_precision(device):
    """Compute the float32 matrix products inside the context without TF32 or autocast, whatever the user has set.

    Parameters
    ----------
    device : torch.device
        Device of the products.
    """
    matmul = torch.backends.cuda.matmul
    setting, full = ("fp32_precision", "ieee") if hasattr(matmul, "fp32_precision") else ("allow_tf32", False)
    with _PRECISION, torch.autocast(device.type, enabled=False):  # the setting is one for all threads
        before = getattr(matmul, setting)
        setattr(matmul, setting, full)
        try:
            yield
        finally:
            setattr(matmul, setting, before)


@contextmanager
def seeded(seed, device):
    """Context in which the global generators of torch on the CPU and on a device begin anew; others are left alone.

    Parameters
    ----------
    seed : int
        Seed.
    device : torch.device
        Device.
    """
    with _SEEDING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
