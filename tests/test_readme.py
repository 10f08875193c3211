"""The Python blocks of the README run as written, in order."""

import re
from pathlib import Path

import pytest
from PIL import Image

from skanomaly.datasets import make_surfaces

BLOCKS = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[1] / "README.md").read_text(), re.M | re.S)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Enter a folder with the images that the README names: 12 normal, 3 scratched, and one of each that is new."""
    monkeypatch.chdir(tmp_path)
    data = make_surfaces("grid", n_train=12, n_good=1, n_anomalous=16, size=64, random_state=0)
    scratched = data.X_test[data.kinds_test == "scratch"]
    for folder, images in {
        "parts/good": data.X_train,
        "parts/scratch": scratched[1:],
        "new": [data.X_test[0], scratched[0]],
    }.items():
        Path(folder).mkdir(parents=True)
        for i, image in enumerate(images, start=1):
            Image.fromarray(image).save(f"{folder}/{i:03d}.png")


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")  # so few images
def test_python_blocks_run(parts):
    names = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
        for line in block.splitlines():
            expression, _, stated = line.partition("  # ")
            if stated.startswith("array("):
                assert repr(eval(expression, names)) == stated
    normal, scratched = names["search"].score_samples(names["new"])
    assert normal > scratched
    assert set(names["search"].predict(names["new"])) <= {1, -1}
