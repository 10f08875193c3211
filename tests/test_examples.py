"""The examples that need no network run as written."""

import re
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(capsys):
    """Return a function that runs an example and returns what it prints."""
    backend = plt.get_backend()
    plt.switch_backend("agg")

    def run(name):
        runpy.run_path(str(EXAMPLES / name))
        return capsys.readouterr().out

    yield run
    plt.close("all")
    plt.switch_backend(backend)


def test_mixed_table(run):
    """Three odd orders among parcels: an odd category, price and date, each named first among the reasons."""
    pytest.importorskip("skrub")
    first, *reasons = run("tables/plot_mixed_table.py").splitlines()
    flagged, found = map(float, re.findall(r"([\d.]+)%", first))
    assert flagged < 10
    assert found == 100
    for line, column in zip(reasons, ("carrier_ferry", "price", "shipped_total_seconds"), strict=True):
        assert f": {column} " in line


def test_big_data(run):
    """Batches and machines give what all rows at once give, and the promised share of fresh rows is flagged."""
    merged, fresh, images = run("deployment/plot_big_data.py").splitlines()
    assert float(re.search(r"score (\S+)", merged)[1]) < 1e-6
    assert float(re.search(r"([\d.]+)%", fresh)[1]) < 9
    normal, defective = map(float, re.findall(r"([\d.]+)%", images))
    assert normal < 12
    assert defective > 90
