"""Detectors of anomalies in images and rows, one paper per file."""

from ._autoencoder import Autoencoder
from ._feature_dictionary import FeatureDictionary
from ._mahalanobis import MahalanobisAD
from ._mlfsc import MLFSC
from ._padim import PaDiM
from ._patchcore import PatchCore
from ._spade import SPADE
from ._texture_gmm import TextureGMM
from ._vae import VAE
from ._variation_model import VariationModel

__all__ = [
    "VAE",
    "MLFSC",
    "Autoencoder",
    "FeatureDictionary",
    "MahalanobisAD",
    "PaDiM",
    "PatchCore",
    "SPADE",
    "TextureGMM",
    "VariationModel",
]
