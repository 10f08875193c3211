"""
What would have to change: Ano-Unet
===================================

A detector without maps, such as MetricFeatures, says *that* an image is anomalous. Ano-Unet trains a small network
for this one image, which copies it and at the same time brings its features to those of normal images: what it
changes is what the detector objects to.
"""

# %%
# Normal images have three dots on textured ground; anomalies have a bar in place of one. The reference, which the
# detector learns to tell apart from normal images, has rings, crosses and bars.

import numpy as np
from scipy.ndimage import gaussian_filter

rng = np.random.default_rng(0)
y, x = np.mgrid[-1:1:64j, -1:1:64j]


def shape(kind):
    """Return a mask of a shape somewhere in the image."""
    u, v = x - rng.uniform(-0.45, 0.45), y - rng.uniform(-0.45, 0.45)
    r = np.hypot(u, v)
    return {
        "dot": r < 0.14,
        "ring": np.abs(r - 0.3) < 0.07,
        "bar": (np.abs(u) < 0.4) & (np.abs(v) < 0.08),
        "cross": (np.minimum(np.abs(u), np.abs(v)) < 0.07) & (r < 0.35),
    }[kind]


def draw(n, *kinds):
    """Return n images that show shapes on textured ground."""
    images = []
    for _ in range(n):
        ground = gaussian_filter(rng.normal(size=x.shape), 1.5)
        image = 0.4 + 0.05 * ground / ground.std()
        for kind in kinds:
            image = np.where(shape(kind), 0.85, image)
        images.append(255 * np.clip(gaussian_filter(image, 0.7), 0, 1))
    return np.uint8(images)


normal, fresh = draw(80, "dot", "dot", "dot"), draw(20, "dot", "dot", "dot")
anomalies = draw(20, "dot", "dot", "bar")
reference = np.concatenate([draw(40, kind) for kind in ("ring", "bar", "cross")]), np.repeat([0, 1, 2], 40)

# %%
# The score is that of the feature net, and costs no U-Net.

from skanomaly import AnoUNet, MetricFeatures, Pixels, PretrainedPatchFeatures
from skanomaly.metrics import image_auroc

network = PretrainedPatchFeatures(layers=("bn2",), neighborhood=1, image_size=64, batch_size=32)
feature_net = MetricFeatures(network, reference=reference, max_epochs=4, random_state=0)
detector = AnoUNet(feature_net, Pixels(64), beta=2.0, n_steps=80, false_alarm_rate=None, random_state=0).fit(normal)
scores = -detector.score_samples(np.concatenate([fresh, anomalies]))
print(f"image AUROC {image_auroc(np.repeat([1, -1], 20), scores):.2f}")

# %%
# Three anomalies, rebuilt: the bar turns into a row of dots, and changes most. The losses above the maps say how well
# the image is copied (L_R), and how normal its features are (L_C).

from skanomaly.plotting import ReconstructionDisplay

display = ReconstructionDisplay.from_estimator(detector, anomalies[:3])

# %%
# The control: with ``beta=0``, the same network only copies. What is left are the edges, which a U-Net copies late.

control = AnoUNet(feature_net, Pixels(64), beta=0.0, n_steps=80, false_alarm_rate=None, random_state=0).fit(normal)
display = ReconstructionDisplay.from_estimator(control, anomalies[:3])
