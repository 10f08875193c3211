"""Errors and warnings of skanomaly, each a subclass of the built-in class that it refines."""

__all__ = [
    "CacheWarning",
    "CalibrationWarning",
    "DataWarning",
    "CollapseWarning",
    "EvaluationWarning",
    "ImageReadError",
    "ImageReadWarning",
    "MissingWeightsError",
    "ModelFileError",
]


class CacheWarning(UserWarning):
    """Warning issued when an entry of the feature cache is unusable and its features are computed again."""


class CalibrationWarning(UserWarning):
    """Warning issued when a threshold does not keep its false-alarm rate: too few or unsuitable calibration samples."""


class DataWarning(UserWarning):
    """Warning issued when samples are accepted, but are probably not what they are taken for."""


class CollapseWarning(UserWarning):
    """Warning issued when a trained generator generates almost the same image from every code."""


class EvaluationWarning(UserWarning):
    """Warning issued when parts of an evaluation fail and the rest goes on; the message names them."""


class ImageReadError(ValueError):
    """Error raised when files cannot be read as images; the message lists all of them."""


class ModelFileError(ValueError):
    """Error raised when a model file cannot be written, or cannot be read safely; the message says why."""


class ImageReadWarning(DataWarning):
    """Warning issued when files that cannot be read as images are left out; their rows say why."""


class MissingWeightsError(OSError):
    """Error raised when the weights of a backbone are not found; the message says how to get them."""
