"""Ways in which a model file is damaged, or rewritten by somebody who knows its format."""

import io
import json
import zipfile
from contextlib import suppress

import numpy as np

from skanomaly._model_files.archive import seal

PATH = "/tmp/skanomaly-torture-path"  # must never be opened or made
CONSTANTS = (
    *(None, True, False, 0, 1, -1, 2, 7, 1e308, -1e-300, 10**30, 2**31, 2**63, float("nan"), float("inf"), 0.5),
    *("", "random", "auto", "mean", PATH, f"../..{PATH}", "hf-hub:nobody/nothing", "local-dir:/tmp", "os.system", "\0"),
)
FUNCTIONS = (
    *(("os", "system"), ("builtins", "eval"), ("builtins", "exec"), ("subprocess", "Popen"), ("shutil", "rmtree")),
    *(("skanomaly.persistence", "save"), ("skanomaly.scoring._knn", "KNNScorer"), ("pickle", "loads")),
    *(("numpy", "load"), ("torch", "load"), ("numpy.testing._private.utils", "runstring")),
)
NAMES = ("_search", "_index", "_net", "_own", "score_samples", "predict", "__class__", "__dict__", "evil_", "features_")


class Parts:
    """Members and schema of a model file, to be changed and written again."""

    def __init__(self, path):
        with zipfile.ZipFile(path) as archive:
            self.members = [(name, archive.read(name)) for name in archive.namelist() if name != "schema.json"]
            self.schema = json.loads(archive.read("schema.json"))
        self.text = None  # of the schema, instead of the schema

    def write(self, path, *, sealed, compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, data in self.members:
                archive.writestr(zipfile.ZipInfo(name), data, compression)
            archive.writestr("schema.json", self.text or json.dumps(self.schema))
        if sealed:
            seal(path)

    def nodes(self, *loaders):
        """Return all nodes with one of the given loaders."""
        found, waiting = [], [self.schema]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                if value.get("__loader__") in loaders:
                    found.append(value)
                waiting.extend(value.values())
            elif isinstance(value, list):
                waiting.extend(value)
        return found


# ------------------------------------------------------------------------------------------------- bytes


def flip(data, rng):
    data = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)):
        data[place] ^= 1 << rng.integers(8)
    return bytes(data)


def flip_directory(data, rng):
    start = max(0, len(data) - 3000)
    return data[:start] + flip(data[start:], rng)


def truncate(data, rng):
    return data[: rng.integers(0, len(data))]


def blank(data, rng):
    start, length = rng.integers(0, len(data)), rng.integers(1, 4096)
    return data[:start] + bytes(length) + data[start + length :]


def append(data, rng):
    return data + rng.bytes(rng.integers(1, 4096))


def insert(data, rng):
    place = rng.integers(0, len(data))
    return data[:place] + rng.bytes(rng.integers(1, 64)) + data[place:]


# ------------------------------------------------------------------------------------------------- members


def traverse(parts, rng):
    i = rng.integers(len(parts.members))
    names = ("../../evil.npy", "/tmp/evil.npy", "..\\evil.npy", "a/../../b.npy", "C:evil.npy", ".hidden.npy")
    parts.members[i] = (names[rng.integers(len(names))], parts.members[i][1])


def duplicate(parts, rng):
    parts.members.append(parts.members[rng.integers(len(parts.members))])


def exchange(parts, rng):
    i, j = rng.integers(0, len(parts.members), 2)
    (a, x), (b, y) = parts.members[i], parts.members[j]
    parts.members[i], parts.members[j] = (a, y), (b, x)


def drop(parts, rng):
    del parts.members[rng.integers(len(parts.members))]


def smuggle_pickle(parts, rng):
    content = io.BytesIO()
    np.save(content, np.array([Evil(), None], dtype=object), allow_pickle=True)
    _replace(parts, rng, content.getvalue())


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, (f"open({PATH!r}, 'w')",)


def claim_size(parts, rng):
    """Declare a shape of terabytes, in the header of an array."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10 ** int(rng.integers(6, 15))},), }}"
    header = header.ljust(117) + "\n"
    _replace(parts, rng, b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64))


def claim_together(parts, rng):
    """Let all arrays be one member."""
    arrays = [node for node in parts.nodes("NdArrayNode") if "file" in node]
    for node in arrays[1:]:
        node["file"] = arrays[0]["file"]


def _replace(parts, rng, data):
    i = rng.integers(len(parts.members))
    parts.members[i] = (parts.members[i][0], data)


# ------------------------------------------------------------------------------------------------- arrays


def _changed(change):
    def mutate(parts, rng):
        for i in rng.permutation(len(parts.members)):
            name, data = parts.members[i]
            if name.endswith(".npy"):
                content = io.BytesIO()
                np.save(content, change(np.load(io.BytesIO(data)), rng), allow_pickle=False)
                parts.members[i] = (name, content.getvalue())
                return

    mutate.__name__ = change.__name__
    return mutate


def shorter(array, rng):
    return array[: rng.integers(0, len(array))] if array.ndim and len(array) else array.ravel()


def longer(array, rng):
    return np.concatenate([array, array]) if array.ndim else np.stack([array, array])


def transposed(array, rng):
    return np.ascontiguousarray(array.T)


def flat(array, rng):
    return array.ravel()


def deeper(array, rng):
    return array[None]


def retyped(array, rng):
    kinds = ("f4", "f8", "i8", "u1", "c16", "U8", "bool", "M8[s]", "V4", "f2")
    return np.zeros(array.shape, kinds[rng.integers(len(kinds))])


def with_odd_value(array, rng):
    array, odd = array.copy(), (np.nan, np.inf, -np.inf, 1e300, -1, 2**31 - 1, -(2**31), 0)[rng.integers(8)]
    if array.size and array.dtype.kind in "fiu":
        with np.errstate(all="ignore"):
            array.flat[rng.integers(array.size)] = np.asarray(odd).astype(array.dtype)
    return array


def with_wild_values(array, rng):
    return rng.integers(-100, 10**9, array.shape).astype(array.dtype) if array.dtype.kind in "iu" else -1e30 * array


# ------------------------------------------------------------------------------------------------- schema


def change_constant(parts, rng):
    node = _any(parts.nodes("JsonNode"), rng)
    node["content"] = json.dumps(CONSTANTS[rng.integers(len(CONSTANTS))])


def nest_constant(parts, rng):
    _any(parts.nodes("JsonNode"), rng)["content"] = json.dumps([[1]] * 3)


def call_function(parts, rng):
    node = _any(parts.nodes("JsonNode", "NdArrayNode", "ObjectNode", "TypeNode", "TupleNode"), rng)
    node["__module__"], node["__class__"] = FUNCTIONS[rng.integers(len(FUNCTIONS))]
    loaders = ("FunctionNode", "TypeNode", "ConstructorFromReduceNode", "ObjectNode", "ListNode", node["__loader__"])
    node["__loader__"] = loaders[rng.integers(len(loaders))]


def change_class(parts, rng):
    a, b = (_any(parts.nodes("ObjectNode"), rng) for _ in range(2))
    a["__module__"], a["__class__"] = b["__module__"], b["__class__"]


def exchange_nodes(parts, rng):
    dicts = [node["content"] for node in parts.nodes("DictNode") if node["content"]]
    a, b = (_any(dicts, rng) for _ in range(2))
    x, y = (_any(sorted(content), rng) for content in (a, b))
    a[x], b[y] = b[y], a[x]


def remove_attribute(parts, rng):
    node = _any([node for node in parts.nodes("DictNode") if node["content"]], rng)
    i = rng.integers(len(node["content"]))
    del node["content"][list(node["content"])[i]], node["key_types"]["content"][i]


def add_attribute(parts, rng):
    node = _any([node["content"] for node in parts.nodes("ObjectNode") if "content" in node["content"]], rng)
    name = NAMES[rng.integers(len(NAMES))]
    value = _any(parts.nodes("NdArrayNode", "ObjectNode", "JsonNode"), rng)
    node["content"][name] = json.loads(json.dumps(value))
    node["key_types"]["content"].append({"__class__": "str", "__module__": "builtins", "__loader__": "TypeNode"})


def set_path(parts, rng):
    """Set a parameter that names a file, a folder or a network."""
    names = ("memory", "weights", "backbone", "device", "layers", "image_size", "random_state", "download")
    for node in parts.nodes("DictNode"):
        for name in node["content"].keys() & set(names):
            if rng.random() < 0.5:
                value = json.dumps(CONSTANTS[rng.integers(len(CONSTANTS))])
                node["content"][name] = {**_json(parts), "content": value}


def share_number(parts, rng):
    a, b = (_any(parts.nodes("JsonNode", "NdArrayNode", "ObjectNode", "DictNode"), rng) for _ in range(2))
    a["__id__"] = b["__id__"]


def nest(parts, rng):
    value = parts.schema["content"]["estimator"]
    for i in range(int(rng.integers(20, 200))):
        value = {"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [value]}
        value["__id__"] = 10**6 + i
    parts.schema["content"]["estimator"] = value


def nest_deeper(parts, rng):
    n = int(rng.integers(500, 10**6))
    parts.text = json.dumps(parts.schema)[:-1] + ', "more": ' + "[" * n + "]" * n + "}"


def refer_back(parts, rng):
    node = _any(parts.nodes("JsonNode", "NdArrayNode"), rng)
    other = _any(parts.nodes("DictNode", "ObjectNode"), rng)
    node["__loader__"], node["__id__"] = "CachedNode", other["__id__"]


def change_loader(parts, rng):
    loaders = ("DictNode", "SetNode", "BytesNode", "PartialNode", "MethodNode", "TreeNode", "SparseMatrixNode", "Nope")
    node = _any(parts.nodes("JsonNode", "NdArrayNode", "ObjectNode", "ListNode", "DictNode"), rng)
    node["__loader__"] = loaders[rng.integers(len(loaders))]


def change_origin(parts, rng):
    name = ("skanomaly", "layout")[rng.integers(2)]
    parts.schema["content"][name]["content"] = json.dumps(CONSTANTS[rng.integers(len(CONSTANTS))])


def _any(items, rng):
    return items[rng.integers(len(items))]


def _json(parts):
    return {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True}


BYTES = (flip, flip_directory, truncate, blank, append, insert)
ARRAYS = tuple(map(_changed, (shorter, longer, transposed, flat, deeper, retyped, with_odd_value, with_wild_values)))
MEMBERS = (traverse, duplicate, exchange, drop, smuggle_pickle, claim_size, claim_together)
SCHEMA = (
    *(change_constant, change_constant, change_constant, nest_constant, call_function, change_class, exchange_nodes),
    *(remove_attribute, remove_attribute, add_attribute, set_path, share_number, nest, refer_back, change_loader),
    *(change_origin, nest_deeper),
)


def mutate(source, target, rng):
    """Write a changed copy of a model file; return the name of the change and whether the checksum was written anew."""
    pool = (BYTES, ARRAYS, ARRAYS, MEMBERS, SCHEMA, SCHEMA, SCHEMA)[rng.integers(7)]
    change = pool[rng.integers(len(pool))]
    if change in BYTES:
        target.write_bytes(change(source.read_bytes(), rng))
        return change.__name__, False
    parts, sealed = Parts(source), bool(rng.random() < 0.85)
    change(parts, rng)
    if rng.random() < 0.5:
        with suppress(ArithmeticError, LookupError, ValueError, TypeError):  # what is left may not suit it
            change(parts, rng)
    compressed = rng.random() < 0.03
    parts.write(target, sealed=sealed, compression=zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    return change.__name__, sealed
