"""Loaders for tables with known anomalies."""

import zipfile
from pathlib import Path

import numpy as np
from sklearn.utils import Bunch

_COLUMNS = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount"]


def load_creditcard(path):
    """Load the credit-card transactions of ULB: 284,807 rows of 30 columns, 492 of them fraudulent.

    With a network connection, ``sklearn.datasets.fetch_openml(data_id=1597, as_frame=False)`` downloads the data set
    too (29 columns, without Time; the labels are the strings "0" and "1").

    Parameters
    ----------
    path : str or path-like
        Path of the published file `creditcard.csv` (columns Time, V1 to V28, Amount, Class), or of an .npz file with
        the arrays `X`, `y` (1 for fraud) and `columns`.

    Returns
    -------
    Bunch
        Dictionary-like object with the following attributes.

        X : ndarray of shape (n, 30), float64
            Transactions.
        y : ndarray of shape (n,), int
            Labels: +1 for normal transactions and -1 for frauds.
        feature_names : list of str, length 30
            Names of the columns, in the order of the file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file does not have these columns.

    See Also
    --------
    sklearn.datasets.fetch_openml : Download a data set from OpenML.

    References
    ----------
    Dal Pozzolo et al., "Calibrating Probability with Undersampling for Unbalanced Classification", SSCI 2015.

    Examples
    --------
    >>> import tempfile
    >>> from skanomaly.datasets import load_creditcard
    >>> names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with open(folder + "/creditcard.csv", "w") as file:
    ...         _ = file.write(",".join(names) + "\\n" + ",".join(["0"] * 31) + "\\n" + ",".join(["1"] * 31))
    ...     load_creditcard(folder + "/creditcard.csv").y
    array([ 1, -1])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"path={str(path)!r} does not exist. creditcard.csv is published by ULB; with a network connection, "
            "sklearn.datasets.fetch_openml(data_id=1597) downloads it."
        )
    try:
        X, fraud, columns = (_read_npz if path.suffix == ".npz" else _read_csv)(path)
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"path={str(path)!r} does not contain the credit-card table: {error}") from error
    if sorted(columns) != sorted(_COLUMNS) or X.shape != (len(fraud), len(_COLUMNS)):
        raise ValueError(
            f"path={str(path)!r} has the columns {', '.join(columns)}; accepted are Time, V1 to V28, Amount and Class."
        )
    return Bunch(X=X.astype(np.float64), y=np.where(fraud, -1, 1), feature_names=columns)


def _read_npz(path):
    with np.load(path) as data:
        return data["X"], data["y"] == 1, data["columns"].tolist()


def _read_csv(path):
    """Return X, a boolean array that marks the frauds, and the names of the columns of X."""
    with path.open() as file:
        names = [name.strip().strip('"') for name in file.readline().split(",")]
    table = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, converters=lambda text: float(text.strip('"')))
    label = names.index("Class")
    return np.delete(table, label, axis=1), table[:, label] == 1, names[:label] + names[label + 1 :]
