"""The columns of scores.csv."""

from ..exceptions import ImageReadError

_OF_REGION = (
    "largest_area",
    "largest_top",
    "largest_left",
    "largest_bottom",
    "largest_right",
    "largest_row",
    "largest_column",
    "largest_peak",
    "largest_p_value",
)
_OF_VERDICT = ("score", "threshold", "label", "p_value", "n_regions", *_OF_REGION, "note")
COLUMNS = ("path", *_OF_VERDICT, "error", "bytes", "modified_ns")
ERROR = COLUMNS.index("error")


def row_of(path, verdict, threshold, stamp):
    """Return the row of an image.

    Parameters
    ----------
    path : str
        Path, as it is written.
    verdict : Verdict or Exception
        Verdict, or the reason why there is none.
    threshold : float
        Threshold on scores, in their sign.
    stamp : tuple of str
        Size of the file and time of its last change.

    Returns
    -------
    list
        Value of each of the `COLUMNS`; "" stands for those that do not apply.
    """
    if isinstance(verdict, Exception):
        kind = "" if isinstance(verdict, ImageReadError) else f"{type(verdict).__name__}: "
        reason = " ".join(f"{kind}{verdict}".encode("utf-8", "replace").decode().split())
        return [path, *[""] * len(_OF_VERDICT), reason, *stamp]
    numbers = [repr(verdict.score), repr(threshold), verdict.label, repr(verdict.p_value)]
    return [path, *numbers, *_region_columns(verdict.regions), note_of(verdict), "", *stamp]


def _region_columns(regions):
    if regions is None:
        return [""] * (1 + len(_OF_REGION))
    if not regions:
        return [0, 0, *[""] * (len(_OF_REGION) - 1)]
    box, center, area, peak, _, p_value = regions[0]
    return [len(regions), area, *box, *(f"{value:.2f}" for value in center), repr(peak), repr(p_value)]


def note_of(verdict):
    """Return why the label and the regions of a verdict do not agree, or "" if they do.

    Parameters
    ----------
    verdict : Verdict
        Verdict.

    Returns
    -------
    str
        Note in a few words.
    """
    if verdict.regions is None or (verdict.label < 0) == bool(verdict.regions):
        return ""
    if verdict.regions:
        return "regions above the threshold of maps, score within its own"
    return "score beyond its threshold, no region above that of maps"
