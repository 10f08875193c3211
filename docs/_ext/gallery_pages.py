"""The figures of examples, and the order in which the gallery shows them."""

from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

_SAVED = WeakSet()
_FIRST = (
    "quick_start",
    "own_folder",
    "pipeline",
    "thresholds",
    "grid_search",
    "nearest_neighbors",
    "gaussian",
    "fraud",
)


class FigureScraper:
    """Scraper of the figures of pyplot, and of those that a function returned to a variable."""

    def __repr__(self):
        return "FigureScraper"

    def __call__(self, block, block_vars, gallery_conf):
        """Save what the block has drawn, and return its reStructuredText."""
        rst, paths = matplotlib_scraper(block, block_vars, gallery_conf), []
        for variable in block_vars["example_globals"].values():
            value = getattr(variable, "figure_", variable)
            if isinstance(value, Figure) and value not in _SAVED and not hasattr(value, "number"):
                _SAVED.add(value)
                paths.append(next(block_vars["image_path_iterator"]))
                value.savefig(paths[-1])
        return rst + figure_rst(paths, gallery_conf["src_dir"])


class ReadingOrder:
    """Sort key of the examples of a section: those that are read first, then the others by their names."""

    def __init__(self, src_dir):
        self.src_dir = src_dir

    def __call__(self, filename):
        """Return the position of an example."""
        name = str(filename).removeprefix("plot_").removesuffix(".py")
        return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)
