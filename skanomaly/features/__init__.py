"""Images to patch grids."""

from ._pretrained import PretrainedPatchFeatures

__all__ = ["PretrainedPatchFeatures"]
