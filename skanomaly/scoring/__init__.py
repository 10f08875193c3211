"""Banks, Gaussians and dictionaries to patch scores."""

from ._gaussian import GaussianScorer
from ._knn import KNNScorer
from ._sparse_coding import SparseCodingScorer

__all__ = ["GaussianScorer", "KNNScorer", "SparseCodingScorer"]
