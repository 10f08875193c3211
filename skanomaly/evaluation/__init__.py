"""Evaluate and compare detectors on labelled data, score many files into a table and a report, and inpaint files."""

from ._compare import compare
from ._comparison import Comparison
from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files, watch_files
from ._inpaint import inpaint_files
from ._presets import preset
from ._report import save_report

__all__ = [
    "Comparison",
    "compare",
    "evaluate",
    "inpaint_files",
    "preset",
    "save_overlay_sheet",
    "save_report",
    "score_files",
    "watch_files",
]
