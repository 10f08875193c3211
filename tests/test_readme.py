"""The Python blocks of the README and of the documentation run as written, in order."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skanomaly.datasets import make_surfaces

ROOT = Path(__file__).parents[1]
WRITTEN = [page for page in sorted(ROOT.glob("docs/**/*.md")) if not page.is_relative_to(ROOT / "docs" / "_build")]
BLOCKS = {
    str(page.relative_to(ROOT)): re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    for page in (ROOT / "README.md", *WRITTEN)
}
PAGES = [page for page, blocks in BLOCKS.items() if blocks]
NEW = ["new/001.png", "new/002.png"]
STATED = re.compile(r"^(?P<expression>[^=]*?)  # (?P<value>array\(.*\)|\([\d, ]+\)|[\d,]+(?= ))")  # and what it returns


def save(folder, images, name="{:03d}.png"):
    """Save images in a new folder."""
    Path(folder).mkdir(parents=True)
    for i, image in enumerate(images, start=1):
        Image.fromarray(image).save(Path(folder) / name.format(i))


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Enter a folder with what pages name: 12 normal and 3 scratched images, one of each new, data sets, tables."""
    monkeypatch.chdir(tmp_path)
    data = make_surfaces("grid", n_train=12, n_good=1, n_anomalous=16, size=64, random_state=0)
    scratched = data.X_test[data.kinds_test == "scratch"]
    masks = 255 * data.masks_test[data.kinds_test == "scratch"].astype(np.uint8)
    save("parts/good", data.X_train)
    save("parts/scratch", scratched[1:])
    save("new", [data.X_test[0], scratched[0]])
    for name in ("screw", "tile"):  # in the layout of MVTec AD
        save(f"categories/{name}/train/good", data.X_train[:8])
        save(f"categories/{name}/test/good", data.X_test[:1])
        save(f"categories/{name}/test/scratch", scratched[1:])
        save(f"categories/{name}/ground_truth/scratch", masks[1:], "{:03d}_mask.png")
    save("labelled/good", data.X_train)
    save("labelled/scratch", scratched[1:])
    save("masks/scratch", masks[1:])
    rows = np.random.default_rng(0).normal(size=(400, 4))
    for name, table in {"normal": rows, "fresh": [[0, 0, 0, 0], [0, 0, 9, 0]]}.items():
        np.savetxt(f"{name}.csv", table, delimiter=",", header="width,height,weight,price", comments="")


def check_search(names):
    """The search of the README finds the scratch."""
    normal, scratched = names["search"].score_samples(NEW)
    assert normal > scratched
    assert set(names["search"].predict(NEW)) <= {1, -1}


FURTHER_CHECKS = {"README.md": check_search}


@pytest.mark.weights
@pytest.mark.usefixtures("parts")
@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")  # so few images
@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page):
    names = {}
    for block in BLOCKS[page]:
        exec(compile(block, page, "exec"), names)
        for line in filter(None, map(STATED.match, block.splitlines())):
            assert repr(eval(line["expression"], names)) == re.sub(r"(?<=\d),(?=\d{3})", "", line["value"])
    if page in FURTHER_CHECKS:
        FURTHER_CHECKS[page](names)
