"""Links from estimators to their pages in the documentation."""

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

__all__ = ["DocLinkMixin", "documentation_url"]


@cache
def documentation_url():
    """Return the address of the documentation, the project URL "Documentation" of the package; None without one.

    Returns
    -------
    str or None
        Address without a slash at its end.
    """
    try:
        urls = metadata("skanomaly").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    return dict(url.split(", ", 1) for url in urls).get("Documentation", "").rstrip("/") or None


class DocLinkMixin:
    """Mixin for estimators whose HTML diagram links to the documentation of skanomaly.

    scikit-learn draws the link where ``_doc_link_module`` is the package of the estimator.
    """

    @property
    def _doc_link_module(self):
        return "skanomaly" if documentation_url() else ""

    @property
    def _doc_link_template(self):
        return f"{documentation_url()}/api/generated/{{page}}.html"

    def _doc_link_url_param_generator(self):
        """Return the name of the page: that of the public class, where users import it from."""
        import skanomaly

        name, module = type(self).__name__, type(self).__module__
        public = name in skanomaly.__all__
        return {"page": f"skanomaly.{name}" if public else f"{module.split('._')[0]}.{name}"}
