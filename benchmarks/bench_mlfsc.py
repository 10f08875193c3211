"""Fitting time of MLF-SC with 896 channels, and its metrics on MVTec's screw with the default network.

The network of the paper is VGG16, whose weights have to be downloaded. Times do not depend on the weights, so these are
RANDOM by default and no metrics are computed for this network. The default network has its real weights.
"""

import resource
import time

import numpy as np
from _common import parser, print_machine

from skanomaly import MLFSC, PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec
from skanomaly.metrics import image_auroc, pixel_auroc

TAPS = ("/8", "/4", "/2")


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def fit(detector, paths):
    """Fit the detector, print the time and the peak memory of the process so far, and return it."""
    detector, seconds = timed(detector.fit, paths)
    few = paths[: min(8, len(paths))]
    _, scoring = timed(detector.score_samples, few)
    channels, peak = len(detector.dictionaries_), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{detector.features_.backbone} ({detector.features_.weights_source_}), {channels} channels, "
        f"{len(paths)} images"
        f", calibration={detector.calibration!r}: fit {seconds:.1f} s, score {1000 * scoring / len(few):.0f} ms per "
        f"image; peak memory {peak:.2f} GiB",
        flush=True,
    )
    return detector


def main():
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=100)
    options.add_argument("--calibration", choices=["cv", "split"], default="cv")
    options.add_argument("--skip-vgg", action="store_true")
    options.add_argument("--vgg-weights", default="random", help="path of the weights of VGG16")
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    paths = data.X_train[: options.images]
    fit(MLFSC(false_alarm_rate=None, random_state=0), paths[:2])  # compile
    lite = fit(MLFSC(calibration=options.calibration, random_state=0), paths)
    scored, seconds = timed(lambda: list(lite.iter_scores_and_maps(data.X_test)))
    scores, maps = np.array([-score for score, _ in scored]), [score_map for _, score_map in scored]
    print(
        f"    image AUROC {image_auroc(data.y_test, scores):.3f}, "
        f"pixel AUROC {pixel_auroc(data.masks_test, maps):.3f}, "
        f"{1000 * seconds / len(scores):.0f} ms per image with its map",
        flush=True,
    )
    if not options.skip_vgg:
        features = PretrainedPatchFeatures(
            "vgg16", layers=TAPS, image_size=256, weights=options.vgg_weights, random_state=0
        )
        vgg = fit(MLFSC(features, calibration=options.calibration, random_state=0), paths)
        _, seconds = timed(vgg.score_samples, paths[:8])
        print(f"    {1000 * seconds / 8:.0f} ms per image to score")


if __name__ == "__main__":
    main()
