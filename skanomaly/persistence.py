"""Model files, which can be loaded without executing code."""

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

# Classes of skanomaly that model files may hold besides the public estimators, as "module:Class". They are created
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
    "skanomaly.features._vectors:VectorFeatures",
    "skanomaly.maps:PipelineDetector",
    "skanomaly.networks._convolutional:PooledNetwork",
    "skanomaly.networks._convolutional:StridedNetwork",
    "skanomaly.networks._dense:DenseNetwork",
    "skanomaly.networks._gan:DCGAN",
    "skanomaly.networks._gan:SkipGAN",
    "skanomaly.networks._losses:FeatureLoss",
    "skanomaly.networks._losses:SquaredLoss",
    "skanomaly.networks._losses:SSIMLoss",
    "skanomaly.networks._training:Training",
    "skanomaly.networks._unet:UNet",
)
_LAYOUT = 2  # version of the attributes in a file; 1 is from before detectors had features_
_OF_THE_USER = {
    "memory",
    "memory_limit",
    "reference",
}  # parameters that a file must not set, because they decide which files are read, written and deleted


def save(estimator, path, *, include_weights=False):
    """Save a fitted estimator to a file.

    The file, in skops format, holds parameters and numpy arrays. Pretrained networks are stored by name and SHA-256,
    and loaded again when needed. The file is either written completely or not at all.

    Parameters
    ----------
    estimator : estimator
        Estimator of skanomaly or scikit-learn.
    path : path-like
        Path of the file. An existing file is replaced once the new one is complete.
    include_weights : bool, default=False
        If True, the weights of pretrained networks are stored too, so that the file can be used where they are not
        installed.

    Raises
    ------
    ModelFileError
        If the estimator cannot be stored.

    See Also
    --------
    load : Load an estimator from a file.

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
    except Exception as error:  # skops raises whatever an unknown object raises
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
    """Load an estimator from a file written by `save`.

    No code in the file is executed. The only types that are created are the public estimators of skanomaly, the types
    of scikit-learn, numpy and scipy that skops considers safe, and those named in `trusted`. (The trees of
    scikit-learn's forests are not among them; pass ``trusted=["sklearn.tree._tree.Tree"]`` for your own files.)
    Functions of skanomaly are refused even if `trusted` names them.

    A model file cannot choose files and folders: all parameters `memory`, `memory_limit` and `reference` are reset to
    their defaults. If features were fitted with `weights` from a path, and the file does not include the weights,
    scoring raises `MissingWeightsError` until you set the path again: ``model.features_.set_params(weights="path")``.

    Parameters
    ----------
    path : path-like
        Path of the file.
    trusted : sequence of str, default=()
        Full names of further types that the file may hold, such as your own transformers.

    Returns
    -------
    estimator
        The fitted estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is not a model file, is damaged, was written by a newer version or holds types that are not trusted;
        the message names them.

    See Also
    --------
    save : Save a fitted estimator to a file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r} does not exist; it must be a model file.")
    content = _read(path, trusted)
    if not isinstance(content, dict) or not {"skanomaly", "estimator"} <= set(content):
        raise ModelFileError(f"path={str(path)!r} was not written by skanomaly.save.")
    if parse_version(content["skanomaly"]) > parse_version(skanomaly.__version__):
        raise ModelFileError(
            f"path={str(path)!r} was written by skanomaly {content['skanomaly']}, newer than this "
            f"{skanomaly.__version__}; upgrade skanomaly to load it."
        )
    if content.get("layout", 1) != _LAYOUT:
        raise ModelFileError(
            f"path={str(path)!r} was written by a development version of skanomaly whose estimators had other "
            "attributes; fit and save the model again."
        )
    for part in _fitted_networks(content["estimator"]):
        if part.weights_sha256_ in content.get("weights", {}):
            type(part).use_network_state(part, content["weights"][part.weights_sha256_])
    return content["estimator"]


def _read(path, trusted):
    """Return the content of a model file, created from trusted types only and without its paths."""
    try:
        data = path.read_bytes()
        forbidden = _forbidden_names(_schema(data))
        unknown = skops.io.get_untrusted_types(data=data)
    except Exception as error:  # a damaged file can make zipfile, json or skops raise anything
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
    """Raise if a file refers to anything forbidden, or to other types that are not trusted or lead to skanomaly."""
    untrusted = [name for name in foreign if name not in trusted]
    if not untrusted:  # otherwise, nothing may be imported
        forbidden = forbidden or [name for name in foreign if _leads_to_ours(name)]
    if forbidden:
        raise ModelFileError(
            f"path={str(path)!r} refers to {', '.join(forbidden)}. Of skanomaly, a model file may hold only estimators "
            "and their attributes, because functions and constructors would be called with arguments that the file "
            "chooses; trusted=[...] does not change this."
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
    """Return all names of skanomaly in a file, other than our classes where they are created from attributes."""
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
    """Return whether a node creates one of our classes, under its own name, from attributes only."""
    if node.get("__loader__") != "ObjectNode":
        return False
    module, name = node["__module__"], node.get("__class__")
    found = _registered_class(module, name)
    return isinstance(found, type) and (found.__module__, found.__name__) == (module, name)


def _registered_class(module, name):
    """Return the public estimator or the registered state class of a name, or else None."""
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
    """Return whether a name outside skanomaly refers to an object of skanomaly."""
    try:
        module = pkgutil.resolve_name(name).__module__
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(module, str) and _is_ours(module)


def _forget_paths(part):
    """Reset the files and folders that a part of a loaded estimator names."""
    if hasattr(type(part), "withhold_weights"):
        type(part).withhold_weights(part)
    if not isinstance(part, BaseEstimator):
        return
    parameters = inspect.signature(type(part)).parameters
    for name in parameters.keys() & _OF_THE_USER:
        default = parameters[name].default
        setattr(part, name, None if default is inspect.Parameter.empty else default)


def _fitted_networks(estimator):
    """Yield the fitted parts of an estimator that load the weights of a network."""
    for part in _parts(estimator):
        if hasattr(type(part), "use_network_state") and hasattr(part, "weights_sha256_"):
            yield part


def _parts(estimator):
    """Yield every object in an estimator once: parameters, attributes and the items of containers."""
    seen, waiting = {}, [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen and not isinstance(part, (type, ModuleType, FunctionType)):
            seen[id(part)] = part  # kept alive, or another object could get its id
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
