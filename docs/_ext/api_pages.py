"""Write the pages of the API reference from the `__all__` of the public modules, so that none can be missing."""

import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

INTERNAL = {"all_or_nothing", "as_detector", "PipelineDetector"}  # shared among modules, though not among users
GROUPS = {  # of the names that are imported from skanomaly itself, by the module they live in
    "detectors": "Detectors",
    "composite": "Detectors over other detectors",
    "features": "Features",
    "reduction": "Reduction",
    "scoring": "Scorers",
}
WRAPPERS = "Wrappers and functions"


def public_modules():
    """Return the names of all modules of skanomaly that have no underscore, the package first."""
    package = import_module("skanomaly")
    found = pkgutil.walk_packages(package.__path__, "skanomaly.")
    return ["skanomaly", *(module.name for module in found if "._" not in module.name)]


def public_names():
    """Return the public names of each module, each name at the first module that has it."""
    seen, names = set(INTERNAL), {}
    for module in public_modules():
        mine = [name for name in getattr(import_module(module), "__all__", ()) if name not in seen]
        seen.update(mine)
        names[module] = mine
    return {module: mine for module, mine in names.items() if mine}


def groups():
    """Return the names of the package by the title of their group."""
    skanomaly = import_module("skanomaly")
    found = {title: [] for title in (*GROUPS.values(), WRAPPERS)}
    for name in skanomaly.__all__:
        home = getattr(skanomaly, name).__module__.split(".")[1]
        found[GROUPS.get(home, WRAPPERS)].append(name)
    return found


def write_pages(folder):
    """Write the index of the reference and one page for each public name.

    Parameters
    ----------
    folder : Path
        Folder of the reference; pages that are up to date are not touched.
    """
    parts = ["API reference\n=============\n"]
    for module, names in public_names().items():
        parts.append(_titled(f"``{module}``", "-"))
        if module == "skanomaly":
            parts += [_titled(title, "~") + _table(module, group) for title, group in groups().items()]
        else:
            parts.append(_summary(module) + _table(module, names))
        for name in names:
            _write(folder / "generated" / f"{module}.{name}.rst", _page(module, name))
    _write(folder / "index.rst", "\n".join(parts))


def _titled(title, line):
    return f"{title}\n{line * len(title)}\n\n"


def _summary(module):
    return inspect.getdoc(import_module(module)).split("\n\n")[0] + "\n\n"


def _table(module, names):
    rows = "\n".join(f"   {name}" for name in names)
    return f".. currentmodule:: {module}\n\n.. autosummary::\n   :toctree: generated\n\n{rows}\n"


def _page(module, name):
    member = getattr(import_module(module), name)
    kind = (
        "class" if inspect.isclass(member) else "function" if callable(member) and inspect.isroutine(member) else "data"
    )
    title = _titled(f"{module}.{name}", "=")
    page = f"{title}.. currentmodule:: {module}\n\n.. auto{kind}:: {name}\n"
    if kind == "class":
        page += "".join(f"\n   .. automethod:: {method}\n" for method in own_members(member))
    if kind != "data":
        page += f"\n.. minigallery:: {module}.{name}\n   :add-heading: Examples that use {name}\n   :heading-level: ^\n"
    return page


def own_members(cls):
    """Return the public methods of a class that skanomaly defines or changes, in the order of their names."""
    found = []
    for name, value in inspect.getmembers(cls):
        if not name.startswith("_") and callable(value) and not inspect.isclass(value):
            function = inspect.unwrap(getattr(value, "__func__", value))
            if getattr(function, "__module__", "").startswith("skanomaly"):
                found.append(name)
    return found


def _write(path, text):
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def setup(app):
    """Write the pages before Sphinx looks for its sources."""
    folder = Path(app.srcdir) / "api"
    app.connect("config-inited", lambda app, config: write_pages(folder), priority=100)
    return {"parallel_read_safe": True}
