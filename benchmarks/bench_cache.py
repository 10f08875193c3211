"""A search of 12 candidates x 3 folds over a pipeline on 200 images, with and without the feature cache.

Without the cache the time is that of `--plain-candidates` candidates, times the rest: all pass the same images.
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
    """Counts the images that pass through the network."""

    passed = 0

    def _compute(self, source, output, values):
        CountingFeatures.passed += len(source)
        super()._compute(source, output, values)


def search_seconds(memory, ratios, X, y):
    """Return the seconds of a search without its refit, and the number of backbone passes."""
    CountingFeatures.passed = 0
    pipeline = make_pipeline(
        CountingFeatures(memory=memory), GreedyCoreset(random_state=0), KNNScorer(false_alarm_rate=None)
    )
    grid = {"estimator__greedycoreset__ratio": ratios, "estimator__knnscorer__n_neighbors": NEIGHBORS}
    search = GridSearchCV(FitOnNormal(pipeline), grid, cv=StratifiedKFold(3), scoring=image_auroc_scorer, refit=False)
    start = time.perf_counter()
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    return time.perf_counter() - start, CountingFeatures.passed


def main():
    options = parser(__doc__)
    options.add_argument("--plain-ratios", type=int, default=1, help="coreset ratios timed without the cache")
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    X = [*data.X_train[:120], *data.X_test[:80]]
    y = np.concatenate([np.ones(120, int), data.y_test[:80]])
    with tempfile.TemporaryDirectory() as memory:
        cached, passes = search_seconds(memory, RATIOS, X, y)
    timed = RATIOS[: options.plain_ratios]
    plain, plain_passes = search_seconds(None, timed, X, y)
    plain, plain_passes = (value * len(RATIOS) / len(timed) for value in (plain, plain_passes))
    print(f"{len(X)} images, {len(RATIOS) * len(NEIGHBORS)} candidates x 3 folds")
    print(f"with the cache     {cached:7.1f} s   {passes} backbone passes")
    extrapolated = f"from {len(timed)} of {len(RATIOS)} ratios"
    print(f"without            {plain:7.1f} s   {plain_passes:.0f} backbone passes ({extrapolated})")
    print(f"ratio              {plain / cached:7.1f} x")


if __name__ == "__main__":
    main()
