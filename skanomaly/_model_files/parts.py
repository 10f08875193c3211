"""The parts of an estimator: parameters, attributes and the items of containers."""

import copy
from types import BuiltinFunctionType, FunctionType, ModuleType

import numpy as np
from sklearn.base import BaseEstimator

_WITHOUT_PARTS = type, ModuleType, FunctionType, BuiltinFunctionType, np.ufunc


def parts_of(estimator):
    """Yield every object in an estimator once: parameters, attributes and the items of containers.

    Parameters
    ----------
    estimator : object
        Estimator or container.

    Yields
    ------
    object
        The estimator, and all that it holds.
    """
    seen, waiting = {}, [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) not in seen and not isinstance(part, _WITHOUT_PARTS):
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


def rewritten(part, change, seen=None):
    """Return an object in which parts are replaced; whatever holds no such parts is not copied.

    Parameters
    ----------
    part : object
        Estimator, attribute or container.
    change : callable
        Function of an object that returns what replaces it, or the object itself.
    seen : dict, default=None
        What was found so far, by id, so that objects that are shared stay shared.

    Returns
    -------
    object
        The object, or a copy of it; the object itself is not changed.
    """
    seen = {} if seen is None else seen
    if id(part) not in seen:
        seen[id(part)] = part, part  # for objects that hold themselves; kept alive, or another could get the id
        seen[id(part)] = part, change(_with_new_contents(part, change, seen))
    return seen[id(part)][1]


def _with_new_contents(part, change, seen):
    if isinstance(part, dict):
        new = {key: rewritten(value, change, seen) for key, value in part.items()}
        return part if all(map(_same, new.values(), part.values())) else _updated(part, new)
    if isinstance(part, np.ndarray) and part.dtype == object:
        new = np.empty(part.size, object)
        for i, value in enumerate(part.flat):
            new[i] = rewritten(value, change, seen)
        return part if all(map(_same, new, part.flat)) else new.reshape(part.shape)
    if type(part) in (list, tuple):
        new = [rewritten(value, change, seen) for value in part]
        return part if all(map(_same, new, part)) else type(part)(new)
    if not isinstance(part, BaseEstimator) and not type(part).__module__.startswith("skanomaly."):
        return part
    state = getattr(part, "__dict__", {})
    new = rewritten(dict(state), change, seen)
    if all(map(_same, new.values(), state.values())):
        return part
    part = copy.copy(part)
    vars(part).update({name: value for name, value in new.items() if name in vars(part)})
    return part


def _updated(part, new):
    part = copy.copy(part)
    part.update(new)
    return part


def _same(a, b):
    return a is b
