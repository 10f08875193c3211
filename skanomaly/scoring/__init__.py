"""Banks, Gaussians and dictionaries to patch scores."""

from ._knn import KNNScorer
from ._sparse_coding import SparseCodingScorer

__all__ = ["KNNScorer", "SparseCodingScorer"]
