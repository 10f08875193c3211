"""Detectors over other detectors."""

from ._gradient_projection import GradientProjection

__all__ = ["GradientProjection"]
