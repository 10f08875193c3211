"""Evaluate a detector on labelled data, score many files into a table and a report, and inpaint files."""

from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files, watch_files
from ._inpaint import inpaint_files
from ._report import save_report

__all__ = ["evaluate", "inpaint_files", "save_overlay_sheet", "save_report", "score_files", "watch_files"]
