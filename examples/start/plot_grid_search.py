"""
Choose settings with labelled images
====================================

A handful of labelled defects is enough to compare settings. ``FitOnNormal`` keeps them out of training, and
``GridSearchCV`` does the rest.
"""

# %%
# 100 normal images, and 15 with a defect. Without a network, patches of pixels must have the right size.

import numpy as np

from skanomaly.datasets import make_surfaces

data = make_surfaces("cloth", n_train=80, n_good=20, n_anomalous=15, size=64, random_state=0)
X = np.concatenate([data.X_train, data.X_test])
y = np.concatenate([np.ones(len(data.X_train), int), data.y_test])  # +1 normal, -1 anomalous

# %%
# The names of the parameters follow from the names of the steps. In each split, the detector learns from the normal
# images of the training part alone, and is judged on both kinds in the other part.

from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skanomaly import FitOnNormal, GreedyCoreset, KNNScorer, PatchFeatures
from skanomaly.metrics import image_auroc_scorer

pipeline = make_pipeline(PatchFeatures(image_size=64), GreedyCoreset(0.1, random_state=0), KNNScorer())
search = GridSearchCV(
    FitOnNormal(pipeline),
    {
        "estimator__patchfeatures__patch_size": [4, 8, 16],
        "estimator__patchfeatures__level": [0, 1],
    },
    cv=StratifiedKFold(3),
    scoring=image_auroc_scorer,
)
search.fit(X, y)
print("best:", {name.split("__")[-1]: value for name, value in search.best_params_.items()})

# %%
# Mean and range of the three folds. With 5 defects in a fold, small differences mean nothing.

import matplotlib.pyplot as plt

results = search.cv_results_
folds = np.array([results[f"split{k}_test_score"] for k in range(3)])
step = "param_estimator__patchfeatures__"
labels = [
    f"{side} px, level {level}"
    for side, level in zip(results[step + "patch_size"], results[step + "level"], strict=True)
]
_, ax = plt.subplots(figsize=(7, 3), layout="constrained")
mean = folds.mean(axis=0)
ax.errorbar(mean, labels, xerr=[mean - folds.min(axis=0), folds.max(axis=0) - mean], fmt="o", capsize=3)
ax.invert_yaxis()
ax.axvline(0.5, color="grey", linestyle=":", label="chance")
ax.set(xlabel="image AUROC", title="Patches of pixels on cloth")
ax.legend()

# %%
# The best settings get a threshold from all normal images, by cross-validation. Fresh images say what they are worth.

from skanomaly import ConformalDetector

best = search.best_estimator_.estimator
detector = ConformalDetector(best, false_alarm_rate=0.1, calibration="cv", random_state=0).fit(X[y == 1])

fresh = make_surfaces("cloth", n_train=0, n_good=100, n_anomalous=50, size=64, random_state=1)
flagged = detector.predict(fresh.X_test) == -1
print(f"flagged: {flagged[:100].mean():.0%} of normal, {flagged[100:].mean():.0%} of defective fresh images")
