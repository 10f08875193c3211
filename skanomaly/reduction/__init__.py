"""Patch grids to thinner grids or banks."""

from ._coreset import GreedyCoreset

__all__ = ["GreedyCoreset"]
