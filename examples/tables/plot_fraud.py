"""
Credit-card fraud
=================

Learn normal transactions, flag the others, and explain a flagged one by its columns. Run ``python
examples/tables/plot_fraud.py path/to/creditcard.csv`` on the real table; without it, a synthetic one of a tenth of
the size takes its place.
"""

# %%
# The real table (ULB, Kaggle) has 284,807 transactions, 492 of them frauds. The synthetic one has correlated columns
# with heavy tails and, as frauds, rows in which a few columns have changed places with those of other rows.

import sys
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from skanomaly.datasets import load_creditcard


def draw_table(n=30_000, n_frauds=60, d=20):
    """Return a table of normal and fraudulent rows."""
    rng = np.random.default_rng(0)
    rows = np.sinh(rng.normal(size=(n, 8)) @ rng.normal(size=(8, d)) / 3) + 0.1 * rng.normal(size=(n, d))
    y = np.ones(n, int)
    y[:n_frauds] = -1
    for row in rows[:n_frauds]:
        changed = rng.choice(d, 6, replace=False)
        row[changed] = rows[rng.integers(n_frauds, n, 6), changed]
    return Bunch(X=rows, y=y, feature_names=[f"V{j + 1}" for j in range(d)])


path = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/tables/creditcard.npz")
data = load_creditcard(path) if path.exists() else draw_table()
X_train, X_test, y_train, y_test = train_test_split(data.X, data.y, test_size=0.2, stratify=data.y, random_state=0)

# %%
# At most 1 % of normal transactions may be flagged; a held-out fifth of the normal rows sets the threshold.

from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from skanomaly import Autoencoder

detector = Autoencoder(false_alarm_rate=0.01, random_state=0).fit(X_train[y_train == 1])

anomaly_score = -detector.score_samples(X_test)
label = detector.predict(X_test)
print(f"AUROC {roc_auc_score(y_test == -1, anomaly_score):.3f}")
print(f"average precision {average_precision_score(y_test == -1, anomaly_score):.3f}")

print(f"\nat the threshold {-detector.offset_:.3f}{'passed':>12}{'flagged':>10}")
for name, counts in zip(("normal", "fraud"), confusion_matrix(y_test, label, labels=[1, -1]), strict=True):
    print(f"{name:>22}{counts[0]:>12}{counts[1]:>10}")

# %%
# Scores of normal and fraudulent transactions, and the threshold. Both axes are logarithmic.

from skanomaly.plotting import ScoreDisplay

ScoreDisplay.from_estimator(detector, X_test, y_test, log_score=True, log_count=True)

# %%
# The contributions of the columns sum to the score. The reconstruction is the value that the network expects.

caught = np.flatnonzero((y_test == -1) & (label == -1))
row = X_test[caught[[len(caught) // 2]]]
contributions, expected = detector.contributions(row)[0], detector.reconstruct(row)[0]
print(f"\na flagged fraud, score {contributions.sum():.2f}:\n{'column':>8}{'value':>10}{'expected':>10}{'share':>8}")
for i in np.argsort(-contributions)[:6]:
    share = contributions[i] / contributions.sum()
    print(f"{data.feature_names[i]:>8}{row[0, i]:>10.2f}{expected[i]:>10.2f}{share:>8.1%}")
