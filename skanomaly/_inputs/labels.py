"""Labels of normal and anomalous samples, in the forms a user may pass them."""

import numpy as np

_ACCEPTED = "+1 (normal) and -1 (anomaly), booleans (True = anomaly), or items with a `label` of +1 or -1"


def anomalous(y, name="y"):
    """Return a boolean array, True where `y` says anomaly.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Integers +1 and -1, booleans (True = anomaly), or objects with an attribute `label` of +1 or -1.
    name : str
        How errors call it.

    Raises
    ------
    ValueError
        For any other label; 0/1 in particular, for which there are two opposite conventions.
    """
    if isinstance(y, (list, tuple)) and y and all(hasattr(item, "label") for item in y):
        y = [item.label for item in y]
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"{name} must be 1-dimensional, got shape {values.shape}; accepted are {_ACCEPTED}.")
    if values.dtype == bool or (values.dtype == object and all(isinstance(v, (bool, np.bool_)) for v in values)):
        return values.astype(bool)
    distinct = np.unique(values)
    if not set(distinct.tolist()) <= {1, -1}:
        shown = ", ".join(map(repr, distinct.tolist()[:5]))
        hint = " Pass `y == 1` if 1 marks your anomalies." if set(distinct.tolist()) == {0, 1} else ""
        raise ValueError(f"{name} has the labels {shown}; accepted are {_ACCEPTED}.{hint}")
    return values == -1
