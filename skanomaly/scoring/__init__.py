"""Scorers of rows and patch grids: nearest neighbours, Gaussians, subspaces and dictionaries."""

from ._gaussian import GaussianScorer
from ._knn import KNNScorer
from ._sparse_coding import SparseCodingScorer
from ._subspace import SubspaceScorer

__all__ = ["GaussianScorer", "KNNScorer", "SparseCodingScorer", "SubspaceScorer"]
