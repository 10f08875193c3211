"""Grid search by pixel AU-PRO over two PatchCore and two PaDiM settings on magnetic tiles, with the feature cache.

The images are random ones: 60 training images, 30 good test images and 30 with defects. Every split fits on the normal
images of two thirds and scores the maps of the last third. Printed are the table of the search, the passes of images
through the network, and the passes expected: images times distinct settings of the features. `--no-cache` shows what
the search costs without the cache.
"""

import tempfile
import time

import numpy as np
from _common import parser, print_machine
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skanomaly import FitOnNormal, PaDiM, PatchCore, PretrainedPatchFeatures
from skanomaly.datasets import Mask, load_mvtec
from skanomaly.metrics import aupro_scorer


class CountingFeatures(PretrainedPatchFeatures):
    """Pretrained features that count the images passed through the network."""

    passed = 0

    def _compute(self, source, output, values):
        CountingFeatures.passed += len(source)
        super()._compute(source, output, values)


def labelled_images(folder, seed=0):
    """Return paths of images, and their masks, each with its label."""
    data, rng = load_mvtec(folder), np.random.default_rng(seed)
    good, defective = (rng.permutation(np.flatnonzero(data.y_test == label))[:30] for label in (1, -1))
    train = rng.permutation(data.X_train)[:60]
    test = np.concatenate([good, defective])
    masks = [*(Mask(1, path) for path in train), *(data.masks_test[i] for i in test)]
    return [*train, *data.X_test[test]], masks


def main():
    options = parser(__doc__)
    options.add_argument("--no-cache", action="store_true")
    options.add_argument("--image-sizes", type=int, nargs=2, default=[224, 160])
    options = options.parse_args()
    print_machine()
    X, masks = labelled_images(options.data / "magnetic_tile")
    labels = [mask.label for mask in masks]
    with tempfile.TemporaryDirectory() as folder:
        memory = None if options.no_cache else folder
        large, small = (CountingFeatures(image_size=size, memory=memory) for size in options.image_sizes)
        quiet = {"false_alarm_rate": None, "random_state": 0}
        candidates = {
            f"PatchCore, 1 %, {options.image_sizes[0]} px": PatchCore(
                large, combine="concatenated", coreset_ratio=0.01, n_neighbors=1, **quiet
            ),
            f"PatchCore, 5 %, {options.image_sizes[0]} px": PatchCore(
                large, combine="concatenated", coreset_ratio=0.05, n_neighbors=1, **quiet
            ),
            f"PaDiM, {options.image_sizes[0]} px": PaDiM(large, **quiet),
            f"PaDiM, {options.image_sizes[1]} px": PaDiM(small, **quiet),
        }
        search = GridSearchCV(
            FitOnNormal(PaDiM()),
            {"estimator": list(candidates.values())},
            scoring=aupro_scorer,
            cv=list(StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels)),
        )
        start = time.perf_counter()
        search.fit(X, masks)
        seconds = time.perf_counter() - start
    print(f"{len(X)} images, {len(candidates)} candidates x 3 folds and a refit, {seconds:.0f} s")
    print(f"{CountingFeatures.passed} passes through the network; images x settings of features: {len(X)} x 2")
    print("\n| candidate | AU-PRO, mean of folds | folds | fit s | score s |\n|---|---|---|---|---|")
    results = search.cv_results_
    for i, name in enumerate(candidates):
        folds = ", ".join(f"{results[f'split{k}_test_score'][i]:.3f}" for k in range(3))
        times = f"{results['mean_fit_time'][i]:.1f} | {results['mean_score_time'][i]:.1f}"
        best = "**" if i == search.best_index_ else ""
        print(f"| {name} | {best}{results['mean_test_score'][i]:.3f}{best} | {folds} | {times} |")
    print(f"\nfitted again on {search.best_estimator_.n_normal_} normal images")


if __name__ == "__main__":
    main()
