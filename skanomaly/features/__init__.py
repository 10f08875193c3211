"""Images to patch grids."""

from importlib import import_module

_HOME = {
    "CropFeatures": "_crops",
    "PatchFeatures": "_patches",
    "PretrainedPatchFeatures": "_pretrained",
}

__all__ = list(_HOME)


def __getattr__(name):
    """Import a transformer when it is first asked for: patches of pixels do without torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
