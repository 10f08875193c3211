"""Anomaly detection on images and tables as scikit-learn estimators."""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "PatchCore": "detectors",
    "PaDiM": "detectors",
    "SPADE": "detectors",
    "MahalanobisAD": "detectors",
    "MLFSC": "detectors",
    "FeatureDictionary": "detectors",
    "TextureGMM": "detectors",
    "VariationModel": "detectors",
    "Autoencoder": "detectors",
    "VAE": "detectors",
    "AnoGAN": "detectors",
    "SkipGANomaly": "detectors",
    "DeepOneClass": "detectors",
    "MetricFeatures": "detectors",
    "Reference": "_inputs.reference",
    "PretrainedPatchFeatures": "features",
    "PatchFeatures": "features",
    "CropFeatures": "features",
    "Pixels": "features",
    "Columns": "features",
    "Augmented": "features",
    "Aligned": "features",
    "GreedyCoreset": "reduction",
    "RandomProjection": "reduction",
    "SparseCoding": "reduction",
    "KNNScorer": "scoring",
    "GaussianScorer": "scoring",
    "SubspaceScorer": "scoring",
    "SparseCodingScorer": "scoring",
    "GradientProjection": "composite",
    "FeatureDecoder": "composite",
    "AnoUNet": "composite",
    "FitOnNormal": "model_selection",
    "ConformalDetector": "conformal",
    "select_anomalies": "thresholds",
    "anomaly_map": "maps",
    "save": "persistence",
    "load": "persistence",
}

__all__ = list(_HOME)


def __getattr__(name):
    """Import a public name when it is first asked for: nothing heavy loads before."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
