"""Banks, Gaussians and dictionaries to patch scores."""

from ._knn import KNNScorer

__all__ = ["KNNScorer"]
