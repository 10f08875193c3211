"""Credit-card fraud: learn normal transactions, flag the others, and explain a flagged one by its columns.

Run ``python examples/fraud.py path/to/creditcard.csv`` (or an .npz file, see `load_creditcard`).
"""

import sys

import numpy as np
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score
from sklearn.model_selection import train_test_split

from skanomaly.datasets import load_creditcard
from skanomaly.detectors import Autoencoder

data = load_creditcard(sys.argv[1] if len(sys.argv) > 1 else "../shared/data/tables/creditcard.npz")
X_train, X_test, y_train, y_test = train_test_split(data.X, data.y, test_size=0.2, stratify=data.y, random_state=0)

# At most 1 % of normal transactions may be flagged; a held-out fifth of the normal rows sets the threshold.
detector = Autoencoder(false_alarm_rate=0.01, random_state=0).fit(X_train[y_train == 1])

anomaly_score = -detector.score_samples(X_test)
label = detector.predict(X_test)
print(f"AUROC {roc_auc_score(y_test == -1, anomaly_score):.3f}")
print(f"average precision {average_precision_score(y_test == -1, anomaly_score):.3f}")

print(f"\nat the threshold {-detector.offset_:.3f}{'passed':>12}{'flagged':>10}")
for name, counts in zip(("normal", "fraud"), confusion_matrix(y_test, label, labels=[1, -1]), strict=True):
    print(f"{name:>22}{counts[0]:>12}{counts[1]:>10}")

# The contributions of the columns sum to the score. The reconstruction is the value that the network expects.
caught = np.flatnonzero((y_test == -1) & (label == -1))
row = X_test[caught[[len(caught) // 2]]]
contributions, expected = detector.contributions(row)[0], detector.reconstruct(row)[0]
print(f"\na flagged fraud, score {contributions.sum():.2f}:\n{'column':>8}{'value':>10}{'expected':>10}{'share':>8}")
for i in np.argsort(-contributions)[:6]:
    share = contributions[i] / contributions.sum()
    print(f"{data.feature_names[i]:>8}{row[0, i]:>10.2f}{expected[i]:>10.2f}{share:>8.1%}")
