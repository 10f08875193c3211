"""Draw the pictures of the README (`make pictures`)."""

from pathlib import Path

from skanomaly import PatchCore
from skanomaly.datasets import make_surfaces
from skanomaly.evaluation import save_overlay_sheet

if __name__ == "__main__":
    data = make_surfaces("cloth", random_state=0)
    detector = PatchCore(random_state=0).fit(data.X_train)
    save_overlay_sheet(Path(__file__).parent / "images" / "cloth.png", detector, data, n_images=6)
