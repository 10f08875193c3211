"""Evaluate a detector on labelled data, score many files into a table, and inpaint files."""

from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files
from ._inpaint import inpaint_files

__all__ = ["evaluate", "inpaint_files", "save_overlay_sheet", "score_files"]
