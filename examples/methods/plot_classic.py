"""
Classical inspection, without a network
=======================================

Two methods of machine vision that need no network: the mean and the variation of each pixel, for parts in one place,
and Gaussian mixtures of patches, for textures.
"""

# %%
# A printed plate that moves by a few pixels and degrees. ``VariationModel`` compares pixel with pixel, and takes every
# moved edge for a defect, unless images are aligned first.

import matplotlib.pyplot as plt

from skanomaly import Aligned, Pixels, TextureGMM, VariationModel
from skanomaly.datasets import make_parts, make_surfaces
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.plotting import AnomalyMapDisplay

plates = make_parts(n_train=60, n_good=10, n_anomalous=15, random_state=0)
models = {
    "as they lie": VariationModel(Pixels(96), false_alarm_rate=0.1, random_state=0),
    "aligned": VariationModel(Aligned(Pixels(96), "rigid"), false_alarm_rate=0.1, random_state=0),
}


def draw_maps(models, data, shown):
    """Draw maps of several models, each row on a scale of its own, with its figures."""
    _, axes = plt.subplots(len(models), len(shown), figsize=(8, 2.6 * len(models)), layout="constrained", squeeze=False)
    for row, (name, model) in zip(axes, models.items(), strict=True):
        scores, maps = zip(*model.iter_scores_and_maps(data.X_test), strict=True)
        level = model.pixel_threshold_
        for ax, i in zip(row, shown, strict=True):
            AnomalyMapDisplay.from_predictions(
                data.X_test[i], maps[i], mask=data.masks_test[i], level=level, ax=ax, vmin=0, vmax=2 * level
            )
        row[1].set_title(f"{name}: image AUROC {image_auroc(data.y_test, [-s for s in scores]):.2f}, "
                         f"pixel AUROC {pixel_auroc(data.masks_test, maps):.2f}")  # fmt: skip


for model in models.values():
    model.fit(plates.X_train)
draw_maps(models, plates, [10, 11, 12, 13])

# %%
# What the model knows: the mean of the aligned plates, and their standard deviation, which shows the grain of the
# metal, the changing light and the rims.

_, axes = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
for ax, title, image in zip(
    axes, ("mean", "standard deviation"), (models["aligned"].location_, models["aligned"].spread_), strict=True
):
    ax.imshow(image[..., 0], cmap="gray")
    ax.set_title(title)
    ax.axis("off")

# %%
# A texture has no fixed place; the mixtures say how probable each patch is, at three resolutions.

cloth = make_surfaces("cloth", n_train=50, n_good=10, n_anomalous=15, size=96, random_state=0)
texture = TextureGMM(Pixels(96, gray=True), n_levels=3, n_components=5, n_patches=4000, random_state=0)
texture.set_params(false_alarm_rate=0.1)
draw_maps({"Gaussian mixtures": texture.fit(cloth.X_train)}, cloth, [10, 11, 12, 13])
