"""Model files, which can be loaded without executing code."""

import copy
import inspect
import io
import os
import pkgutil
import re
import sys
import tempfile
import time
import zipfile
from importlib import import_module
from pathlib import Path, PurePath

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.fixes import parse_version

import skanomaly

from ._model_files.archive import SCHEMA, opened, seal
from ._model_files.nodes import check_nodes
from ._model_files.parts import parts_of, rewritten
from ._model_files.state import check_part
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
    "skanomaly.metrics._scorers:AUPROScorer",
    "skanomaly.metrics._scorers:AUSPROScorer",
    "skanomaly.metrics._scorers:F1MaxScorer",
    "skanomaly.metrics._scorers:ImageAPScorer",
    "skanomaly.metrics._scorers:ImageAUROCScorer",
    "skanomaly.metrics._scorers:PixelAPScorer",
    "skanomaly.metrics._scorers:PixelAUROCScorer",
    "skanomaly.metrics._scorers:PixelF1MaxScorer",
    "skanomaly.metrics._scorers:PixelMetricsScorer",
    "skanomaly.metrics._scorers:RegionHitRateScorer",
    "skanomaly.metrics._scorers:RegionIoUScorer",
    "skanomaly.metrics._scorers:TNRScorer",
    "skanomaly.metrics._scorers:TPRScorer",
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
# Classes of others that are made from attributes only and do nothing by themselves, beside those that skops trusts.
_HARMLESS = {
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.impute._iterative.IterativeImputer",
    "sklearn.metrics._scorer._PassthroughScorer",
    *(f"scipy.sparse._{kind}.{kind}_{end}" for kind in ("csr", "csc", "coo") for end in ("array", "matrix")),
    *(f"sklearn.model_selection._split.{kind}KFold" for kind in ("", "Group", "Stratified", "StratifiedGroup")),
    *(f"sklearn.model_selection._split.{kind}ShuffleSplit" for kind in ("", "Group", "Stratified")),
}
_LAYOUT = 3  # version of the attributes in a file
_OF_THE_USER = {  # parameters that a file must not set, because they decide what is written, deleted or downloaded
    "memory",
    "memory_limit",
    "reference",
    "download",
}
_ABANDONED = 3600  # seconds after which no process can still be writing a temporary file


def save(estimator, path, *, include_weights=False, trusted=()):
    """Save a fitted estimator to a file.

    The file, in skops format, holds parameters and numpy arrays. Pretrained networks are stored by name and SHA-256,
    and loaded again when needed. What `load` would refuse is refused here already. The file is either written
    completely or not at all.

    Parameters
    ----------
    estimator : estimator
        Estimator of skanomaly or scikit-learn.
    path : path-like
        Path of the file. An existing file is replaced once the new one is complete.
    include_weights : bool, default=False
        If True, the weights of pretrained networks are stored too, so that the file can be used where they are not
        installed. Weights that were loaded from a model file are always stored.
    trusted : sequence of str, default=()
        Full names of further types that the file may hold, such as your own transformers; `load` needs the same names.

    Raises
    ------
    ModelFileError
        If the estimator cannot be stored, or `load` would refuse the file; the message says why.

    See Also
    --------
    load : Load an estimator from a file.

    Notes
    -----
    Paths among the parameters are stored as text. The parameters `memory`, `memory_limit` and `download` are not
    stored, nor is the path in `weights`.

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
    path = Path(path)
    content = {"skanomaly": skanomaly.__version__, "layout": _LAYOUT, "estimator": _stored(estimator, include_weights)}
    _check_keys(content["estimator"])
    _remove_abandoned(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".skanomaly")
    try:
        with os.fdopen(handle, "w+b") as file:
            _dump(content, file)
            seal(file)
            file.flush()
            os.fsync(file.fileno())
        _read_back(Path(temporary), estimator, trusted)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path, trusted=(), *, download=False):
    """Load an estimator from a file written by `save`.

    No code in the file is executed. The only types that are created are the public estimators of skanomaly, the types
    of scikit-learn, numpy and scipy that skops considers safe, and those named in `trusted`. (The trees of
    scikit-learn's forests are not among them; pass ``trusted=["sklearn.tree._tree.Tree"]`` for your own files.)
    Functions of skanomaly are refused even if `trusted` names them. Parameters are checked as in `fit`, and fitted
    attributes against their documented types and shapes.

    A model file cannot choose files, folders and downloads: all parameters `memory`, `memory_limit`, `reference` and
    `download` are reset. If features were fitted with `weights` from a path, and the file does not include the weights,
    scoring raises `MissingWeightsError` until you set the path again: ``model.features_.set_params(weights="path")``.

    Parameters
    ----------
    path : path-like
        Path of the file.
    trusted : sequence of str, default=()
        Full names of further types that the file may hold, such as your own transformers.
    download : bool, default=False
        If True, the weights of a network that the file names may be downloaded when they are needed. If False, they
        must be in the file, in an installed package or in timm's cache.

    Returns
    -------
    estimator
        The fitted estimator.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If the file is not a model file, is damaged, was written by a newer version, holds types that are not trusted,
        or attributes that no fit could have set; the message names them.

    See Also
    --------
    save : Save an estimator to a file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"path={str(path)!r} does not exist; it must be a model file.")
    content = _read(path, trusted)
    for part in parts_of(content):
        _forget_choices(part, download)
    return content["estimator"]


def _read(path, trusted):
    """Return the content of a model file, created from trusted types only and checked."""
    try:
        with opened(path) as (file, archive):
            forbidden = _forbidden_names(archive.schema)
            if not forbidden:
                check_nodes(archive)
            unknown = [] if forbidden else _untrusted(archive)
            _check_trust(path, forbidden, [name for name in unknown if not _is_known(name)], trusted)
            archive.check_seal()
            content = _skops().load(file, trusted=unknown)
    except ModelFileError as error:
        if str(error).startswith("path="):
            raise
        raise ModelFileError(f"path={str(path)!r} is not a model file, or is damaged: {error}.") from error
    except Exception as error:  # a damaged file can make zipfile, json, numpy or skops raise anything
        raise ModelFileError(f"path={str(path)!r} is not a model file, or is damaged: {error}") from error
    _check_origin(path, content)
    try:
        for part in parts_of(content):
            check_part(part)
    except Exception as error:  # attributes of types that the checks do not expect
        raise ModelFileError(f"path={str(path)!r} holds an estimator that is not valid: {error}") from error
    return content


def _check_origin(path, content):
    """Raise unless the content is that of a file written by this version of `save`."""
    if not isinstance(content, dict) or not {"skanomaly", "estimator"} <= set(content):
        raise ModelFileError(f"path={str(path)!r} was not written by skanomaly.save.")
    version = content["skanomaly"]
    if not isinstance(version, str) or not re.fullmatch(r"\d[\w.+]{0,40}", version):
        raise ModelFileError(f"path={str(path)!r} was not written by skanomaly.save: its version is {version!r:.50}.")
    if parse_version(version) > parse_version(skanomaly.__version__):
        raise ModelFileError(
            f"path={str(path)!r} was written by skanomaly {version}, newer than this "
            f"{skanomaly.__version__}; upgrade skanomaly to load it."
        )
    layout = content.get("layout", 1)
    if type(layout) is not int or layout != _LAYOUT:
        raise ModelFileError(
            f"path={str(path)!r} was written by a development version of skanomaly whose estimators had other "
            "attributes; fit and save the model again."
        )
    estimator = content["estimator"]
    if not isinstance(estimator, BaseEstimator):
        raise ModelFileError(f"path={str(path)!r} holds an object of type {type(estimator).__name__}, no estimator.")


def _skops():
    """Import skops, which imports all of scikit-learn, no sooner than a file has proved to be worth it."""
    import skops.io

    return skops.io


def _untrusted(archive):
    """Return the names of all types in an archive that skops does not trust, without reading its arrays."""
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as twin, zipfile.ZipFile(archive.file) as original:
        for name in archive.names - {SCHEMA}:
            twin.writestr(name, b"")
        twin.writestr(SCHEMA, original.read(SCHEMA))
    return _skops().get_untrusted_types(data=empty.getvalue())


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


def _is_known(name):
    """Return whether a name needs no trust of the user: a class of ours, a harmless one, or a ufunc of numpy."""
    if _is_ours(name) or name in _HARMLESS:
        return True
    module, _, attribute = name.rpartition(".")
    ufunc = getattr(np, attribute, None)
    return isinstance(ufunc, np.ufunc) and getattr(sys.modules.get(module), attribute, None) is ufunc


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


# ------------------------------------------------------------------------------------------------- what is stored


def _stored(estimator, include_weights):
    """Return what a file holds of an estimator: paths as text, none of the user's choices, weights if included."""
    states = {}

    def change(part):
        if isinstance(part, PurePath):
            return str(part)
        if not _has_choices(part):
            return part
        new = copy.copy(part)
        _forget_choices(new, download=True)
        if include_weights and getattr(part, "sha256", None) and hasattr(type(part), "use_state"):
            if part.sha256 not in states:
                states[part.sha256] = part.state()
            new.use_state(states[part.sha256])
        return new

    return rewritten(estimator, change)


def _has_choices(part):
    return hasattr(type(part), "withhold_weights") or (
        isinstance(part, BaseEstimator) and bool(inspect.signature(type(part)).parameters.keys() & _OF_THE_USER)
    )


def _forget_choices(part, download):
    """Reset the files and folders that a part of an estimator names, and whether it may download."""
    if not _has_choices(part):
        return
    if hasattr(type(part), "withhold_weights"):
        type(part).withhold_weights(part)
    parameters = inspect.signature(type(part)).parameters
    for name in parameters.keys() & _OF_THE_USER:
        default = parameters[name].default
        setattr(part, name, None if default is inspect.Parameter.empty else default)
    if "download" in parameters:
        part.download = download


def _check_keys(estimator):
    """Raise if a dict has keys that the format does not keep apart or gives back changed."""
    for part in parts_of(estimator):
        if isinstance(part, dict):
            wrong = [key for key in part if type(key) not in (str, int, float)]
            if wrong or len({str(key) for key in part}) < len(part):
                key = wrong[0] if wrong else list(part)
                raise ModelFileError(f"A dict with the key {key!r} cannot be stored; keys must be different strings.")


def _dump(content, file):
    try:
        _skops().dump(content, file)
    except Exception as error:  # skops raises whatever an unknown object raises
        raise ModelFileError(f"{type(content['estimator']).__name__} cannot be stored: {error}") from error


def _read_back(path, estimator, trusted):
    """Raise if `load` would refuse a file that was just written."""
    try:
        _read(path, trusted)
    except ModelFileError as error:
        reason = str(error).removeprefix(f"path={str(path)!r} ")
        raise ModelFileError(f"{type(estimator).__name__} cannot be stored, because its file {reason}") from error


def _remove_abandoned(path):
    """Delete temporary files of earlier saves to the same path whose processes were killed."""
    own = re.compile(rf"\.{re.escape(path.name)}\.\w+\.skanomaly")
    for file in os.scandir(path.parent):
        try:
            ours = own.fullmatch(file.name) and file.is_file(follow_symlinks=False)
            if ours and file.stat(follow_symlinks=False).st_mtime < time.time() - _ABANDONED:
                os.unlink(file)
        except FileNotFoundError:  # another process was faster
            continue


def _umask():
    current = os.umask(0)
    os.umask(current)
    return current
