import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_validate
from sklearn.neighbors import LocalOutlierFactor

from skanomaly import FitOnNormal, KNNScorer
from skanomaly.metrics import image_auroc


@pytest.mark.parametrize("y", [[1, 1, -1, 1], [False, False, True, False]])
def test_drops_anomalies(y):
    X = np.array([[0.0], [1.0], [100.0], [2.0]])
    wrapped = FitOnNormal(KNNScorer(false_alarm_rate=None)).fit(X, y)
    np.testing.assert_array_equal(wrapped.estimator_.bank_.ravel(), [0, 1, 2])
    assert wrapped.n_normal_ == 3


def test_lists_of_paths_and_labelled_items():
    class Recorder(KNNScorer):
        def fit(self, X, y=None):
            self.seen_ = X
            return self

    class Item:
        def __init__(self, label):
            self.label = label

    wrapped = FitOnNormal(Recorder()).fit(["a.png", "b.png"], [Item(-1), Item(1)])
    assert wrapped.estimator_.seen_ == ["b.png"]


@pytest.mark.parametrize(
    ("y", "message"),
    [([0, 1, 1], "labels 0, 1; they must be.*y == 1"), ([-1, -1, -1], "nothing to fit on"), ([1, 1], "inconsistent")],
)
def test_refuses_other_labels(y, message):
    with pytest.raises(ValueError, match=message):
        FitOnNormal(KNNScorer()).fit(np.zeros((3, 1)), y)


def test_offers_only_what_the_estimator_has():
    assert not hasattr(FitOnNormal(LocalOutlierFactor()), "predict")
    assert hasattr(FitOnNormal(LocalOutlierFactor(novelty=True)), "predict")


def test_out_of_fold_scores(rng):
    X = np.vstack([rng.normal(size=(60, 3)), rng.normal(4, 1, size=(12, 3))])
    y, cv = np.repeat([1, -1], [60, 12]), StratifiedKFold(3)
    wrapped = FitOnNormal(KNNScorer(false_alarm_rate=0.2))
    with pytest.raises(ValueError, match=r"cross_val_predict .*cross_validate\(return_estimator=True, return_indices"):
        cross_val_predict(wrapped, X, y, cv=cv, method="decision_function")
    found = cross_validate(wrapped, X, y, cv=cv, scoring="roc_auc", return_estimator=True, return_indices=True)
    scores = np.empty(len(X))
    for estimator, test in zip(found["estimator"], found["indices"]["test"], strict=True):
        scores[test] = estimator.score_samples(X[test])
    assert image_auroc(y, -scores) > 0.95
