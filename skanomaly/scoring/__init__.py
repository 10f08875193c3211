"""Scorers of rows and patch grids: nearest neighbours, Gaussians and dictionaries."""

from ._gaussian import GaussianScorer
from ._knn import KNNScorer
from ._sparse_coding import SparseCodingScorer

__all__ = ["GaussianScorer", "KNNScorer", "SparseCodingScorer"]
