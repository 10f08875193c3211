"""What CONTRIBUTING says of the live file is so."""

import re
from pathlib import Path

import pytest

import skanomaly
from skanomaly.base import BaseDetector

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"
WALK = GUIDE.read_text().split("## Add a detector")[1].split("## Tests")[0]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(_[a-z_]+)(?:\(Z\))?`", WALK))))
def test_hooks_exist_in_the_live_file_or_its_base(name):
    assert hasattr(skanomaly.PatchCore, name)


def test_the_live_file_is_as_described():
    live = re.search(r"`(skanomaly/detectors/[a-z_]+\.py)`", WALK)[1]
    source = (GUIDE.parent / live).read_text()
    assert re.search(r"`(class \w+\(\w+\))`", WALK)[1] in source
    for hook in ("_fit", "_score", "_leave_one_out"):
        assert f"def {hook}(self, Z)" in source
    assert "_leave_one_out" not in vars(BaseDetector)
