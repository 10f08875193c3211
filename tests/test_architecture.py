"""Who may import whom: down only, siblings never each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skanomaly

ROOT = Path(skanomaly.__file__).parent
FLOORS = [
    {"_kernels", "_doc_links", "exceptions"},
    {"_inputs", "_model_files", "_torch", "thresholds"},
    {"_networks"},
    {"networks", "_calibration"},
    {"base"},
    {"features", "reduction", "scoring", "maps"},
    {"detectors"},
    {"composite"},
    {"conformal", "model_selection", "persistence", "metrics", "datasets", "plotting"},
    {"evaluation", "testing", "distributed"},
    {"cli"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ARRAYS_ONLY = {"metrics", "datasets", "plotting"}  # of our own rooms they may know these:
LOW_ROOMS = {"_kernels", "_inputs", "exceptions", "thresholds", "maps"}


def imported_rooms(path):
    """Yield the rooms of skanomaly that a module imports."""
    package = ("skanomaly", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            full = (*base, *(node.module or "").split(".")) if node.module else base
            names = [full] if len(full) > 1 else [(*full, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        yield from (name[1] for name in names if name[0] == "skanomaly" and len(name) > 1)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if room in ("__init__", "__main__"):
        return
    for other in imported_rooms(path):
        if other == room or other not in FLOOR:
            assert other == room or other in skanomaly.__all__, f"{path} imports the unknown room {other}"
            continue
        assert FLOOR[other] < FLOOR[room], f"{path} ({room}) must not import {other}"
        assert room not in ARRAYS_ONLY or other in LOW_ROOMS, f"{room} knows arrays, it must not import {other}"


HOOKS = {  # of BaseDetector: what wrappers may call on what they wrap
    "_open", "_prepare", "_embed", "_learn", "_fit", "_score", "_leave_one_out", "_add", "_absorb", "_features",
    "_render", "_calibrates_maps", "_check_state",
}  # fmt: skip
OF_LIBRARIES = {"_replace", "_parameter_constraints", "_validate_params"}  # of named tuples and of scikit-learn


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_underscore_methods_stay_at_home(path):
    """Nobody reaches for what belongs to another object, beyond the hooks."""
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stored = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and is_own(node.value)}
    foreign = {
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not is_own(node.value)
        and node.attr not in HOOKS | OF_LIBRARIES | own | stored
    }
    assert not foreign, f"{path} uses private names of other objects: {sorted(foreign)}"


def is_own(node):
    """Return whether an expression is self, cls or super()."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def test_nobody_asks_rows_or_images():
    """The kind of X is asked once, by `resolve_features`; elsewhere the features know."""
    asking = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Name) and node.id in ("kind_of", "_holds_images"))
        or (isinstance(node, ast.Attribute) and node.attr == "kind_")
    }
    assert asking <= {"features/_resolve.py"}


def test_kernels_and_networks_do_without_torch():
    """Kernels are numpy and numba alone; describing a network costs no import of torch."""
    for path in (ROOT / "_kernels").rglob("*.py"):
        assert "torch" not in path.read_text(), path
    code = "import sys, skanomaly.networks as n; [getattr(n, k) for k in n.__all__]; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_import_is_light():
    heavy = "{'torch', 'numba', 'timm', 'matplotlib', 'pynndescent', 'pandas'}"
    code = f"import sys, skanomaly; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_public_names_resolve():
    for name in skanomaly.__all__:
        assert getattr(skanomaly, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        skanomaly.nonsense  # noqa: B018
