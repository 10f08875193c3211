"""One paper per file."""

from ._autoencoder import Autoencoder
from ._mlfsc import MLFSC
from ._padim import PaDiM
from ._patchcore import PatchCore
from ._spade import SPADE
from ._vae import VAE

__all__ = ["VAE", "MLFSC", "Autoencoder", "PaDiM", "PatchCore", "SPADE"]
