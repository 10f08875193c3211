"""Metrics for the detection and localisation of anomalies, and scorers made from them.

Labels are +1 for normal samples and -1 for anomalies, or booleans (True for anomalies). Anomaly scores and anomaly
maps are higher for anomalies.
"""

from ._detection import f1_max, image_ap, image_auroc, tnr_tpr
from ._localization import aupro, auspro, pixel_ap, pixel_auroc, pixel_f1_max
from ._regions import region_hit_rate, region_iou
from ._scorers import (
    aupro_scorer,
    auspro_scorer,
    f1_max_scorer,
    image_ap_scorer,
    image_auroc_scorer,
    pixel_ap_scorer,
    pixel_auroc_scorer,
    pixel_f1_max_scorer,
    pixel_metrics_scorer,
    region_hit_rate_scorer,
    region_iou_scorer,
    tnr_scorer,
    tpr_scorer,
)
from ._similarity import SSIMParts, ssim_parts

__all__ = [
    "image_auroc",
    "image_ap",
    "f1_max",
    "tnr_tpr",
    "pixel_auroc",
    "pixel_ap",
    "pixel_f1_max",
    "aupro",
    "auspro",
    "region_hit_rate",
    "region_iou",
    "ssim_parts",
    "SSIMParts",
    "image_auroc_scorer",
    "image_ap_scorer",
    "f1_max_scorer",
    "tnr_scorer",
    "tpr_scorer",
    "pixel_auroc_scorer",
    "pixel_ap_scorer",
    "pixel_f1_max_scorer",
    "aupro_scorer",
    "auspro_scorer",
    "pixel_metrics_scorer",
    "region_hit_rate_scorer",
    "region_iou_scorer",
]
