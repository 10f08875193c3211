"""Metrics for the detection and localisation of anomalies, and scorers made from them.

Labels are +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Anomaly scores and anomaly
maps are higher for anomalies.
"""

from ._detection import f1_max, image_auroc, tnr_tpr
from ._localization import aupro, pixel_auroc
from ._scorers import aupro_scorer, f1_max_scorer, image_auroc_scorer, pixel_auroc_scorer, tnr_scorer, tpr_scorer
from ._similarity import SSIMParts, ssim_parts

__all__ = [
    "image_auroc",
    "f1_max",
    "tnr_tpr",
    "pixel_auroc",
    "aupro",
    "ssim_parts",
    "SSIMParts",
    "image_auroc_scorer",
    "f1_max_scorer",
    "tnr_scorer",
    "tpr_scorer",
    "pixel_auroc_scorer",
    "aupro_scorer",
]
