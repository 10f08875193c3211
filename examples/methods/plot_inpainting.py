"""
Inpainting: fill in what is masked
==================================

Gradient projection moves pixels to the nearest image that an autoencoder takes for normal. If only the pixels of a mask
may move, it fills them in, and leaves all others unchanged, bit for bit.
"""

# %%
# An autoencoder of a grid of lines, trained for a few epochs.

import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import binary_dilation

from skanomaly import Autoencoder, GradientProjection, Pixels
from skanomaly.datasets import make_surfaces

data = make_surfaces("grid", n_train=30, n_good=0, n_anomalous=5, size=64, random_state=0)
autoencoder = Autoencoder(Pixels(64), max_epochs=10, random_state=0)
detector = GradientProjection(autoencoder, false_alarm_rate=None, random_state=0).fit(data.X_train)

# %%
# The masks here are the true defects, a little enlarged, because their soft edges are defective too. In practice they
# are drawn by hand, or taken from ``anomaly_mask``.

shown = [0, 2, 3]
images, masks = data.X_test[shown], binary_dilation(data.masks_test[shown], np.ones((1, 5, 5)))
inpainted = detector.inpaint(images, masks)

_, axes = plt.subplots(3, 3, figsize=(7, 7), layout="constrained")
for row, title, pictures in zip(axes, ("with a defect", "mask", "inpainted"), (images, masks, inpainted), strict=True):
    for ax, picture in zip(row, pictures, strict=True):
        ax.imshow(np.squeeze(picture), cmap="gray")
        ax.axis("off")
    row[0].set_title(title, loc="left")

# %%
# Lines are continued where the autoencoder can guess them; grain is not invented. Every pixel outside the masks is
# what it was.

print(
    all(
        np.array_equal(np.squeeze(a)[~m], b[~m] / np.float32(255))
        for a, b, m in zip(inpainted, images, masks, strict=True)
    )
)
