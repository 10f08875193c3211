"""
Gaussians: PaDiM and MahalanobisAD
==================================

PaDiM fits a Gaussian of deep features at each position of the image, MahalanobisAD one of the features averaged over
the image. The first sees small defects of parts that lie in one place, the second what changes the image as a whole.
"""

# %%
# A plate that lies at nearly the same place in every image, with small defects; and cloth, as an example of images that
# are something else altogether.

import matplotlib.pyplot as plt
import numpy as np

from skanomaly import MahalanobisAD, PaDiM, PretrainedPatchFeatures
from skanomaly.datasets import make_parts, make_surfaces
from skanomaly.metrics import image_auroc
from skanomaly.plotting import AnomalyMapDisplay, ScoreDisplay

data = make_parts(n_train=60, n_good=20, n_anomalous=20, shift=0.01, rotation=0.5, random_state=0)
other = make_surfaces("cloth", n_train=20, n_good=0, n_anomalous=0, random_state=0).X_train

padim = PaDiM(PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1, image_size=192), random_state=0)
padim.fit(data.X_train)
whole = MahalanobisAD(PretrainedPatchFeatures(layers=(1, 2, 3), neighborhood=1, image_size=192), random_state=0)
whole.fit(data.X_train)

# %%
# Maps of PaDiM, on one scale: one normal plate and one with each kind of defect.

shown = [0, *range(20, 25)]
maps = padim.anomaly_map(data.X_test[shown])
_, axes = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
for ax, i, score_map in zip(axes.flat, shown, maps, strict=True):
    limits = {"vmin": maps.min(), "vmax": maps.max()}
    mask = data.masks_test[i] if data.masks_test[i].any() else None
    AnomalyMapDisplay.from_predictions(
        data.X_test[i], score_map, mask=mask, level=padim.pixel_threshold_, ax=ax, **limits
    )
    ax.set_title(data.kinds_test[i].replace("_", " "))

# %%
# Both on small defects and on other images. The average over the image sees small defects less well, and is enough
# for the rest.

for name, detector in (("PaDiM", padim), ("MahalanobisAD", whole)):
    normal, defective = -detector.score_samples(data.X_test[:20]), -detector.score_samples(data.X_test[20:])
    for kind, scores in (("small defects", defective), ("other images", -detector.score_samples(other))):
        y = np.repeat([1, -1], [len(normal), len(scores)])
        print(f"{name:>14}, {kind}: image AUROC {image_auroc(y, np.concatenate([normal, scores])):.2f}")

ScoreDisplay.from_estimator(padim, data.X_test, data.y_test)

# %%
# Gaussians of parts of the data can be merged, exactly: two detectors on two machines, then a threshold from fresh
# images.

halves = [PaDiM(padim.features, random_state=0).partial_fit(half) for half in np.split(data.X_train, 2)]
merged = halves[0].merge(halves[1])
print("largest difference of a mean:", f"{np.abs(merged.location_ - padim.location_).max():.0e}")
