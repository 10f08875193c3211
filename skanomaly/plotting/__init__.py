"""Displays of scores, maps and training, drawn with matplotlib from arrays or from fitted estimators."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        "skanomaly.plotting needs matplotlib, which is not installed; install it: pip install 'skanomaly[plot]'"
    ) from error

from ._comparison import ComparisonDisplay
from ._coverage import CoresetCoverageDisplay
from ._losses import LossCurveDisplay
from ._maps import AnomalyMapDisplay, AnomalyMapsDisplay, plot_overlay_sheet
from ._pro import PROCurveDisplay
from ._reconstructions import ReconstructionDisplay
from ._samples import GeneratedSamplesDisplay
from ._scores import ScoreDisplay
from ._similarities import SSIMDisplay

__all__ = [
    "AnomalyMapDisplay",
    "AnomalyMapsDisplay",
    "ComparisonDisplay",
    "ScoreDisplay",
    "PROCurveDisplay",
    "ReconstructionDisplay",
    "GeneratedSamplesDisplay",
    "SSIMDisplay",
    "LossCurveDisplay",
    "CoresetCoverageDisplay",
    "plot_overlay_sheet",
]
