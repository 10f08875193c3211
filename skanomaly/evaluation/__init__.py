"""Evaluate a detector on labelled data, and score many files into a table."""

from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files

__all__ = ["evaluate", "save_overlay_sheet", "score_files"]
