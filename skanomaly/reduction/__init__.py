"""Patch grids to thinner grids or banks."""

from ._coreset import GreedyCoreset
from ._projection import RandomProjection
from ._sparse_coding import SparseCoding

__all__ = ["GreedyCoreset", "RandomProjection", "SparseCoding"]
