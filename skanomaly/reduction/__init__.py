"""Transformers that reduce patch grids: fewer patches, fewer features or sparse codes."""

from ._coreset import GreedyCoreset
from ._projection import RandomProjection
from ._sparse_coding import SparseCoding

__all__ = ["GreedyCoreset", "RandomProjection", "SparseCoding"]
