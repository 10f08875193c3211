"""Labels of normal and anomalous samples, in all forms that users may pass."""

import warnings

import numpy as np

from ..exceptions import DataWarning

_ACCEPTED = "+1 (normal) and -1 (anomaly), booleans (True = anomaly), or items with a `label` of +1 or -1"


def anomalous(y, name="y"):
    """Check labels and return them as booleans.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Integers +1 (normal) and -1 (anomaly), booleans (True for anomalies), or objects with an attribute `label` of +1
        or -1.
    name : str, default="y"
        Name of `y` in messages.

    Returns
    -------
    ndarray of shape (n_samples,), bool
        True for anomalies.

    Raises
    ------
    ValueError
        If the labels have any other values (0 and 1 are refused because two opposite conventions exist).
    """
    if isinstance(y, (list, tuple)) and y and all(hasattr(item, "label") for item in y):
        y = [item.label for item in y]
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-dimensional, got shape {values.shape}; its items must be {_ACCEPTED}.")
    if values.dtype == bool or (values.dtype == object and all(isinstance(v, (bool, np.bool_)) for v in values)):
        return values.astype(bool)
    distinct = np.unique(values)
    if not set(distinct.tolist()) <= {1, -1}:
        shown = ", ".join(map(repr, distinct.tolist()[:5]))
        hint = " Pass `y == 1` if 1 marks your anomalies." if set(distinct.tolist()) == {0, 1} else ""
        raise ValueError(f"{name} has the labels {shown}; they must be {_ACCEPTED}.{hint}")
    return values == -1


def warn_of_anomalies(y, owner):
    """Warn if labels that a detector ignores mark anomalies.

    Parameters
    ----------
    y : object
        Whatever was passed as `y`.
    owner : str
        Name of the detector in the message.

    Warns
    -----
    DataWarning
        If `y` holds labels of anomalies; the message says how many.
    """
    try:
        n_anomalies = 0 if y is None else int(anomalous(y).sum())
    except (ValueError, TypeError):  # y is not used, so it may be anything
        return
    if n_anomalies:
        warnings.warn(
            f"y labels {n_anomalies} samples as anomalies, but {owner} ignores y and learns from them as normal; use "
            f"FitOnNormal({owner}(...)) to fit on the normal samples only.",
            DataWarning,
            stacklevel=3,
        )
