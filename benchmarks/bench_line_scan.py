"""Strips of a line camera, 16 times as wide as high, with a faint spot: what their aspect ratio is worth."""

import time

import numpy as np
from _common import parser, print_machine
from scipy import ndimage

from skanomaly import PatchCore, PretrainedPatchFeatures
from skanomaly.metrics import image_auroc

HEIGHT, WIDTH, RADIUS = 256, 4096, 10
SETTINGS = (
    {"image_size": 224},
    {"image_size": (56, 896)},
    {"image_size": (112, 1792)},
    {"image_size": 112, "resize": "shorter"},
)


def strips(n_normal, n_spotted, seed=0):
    """Return strips, uint8, and the centre of the spot of each of the last `n_spotted`."""
    rng = np.random.default_rng(seed)
    grain = ndimage.zoom(np.random.default_rng(0).normal(size=(HEIGHT // 2, WIDTH // 2)), 2, order=1)
    images, centers = [], []
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    for i in range(n_normal + n_spotted):
        image = 120 + 18 * np.roll(grain, rng.integers(0, grain.shape), (0, 1))
        image += 10 * np.sin(columns / 400 + 2 * np.pi * rng.random())
        if i >= n_normal:
            centers.append(rng.integers(3 * RADIUS, (HEIGHT - 3 * RADIUS, WIDTH - 3 * RADIUS)))
            image[(rows - centers[-1][0]) ** 2 + (columns - centers[-1][1]) ** 2 < RADIUS**2] -= 30
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return np.stack(images), centers


def hit(score_map, center):
    """Return whether the peak of a map is at most a diameter from the centre of the spot."""
    peak = np.unravel_index(np.nanargmax(score_map), score_map.shape)
    return bool(np.linalg.norm(np.subtract(peak, center)) <= 2 * RADIUS)


def main():
    options = parser(__doc__)
    options.add_argument("--n-train", type=int, default=10)
    options.add_argument("--n-test", type=int, default=20, help="number of strips with a spot, and of strips without")
    options = options.parse_args()
    print_machine()
    train, _ = strips(options.n_train, 0)
    test, centers = strips(options.n_test, options.n_test, seed=1)
    labels = np.repeat([1, -1], options.n_test)
    for parameters in SETTINGS:
        start = time.perf_counter()
        features = PretrainedPatchFeatures(batch_size=1, **parameters)
        detector = PatchCore(features, coreset_ratio=0.02, false_alarm_rate=None, random_state=0).fit(train)
        scores, maps = zip(*detector.iter_scores_and_maps(test), strict=True)
        cell = np.divide((HEIGHT, WIDTH), detector.features_.grid_shape_)
        hits = [hit(*pair) for pair in zip(maps[options.n_test :], centers, strict=True)]
        setting = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
        print(
            f"{setting:<35} a cell covers {cell[0]:3.0f} x {cell[1]:3.0f} pixels, AUROC "
            f"{image_auroc(labels, -np.array(scores)):.3f}, hits {sum(hits):2d} of {len(hits)}, "
            f"{time.perf_counter() - start:4.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
