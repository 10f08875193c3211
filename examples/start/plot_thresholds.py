"""
Thresholds, p-values and promised rates
=======================================

``false_alarm_rate`` is a promise about fresh normal samples, kept with normal samples alone. This example counts
whether it is kept, and what p-values add to it.
"""

# %%
# Normal rows of three kinds of detector, of skanomaly and of scikit-learn, each wrapped to calibrate its threshold on a
# held-out fifth. The rate can be changed after fitting: all calibration scores are kept.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skanomaly import ConformalDetector, GaussianScorer, KNNScorer

rng = np.random.default_rng(0)
mixing = rng.normal(size=(4, 4))


def draw(n):
    """Return n normal rows, whose tails are heavy."""
    return rng.standard_t(5, size=(n, 4)) @ mixing


estimators = {
    "KNNScorer": make_pipeline(StandardScaler(), KNNScorer(5)),
    "GaussianScorer": GaussianScorer(),
    "IsolationForest": IsolationForest(n_estimators=50, random_state=0),
}
rates = [0.01, 0.02, 0.05, 0.1, 0.2]
observed = {name: [] for name in estimators}
for _ in range(30):
    rows, fresh = draw(1000), draw(2000)
    for name, estimator in estimators.items():
        detector = ConformalDetector(estimator, random_state=0).fit(rows)
        p_values = detector.p_values(fresh)
        observed[name].append([np.mean(p_values <= rate) for rate in rates])

# %%
# Promised and observed, with the range of thirty repetitions. The promise holds on average over calibration samples,
# whatever the detector and the distribution: 200 scores leave some scatter.

_, ax = plt.subplots(figsize=(6, 4), layout="constrained")
ax.plot([0.008, 0.25], [0.008, 0.25], color="grey", linestyle=":", label="as promised")
for shift, (name, shares) in zip((0.94, 1, 1.06), observed.items(), strict=True):
    mean, low, high = (f(shares, axis=0) for f in (np.mean, np.min, np.max))
    ax.errorbar(np.multiply(rates, shift), mean, yerr=[mean - low, high - mean], fmt="o", capsize=3, label=name)
ax.set(
    xscale="log",
    yscale="log",
    xlabel="false_alarm_rate",
    ylabel="share of fresh normal rows flagged",
    ylim=(0.003, 0.35),
)
ax.set_xticks(rates, [f"{rate:.0%}" for rate in rates], minor=False)
ax.set_yticks(rates, [f"{rate:.0%}" for rate in rates], minor=False)
ax.minorticks_off()
ax.legend()

# %%
# p-values of normal rows are uniform; those of anomalies are small. Here, 30 of 1,000 rows lie off the plane in which
# the others vary.

rows = draw(25_000)
new = draw(1000)
new[:30] += 4 * rng.normal(size=(30, 4))
anomalous = np.arange(1000) < 30

detector = ConformalDetector(GaussianScorer(), false_alarm_rate=0.05, random_state=0).fit(rows)
p_values = detector.p_values(new)
_, ax = plt.subplots(figsize=(6, 3), layout="constrained")
ax.hist([p_values[~anomalous], p_values[anomalous]], bins=20, stacked=True, label=["normal", "anomalous"])
ax.set(xlabel="p-value", ylabel="rows")
ax.legend()

# %%
# ``predict`` bounds the share of *normal* rows that are flagged. With few anomalies among many rows, most of what it
# flags is normal. ``select`` bounds the share of normal rows among the *selected* ones instead.

flagged, selected = detector.predict(new) == -1, detector.select(new, fdr=0.2)
for name, chosen in (("predict", flagged), ("select", selected)):
    print(f"{name}: {chosen.sum()} rows, {np.mean(~anomalous[chosen]):.0%} of them normal, "
          f"{chosen[anomalous].sum()} of 30 anomalies")  # fmt: skip
