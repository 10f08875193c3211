"""Detectors over other detectors."""

from ._ano_unet import AnoUNet
from ._feature_decoder import FeatureDecoder
from ._gradient_projection import GradientProjection

__all__ = ["AnoUNet", "FeatureDecoder", "GradientProjection"]
