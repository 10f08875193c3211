"""Results of a comparison: rows, means, intervals and paired differences."""

import numpy as np

from ._comparison_table import FORMATS, TITLES

METRICS = (
    "image_auroc", "image_ap", "f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro",
    "tnr", "tpr", "region_tnr", "region_tpr",
)  # fmt: skip
_LEVELS = (0.025, 0.975)


class Comparison:
    """Figures of several detectors on several data sets, with intervals and paired differences.

    Parameters
    ----------
    detectors : list of str
        Names of the detectors.
    datasets : list of str
        Names of the data sets.
    results : dict
        For each finished pair (detector, data set), its figures and its bootstrap samples, both by name.
    failures : list of dict
        Pairs that failed, with the keys "dataset", "detector" and "error".
    baseline : str or dict
        Name of the detector that the others are compared with, or a dict of detectors and what each is compared with.

    See Also
    --------
    compare : Compute the results.
    skanomaly.plotting.ComparisonDisplay : Plot of the results.
    """

    def __init__(self, detectors, datasets, results, failures, baseline):
        self.detectors, self.datasets, self.baseline = detectors, datasets, baseline
        self.results, self.failures = results, failures

    @property
    def metrics(self):
        """All metrics that at least one pair has, by name."""
        return [name for name in METRICS if any(name in row for row, _ in self.results.values())]

    @property
    def rows(self):
        """List of dict, one per finished pair: its names, figures, and 95 % intervals as `<metric>_low` and `_high`."""
        return [
            {"dataset": dataset, "detector": detector, **row, **self._bounds(draws)}
            for dataset in self.datasets
            for detector in self.detectors
            if (detector, dataset) in self.results
            for row, draws in [self.results[detector, dataset]]
        ]

    def _bounds(self, draws):
        bounds = {name: interval(values) for name, values in draws.items()}
        return {f"{name}_{end}": pair[i] for name, pair in bounds.items() for i, end in enumerate(("low", "high"))}

    def to_frame(self):
        """Return the rows as a data frame of pandas.

        Returns
        -------
        pandas.DataFrame
            One row per finished pair.
        """
        import pandas as pd  # an optional package

        return pd.DataFrame(self.rows)

    def report(self, *, format="text", metrics=None, intervals=False):
        """Write the results as tables.

        Parameters
        ----------
        format : {"text", "markdown", "csv", "json"}, default="text"
            Form of the report. "text" and "markdown" have a table per metric, with a row per data set and a column per
            detector, the mean over the data sets, and marks: the best of each row, and wins and losses against the
            baseline. "csv" has one row per pair, with all figures and intervals, and "json" the differences as well.
        metrics : sequence of str, default=None
            Names of metrics, or "rates" and "region_rates" for the true-negative and true-positive rates at the
            calibrated threshold, and at the level that no large region of a calibration map exceeds. None is all that
            there are.
        intervals : bool, default=False
            If True, tables show the 95 % interval of each value.

        Returns
        -------
        str
            The report, which also names failures and pairs with too many flagged normal images.

        Raises
        ------
        ValueError
            If the format or a metric is not known.
        """
        found = {"tnr": "rates", "region_tnr": "region_rates"} | {name: name for name in TITLES}
        names = [found[name] for name in self.metrics if name in found] if metrics is None else list(metrics)
        unknown = [name for name in names if name not in TITLES]
        if unknown:
            raise ValueError(f"metrics has {', '.join(unknown)}; the known ones are {', '.join(TITLES)}.")
        if format not in FORMATS:
            raise ValueError(f"format={format!r} is not accepted; it must be one of {', '.join(FORMATS)}.")
        return FORMATS[format](self, names, intervals)

    def value(self, metric, detector, dataset):
        """Return the value of a metric and its bootstrap samples.

        Parameters
        ----------
        metric : str
            Name of a metric.
        detector : str
            Name of a detector.
        dataset : str or None
            Name of a data set; None is the mean over the data sets on which all detectors have the metric.

        Returns
        -------
        value : float
            Value; NaN if there is none.
        draws : ndarray of shape (n_draws,)
            Values of the bootstrap samples, which are the same for all detectors; of length 1 if there are none.
        """
        if dataset is None:
            parts = [self.value(metric, detector, name) for name in self.common_datasets(metric)]
            if not parts:
                return np.nan, np.array([np.nan])
            values, draws = zip(*parts, strict=True)
            return float(np.mean(values)), np.mean(draws, axis=0)
        row, draws = self.results.get((detector, dataset), ({}, {}))
        return row.get(metric, np.nan), draws.get(metric, np.array([np.nan]))

    def common_datasets(self, metric):
        """Return the data sets that means are taken over.

        Parameters
        ----------
        metric : str
            Name of a metric.

        Returns
        -------
        list of str
            Names of the data sets on which all detectors that have the metric at all have it.
        """
        able = [d for d in self.detectors if any(metric in self._row(d, dataset) for dataset in self.datasets)]
        return [dataset for dataset in self.datasets if able and all(metric in self._row(d, dataset) for d in able)]

    def _row(self, detector, dataset):
        row = self.results.get((detector, dataset), ({}, {}))[0]
        return {name for name, value in row.items() if value is not None and value == value}  # not NaN

    def differences(self, metric, baseline=None):
        """Compare the detectors with one of them, image by image.

        Parameters
        ----------
        metric : str
            Name of a metric.
        baseline : str or dict, default=None
            Name of the detector to compare with, or a dict of detectors and what each is compared with; None is what
            was chosen in `compare`.

        Returns
        -------
        list of dict
            For each other detector and data set, and for the mean over the data sets (the data set "mean"), the
            difference to the baseline and its 95 % interval from equal bootstrap samples. An interval without 0 is
            evidence of a difference on such images; NaN where one of the two has no value.
        """
        baseline = baseline or self.baseline
        bases = baseline if isinstance(baseline, dict) else dict.fromkeys(self.detectors, baseline)
        return [
            {"dataset": dataset or "mean", "detector": detector, "baseline": bases[detector], "metric": metric}
            | self._difference(metric, detector, bases[detector], dataset)
            for dataset in (*self.datasets, None)
            for detector in self.detectors
            if bases.get(detector, detector) != detector
        ]

    def _difference(self, metric, detector, baseline, dataset):
        (value, draws), (other, others) = (self.value(metric, name, dataset) for name in (detector, baseline))
        low, high = interval(draws - others)
        return {"difference": value - other, "low": low, "high": high}


def interval(draws):
    """Compute the 95 % percentile interval of bootstrap samples.

    Parameters
    ----------
    draws : ndarray of shape (n_draws,)
        Values of bootstrap samples; NaN where one has no value.

    Returns
    -------
    low : float
        The 2.5 % quantile; NaN if there are no values.
    high : float
        The 97.5 % quantile; NaN if there are no values.
    """
    draws = draws[~np.isnan(draws)]
    return tuple(float(bound) for bound in np.quantile(draws, _LEVELS)) if len(draws) else (np.nan, np.nan)
