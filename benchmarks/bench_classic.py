"""Classical inspection without a network next to PatchCore: quality, false alarms, time and memory.

``table``: image AUROC, pixel AUROC and AU-PRO at `--map-size`, with 95 % bootstrap intervals over test images; seconds
of fit, milliseconds per image for score and map, and peak memory of a process of its own. ``rates``: share of accepted
normal and of flagged defective images at the rule of Bergmann et al.: on a held-out fifth of the training images, the
threshold is raised until no connected region above it has `--area` of the image. ``speed``: the density of all patches
of a 512 x 512 image next to scikit-learn's, TextureGMM on such an image, and VariationModel after decoding.
"""

import resource
import subprocess
import sys
import time

import numpy as np
from _common import parser, print_machine
from _intervals import intervals

from skanomaly import (
    Aligned,
    AnoGAN,
    Autoencoder,
    FeatureDictionary,
    GradientProjection,
    PaDiM,
    PatchCore,
    Pixels,
    PretrainedPatchFeatures,
    TextureGMM,
    VariationModel,
)
from skanomaly.datasets import load_mvtec, make_parts, make_surfaces
from skanomaly.metrics import aupro, image_auroc, pixel_auroc
from skanomaly.networks import DenseNetwork, SSIMLoss, StridedNetwork
from skanomaly.thresholds import largest_region_levels, largest_region_threshold

SURFACES = ("cloth", "metal", "speckle", "grid")
FOLDERS = {
    "tile": "magnetic_tile",
    "paper BDP": "paper/PA_BDP01_TL",
    "paper FLR": "paper/PA_FLR01_TL",
    "screw": "mvtec_screw",
}
SETS = (*SURFACES, "parts", *FOLDERS)
PADIM = {"layers": (1, 2, 3), "neighborhood": 1}
COMMON = {"random_state": 0, "false_alarm_rate": None}
SOURCES = (  # TNR and TPR of CVPR 2019, table 2, screw
    ("variation model, aligned by shape", 1.00, 0.10),
    ("L2 autoencoder", 0.98, 0.39),
    ("SSIM autoencoder", 0.95, 0.06),
    ("AnoGAN", 0.41, 0.28),
    ("CNN feature dictionary", 0.73, 0.13),
)


def aligned(features):
    return Aligned(features, "rigid")


METHODS = {
    "PatchCore": lambda: PatchCore(**COMMON),
    "PaDiM": lambda: PaDiM(**COMMON),
    "PaDiM, aligned": lambda: PaDiM(aligned(PretrainedPatchFeatures(**PADIM)), **COMMON),
    "TextureGMM": lambda: TextureGMM(**COMMON),
    "TextureGMM, 256 px": lambda: TextureGMM(Pixels(256, gray=True), **COMMON),
    "TextureGMM, adjacent": lambda: TextureGMM(combine="adjacent", **COMMON),
    "VariationModel": lambda: VariationModel(**COMMON),
    "VariationModel, aligned": lambda: VariationModel(aligned(Pixels()), **COMMON),
    "VariationModel, aligned, light matched": lambda: VariationModel(
        Aligned(Pixels(), "rigid", match_light=True), **COMMON
    ),
    "dense AE": lambda: Autoencoder(
        Pixels(28, gray=True), DenseNetwork((32,), output_activation="sigmoid"), loss="bce", **COMMON
    ),
    "L2 AE": lambda: Autoencoder(Pixels(), StridedNetwork(patch_size=None), **COMMON),
    "SSIM AE": lambda: Autoencoder(Pixels(), StridedNetwork(patch_size=None), loss=SSIMLoss(), **COMMON),
    "L2 AE, projected": lambda: GradientProjection(
        Autoencoder(Pixels(), StridedNetwork(patch_size=None), **COMMON), **COMMON
    ),
    "AnoGAN": lambda: AnoGAN(**COMMON),
    "CNN feature dictionary": lambda: FeatureDictionary(**COMMON),
}
OF_TABLE = {
    **dict.fromkeys(SURFACES, ("PatchCore", "TextureGMM", "TextureGMM, adjacent", "VariationModel")),
    "parts": ("PatchCore", "PaDiM", "PaDiM, aligned", "VariationModel", "VariationModel, aligned", "dense AE"),
    **dict.fromkeys(
        ("tile", "paper BDP", "paper FLR"), ("PatchCore", "TextureGMM", "TextureGMM, 256 px", "VariationModel")
    ),
    "screw": (
        "PatchCore",
        "PaDiM",
        "PaDiM, aligned",
        "VariationModel",
        "VariationModel, aligned",
        "VariationModel, aligned, light matched",
        "dense AE",
    ),
}
OF_RATES = (
    "VariationModel",
    "VariationModel, aligned",
    "VariationModel, aligned, light matched",
    "L2 AE",
    "SSIM AE",
    "L2 AE, projected",
    "AnoGAN",
    "CNN feature dictionary",
    "dense AE",
    "PaDiM, aligned",
    "PatchCore",
)
PARTS = "table", "rates", "speed"


def load(name, options):
    """Return a data set, with evenly spaced test images if there are more than asked for."""
    if name == "parts":
        data = make_parts(random_state=options.seed)
    elif name in SURFACES:
        data = make_surfaces(name, random_state=options.seed)
    else:
        data = load_mvtec(options.data / FOLDERS[name])
    if options.train_images and options.train_images < len(data.X_train):
        data.X_train = data.X_train[evenly(options.train_images, len(data.X_train))]
    if options.test_images and options.test_images < len(data.X_test):
        chosen = evenly(options.test_images, len(data.X_test))
        data.X_test, data.y_test = data.X_test[chosen], data.y_test[chosen]
        data.masks_test = [data.masks_test[i] for i in chosen]
    return data


def evenly(n, total):
    return np.linspace(0, total - 1, n).astype(int)


def nearest(mask, size):
    """Return a mask resized by nearest neighbours."""
    rows, columns = ((np.arange(n) * 2 + 1) * old // (2 * n) for n, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def run_table(name, method, options):
    """Print the row of one detector on one data set."""
    data, size = load(name, options), (options.map_size,) * 2
    masks = [nearest(np.asarray(mask), size) for mask in data.masks_test]
    detector = METHODS[method]()
    start = time.perf_counter()
    detector.fit(data.X_train)
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    pairs = list(detector.iter_scores_and_maps(data.X_test, size=size))
    each = (time.perf_counter() - start) / len(pairs)
    scores, maps = -np.array([score for score, _ in pairs]), [score_map for _, score_map in pairs]
    figures = {
        "image_auroc": image_auroc(data.y_test, scores),
        "pixel_auroc": pixel_auroc(masks, maps),
        "aupro": aupro(masks, maps),
    }
    bounds = intervals(data.y_test, scores, masks, maps)
    cells = " | ".join(f"{figures[key]:.3f} [{low:.3f}, {high:.3f}]" for key, (low, high) in bounds.items())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"| {name} | {method} | {cells} | {fitted:.1f} | {1e3 * each:.0f} | {memory:.0f} |", flush=True)


def run_rates(name, method, options):
    """Print TNR and TPR of one detector at the rule of Bergmann et al."""
    data, size = load(name, options), (options.map_size,) * 2
    masks = [nearest(np.asarray(mask), size) for mask in data.masks_test]
    order = np.random.default_rng(options.seed).permutation(len(data.X_train))
    n_valid = len(order) // 5
    detector = METHODS[method]().fit(data.X_train[order[n_valid:]])
    area = max(1, round(options.area * options.map_size**2))
    valid = detector.iter_anomaly_maps(data.X_train[order[:n_valid]], size=size)
    threshold = largest_region_threshold(valid, min_defect_area=area)
    maps = list(detector.iter_anomaly_maps(data.X_test, size=size))
    flagged = largest_region_levels(maps, min_defect_area=area) > threshold
    normal = data.y_test == 1
    rates = f"{1 - flagged[normal].mean():.2f} | {flagged[~normal].mean():.2f}"
    print(f"| {name} | {method} | {rates} | {pixel_auroc(masks, maps):.3f} |", flush=True)


def best_of(function, n):
    """Return the shortest of n runs, in seconds, after one more."""
    function()
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def run_speed(options):
    """Print the ratios of TextureGMM and VariationModel."""
    from sklearn.mixture import GaussianMixture

    from skanomaly._kernels.mixtures import arrange_mixture, patch_log_density

    data = make_surfaces("cloth", n_train=10, n_good=3, n_anomalous=0, size=512, random_state=options.seed)
    detector = TextureGMM(Pixels(512, gray=True), **COMMON).fit(data.X_train)
    fitted = detector.weights_[0], detector.means_[0], detector.precisions_cholesky_[0]
    mixture = GaussianMixture(len(fitted[0]))
    mixture.weights_, mixture.means_, mixture.precisions_cholesky_ = fitted
    image = data.X_test[0] / 255
    patches = np.lib.stride_tricks.sliding_window_view(image, (7, 7)).reshape(-1, 49)
    ours = arrange_mixture(*fitted, dtype=np.float64)
    seconds = [
        best_of(lambda: patch_log_density(image[..., None], ours, 7), 5),
        best_of(lambda: mixture.score_samples(patches), 3),
    ]
    expected = mixture.score_samples(patches)
    worst = np.abs(patch_log_density(image[..., None], ours, 7).ravel() / expected - 1).max()
    print(f"density of 506 x 506 patches: {1e3 * seconds[0]:.0f} ms, scikit-learn {1e3 * seconds[1]:.0f} ms, ", end="")
    print(f"{seconds[1] / seconds[0]:.1f} times; largest relative difference {worst:.1e}")
    score, both = (best_of(lambda f=f: f(image[None]), 5) for f in (detector.score_samples, detector.anomaly_map))
    print(f"TextureGMM, 512 x 512 image: {1e3 * score:.0f} ms for the score, {1e3 * both:.0f} ms for score and map")
    for side in (128, 512):
        model = VariationModel(Pixels(side), **COMMON).fit(data.X_train)
        score = best_of(lambda model=model: model.score_samples(data.X_test), 5) / len(data.X_test)
        print(f"VariationModel at {side} px, score of a decoded 512 x 512 image: {1e3 * score:.1f} ms", flush=True)


def main():
    options = parser(__doc__)
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--methods", nargs="+", choices=METHODS, help="default: those that suit the data set")
    options.add_argument("--map-size", type=int, default=256)
    options.add_argument("--area", type=float, default=0.001, help="smallest defect, as a share of the image")
    options.add_argument("--train-images", type=int, help="largest number of training images, evenly spaced")
    options.add_argument("--test-images", type=int, help="largest number of test images, evenly spaced")
    options.add_argument("--seed", type=int, default=0, help="seed of synthetic images")
    options.add_argument("--child", action="store_true", help="run in this process")
    options = options.parse_args()
    if options.child:
        run = run_table if options.parts == ["table"] else run_rates
        return run(options.sets[0], options.methods[0], options)
    print_machine()
    if "table" in options.parts:
        head = ("data", "detector", "image AUROC", "pixel AUROC", "AU-PRO", "fit s", "ms", "MiB")
        print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)
        run_children("table", options.sets, lambda name: options.methods or OF_TABLE[name])
    if "rates" in options.parts:
        print("| data | detector | TNR | TPR | pixel AUROC |\n|---|---|---|---|---|", flush=True)
        sets = [name for name in options.sets if name in ("screw", "parts")]
        run_children("rates", sets, lambda name: options.methods or OF_RATES)
        for method, tnr, tpr in SOURCES if "screw" in sets else ():
            print(f"| screw | *{method}, Bergmann et al.* | {tnr:.2f} | {tpr:.2f} | |", flush=True)
    if "speed" in options.parts:
        run_speed(options)


def run_children(part, sets, methods):
    """Run each detector on each data set in a process of its own."""
    for name in sets:
        for method in methods(name):
            own = ["--child", "--parts", part, "--sets", name, "--methods", method]
            subprocess.run([sys.executable, *sys.argv, *own], check=True)


if __name__ == "__main__":
    main()
