"""Diagrams of estimators link to the page of the class in the documentation."""

import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skanomaly import Autoencoder, FitOnNormal, GreedyCoreset, KNNScorer, Pixels, _doc_links
from skanomaly.networks import DenseNetwork, Training

PAGES = {
    "skanomaly.Autoencoder": Autoencoder(),
    "skanomaly.FitOnNormal": FitOnNormal(KNNScorer()),
    "skanomaly.GreedyCoreset": GreedyCoreset(),
    "skanomaly.Pixels": Pixels(),
    "skanomaly.networks.DenseNetwork": DenseNetwork(),
    "skanomaly.networks.Training": Training(),
}


@pytest.fixture
def published(monkeypatch):
    """Give the package metadata with a documentation at an address of its own."""

    class Metadata:
        @staticmethod
        def get_all(name):
            return ["Source, https://code.test", "Documentation, https://docs.test/en/"]

    monkeypatch.setattr(_doc_links, "metadata", lambda package: Metadata)
    _doc_links.documentation_url.cache_clear()
    yield
    _doc_links.documentation_url.cache_clear()


@pytest.mark.usefixtures("published")
def test_diagrams_link_to_the_pages_of_our_classes_and_leave_those_of_others():
    diagram = make_pipeline(StandardScaler(), KNNScorer())._repr_html_()
    assert 'href="https://docs.test/en/api/generated/skanomaly.KNNScorer.html"' in diagram
    assert "scikit-learn.org" in diagram


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_named_as_users_import_the_class(page):
    assert f"/api/generated/{page}.html" in PAGES[page]._repr_html_()


def test_without_a_published_documentation_there_is_no_link(monkeypatch):
    monkeypatch.setattr(_doc_links, "documentation_url", lambda: None)
    assert "api/generated" not in KNNScorer()._repr_html_()
