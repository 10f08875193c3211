"""Model files that load without executing code."""

import os
import tempfile
from pathlib import Path

import skops.io
from sklearn.base import BaseEstimator
from sklearn.utils.fixes import parse_version

import skanomaly

from .exceptions import ModelFileError

__all__ = ["load", "save"]


def save(estimator, path, *, include_weights=False):
    """Write a fitted estimator to a file.

    The file (format: skops) holds parameters and numpy arrays; networks are stored by name and SHA-256, and read again
    when needed. It appears whole or not at all.

    Parameters
    ----------
    estimator : estimator
        Any estimator of skanomaly or scikit-learn.
    path : path
        An existing file is replaced once the new one is complete.
    include_weights : bool, default=False
        Also store the weights of pretrained networks, so that the file suffices where they are not installed.

    Raises
    ------
    ModelFileError
        If the estimator cannot be stored.

    Examples
    --------
    >>> import tempfile
    >>> from skanomaly import KNNScorer, load, save
    >>> scorer = KNNScorer(false_alarm_rate=None).fit([[0.0], [1.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(scorer, folder + "/model.skops")
    ...     load(folder + "/model.skops").score_samples([[3.0]])
    array([-2.])
    """
    content = {"skanomaly": skanomaly.__version__, "estimator": estimator}
    if include_weights:
        content["weights"] = {part.weights_sha256_: part.network_state() for part in _fitted_networks(estimator)}
    path = Path(path)
    try:
        data = skops.io.dumps(content)
    except Exception as error:  # skops raises whatever an unknown object makes it raise
        raise ModelFileError(f"{type(estimator).__name__} cannot be stored: {error}") from error
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path, trusted=()):
    """Read an estimator from a file written by `save`.

    No code of the file is executed: only the public estimators of skanomaly, the types of scikit-learn, numpy and scipy
    that skops knows to be harmless, and those named in `trusted` are made. (The trees of scikit-learn's forests are not
    among these: pass ``trusted=["sklearn.tree._tree.Tree"]`` for files of your own.)

    Parameters
    ----------
    path : path
    trusted : sequence of str, default=()
        Full names of further types that may be made, such as those of your own transformers.

    Returns
    -------
    estimator

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is no model file, damaged, written by a newer version, or holds a type that is not trusted; the message
        names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: no such model file.")
    try:
        data = path.read_bytes()
        unknown = skops.io.get_untrusted_types(data=data)
    except Exception as error:  # a damaged file raises whatever zipfile, json or skops likes
        raise ModelFileError(f"path={str(path)!r} is no model file, or damaged: {error}") from error
    refused = [name for name in unknown if not _is_ours(name) and name not in trusted]
    if refused:
        raise ModelFileError(
            f"path={str(path)!r} holds types that are not trusted: {', '.join(refused)}. Pass them as trusted=[...] "
            "if you know what they do."
        )
    try:
        content = skops.io.loads(data, trusted=unknown)
    except Exception as error:
        raise ModelFileError(f"path={str(path)!r} cannot be read: {error}") from error
    if parse_version(content["skanomaly"]) > parse_version(skanomaly.__version__):
        raise ModelFileError(
            f"path={str(path)!r} was written by skanomaly {content['skanomaly']}, newer than this "
            f"{skanomaly.__version__}."
        )
    for part in _fitted_networks(content["estimator"]):
        if part.weights_sha256_ in content.get("weights", {}):
            part.use_network_state(content["weights"][part.weights_sha256_])
    return content["estimator"]


def _is_ours(name):
    module, _, type_name = name.rpartition(".")
    return module.startswith("skanomaly.") and type_name in skanomaly.__all__


def _fitted_networks(part):
    """Yield every fitted part of an estimator that reads the weights of a network."""
    if hasattr(part, "weights_sha256_"):
        yield part
    if isinstance(part, BaseEstimator):
        part = vars(part)
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, (list, tuple)):
        for item in part:
            yield from _fitted_networks(item)


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
