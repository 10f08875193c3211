"""Who may import whom: down only, siblings never each other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skanomaly

ROOT = Path(skanomaly.__file__).parent
FLOORS = [
    {"_kernels", "exceptions"},
    {"_inputs", "_torch", "thresholds"},
    {"_networks"},
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


def test_import_is_light():
    heavy = "{'torch', 'numba', 'timm', 'matplotlib', 'pynndescent', 'pandas'}"
    code = f"import sys, skanomaly; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_public_names_resolve():
    for name in skanomaly.__all__:
        assert getattr(skanomaly, name).__name__ == name
    with pytest.raises(AttributeError, match="nonsense"):
        skanomaly.nonsense  # noqa: B018
