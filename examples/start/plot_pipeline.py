"""
A detector made of parts
========================

The parts of a detector are estimators of their own. A pipeline of patch features, a coreset and nearest neighbours is
PatchCore in its simplest form; ``ConformalDetector`` adds the threshold.
"""

# %%
# Features turn images into grids of patches, the coreset keeps the patches that cover all others best, and the scorer
# measures the distance to the nearest one. Click on a part of the diagram to see its parameters.

from sklearn.pipeline import make_pipeline

from skanomaly import ConformalDetector, GreedyCoreset, KNNScorer, PretrainedPatchFeatures

pipeline = make_pipeline(
    PretrainedPatchFeatures(image_size=128), GreedyCoreset(0.1, random_state=0), KNNScorer(n_neighbors=3)
)
detector = ConformalDetector(pipeline, false_alarm_rate=0.05, calibration="cv", random_state=0)
detector

# %%
# The pipeline by itself has scores and maps. The wrapper calibrates a threshold as well, here by ten-fold
# cross-validation, in which the network sees each image once.

from skanomaly.datasets import make_surfaces

data = make_surfaces("grid", n_train=40, n_good=10, n_anomalous=10, random_state=0)
detector.fit(data.X_train)

print(f"bank: {len(detector.estimator_[-1].bank_)} patches")
print(f"flagged: {sum(detector.predict(data.X_test[:10]) == -1)} of 10 normal, ", end="")
print(f"{sum(detector.predict(data.X_test[10:]) == -1)} of 10 defective images")

# %%
# Each part can be replaced: here the network by patches of raw pixels, and neighbours by a Gaussian at each position.
# All three see the same scratch.

import matplotlib.pyplot as plt

from skanomaly import GaussianScorer, PatchFeatures, anomaly_map
from skanomaly.plotting import AnomalyMapDisplay

pipelines = {
    "network, neighbours": detector.estimator_,
    "pixels, neighbours": make_pipeline(PatchFeatures(), GreedyCoreset(0.1, random_state=0), KNNScorer(3)),
    "network, Gaussians": make_pipeline(PretrainedPatchFeatures(image_size=128), GaussianScorer(ridge=0.01)),
}
scratched, mask = data.X_test[10], data.masks_test[10]
_, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for (title, parts), ax in zip(pipelines.items(), axes, strict=True):
    fitted = parts if parts is detector.estimator_ else parts.fit(data.X_train)
    AnomalyMapDisplay.from_predictions(scratched, anomaly_map(fitted, [scratched])[0], mask=mask, ax=ax)
    ax.set_title(title)
