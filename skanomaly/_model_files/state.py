"""What the parts of a model file must be like: parameters as for a constructor, attributes as after a fit."""

import inspect
from numbers import Complex

import numpy as np
from scipy.sparse import issparse
from sklearn.base import BaseEstimator

from ..exceptions import ModelFileError
from .documented import documented, misfit

_STATES = {"pos": 624, "buffer_pos": 4}  # positions in buffers of random generators, which numpy does not check
_OF_LIBRARIES = {"_sklearn_version", "_sklearn_output_config"}  # attributes that scikit-learn adds to every estimator
_METADATA = ("_metadata_requests",)


def check_part(part):
    """Raise unless a part of an estimator could be the result of a constructor and of a fit.

    Parameters
    ----------
    part : object
        Estimator, attribute, or item of a container.

    Raises
    ------
    ModelFileError
        If the part is not valid; the message names its class and the attribute.
    """
    if issparse(part):
        part.check_format(full_check=True) if hasattr(part, "check_format") else None
    elif isinstance(part, (np.random.RandomState, np.random.Generator)):
        _check_generator(part)
    elif hasattr(part, "__dict__") and not callable(getattr(type(part), "__array__", None)):
        _check_names(part)
        if _is_ours(type(part)):
            _check_attributes(part)
        if isinstance(part, BaseEstimator):
            _check_parameters(part)
        if hasattr(type(part), "_check_state"):
            _check_relations(part)


def _is_ours(cls):
    """Return whether a class is defined in skanomaly."""
    return cls.__module__.split(".")[0] == "skanomaly"


def _refuse(part, text):
    raise ModelFileError(f"{type(part).__name__} {text}")


def _check_generator(part):
    random = part if isinstance(part, np.random.RandomState) else part.bit_generator
    state = random.get_state(legacy=False) if random is part else random.state
    for where in (state, state.get("state", {})):
        for name, most in _STATES.items():
            if not 0 <= where.get(name, 0) <= most:
                _refuse(part, f"has the state {name}={where[name]}")


def _check_names(part):
    """Raise if attributes have no proper names, or take the place of methods and properties."""
    for name in vars(part):
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
            _refuse(part, f"has an attribute {name!r}")
        found = inspect.getattr_static(type(part), name, None)
        if inspect.isroutine(found) or hasattr(type(found), "__get__"):
            _refuse(part, f"has an attribute {name!r}, which would hide the {type(found).__name__} of that name")


def _check_parameters(part):
    """Raise unless an estimator has all its parameters, with values that its constructor and `fit` accept."""
    missing = sorted(set(_parameters(type(part))) - set(vars(part)))
    if missing:
        _refuse(part, f"has no parameter {missing[0]!r}")
    try:
        part._validate_params()
    except AttributeError:
        return  # without constraints
    except (ValueError, TypeError) as error:
        raise ModelFileError(str(error)) from error


def _parameters(cls):
    """Return the names of the parameters of a constructor."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if cls.__init__ is object.__init__:
        return []
    return [name for name, p in inspect.signature(cls).parameters.items() if p.kind in kinds]


def _check_attributes(part):
    """Raise unless the attributes of an object of ours are those that its class documents."""
    cls = type(part)
    types, required = documented(cls)
    known = types.keys() | set(_parameters(cls)) | _OF_LIBRARIES | set(_METADATA)
    sizes = {name: value for name, value in vars(part).items() if type(value) is int}
    for name, value in vars(part).items():
        if name not in known:
            _refuse(part, f"has an attribute {name!r}, which it does not document")
        if name in types:
            if misfit(value, types[name], sizes):
                _refuse(part, f"has {name} = {_brief(value)}; it must be {types[name]}")
            _check_numbers(part, name, value)
    missing = sorted(required - vars(part).keys())
    if missing and _is_fitted(part, types):
        _refuse(part, f"has no attribute {missing[0]!r}")


def _is_fitted(part, types):
    """Return whether a part is fitted: an object that is no estimator always is."""
    return not isinstance(part, BaseEstimator) or any(name in types for name in vars(part))


def _check_numbers(part, name, value):
    """Raise if an array, in containers too, holds NaN, complex numbers or objects that are not strings."""
    if isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            _check_numbers(part, name, item)
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "O":
            fits = all(isinstance(item, str) for item in value.flat)
        else:
            fits = value.dtype.kind in "biufU" and not (value.dtype.kind == "f" and np.isnan(value).any())
        if not fits:
            _refuse(part, f"has {name} = {_brief(value)}, with values that are NaN or not numbers")
    elif isinstance(value, Complex) and (isinstance(value, complex) or np.isnan(value)):
        _refuse(part, f"has {name} = {value!r}")


def _check_relations(part):
    try:
        part._check_state()
    except ModelFileError:
        raise
    except Exception as error:  # of other types than the class expects
        raise ModelFileError(f"{type(part).__name__} has attributes that do not fit together: {error}") from error


def _brief(value):
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    text = repr(value) if isinstance(value, (int, float, str, bool, type(None))) else type(value).__name__
    return text if len(text) < 80 else text[:80] + "..."
