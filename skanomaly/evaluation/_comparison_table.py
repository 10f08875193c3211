"""Tables of a comparison as text, markdown, CSV and JSON."""

import csv
import io
import json

import numpy as np

TITLES = {  # name: title, in the order of tables
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "f1_max": "F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "aupro": "AU-PRO",
    "rates": "TNR / TPR at the calibrated threshold",
    "region_rates": "TNR / TPR, threshold by the largest region of normal images",
}
_RATES = {"rates": ("tnr", "tpr"), "region_rates": ("region_tnr", "region_tpr")}
_LEGEND = "{best}: best of the row; +, -: above, below {base} (twice if the 95 % interval of the difference excludes 0)"


def tables(comparison, names, *, intervals=False, best="*"):
    """Make the tables of metrics.

    Parameters
    ----------
    comparison : Comparison
        Results.
    names : sequence of str
        Names of metrics, or "rates" or "region_rates" for pairs of rates.
    intervals : bool, default=False
        If True, the 95 % interval of each value is shown.
    best : str, default="*"
        What surrounds ("**") or follows ("*") the best value of a row.

    Returns
    -------
    list of (str, list of list of str)
        Title and cells of each table, the first row being the header.
    """
    make = {name: _rates if name in _RATES else _of_metric for name in names}
    return [(TITLES[name], make[name](comparison, name, intervals, best)) for name in names]


def _of_metric(comparison, metric, intervals, best):
    """Return the table of a metric, with wins and losses against the baseline and the best of each row marked."""
    detectors = comparison.detectors
    marks = {(d["detector"], d["dataset"]): _mark(d) for d in comparison.differences(metric)}
    cells, tops = [["", *detectors]], []
    for dataset in (*comparison.datasets, None):
        values = {name: comparison.value(metric, name, dataset) for name in detectors}
        known = [value for value, _ in values.values() if not np.isnan(value)]
        top = {name for name, (value, _) in values.items() if known and value == max(known) and len(known) > 1}
        tops.append(top)
        name = dataset or _mean_title(comparison, metric)
        cells.append([name])
        for detector, (value, draws) in values.items():
            text = _number(value, draws if intervals else None)
            cells[-1].append(_emphasised(text, detector in top, best) + marks.get((detector, dataset or "mean"), ""))
    counts = [[marks.get((name, dataset), "")[:1] for dataset in comparison.datasets] for name in detectors]
    wins = [f"{c.count('+')} / {c.count('-')}" if any(c) else "" for c in counts]
    return [
        *cells,
        ["win / lose", *wins],
        ["best", *(str(sum(name in top for top in tops[:-1])) for name in detectors)],
    ]


def _rates(comparison, name, intervals, best):
    """Return the table of pairs of rates, with their means and the mean of the two."""
    metrics = _RATES[name]
    cells = [["", *comparison.detectors]]
    for dataset in (*comparison.datasets, None):
        cells.append([dataset or _mean_title(comparison, metrics[0])])
        for detector in comparison.detectors:
            pair = [comparison.value(metric, detector, dataset) for metric in metrics]
            cells[-1].append(" / ".join(_number(value, draws if intervals else None) for value, draws in pair))
    means = [[comparison.value(metric, detector, None)[0] for metric in metrics] for detector in comparison.detectors]
    return [*cells, ["balanced", *(_number(np.mean(pair)) for pair in means)]]


def _mean_title(comparison, metric):
    n, n_all = len(comparison.common_datasets(metric)), len(comparison.datasets)
    return "mean" if n == n_all else f"mean of {n}"


def _mark(difference):
    """Return + or - for a win or a loss, twice if the interval is without 0."""
    value = difference["difference"]
    if np.isnan(value) or value == 0:
        return ""
    clear = difference["low"] > 0 or difference["high"] < 0
    return ("+" if value > 0 else "-") * (1 + clear)


def _number(value, draws=None):
    if np.isnan(value):
        return "-"
    if draws is None:
        return f"{value:.3f}"
    low, high = np.nanquantile(draws, (0.025, 0.975))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _emphasised(text, is_best, best):
    if not is_best:
        return text
    return f"{best}{text}{best}" if best == "**" else text + best


def as_text(comparison, names, intervals=False):
    """Return the tables, failures and notes as text with aligned columns.

    Parameters
    ----------
    comparison : Comparison
        Results.
    names : sequence of str
        Names of metrics, or "rates" or "region_rates" for pairs of rates.
    intervals : bool, default=False
        If True, the 95 % interval of each value is shown.

    Returns
    -------
    str
        The text.
    """
    parts = []
    for title, cells in tables(comparison, names, intervals=intervals):
        widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
        parts.append("\n".join([title, *lines]))
    return "\n\n".join([*parts, *_remarks(comparison, "*")])


def as_markdown(comparison, names, intervals=False):
    """Return the tables, failures and notes as markdown.

    Parameters
    ----------
    comparison : Comparison
        Results.
    names : sequence of str
        Names of metrics, or "rates" or "region_rates" for pairs of rates.
    intervals : bool, default=False
        If True, the 95 % interval of each value is shown.

    Returns
    -------
    str
        The text.
    """
    parts = []
    for title, (header, *rows) in tables(comparison, names, intervals=intervals, best="**"):
        lines = [f"| {' | '.join(row)} |" for row in (header, ["---", *["---:"] * (len(header) - 1)], *rows)]
        parts.append("\n".join([f"**{title}**", "", *lines]))
    return "\n\n".join([*parts, *_remarks(comparison, "bold")])


def _remarks(comparison, best):
    base = comparison.baseline if isinstance(comparison.baseline, str) else "its base"
    lines = [_LEGEND.format(best=best, base=base)] if len(comparison.detectors) > 1 else []
    for row in comparison.rows:
        if row.get("message"):
            lines.append(f"note: {row['dataset']}, {row['detector']}: {row['message']}")
    return [*lines, *(f"failed: {f['dataset']}, {f['detector']}: {f['error']}" for f in comparison.failures)]


def as_csv(comparison, names=(), intervals=True):
    """Return all figures of all pairs and failures, one row per pair, as CSV.

    Parameters
    ----------
    comparison : Comparison
        Results.
    names : sequence of str, default=()
        Not used: all metrics are there.
    intervals : bool, default=True
        Not used: intervals are always there.

    Returns
    -------
    str
        The text.
    """
    rows = [*comparison.rows, *comparison.failures]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue().rstrip("\n")


def as_json(comparison, names, intervals=True):
    """Return all figures, the differences of the metrics, and failures as JSON; what is not known is null.

    Parameters
    ----------
    comparison : Comparison
        Results.
    names : sequence of str
        Names of the metrics whose differences are listed.
    intervals : bool, default=True
        Not used: intervals are always there.

    Returns
    -------
    str
        The text.
    """
    metrics = [metric for name in names for metric in _RATES.get(name, (name,))]
    differences = [difference for metric in metrics for difference in comparison.differences(metric)]
    content = {"rows": comparison.rows, "differences": differences, "failures": comparison.failures}
    return json.dumps(_without_nan(content), indent=1)


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


FORMATS = {"text": as_text, "markdown": as_markdown, "csv": as_csv, "json": as_json}
