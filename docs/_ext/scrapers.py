"""Save the figures of an example: those of pyplot, and those that a function returned to a variable."""

from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst, matplotlib_scraper

_SAVED = WeakSet()


class FigureScraper:
    """Scraper of sphinx-gallery."""

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
