"""Evaluate and compare detectors on labelled data, score many files into a table, and inpaint files."""

from ._compare import compare
from ._comparison import Comparison
from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files
from ._inpaint import inpaint_files
from ._presets import preset

__all__ = ["Comparison", "compare", "evaluate", "inpaint_files", "preset", "save_overlay_sheet", "score_files"]
