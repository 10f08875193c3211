"""
Dictionaries and sparse codes
=============================

A few atoms, learned from normal patches, are enough to rebuild normal patches. What they cannot rebuild is anomalous.
"""

# %%
# Patches of 12 x 12 pixels of a grid of lines, and a dictionary of 16 atoms of which each patch may use two.

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline

from skanomaly import MLFSC, PatchFeatures, PretrainedPatchFeatures, SparseCodingScorer, anomaly_map
from skanomaly.datasets import make_surfaces
from skanomaly.metrics import pixel_auroc
from skanomaly.plotting import AnomalyMapDisplay

data = make_surfaces("grid", n_train=20, n_good=10, n_anomalous=20, random_state=0)
pipeline = make_pipeline(
    PatchFeatures(patch_size=12, stride=2),
    SparseCodingScorer(16, n_nonzero_coefs=2, n_worst=5, false_alarm_rate=None, random_state=0),
)
pipeline.fit(data.X_train)

# %%
# The atoms are pieces of what was seen: lines in every position. A line that ends, or crosses at another angle, is
# not among them.

atoms = pipeline[-1].components_
_, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for ax, atom in zip(axes.flat, atoms, strict=True):
    ax.imshow(atom.reshape(12, 12), cmap="gray")
    ax.axis("off")

# %%
# MLF-SC does the same in the feature channels of a network, with five atoms for each.

mlfsc = MLFSC(
    PretrainedPatchFeatures(layers=("/8", "/4", "/2"), image_size=128), patch_size=4, stride=1, border=1,
    false_alarm_rate=None, random_state=0,
).fit(data.X_train)  # fmt: skip

shown = [10, 12, 13]
_, axes = plt.subplots(2, 3, figsize=(7, 4.8), layout="constrained")
for row, (name, maps) in zip(
    axes,
    {
        "patches of pixels": anomaly_map(pipeline, data.X_test),
        "MLF-SC": mlfsc.anomaly_map(data.X_test),
    }.items(),
    strict=True,
):
    for ax, i in zip(row, shown, strict=True):
        AnomalyMapDisplay.from_predictions(data.X_test[i], maps[i], mask=data.masks_test[i], ax=ax)
    row[1].set_title(f"{name}: pixel AUROC {pixel_auroc(data.masks_test, maps):.2f}")
