"""Model files that load without executing code."""

import inspect
import io
import json
import os
import pkgutil
import tempfile
import zipfile
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType

import numpy as np
import skops.io
from sklearn.base import BaseEstimator
from sklearn.utils.fixes import parse_version

import skanomaly

from .exceptions import ModelFileError

__all__ = ["load", "save"]

# Besides the public estimators, the classes of skanomaly that model files may hold, as "module:Class". They are made
# without calling their constructors, from attributes that the file chooses.
_STATE_CLASSES = (
    "skanomaly.thresholds:Calibration",
    "skanomaly.thresholds:ChiSquaredLaw",
    "skanomaly._inputs.samples:FrozenFeatures",
    "skanomaly._inputs.samples:Grids",
    "skanomaly._inputs.samples:Mapless",
    "skanomaly._inputs.samples:Rows",
    "skanomaly._networks.pretrained:PretrainedNetwork",
    "skanomaly.features._pooled:PooledFeatures",
    "skanomaly.maps:PipelineDetector",
    "skanomaly.networks._convolutional:PooledNetwork",
    "skanomaly.networks._convolutional:StridedNetwork",
    "skanomaly.networks._dense:DenseNetwork",
    "skanomaly.networks._losses:FeatureLoss",
    "skanomaly.networks._losses:SquaredLoss",
    "skanomaly.networks._losses:SSIMLoss",
    "skanomaly.networks._training:Training",
)
_LAYOUT = 2  # of the attributes in a file; 1 was before detectors looked through features
_OF_THE_USER = {"memory", "memory_limit"}  # parameters that a file does not decide: what is written and deleted where


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
    content = {"skanomaly": skanomaly.__version__, "layout": _LAYOUT, "estimator": estimator}
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
    among these: pass ``trusted=["sklearn.tree._tree.Tree"]`` for files of your own.) Functions of skanomaly are
    refused, whatever `trusted` says.

    You choose files and folders, a model file does not: `memory` and `memory_limit` of all parts come back as their
    defaults. Where features were fitted with `weights` from a path, and the file does not include the weights, scoring
    raises `MissingWeightsError` until you set the path again: ``model.features_.set_params(weights="path")``.

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
        If it is not a model file, is damaged, was written by a newer version, or holds what is not trusted; the message
        names it.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r}: no such model file.")
    content = _read(path, trusted)
    if not isinstance(content, dict) or not {"skanomaly", "estimator"} <= set(content):
        raise ModelFileError(f"path={str(path)!r} was not written by skanomaly.save.")
    if parse_version(content["skanomaly"]) > parse_version(skanomaly.__version__):
        raise ModelFileError(
            f"path={str(path)!r} was written by skanomaly {content['skanomaly']}, newer than this "
            f"{skanomaly.__version__}."
        )
    if content.get("layout", 1) != _LAYOUT:
        raise ModelFileError(
            f"path={str(path)!r} was written by a development version of skanomaly, whose estimators had other "
            "attributes: fit and save the model again."
        )
    for part in _fitted_networks(content["estimator"]):
        if part.weights_sha256_ in content.get("weights", {}):
            type(part).use_network_state(part, content["weights"][part.weights_sha256_])
    return content["estimator"]


def _read(path, trusted):
    """Return what a model file holds, made of trusted types only and without its paths."""
    try:
        data = path.read_bytes()
        forbidden = _forbidden_names(_schema(data))
        unknown = skops.io.get_untrusted_types(data=data)
    except Exception as error:  # a damaged file raises whatever zipfile, json or skops likes
        raise ModelFileError(f"path={str(path)!r} is not a model file, or is damaged: {error}") from error
    _check_trust(path, forbidden, [name for name in unknown if not _is_ours(name)], trusted)
    try:
        content = skops.io.loads(data, trusted=unknown)
        for part in _parts(content):
            _forget_paths(part)
        return content
    except Exception as error:
        raise ModelFileError(f"path={str(path)!r} cannot be read: {error}") from error


def _check_trust(path, forbidden, foreign, trusted):
    """Raise if a file names something forbidden, or foreign types that are not trusted or lead back to us."""
    untrusted = [name for name in foreign if name not in trusted]
    if not untrusted:  # else nothing may be imported
        forbidden = forbidden or [name for name in foreign if _leads_to_ours(name)]
    if forbidden:
        raise ModelFileError(
            f"path={str(path)!r} refers to {', '.join(forbidden)}. Of skanomaly, a model file may hold estimators and "
            "their attributes only: a function or a constructor would be called with arguments that the file chooses. "
            "trusted=[...] does not change this."
        )
    if untrusted:
        raise ModelFileError(
            f"path={str(path)!r} holds types that are not trusted: {', '.join(untrusted)}. Pass them as trusted=[...] "
            "if you know what they do."
        )


def _schema(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return json.loads(archive.read("schema.json"))


def _forbidden_names(schema):
    """Return all that a file names of skanomaly, other than our classes where they are made from attributes."""
    forbidden, nodes = set(), [schema]
    while nodes:
        node = nodes.pop()
        if isinstance(node, list):
            nodes.extend(node)
        elif isinstance(node, str) and _is_ours(node):
            forbidden.add(node)
        elif isinstance(node, dict):
            module = node.get("__module__")
            named = isinstance(module, str)
            if named and _is_ours(module) and not _is_object_of_ours(node):
                forbidden.add(f"{module}.{node.get('__class__')}")
            nodes.extend(value for key, value in node.items() if key != "__module__" or not named)
    return sorted(forbidden)


def _is_ours(name):
    return name.split(".")[0] == "skanomaly"


def _is_object_of_ours(node):
    """Return whether a node makes one of our classes, under its own name, from attributes alone."""
    if node.get("__loader__") != "ObjectNode":
        return False
    module, name = node["__module__"], node.get("__class__")
    found = _registered_class(module, name)
    return isinstance(found, type) and (found.__module__, found.__name__) == (module, name)


def _registered_class(module, name):
    """Return the public estimator of a name, or the state class that is registered under it; else None."""
    if name in skanomaly.__all__:
        found = getattr(skanomaly, name)
        return found if isinstance(found, type) and issubclass(found, BaseEstimator) else None
    if f"{module}:{name}" not in _STATE_CLASSES:
        return None
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def _leads_to_ours(name):
    """Return whether a name from outside stands for something of skanomaly."""
    try:
        module = pkgutil.resolve_name(name).__module__
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(module, str) and _is_ours(module)


def _forget_paths(part):
    """Undo what a part of a loaded estimator says about files and folders."""
    if hasattr(type(part), "withhold_weights"):
        type(part).withhold_weights(part)
    if not isinstance(part, BaseEstimator):
        return
    parameters = inspect.signature(type(part)).parameters
    for name in parameters.keys() & _OF_THE_USER:
        default = parameters[name].default
        setattr(part, name, None if default is inspect.Parameter.empty else default)


def _fitted_networks(estimator):
    """Yield every fitted part of an estimator that reads the weights of a network."""
    for part in _parts(estimator):
        if hasattr(type(part), "use_network_state") and hasattr(part, "weights_sha256_"):
            yield part


def _parts(estimator):
    """Yield all objects in an estimator, each once: parameters, attributes, and what lies in their containers."""
    seen, waiting = {}, [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen and not isinstance(part, (type, ModuleType, FunctionType)):
            seen[id(part)] = part  # held, or another object could get its id
            yield part
            waiting.extend(_contents(part))


def _contents(part):
    contents = list(getattr(part, "__dict__", {}).values())
    if isinstance(part, dict):
        contents += part.values()
    elif isinstance(part, (list, tuple, set, frozenset)):
        contents += part
    elif isinstance(part, np.ndarray) and part.dtype == object:
        contents += part.flat
    return contents


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
