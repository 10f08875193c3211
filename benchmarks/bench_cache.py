"""Grid search over 12 candidates x 3 folds of a pipeline on 200 images, with and without the feature cache.

Without the cache, only the candidates of the first ratios are run and their time is extrapolated, since all candidates
embed the same images. Both times are split into the features and the rest (coreset and scorer), which the cache cannot
save.
"""

import tempfile
import time

import numpy as np
from _common import parser, print_machine
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline

from skanomaly import FitOnNormal, GreedyCoreset, KNNScorer, PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec
from skanomaly.metrics import image_auroc_scorer

RATIOS, NEIGHBORS = (0.01, 0.02, 0.03, 0.05), (1, 3, 5)


class CountingFeatures(PretrainedPatchFeatures):
    """Pretrained features that count the images passed through the network, and the seconds spent in `transform`."""

    passed, seconds = 0, 0.0

    def transform(self, X):  # noqa: D102
        start = time.perf_counter()
        grids = super().transform(X)
        CountingFeatures.seconds += time.perf_counter() - start
        return grids

    def _compute(self, source, output, values):
        CountingFeatures.passed += len(source)
        super()._compute(source, output, values)


def search_seconds(memory, ratios, X, y):
    """Return the seconds of a search without refitting, those of its features, and the number of backbone passes."""
    CountingFeatures.passed, CountingFeatures.seconds = 0, 0.0
    pipeline = make_pipeline(
        CountingFeatures(memory=memory), GreedyCoreset(random_state=0), KNNScorer(false_alarm_rate=None)
    )
    grid = {"estimator__greedycoreset__ratio": ratios, "estimator__knnscorer__n_neighbors": NEIGHBORS}
    search = GridSearchCV(FitOnNormal(pipeline), grid, cv=StratifiedKFold(3), scoring=image_auroc_scorer, refit=False)
    start = time.perf_counter()
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    return np.array([time.perf_counter() - start, CountingFeatures.seconds, CountingFeatures.passed])


def main():
    options = parser(__doc__)
    options.add_argument("--plain-ratios", type=int, default=1, help="number of coreset ratios timed without the cache")
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    X = [*data.X_train[:120], *data.X_test[:80]]
    y = np.concatenate([np.ones(120, int), data.y_test[:80]])
    with tempfile.TemporaryDirectory() as memory:
        cached = search_seconds(memory, RATIOS, X, y)
    timed = RATIOS[: options.plain_ratios]
    plain = search_seconds(None, timed, X, y) * len(RATIOS) / len(timed)
    print(f"{len(X)} images, {len(RATIOS) * len(NEIGHBORS)} candidates x 3 folds")
    for name, (total, features, passes) in (("with the cache", cached), ("without", plain)):
        print(f"{name:<15} {total:7.1f} s   features {features:7.1f} s   {passes:.0f} backbone passes")
    print(f"without: from {len(timed)} of {len(RATIOS)} ratios")
    print(f"ratio           {plain[0] / cached[0]:7.1f} x   features {plain[1] / cached[1]:7.1f} x")


if __name__ == "__main__":
    main()
