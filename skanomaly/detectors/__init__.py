"""Detectors of anomalies in images and rows, one paper per file."""

from ._anogan import AnoGAN
from ._autoencoder import Autoencoder
from ._deep_one_class import DeepOneClass
from ._feature_dictionary import FeatureDictionary
from ._mahalanobis import MahalanobisAD
from ._metric_features import MetricFeatures
from ._mlfsc import MLFSC
from ._padim import PaDiM
from ._patchcore import PatchCore
from ._skip_ganomaly import SkipGANomaly
from ._spade import SPADE
from ._texture_gmm import TextureGMM
from ._vae import VAE
from ._variation_model import VariationModel

__all__ = [
    "VAE",
    "MLFSC",
    "AnoGAN",
    "Autoencoder",
    "DeepOneClass",
    "FeatureDictionary",
    "MahalanobisAD",
    "MetricFeatures",
    "PaDiM",
    "PatchCore",
    "SPADE",
    "SkipGANomaly",
    "TextureGMM",
    "VariationModel",
]
