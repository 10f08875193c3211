import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skanomaly import FitOnNormal, KNNScorer
from skanomaly.metrics import image_ap_scorer, image_auroc, image_auroc_scorer, tnr_scorer, tpr_scorer


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


# Searches, with anomalies among the samples


@pytest.fixture
def contaminated(rng):
    """Return normal rows and two tight clusters of anomalies, with their labels."""
    anomalies = np.concatenate([rng.normal(center, 0.1, size=(30, 3)) for center in (2.5, -2.5)])
    return np.concatenate([rng.normal(size=(96, 3)), anomalies]), np.repeat([1, -1], [96, 60])


DETECTORS = {
    "neighbours": (KNNScorer(false_alarm_rate=None), {"n_neighbors": [1, 3]}),
    "forest": (IsolationForest(n_estimators=20, random_state=0), {"max_samples": [0.5, 1.0]}),
    "pipeline": (make_pipeline(StandardScaler(), KNNScorer()), {"knnscorer__n_neighbors": [1, 3]}),
}


@pytest.mark.filterwarnings("ignore:y labels .* samples as anomalies:skanomaly.exceptions.DataWarning")
@pytest.mark.parametrize("name", ["neighbours", "forest"])
def test_a_contaminated_refit_is_worse_and_repaired(contaminated, rng, name):
    """Plain estimators learn the anomalies of the training part, in the splits and in the refit."""
    X, y = contaminated
    detector, grid = DETECTORS[name]
    fresh = np.concatenate([rng.normal(size=(100, 3)), rng.normal(2.5, 0.1, size=(25, 3))])
    labels = np.repeat([1, -1], [100, 25])
    plain = GridSearchCV(detector, grid, cv=StratifiedKFold(3), scoring=image_auroc_scorer).fit(X, y)
    nested = {f"estimator__{name}": values for name, values in grid.items()}
    wrapped = GridSearchCV(FitOnNormal(detector), nested, cv=StratifiedKFold(3), scoring=image_auroc_scorer).fit(X, y)
    assert wrapped.best_score_ > plain.best_score_ + 0.05
    before, after = (image_auroc_scorer(search, fresh, labels) for search in (plain, wrapped))
    assert after > max(before + 0.05, 0.95)
    assert wrapped.best_estimator_.n_normal_ == 96


@pytest.mark.parametrize("name", DETECTORS)
def test_searches_and_cross_validation(contaminated, name):
    """Two processes find what one finds; metrics by name; the halving search drops anomalies as well."""
    X, y = contaminated
    detector, grid = DETECTORS[name]
    wrapped, nested = FitOnNormal(detector), {f"estimator__{name}": values for name, values in grid.items()}
    options = {"cv": StratifiedKFold(3), "scoring": {"auroc": image_auroc_scorer, "ap": image_ap_scorer}}
    search = GridSearchCV(wrapped, nested, refit="ap", **options).fit(X, y)
    chosen = search.cv_results_["params"][search.best_index_]
    scores = cross_val_score(clone(wrapped).set_params(**chosen), X, y, scoring=image_ap_scorer, cv=StratifiedKFold(3))
    assert scores.mean() == pytest.approx(search.best_score_)
    halving = HalvingGridSearchCV(
        wrapped, nested, cv=StratifiedKFold(3), scoring=image_auroc_scorer, random_state=0, min_resources=60
    ).fit(X, y)
    assert halving.best_estimator_.n_normal_ == 96
    assert halving.best_score_ > 0.9


def test_two_processes_find_what_one_finds(contaminated):
    X, y = contaminated
    options = {"cv": StratifiedKFold(3), "scoring": image_auroc_scorer}
    wrapped, grid = FitOnNormal(KNNScorer()), {"estimator__n_neighbors": [1, 3]}
    found = [GridSearchCV(wrapped, grid, n_jobs=n_jobs, **options).fit(X, y) for n_jobs in (1, 2)]
    np.testing.assert_array_equal(*(search.cv_results_["mean_test_score"] for search in found))


def test_labels_out_of_fold(contaminated):
    X, y = contaminated
    cv, wrapped = StratifiedKFold(3), FitOnNormal(KNNScorer(false_alarm_rate=0.2))
    predicted = cross_val_predict(wrapped, X, y, cv=cv)
    scores = cross_validate(wrapped, X, y, cv=cv, scoring={"tnr": tnr_scorer, "tpr": tpr_scorer})
    for label, name in ((1, "tnr"), (-1, "tpr")):
        parts = [(predicted[test] == y[test])[y[test] == label].mean() for _, test in cv.split(X, y)]
        np.testing.assert_allclose(scores[f"test_{name}"], parts)
        assert np.mean(parts) > 0.6
    booleans = cross_validate(wrapped, X, y == -1, cv=cv, scoring=tnr_scorer)
    np.testing.assert_array_equal(booleans["test_score"], scores["test_tnr"])


def test_zero_and_one_are_refused_in_searches(contaminated):
    X, y = contaminated
    with pytest.raises(ValueError, match="labels 0, 1; they must be"):
        cross_val_score(
            FitOnNormal(KNNScorer()), X, (y == -1).astype(int), scoring=image_auroc_scorer, error_score="raise"
        )
