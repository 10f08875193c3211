"""Errors and warnings of skanomaly, each a subclass of the built-in one it refines."""

__all__ = ["CacheWarning", "CalibrationWarning", "ImageReadError", "MissingWeightsError", "ModelFileError"]


class CacheWarning(UserWarning):
    """An entry of the feature cache could not be used and was computed again."""


class CalibrationWarning(UserWarning):
    """The calibration set is too small for the false-alarm rate that was asked for."""


class ImageReadError(ValueError):
    """One or more files could not be read as images; the message names all of them."""


class ModelFileError(ValueError):
    """A model file cannot be written, or cannot be read safely; the message says why."""


class MissingWeightsError(OSError):
    """The weights of a backbone were not found; the message says how to get them."""
