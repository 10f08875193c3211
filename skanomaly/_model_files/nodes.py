"""The nodes of a schema: objects of skops's format, checked before any of them is made."""

import json

from ..exceptions import ModelFileError

_DEEPEST = 250  # levels of lists and dicts; an object takes two or three
_LOADERS = {
    *("BytearrayNode", "BytesNode", "ConstructorFromReduceNode", "DTypeNode", "DefaultDictNode", "DictNode"),
    *("FunctionNode", "JsonNode", "ListNode", "LossNode", "MaskedArrayNode", "MethodNode", "NdArrayNode"),
    *("ObjectNode", "OperatorFuncNode", "PartialNode", "RandomGeneratorNode", "RandomStateNode", "SetNode"),
    *("SliceNode", "SparseMatrixNode", "TreeNode", "TupleNode", "TypeNode"),
}
_OLDEST_PROTOCOL = 2
_OWN = {"__id__", "file"}  # what tells objects apart that are alike
_MOST_COMPARED = 2**20


def check_nodes(archive):
    """Raise if a schema holds anything that `save` does not write, or that costs more than it is long.

    Nodes with equal numbers are one object, which is written out wherever it is found but made only once. If they were
    not alike, a few lines could stand for many objects.

    Parameters
    ----------
    archive : Archive
        Archive of a model file.

    Raises
    ------
    ModelFileError
        If so; the message says what was found.
    """
    protocol = archive.schema.get("protocol")
    if type(protocol) is not int or protocol < _OLDEST_PROTOCOL:
        raise ModelFileError(f"it has the unknown protocol {protocol!r}")
    _Nodes(archive).visit(archive.schema, 0)


class _Nodes:
    """Nodes that were visited so far: the first one of each number, and the owner of each member."""

    def __init__(self, archive):
        self.archive, self.objects, self.owners, self.n_compared = archive, {}, {}, 0

    def visit(self, value, depth):
        """Check a part of the schema and all that it holds."""
        if depth > _DEEPEST:
            raise ModelFileError(f"its objects are nested in more than {_DEEPEST} levels")
        if isinstance(value, dict) and "__loader__" in value:
            self._check(value)
        for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            self.visit(item, depth + 1)

    def _check(self, node):
        loader, number = node["__loader__"], node.get("__id__")
        if loader not in _LOADERS:
            raise ModelFileError(f"it holds a node {loader!r}, which is not written by save")
        if number is not None and not self._alike(node, self.objects.setdefault(number, node)):
            raise ModelFileError(f"it holds two different objects under the number {number!r}")
        if loader == "JsonNode":
            _check_constant(node)
        if "file" in node:
            self._check_member(node)

    def _alike(self, a, b):
        """Return whether two nodes differ only in the numbers and members of what they hold."""
        if a is b:
            return True
        self.n_compared += 1
        if self.n_compared > _MOST_COMPARED:
            raise ModelFileError("its objects share too many others")
        if isinstance(a, dict) and isinstance(b, dict):
            return a.keys() == b.keys() and all(key in _OWN or self._alike(a[key], b[key]) for key in a)
        if isinstance(a, list) and isinstance(b, list):
            return len(a) == len(b) and all(map(self._alike, a, b))
        return type(a) is type(b) and a == b

    def _check_member(self, node):
        """Raise unless a node has a member of its own, of its own kind."""
        name, loader = node["file"], node["__loader__"]
        if not isinstance(name, str) or name not in self.archive.names:
            raise ModelFileError(f"it has no member {name!r}, which it refers to")
        if self.owners.setdefault(name, node.get("__id__")) != node.get("__id__"):
            raise ModelFileError(f"several objects claim its member {name!r}")
        if loader == "NdArrayNode":
            self.archive.check_array(name)
        elif loader == "SparseMatrixNode":
            self.archive.check_sparse(name)


def _check_constant(node):
    """Raise unless a node is a string, a number, a bool or None."""
    content = node.get("content")
    if not isinstance(content, str) or isinstance(json.loads(content), (list, dict)):
        raise ModelFileError("it holds a constant that is neither a string nor a number")
