"""
Features learned with a reference
=================================

If the subject of an image as a whole is normal or not, a network trained on ImageNet may see the wrong differences.
Labelled images of *other* classes teach it what to look at.
"""

# %%
# Normal images are bars that lean to the right by about 30 degrees; anomalies lean by about 10 or 50. The reference
# has bars at other angles, in the same changing light and noise. None of the reference looks like the anomalies.

import numpy as np
from scipy.ndimage import gaussian_filter

rng = np.random.default_rng(0)


def draw_bars(angles):
    """Return images of bars at angles in degrees, in a changing light, on changing ground."""
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    images = []
    for angle in np.deg2rad(angles):
        across = x * np.cos(angle) + y * np.sin(angle) + rng.uniform(-0.3, 0.3)
        bar = np.abs(across) < rng.uniform(0.12, 0.25)
        ground = gaussian_filter(rng.normal(size=x.shape), rng.uniform(1, 4))
        image = rng.uniform(0.3, 0.6) + 0.15 * ground / ground.std() + rng.choice([-1, 1]) * rng.uniform(0.2, 0.4) * bar
        images.append(255 * np.clip(image, 0, 1))
    return np.uint8(images)


def around(angle, n):
    """Return n angles around one."""
    return angle + rng.uniform(-5, 5, n)


normal, fresh = draw_bars(around(30, 120)), draw_bars(around(30, 60))
anomalies = draw_bars(np.concatenate([around(10, 30), around(50, 30)]))
classes = [-80, -55, -30, -10, 75]
reference = draw_bars(np.concatenate([around(angle, 60) for angle in classes])), np.repeat(classes, 60)

# %%
# The same network, frozen (``max_epochs=0``, the control) and trained for three epochs.

from skanomaly import MetricFeatures, PretrainedPatchFeatures

network = PretrainedPatchFeatures(layers=("bn2",), neighborhood=1, image_size=64, batch_size=32)
settings = {"reference": reference, "false_alarm_rate": None, "random_state": 0}
detectors = {
    "frozen": MetricFeatures(network, max_epochs=0, **settings).fit(normal),
    "trained": MetricFeatures(network, max_epochs=3, **settings).fit(normal),
}

# %%
# Principal components of the vectors of fresh images: training sets normal images and anomalies apart.

import matplotlib.pyplot as plt
from sklearn.decomposition import PCA

from skanomaly.metrics import image_auroc

y = np.repeat([1, -1], 60)
_, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
for ax, (name, detector) in zip(axes, detectors.items(), strict=True):
    pca = PCA(2).fit(detector.transform(np.concatenate([fresh, anomalies])))
    for label, images, marker in (("normal", fresh, "o"), ("anomalous", anomalies, "x")):
        ax.scatter(*pca.transform(detector.transform(images)).T, marker=marker, label=label)
    auroc = image_auroc(y, -detector.score_samples(np.concatenate([fresh, anomalies])))
    ax.set(title=f"{name}: image AUROC {auroc:.2f}", xticks=[], yticks=[])
    ax.legend()

# %%
# Some of the images, the normal ones above.

_, axes = plt.subplots(2, 8, figsize=(9, 2.4), layout="constrained")
for ax, image in zip(axes.flat, [*fresh[:8], *anomalies[26:34]], strict=True):
    ax.imshow(image, cmap="gray", vmin=0, vmax=255)
    ax.axis("off")
