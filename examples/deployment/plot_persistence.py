"""
Save a model and load it elsewhere
==================================

A model file holds parameters and arrays, no pickle: loading it executes nothing, and the loaded detector gives the same
scores, bit for bit.
"""

# %%
# A detector, and what its file weighs. Networks are stored by name and hash, unless ``include_weights`` is True.

import tempfile
from pathlib import Path

import numpy as np

import skanomaly
from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import make_surfaces

data = make_surfaces("metal", n_train=30, n_good=10, n_anomalous=10, random_state=0)
detector = PatchCore(PretrainedPatchFeatures(image_size=224), random_state=0).fit(data.X_train)

folder = Path(tempfile.mkdtemp())
skanomaly.save(detector, folder / "model.skops")
skanomaly.save(detector, folder / "with_weights.skops", include_weights=True)
for path in sorted(folder.iterdir()):
    print(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB")

# %%
# The same scores and maps, to the last bit, also from the file that has the weights in it.

for name in ("model.skops", "with_weights.skops"):
    loaded = skanomaly.load(folder / name)
    same = np.array_equal(loaded.score_samples(data.X_test), detector.score_samples(data.X_test))
    print(f"{name}: scores {'equal' if same else 'differ'}")

# %%
# A file is checked before anything in it is used. A single changed byte is found.

from skanomaly.exceptions import ModelFileError

damaged = bytearray((folder / "model.skops").read_bytes())
damaged[len(damaged) // 2] ^= 1
(folder / "damaged.skops").write_bytes(damaged)
try:
    skanomaly.load(folder / "damaged.skops")
except ModelFileError as error:
    print(f"{type(error).__name__}: {str(error).replace(str(folder), '...')}")

# %%
# The threshold travels with the model, and so do the calibration scores: a new rate acts at once.

import matplotlib.pyplot as plt

_, ax = plt.subplots(figsize=(6, 3), layout="constrained")
rates = [0.04, 0.05, 0.1, 0.2, 0.3]
for label, images in (("normal", data.X_test[:10]), ("defective", data.X_test[10:])):
    shares = [np.mean(loaded.set_params(false_alarm_rate=rate).predict(images) == -1) for rate in rates]
    ax.plot(rates, shares, marker="o", label=label)
ax.set(xlabel="false_alarm_rate", ylabel="share of images flagged", ylim=(-0.03, 1.03))
ax.legend()
