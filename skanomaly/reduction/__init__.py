"""Patch grids to thinner grids or banks."""

from ._coreset import GreedyCoreset
from ._projection import RandomProjection

__all__ = ["GreedyCoreset", "RandomProjection"]
