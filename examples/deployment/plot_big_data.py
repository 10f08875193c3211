"""
More data than memory
=====================

Gaussians are sums over samples: they can be added up batch by batch, and machine by machine. Images are read when
they are needed, and verdicts come one after another.
"""

# %%
# A table in ten batches, as they come from a file or a database. Each of two machines takes half of them.

import numpy as np

from skanomaly import GaussianScorer

rng = np.random.default_rng(0)
mixing = rng.normal(size=(8, 8))


def batches(seed, n=5):
    """Yield batches of 20,000 rows."""
    rng = np.random.default_rng(100 + seed)  # not the rows that are drawn below
    for _ in range(n):
        yield rng.normal(size=(20_000, 8)) @ mixing


machines = [GaussianScorer(), GaussianScorer()]
for seed, scorer in enumerate(machines):
    for batch in batches(seed):
        scorer.partial_fit(batch)
merged = machines[0].merge(machines[1])

# %%
# The result is that of one ``fit`` on all 200,000 rows, except for rounding.

everything = np.concatenate([batch for seed in (0, 1) for batch in batches(seed)])
at_once = GaussianScorer(false_alarm_rate=None).fit(everything)
new = rng.normal(size=(1000, 8)) @ mixing
difference = np.abs(merged.score_samples(new) - at_once.score_samples(new)).max()
print(f"{merged.n_samples_seen_:,} rows, largest difference of a score {difference:.0e}")

# %%
# Thresholds are set afterwards, from normal rows that were not learnt from.

merged.calibrate(rng.normal(size=(1000, 8)) @ mixing)
print(f"flagged: {np.mean(merged.predict(new) == -1):.1%} of fresh normal rows")

# %%
# Images: a list of a thousand paths is a list of strings. ``iter_verdicts`` reads, scores and forgets one batch after
# another, so that memory does not grow with their number.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from skanomaly import Pixels, VariationModel
from skanomaly.datasets import make_parts

data = make_parts(n_train=100, n_good=150, n_anomalous=50, size=64, shift=0, rotation=0, random_state=0)
folder = Path(tempfile.mkdtemp())
for i in rng.permutation(200):
    Image.fromarray(data.X_test[i]).save(folder / f"{i:03d}.png")

detector = VariationModel(Pixels(64), random_state=0)
for batch in np.split(data.X_train[:80], 4):
    detector.partial_fit(batch)
detector.calibrate(data.X_train[80:])
verdicts = [(verdict.score, verdict.label) for verdict in detector.iter_verdicts(str(folder))]

# %%
# Scores in the order of the files, and the threshold.

scores, labels = np.transpose(verdicts)
_, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for name, files, marker in (("normal", slice(150), "o"), ("defective", slice(150, None), "x")):
    ax.plot(np.arange(200)[files], -scores[files], marker, markersize=4, label=name)
ax.axhline(-detector.offset_, color="black", linestyle="--", label="threshold")
ax.set(xlabel="file", ylabel="anomaly score")
ax.legend()
print(f"flagged: {np.mean(labels[:150] == -1):.1%} of normal, {np.mean(labels[150:] == -1):.0%} of defective images")
