"""CONTRIBUTING describes the live file as it is."""

import re
from pathlib import Path

import pytest

import skanomaly
from skanomaly.base import BaseDetector

GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"
WALK = GUIDE.read_text().split("## Add a detector")[1].split("## Words")[0]
LIVE = (GUIDE.parent / re.search(r"`(skanomaly/detectors/[a-z_]+\.py)`", WALK)[1]).read_text()
OF_OTHER_FILES = {"_METHODS"}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(_[A-Za-z_]+)(?:\(.*?\))?`", WALK)) - OF_OTHER_FILES))
def test_hooks_exist_in_the_live_file_or_its_base(name):
    assert hasattr(skanomaly.PatchCore, name)


def test_the_live_file_is_as_described():
    assert re.search(r"`(class \w+\(\w+\))`", WALK)[1] in LIVE
    signatures = re.findall(r"`(_[a-z_]+)\((.*?)\)`", WALK)
    assert [name for name, _ in signatures] == ["_fit", "_score", "_leave_one_out"]
    for name, arguments in signatures:
        assert f"def {name}(self, {arguments})" in LIVE
    assert "_leave_one_out" not in vars(BaseDetector)
