"""The examples that need no data of their own run as written."""

import re
import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_mixed_table(capsys):
    """Three odd orders among parcels: an odd category, price and date, each named first among the reasons."""
    pytest.importorskip("skrub")
    runpy.run_path(str(EXAMPLES / "mixed_table.py"))
    first, *reasons = capsys.readouterr().out.splitlines()
    flagged, found = map(float, re.findall(r"([\d.]+)%", first))
    assert flagged < 10
    assert found == 100
    for line, column in zip(reasons, ("carrier_ferry", "price", "shipped_total_seconds"), strict=True):
        assert f": {column} " in line
