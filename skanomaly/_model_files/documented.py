"""Types of attributes as the docstrings of our classes state them, which the attributes of a model file must have.

A section "Attributes" is the schema of a class. Its entries read ``name : type``, where a type is one of

- ``int``, ``float``, ``bool``, ``str``, ``estimator``, or the name of a class;
- ``ndarray of shape (n, d)``, or ``(n, d) or (n,)``, with or without a dtype after it. Equal letters are equal lengths
  throughout a class; terms such as ``h * w`` are compared where their letters are known; ``n_channels_`` is the
  attribute of this name;
- ``list of <type>``, ``tuple of <type>``, ``dict of str to <type>``. Letters that end in ``_l`` belong to one item;
- several of these, with "or" or commas, and ``None``.

An attribute is optional if its description says "Defined only". Private attributes are listed in ``_private_state`` of
a class, a dict of the same types by name; all others that begin with an underscore are never stored.
"""

import ast
import inspect
import operator
import re
from functools import lru_cache
from numbers import Integral, Real

import numpy as np
from sklearn.base import BaseEstimator

_ENTRY = re.compile(r"^(\w+) : (.*)$", re.M)
_SECTION = re.compile(r"^Attributes\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", re.M | re.S)
_ARRAY = re.compile(r"(?:nd)?array of shape \((.*)\)(?:, (\w+))?$")
_NESTED = re.compile(r"(list|tuple|dict of str to|dict) ?(?:of)? ?(.*)")
_KINDS = {
    "int": lambda value: isinstance(value, Integral) and not isinstance(value, bool),
    "float": lambda value: isinstance(value, Real) and not isinstance(value, bool) and not np.isnan(value),
    "bool": lambda value: isinstance(value, (bool, np.bool_)),
    "str": lambda value: isinstance(value, str),
    "None": lambda value: value is None,
    "estimator": lambda value: hasattr(type(value), "__dict__") and _is_object(value),
    "callable": callable,
}
_OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.floordiv}
_OPERATIONS[ast.Pow] = lambda base, exponent: base ** min(exponent, 8)


def _is_object(value):
    return isinstance(value, BaseEstimator) or type(value).__module__.split(".")[0] == "skanomaly"


@lru_cache(maxsize=256)
def documented(cls):
    """Return the types of the attributes of a class and of its base classes, and the names of those it always has.

    Parameters
    ----------
    cls : type
        Class.

    Returns
    -------
    types : dict of str to str
        Types by name.
    required : frozenset of str
        Names of the attributes that a fitted object has.
    """
    types, optional = {}, set()
    for base in reversed(cls.__mro__):
        private = vars(base).get("_private_state", {})
        optional |= private.keys()
        types |= private
        for name, kind, text in _entries(vars(base).get("__doc__")):
            if _is_attribute(cls, name):
                types[name] = kind
                optional |= {name} if "Defined only" in text else set()
    return types, frozenset(types.keys() - optional)


def _is_attribute(cls, name):
    """Return whether a documented name is stored in objects, rather than defined by the class, as properties are."""
    return not any(name in vars(base) for base in cls.__mro__)


def _entries(docstring):
    """Yield the name, the type and the description of each documented attribute."""
    section = _SECTION.search(inspect.cleandoc(docstring or "") + "\n")
    parts = _ENTRY.split(section[1])[1:] if section else []
    yield from zip(parts[::3], parts[1::3], (" ".join(text.split()) for text in parts[2::3]), strict=True)


def misfit(value, kind, sizes):
    """Compare a value with a documented type.

    Parameters
    ----------
    value : object
        Value of an attribute.
    kind : str
        Documented type.
    sizes : dict of str to int
        Lengths of axes that are known, to which those of the value are added.

    Returns
    -------
    bool
        True if the value is not of the type.
    """
    kind = kind.strip()
    array = _ARRAY.match(kind)
    if array:
        return not _is_array(value, array[1], array[2], sizes)
    alternatives = _alternatives(kind)
    if len(alternatives) > 1:
        return all(misfit(value, one, sizes) for one in alternatives)
    nested = _NESTED.fullmatch(kind)
    if nested:
        return not _is_container(value, nested[1].split()[0], nested[2], sizes)
    if kind in _KINDS:
        return not _KINDS[kind](value)
    if kind == "ndarray":
        return not isinstance(value, np.ndarray)
    return kind[:1].isupper() and kind not in {base.__name__ for base in type(value).__mro__}


def _alternatives(kind):
    """Return the types that "or" and commas outside brackets separate; a dtype belongs to what precedes it."""
    depth, start, found = 0, 0, []
    for match in re.finditer(r"[()]|, or | or |, (?=[A-Z])", kind):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if depth == 0 and match[0] not in "()":
            found.append(kind[start : match.start()])
            start = match.end()
    return [*found, kind[start:]]


def _is_container(value, container, kind, sizes):
    types = {"list": list, "tuple": (tuple, list), "dict": dict}
    if not isinstance(value, types[container]):
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and not any(misfit(v, kind, sizes) for v in value.values())
    if "_l" in kind and sizes.setdefault("number of layers", len(value)) != len(value):
        return False
    return not any(
        misfit(item, kind.replace("_l,", f"_l{i},").replace("_l)", f"_l{i})"), sizes) for i, item in enumerate(value)
    )


def _is_array(value, shapes, dtype, sizes):
    if not isinstance(value, np.ndarray) or (dtype is not None and value.dtype != dtype):
        return False
    for shape in shapes.split(") or ("):
        axes, found = [axis.strip() for axis in shape.split(",") if axis.strip()], dict(sizes)
        if "..." in axes:
            return True
        if value.ndim == len(axes) and all(map(_fits, value.shape, axes, [found] * len(axes))):
            sizes.update(found)
            return True
    return False


def _fits(length, axis, sizes):
    """Return whether a length agrees with a letter or a term; a letter that is not known yet is set."""
    axis = axis.replace("`", "").replace("^", "**").replace(" (", " * (")
    if axis.isidentifier():
        return sizes.setdefault(axis, length) == length
    try:
        return _value(ast.parse(axis, mode="eval").body, sizes) == length
    except (KeyError, SyntaxError, ZeroDivisionError):  # letters that are not known
        return True


def _value(node, sizes):
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, sizes), _value(node.right, sizes))
    return node.value if isinstance(node, ast.Constant) else sizes[getattr(node, "id", None)]
