"""
Your own folder
===============

Images lie in a folder with one subfolder per kind, as they come from a camera or a colleague. The normal ones are in
``good``.
"""

# %%
# This example first makes such a folder. Skip this step, and write the path of yours.

import tempfile
from pathlib import Path

from PIL import Image

from skanomaly.datasets import make_parts

drawn = make_parts(n_train=40, n_good=15, n_anomalous=25, random_state=0)
folder = Path(tempfile.mkdtemp()) / "plates"
images = [*drawn.X_train, *drawn.X_test]
kinds = ["good"] * len(drawn.X_train) + drawn.kinds_test.tolist()
for i, (image, kind) in enumerate(zip(images, kinds, strict=True)):
    (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / kind / f"{i:03d}.png")

# %%
# ``load_image_folder`` lists the files and their labels; images are read when they are needed.

from skanomaly.datasets import load_image_folder

data = load_image_folder(folder)
for kind in sorted(set(data.kinds)):
    print(f"{kind:>14}: {sum(data.kinds == kind)} images")

# %%
# Learn from some of the normal images, and keep the others to see how many of them are flagged.

import numpy as np

from skanomaly import PatchCore, PretrainedPatchFeatures

normal = np.flatnonzero(data.y == 1)
learnt, fresh = normal[:40], normal[40:]
defective = np.flatnonzero(data.y == -1)

detector = PatchCore(PretrainedPatchFeatures(image_size=224), coreset_size=500, random_state=0)
detector.fit([data.X[i] for i in learnt])

# %%
# The image AUROC is the probability that a defective image scores as more anomalous than a normal one.

from skanomaly.metrics import image_auroc

test = [*fresh, *defective]
scores = -detector.score_samples([data.X[i] for i in test])
flagged = scores[: len(fresh)] > -detector.offset_
print(f"image AUROC {image_auroc(data.y[test], scores):.3f}")
print(f"flagged: {sum(flagged)} of {len(fresh)} fresh normal images")

# %%
# The worst images first, as a person would look at them.

from skanomaly.plotting import plot_overlay_sheet

worst = [data.X[test[i]] for i in np.argsort(-scores)[:8]]
sheet = plot_overlay_sheet(
    worst,
    detector.anomaly_map(worst),
    titles=[Path(path).parent.name for path in worst],
    level=detector.pixel_threshold_,
    n_columns=8,
)

# %%
# The same from the command line:
#
# .. code-block:: console
#
#     skanomaly fit plates/good -o model.skops
#     skanomaly score model.skops "new/*.png" --out results --overlays
