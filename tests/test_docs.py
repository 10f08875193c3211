"""Every method has a page, every public name an entry, and the figures on the pages are those that were measured."""

import ast
import re
import sys
from pathlib import Path

import pytest
from sklearn.base import BaseEstimator

import skanomaly
from skanomaly import composite, detectors

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(page for page in sorted(DOCS.glob("**/*.md")) if "_build" not in page.parts)]
METHODS = sorted({*detectors.__all__, *composite.__all__})
SECTIONS = ["Equation", "When to use it", "Measured", "Limits", "Source"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Write the API reference; return its folder and the module that writes it."""
    sys.path.insert(0, str(DOCS / "_ext"))
    import api_pages

    sys.path.remove(str(DOCS / "_ext"))
    folder = tmp_path_factory.mktemp("api")
    api_pages.write_pages(folder)
    return folder, api_pages


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page(method):
    page = (DOCS / "methods" / f"{method}.md").read_text()
    assert page.startswith(f"# {method}\n")
    assert re.findall(r"^## (.*)$", page, re.M) == SECTIONS
    assert "$$" in page.split("## Equation")[1].split("## When")[0]


def test_no_page_is_of_an_unknown_method():
    names = {page.stem for page in (DOCS / "methods").glob("*.md")} - {"index"}
    index = (DOCS / "methods" / "index.md").read_text()
    assert names == set(METHODS) >= set(re.findall(r"\]\((\w+)\.md\)", index))


def tables(text):
    """Yield the header and the rows of each table."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        header, _, *rows = table.splitlines()
        yield header, rows


MEASURED = {}
for header, rows in tables((DOCS / "benchmarks.md").read_text()):
    MEASURED.setdefault(header, set()).update(rows)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "benchmarks.md"], ids=lambda page: page.stem)
def test_rows_of_figures_are_those_of_the_benchmarks(page):
    for header, rows in tables(page.read_text()):
        assert set(rows) <= MEASURED.get(header, set(rows)), f"a row of {page.name} is not in benchmarks.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        example = re.fullmatch(r"(?:\.\./)*gallery/(\w+/\w+)", target)
        path = ROOT / "examples" / f"{example[1]}.py" if example else page.parent / target
        assert path.exists() or target.removeprefix("../") in ("gallery/index", "api/index"), target


def test_every_public_name_has_an_entry(reference):
    folder, api_pages = reference
    index = (folder / "index.rst").read_text()
    documented = {path.stem for path in (folder / "generated").iterdir()}
    for module in api_pages.public_modules():
        for name in set(getattr(sys.modules[module], "__all__", ())) - api_pages.INTERNAL:
            homes = [home for home in api_pages.public_modules() if f"{home}.{name}" in documented]
            assert homes, f"{module}.{name} has no page"
            assert re.search(rf"^   {name}$", index, re.M)
    assert set(skanomaly.__all__) <= {name.split(".")[1] for name in documented if name.count(".") == 1}


def test_links_from_diagrams_lead_to_an_entry(reference):
    folder, api_pages = reference
    for module, names in api_pages.public_names().items():
        for found in (getattr(sys.modules[module], name) for name in names):
            if isinstance(found, type) and issubclass(found, BaseEstimator) and found.__module__ != "skanomaly.base":
                page = found._doc_link_url_param_generator(found.__new__(found))["page"]
                assert (folder / "generated" / f"{page}.rst").exists()


def test_entries_list_methods_of_skanomaly_and_leave_those_of_scikit_learn(reference):
    page = (reference[0] / "generated" / "skanomaly.PaDiM.rst").read_text()
    members = re.findall(r"automethod:: (\w+)", page)
    assert {"fit", "predict", "anomaly_map", "partial_fit", "merge", "set_params"} <= set(members)
    assert not {"get_params", "get_metadata_routing"} & set(members)


EXAMPLES = sorted((ROOT / "examples").glob("*/plot_*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_use_public_names_only(example):
    tree = ast.parse(example.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            assert re.fullmatch(r"__\w+__|(?!_)\w+", node.attr), f"line {node.lineno}: {node.attr}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skanomaly"):
            assert "._" not in node.module
            public = __import__(node.module, fromlist=["__all__"]).__all__
            assert {alias.name for alias in node.names} <= set(public)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_begin_with_a_title_and_say_what_they_show(example):
    title, line, *text = ast.get_docstring(ast.parse(example.read_text())).splitlines()
    assert re.fullmatch("=+", line)
    assert len(line) == len(title)
    assert len(" ".join(text)) > 80
    assert "skanomaly" in example.read_text()


def test_there_are_enough_examples_and_the_gallery_finds_them_all():
    assert len(EXAMPLES) >= 14
    assert all((path.parent / "GALLERY_HEADER.rst").exists() for path in EXAMPLES)
    assert set((ROOT / "examples").glob("**/*.py")) == set(EXAMPLES)
