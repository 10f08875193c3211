"""Networks, losses and training settings to pass to detectors that train a network."""

from importlib import import_module

_HOME = {
    "DenseNetwork": "_dense",
    "StridedNetwork": "_convolutional",
    "PooledNetwork": "_convolutional",
    "DCGAN": "_gan",
    "SkipGAN": "_gan",
    "UNet": "_unet",
    "SSIMLoss": "_losses",
    "FeatureLoss": "_losses",
    "Training": "_training",
}

__all__ = list(_HOME)


def __getattr__(name):
    """Import a class when it is first accessed."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
