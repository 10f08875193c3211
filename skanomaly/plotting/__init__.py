"""Pictures of scores and maps: arrays in, matplotlib axes out."""

from ._losses import LossCurveDisplay
from ._maps import AnomalyMapDisplay, plot_overlay_sheet
from ._pro import PROCurveDisplay
from ._reconstructions import ReconstructionDisplay
from ._scores import ScoreDisplay

__all__ = [
    "AnomalyMapDisplay",
    "ScoreDisplay",
    "PROCurveDisplay",
    "ReconstructionDisplay",
    "LossCurveDisplay",
    "plot_overlay_sheet",
]
