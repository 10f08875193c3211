"""One paper per file."""

from ._patchcore import PatchCore

__all__ = ["PatchCore"]
