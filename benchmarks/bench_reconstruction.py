"""Autoencoders, variational autoencoders and gradient projection: pixel AUROC, and the cost of projections.

``table``: each of the four models is fitted once with its defaults and scored both by itself and by
`GradientProjection` (around the same fitted model, frozen). The defaults were chosen on synthetic surfaces with other
seeds, not on any of the data sets below. Maps are compared at `--map-size`; brackets are 95 % bootstrap intervals over
test images, those of the gain on the same bootstrap samples. ``cost``: milliseconds per image and memory for projecting
1, 16 and 64 images at a time, and the largest difference between the results.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _common import parser, print_machine
from _intervals import paired_pixel_aurocs
from sklearn.frozen import FrozenEstimator

from skanomaly._inputs.images import check_images
from skanomaly.composite import GradientProjection
from skanomaly.datasets import load_mvtec, make_surfaces
from skanomaly.detectors import VAE, Autoencoder
from skanomaly.features import Pixels
from skanomaly.metrics import pixel_auroc
from skanomaly.networks import SSIMLoss, StridedNetwork

MODELS = {  # name: (class, parameters, loss)
    "AE": (Autoencoder, {}, "mean squared residual"),
    "DSAE": (Autoencoder, {"loss": SSIMLoss()}, "mean of 1 - SSIM"),
    "VAE": (VAE, {"decoder_variance": 0.01}, "negative bound, decoder variance 0.01"),
    "gamma-VAE": (VAE, {}, "negative bound, decoder variance learned"),
}
SETS = {
    "cloth": "cloth",
    "metal": "metal",
    "speckle": "speckle",
    "grid": "grid",
    "tile": "magnetic_tile",
    "paper BDP": "paper/PA_BDP01_TL",
    "paper FLR": "paper/PA_FLR01_TL",
    "screw": "mvtec_screw",
}
PARTS = "table", "cost"


def load(name, folder, n_test=None, seed=0):
    """Return a data set, with `n_test` evenly spaced test images if it has more."""
    place = folder / SETS[name]
    data = load_mvtec(place) if place.is_dir() else make_surfaces(SETS[name], random_state=seed)
    chosen = np.arange(len(data.X_test))
    if n_test is not None and n_test < len(chosen):
        chosen = np.linspace(0, len(chosen) - 1, n_test).astype(int)
    data.X_test, data.y_test, data.kinds_test = (data[key][chosen] for key in ("X_test", "y_test", "kinds_test"))
    data.masks_test = [data.masks_test[i] for i in chosen]
    return data


def detectors(name, options):
    """Return a model and its projection, both without thresholds."""
    kind, parameters, _ = MODELS[name]
    common = {"false_alarm_rate": None, "random_state": options.seed}
    network = StridedNetwork(patch_size=None if options.whole else "auto")
    model = kind(Pixels(options.image_size), network, **parameters, **common)
    return model, GradientProjection(FrozenEstimator(model), false_alarm_rate=None)


def nearest(mask, size):
    """Return a mask resized by nearest neighbours."""
    rows, columns = ((np.arange(n) * 2 + 1) * old // (2 * n) for n, old in zip(size, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def run_table(name, options):
    """Print the rows of one data set."""
    data = load(name, options.data, options.test_images, options.seed)
    size = (options.map_size, options.map_size)
    masks = [nearest(np.asarray(mask), size) for mask in data.masks_test]
    shown = []
    for model_name in options.models:
        model, projection = detectors(model_name, options)
        start = time.perf_counter()
        model.fit(data.X_train)
        fitted = time.perf_counter() - start
        projection.fit(data.X_train)
        maps, seconds = [], []
        for detector in (model, projection):
            start = time.perf_counter()
            maps.append(list(detector.iter_anomaly_maps(data.X_test, size=size)))
            seconds.append((time.perf_counter() - start) / len(masks))
        plain = [pixel_auroc(masks, found) for found in maps]
        bounds = paired_pixel_aurocs(data.y_test, masks, *maps)
        cells = "".join(f"{v:8.3f} [{a:.3f}, {b:.3f}]" for v, (a, b) in zip(plain, bounds, strict=False))
        gain = plain[1] - plain[0]
        cells += f"{gain:+9.3f} [{bounds[2][0]:+.3f}, {bounds[2][1]:+.3f}]"
        cells += f"{fitted:8.1f} {len(model.history_['train_loss']):7} {1e3 * seconds[0]:8.1f} {1e3 * seconds[1]:9.1f}"
        print(f"{name:<10} {model_name:<10}{cells}", flush=True)
        if options.pictures:
            shown.append((model_name, model, projection))
    if shown:
        save_figure(options.pictures / f"{name.replace(' ', '_')}.png", data, shown, masks)


def save_figure(path, data, shown, masks):
    """Draw three defective samples: the image, its defect, and the output of every model and its projection."""
    from matplotlib.figure import Figure

    areas = np.array([mask.sum() for mask in masks])
    defective = np.flatnonzero(areas)
    chosen = defective[np.argsort(areas[defective])[[len(defective) // 2, 3 * len(defective) // 4, -1]]]
    samples = check_images(data.X_test[chosen])
    columns = [
        ("sample", [samples.read(i) for i in range(len(chosen))]),
        ("anomaly", [data.masks_test[i] for i in chosen]),
    ]
    for name, model, projection in shown:
        columns += [
            (name, model.reconstruct(data.X_test[chosen])),
            (f"{name}-grad", projection.project(data.X_test[chosen])),
        ]
    figure = Figure(figsize=(1.4 * len(columns), 1.5 * len(chosen)), layout="constrained")
    axes = figure.subplots(len(chosen), len(columns), squeeze=False)
    for place, (title, images) in zip(axes.T, columns, strict=True):
        for axis, image in zip(place, images, strict=True):
            axis.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=1)
            axis.set_axis_off()
        place[0].set_title(title, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def run_cost(options):
    """Print the cost of projections, measured in this process."""
    data = load("screw", options.data)
    train, test = data.X_train[:64], data.X_test[:64]
    for name in options.models:
        model, projection = detectors(name, options)
        model.set_params(max_epochs=10).fit(train)
        projection.fit(train)
        projection.project(test[:1])
        found = {}
        for n in (1, 16, 64):
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            start = time.perf_counter()
            found[n] = np.concatenate(
                [np.asarray(projection.project(test[i : i + n])) for i in range(0, max(n, 16), n)]
            )
            seconds = time.perf_counter() - start
            more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            print(
                f"{name:<10}{n:>4} at a time: {1e3 * seconds / len(found[n]):8.1f} ms per image, {more:6.0f} MiB more"
            )
        worst = max(np.abs(found[n][:16] - found[64][:16]).max() for n in (1, 16))
        print(f"{name:<10}largest difference of two: {worst:.1e}", flush=True)


def main():
    options = parser(__doc__)
    options.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    options.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--image-size", type=int, default=128)
    options.add_argument("--map-size", type=int, default=128)
    options.add_argument("--test-images", type=int, help="number of test images to score, evenly spaced")
    options.add_argument("--whole", action="store_true", help="train the networks on whole images instead of patches")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--pictures", type=Path, help="folder for one figure per data set")
    options.add_argument("--child", action="store_true", help="run in this process")
    options = options.parse_args()
    if options.child:
        run_cost(options) if options.parts == ["cost"] else run_table(options.sets[0], options)
        return
    print_machine()
    command = [sys.executable, *sys.argv, "--child", "--parts"]
    if "table" in options.parts:
        for name, (_, _, loss) in MODELS.items():
            print(f"{name + ':':<12}{loss}")
        head = f"{'':<21}{'pixel AUROC':^22}{'of its projection':^22}{'gain':^25}"
        print(f"{head}  fit s  epochs  ms each  proj. ms", flush=True)
        for name in options.sets:
            subprocess.run([*command, "table", "--sets", name], check=True)
    if "cost" in options.parts:
        subprocess.run([*command, "cost"], check=True)


if __name__ == "__main__":
    main()
