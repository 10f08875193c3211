"""Transformers of images and rows to the features that models see, and back."""

from importlib import import_module

_HOME = {
    "PretrainedPatchFeatures": "_pretrained",
    "PatchFeatures": "_patches",
    "CropFeatures": "_crops",
    "Pixels": "_pixels",
    "Columns": "_columns",
    "Augmented": "_augmented",
    "Aligned": "_aligned",
}

__all__ = list(_HOME)


def __getattr__(name):
    """Import a transformer when it is first used, because most of them do not need torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
