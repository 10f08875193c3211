"""
A data frame with categories, dates and missing values
======================================================

skrub turns a table into numbers, nearest neighbours find the odd rows, and contributions say which columns are to
blame.
"""

# %%
# Orders of parcels. The price follows from the carrier and the weight, one carrier serves islands only, and some
# weights are not recorded.

import numpy as np
import pandas as pd

rng = np.random.default_rng(0)


def draw_orders(n):
    """Return n parcels."""
    region = rng.choice(["north", "south", "island"], n, p=[0.5, 0.4, 0.1])
    carrier = np.where(region == "island", "ferry", rng.choice(["road", "rail"], n))
    weight = rng.lognormal(1, 0.5, n)
    rate = pd.Series(carrier).map({"road": 2.0, "rail": 1.2, "ferry": 4.0})
    orders = pd.DataFrame(
        {
            "region": region,
            "carrier": carrier,
            "weight": weight,
            "price": 5 + rate * weight + rng.normal(0, 0.3, n),
            "shipped": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.uniform(0, 90, n), unit="D"),
        }
    )
    return orders.mask(rng.random(orders.shape) < [0, 0, 0.05, 0, 0])


odd = draw_orders(3)
odd.loc[0, ["region", "carrier"]] = "north", "ferry"
odd.loc[1, ["carrier", "weight", "price"]] = "road", 6.0, 60.0
odd.loc[2, "shipped"] = pd.Timestamp("2027-02-01")  # the wrong year
odd

# %%
# Categories and dates become columns. A missing value becomes the median and, if values were missing in ``fit``, a 1
# in a column of its own.

from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skrub import TableVectorizer

from skanomaly import ConformalDetector, KNNScorer

pipeline = make_pipeline(
    TableVectorizer(),
    SimpleImputer(strategy="median", add_indicator=True),
    StandardScaler(),
    KNNScorer(5),
)
detector = ConformalDetector(pipeline, false_alarm_rate=0.05, random_state=0).fit(draw_orders(2000))

flagged, found = (np.mean(detector.predict(orders) == -1) for orders in (draw_orders(2000), odd))
print(f"flagged: {flagged:.1%} of fresh orders, {found:.0%} of odd ones")

# %%
# Contributions are of the columns that the scorer sees; they sum to the score.

import matplotlib.pyplot as plt

columns = detector.estimator_[:-1].get_feature_names_out()
contributions = detector.contributions(odd)
_, axes = plt.subplots(1, 3, figsize=(10, 2.6), layout="constrained")
for ax, p_value, shares in zip(axes, detector.p_values(odd), contributions, strict=True):
    largest = np.argsort(-shares)[:3]
    print(f"p-value {p_value:.4f}: " + ", ".join(f"{columns[i]} {shares[i] / shares.sum():.0%}" for i in largest))
    ax.barh(columns[largest], shares[largest] / shares.sum())
    ax.invert_yaxis()
    ax.set(title=f"p-value {p_value:.4f}", xlabel="share of the score", xlim=(0, 1))
