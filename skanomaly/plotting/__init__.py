"""Displays of scores, maps and training, drawn with matplotlib from arrays or from fitted estimators."""

from ._comparison import ComparisonDisplay
from ._losses import LossCurveDisplay
from ._maps import AnomalyMapDisplay, plot_overlay_sheet
from ._pro import PROCurveDisplay
from ._reconstructions import ReconstructionDisplay
from ._samples import GeneratedSamplesDisplay
from ._scores import ScoreDisplay
from ._similarities import SSIMDisplay

__all__ = [
    "AnomalyMapDisplay",
    "ComparisonDisplay",
    "ScoreDisplay",
    "PROCurveDisplay",
    "ReconstructionDisplay",
    "GeneratedSamplesDisplay",
    "SSIMDisplay",
    "LossCurveDisplay",
    "plot_overlay_sheet",
]
