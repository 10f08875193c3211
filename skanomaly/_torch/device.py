"""The one file that knows about devices."""

import torch

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(device):
    """Return the torch device for a `device` parameter; "auto" takes CUDA, then MPS, then the CPU.

    Raises
    ------
    ValueError
        If the device is not there on this machine.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if available[name])
    kind = str(device).split(":")[0]
    if not available.get(kind, False):
        usable = ", ".join(name for name, there in available.items() if there)
        raise ValueError(f"device={device!r} is not available on this machine; accepted: auto, {usable}.")
    return torch.device(device)
