"""What is done with a detector as a whole: measure it on a labelled set, score many files into a table."""

from ._evaluate import evaluate, save_overlay_sheet
from ._files import score_files

__all__ = ["evaluate", "save_overlay_sheet", "score_files"]
