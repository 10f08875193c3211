"""One paper per file."""

from ._autoencoder import Autoencoder
from ._mlfsc import MLFSC
from ._padim import PaDiM
from ._patchcore import PatchCore

__all__ = ["MLFSC", "Autoencoder", "PaDiM", "PatchCore"]
