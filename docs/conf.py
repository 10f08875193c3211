"""Configuration of the documentation (`make docs`)."""

import sys
import warnings
from pathlib import Path

import matplotlib as mpl

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from gallery_pages import FigureScraper

import skanomaly
from skanomaly import _doc_links

project = "skanomaly"
copyright = "the skanomaly developers"
author = "the skanomaly developers"
version = release = skanomaly.__version__

extensions = [
    "api_pages",
    "linked_names",
    "mathml",
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
suppress_warnings = ["config.cache"]
default_role = "py:obj"
autosummary_generate = False  # `api_pages` writes the pages
numpydoc_show_class_members = False
nitpicky = False

html_math_renderer = "mathml"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "skanomaly"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_align": "left",
}
html_sidebars = {"index": [], "benchmarks": [], "changelog": []}
html_show_sourcelink = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "subsection_order": ["../examples/start", "../examples/methods", "../examples/tables", "../examples/deployment"],
    "within_subsection_order": "gallery_pages.ReadingOrder",
    "backreferences_dir": "api/backreferences",
    "doc_module": ("skanomaly",),
    "remove_config_comments": True,
    "min_reported_time": 0,
    "show_memory": False,
    "plot_gallery": "True",
    "abort_on_example_error": False,
    "image_scrapers": (FigureScraper(),),
    "matplotlib_animations": False,
    "reset_modules_order": "both",
}
mpl.rcParams["savefig.dpi"] = 100
_doc_links.documentation_url = lambda: "../.."  # from a page of the gallery
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")
