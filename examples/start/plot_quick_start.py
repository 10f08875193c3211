"""
Quick start
===========

PatchCore learns what normal pieces of a grid look like, sets a threshold that at most 5 % of fresh normal pieces are
expected to exceed, and shows where others are defective.
"""

# %%
# Normal images are all that is needed. These are synthetic; a folder, a pattern such as ``"parts/good/*.png"`` or a
# list of paths does as well.

import numpy as np

from skanomaly.datasets import make_surfaces

data = make_surfaces("grid", n_train=40, n_good=40, n_anomalous=20, random_state=0)
data.X_train.shape, data.X_train.dtype

# %%
# A detector is an estimator of scikit-learn. By default, PatchCore looks at images through a network that was trained
# on ImageNet, and leaves out each training image in turn to set its threshold.

from skanomaly import PatchCore

detector = PatchCore(false_alarm_rate=0.05, random_state=0)
detector.fit(data.X_train)

# %%
# ``score_samples`` is higher for normal images, as everywhere in scikit-learn. Images below the threshold are
# anomalies; ``predict`` returns +1 and -1 accordingly. Clear defects are found, and few of the normal images are
# flagged.

scores = detector.score_samples(data.X_test)
labels = np.where(scores < detector.offset_, -1, 1)
for kind in ("good", "hole", "missing_thread", "scratch", "stain", "blob"):
    flagged = labels[data.kinds_test == kind] == -1
    print(f"{kind:>15}: {flagged.sum()} of {len(flagged)} flagged")

# %%
# Anomaly maps show where. All of them are drawn on one scale, so that equal colours are equal evidence. The dashed
# white line is the threshold for pixels, which at most 5 % of normal images are expected to exceed anywhere; the true
# defect is outlined in blue.

from skanomaly.plotting import plot_overlay_sheet

shown = [0, 40, 41, 42, 43, 44]
sheet = plot_overlay_sheet(
    data.X_test[shown],
    detector.anomaly_map(data.X_test[shown]),
    masks=data.masks_test[shown],
    titles=data.kinds_test[shown],
    level=detector.pixel_threshold_,
    n_columns=6,
)

# %%
# The scores of all test images, and the threshold. Labels are used for the colours only.

from skanomaly.plotting import ScoreDisplay

ScoreDisplay.from_predictions(-scores, data.y_test, threshold=-detector.offset_)
