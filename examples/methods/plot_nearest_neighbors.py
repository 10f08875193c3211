"""
Nearest neighbours: PatchCore and SPADE
=======================================

Both compare patches with normal patches. PatchCore keeps a coreset of all of them; SPADE keeps all, and compares with
those of the most similar images.
"""

# %%
# The bank of PatchCore must cover what is normal. With 20 patches of cloth, threads that are merely rare look
# anomalous; 2,000 are enough. More cost time only.

import matplotlib.pyplot as plt

from skanomaly import SPADE, PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import make_surfaces
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.plotting import AnomalyMapDisplay

data = make_surfaces("cloth", n_train=30, n_good=15, n_anomalous=15, random_state=0)
detectors = {
    f"PatchCore, {size:,} patches": PatchCore(
        PretrainedPatchFeatures(image_size=224), coreset_size=size, false_alarm_rate=None, random_state=0
    )
    for size in (20, 200, 2000)
}
spade = PretrainedPatchFeatures(layers=(2, 3, 4), neighborhood=1, image_size=224)
detectors["SPADE, 10 images"] = SPADE(spade, n_neighbors=10, image_score="max", false_alarm_rate=None)

# %%
# A scratch, a hole and a missing thread in the maps of all four, and their figures over 30 test images. Maps of
# different detectors have different units; each row has a scale of its own.

shown = [15, 17, 18]
_, axes = plt.subplots(len(detectors), 3, figsize=(6, 8.4), layout="constrained")
for row, (name, detector) in zip(axes, detectors.items(), strict=True):
    scores, maps = zip(*detector.fit(data.X_train).iter_scores_and_maps(data.X_test), strict=True)
    for ax, i in zip(row, shown, strict=True):
        limits = {"vmin": min(maps[i].min() for i in shown), "vmax": max(maps[i].max() for i in shown)}
        AnomalyMapDisplay.from_predictions(data.X_test[i], maps[i], mask=data.masks_test[i], ax=ax, **limits)
    row[1].set_title(f"{name}: image AUROC {image_auroc(data.y_test, [-s for s in scores]):.2f}, "
                     f"pixel AUROC {pixel_auroc(data.masks_test, maps):.2f}", fontsize=9)  # fmt: skip
