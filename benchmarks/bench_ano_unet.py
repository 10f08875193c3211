"""Ano-Unet: pixel AUROC against beta = 0 and against a random feature net, cost, memory and pictures.

``quality``: every row fits `AnoUNet` around a frozen feature net, which was trained on images of other classes with the
normal images as one more class ("trained"), or is the pretrained network as it is ("frozen"), or an untrained one
("random"). The control, beta = 0, has the same seed, start and number of steps. Brackets are 95 % bootstrap intervals
over test images, those of the gain on the same bootstrap samples. The defaults were fixed beforehand, on synthetic
surfaces with other seeds.

``search``: starts, optimisers, layers of F, values of beta and numbers of steps, on surfaces with the seed
`--search-seed`.

``cost``: operations, counted by torch, and CPU seconds per image of Ano-Unet at the author's size, of the defaults, and
of `AnoGAN` with the published and the default network at 64 px with 500 steps, all scaled from a few steps.

``memory``: peak memory of processes that make the maps of 20 and of 100 images.

``pictures``: deer, explained toward horses, and boots, drawn by `FeatureDecoder` from features of sneakers.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from _common import parser, print_machine
from _intervals import paired_pixel_aurocs
from bench_reconstruction import nearest
from sklearn.frozen import FrozenEstimator
from torch.utils.flop_counter import FlopCounterMode

from skanomaly import AnoUNet, FeatureDecoder, MetricFeatures, Pixels, PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec, make_surfaces
from skanomaly.metrics import pixel_auroc
from skanomaly.networks import UNet

SURFACES = "cloth", "grid", "metal", "speckle"
NETS = "trained", "frozen", "random"
PUBLISHED = {"beta": 80.0, "n_steps": 200, "optimizer": "momentum", "lr": 1e-3}
SETTINGS = {
    "default": {},
    "published": PUBLISHED,
    "normals": {"init": "normals", "n_steps": 20, "lr": 1e-3},
    "strong": {"beta": 1.0, "n_steps": 20},
}
STEPS = 150  # of the author, for the cost
EPOCHS = 3  # of the feature net
PARTS = "quality", "search", "cost", "memory", "pictures"


def load(name, options, seed=0):
    """Return training images, test images, their labels and their masks at `--map-size`."""
    if name == "tile":
        data, n = load_mvtec(options.data / "magnetic_tile"), options.tiles
    else:
        data, n = make_surfaces(name, random_state=seed), options.surfaces
    defective = np.flatnonzero(data.y_test == -1)
    chosen = defective[np.linspace(0, len(defective) - 1, n).astype(int)]
    masks = [nearest(np.asarray(data.masks_test[i]), (options.map_size, options.map_size)) for i in chosen]
    return data.X_train, data.X_test[chosen], data.y_test[chosen], masks


def cifar(options):
    """Return CIFAR-10 images and labels without deer, 100 images of each class, horses, deer and more horses."""
    with np.load(options.data / "small" / "cifar10_horse_deer.npz") as file:
        X, y, X_test, y_test = (file[key] for key in ("X_train", "y_train", "X_test", "y_test"))
    chosen = np.concatenate([np.flatnonzero(y == k)[: options.reference] for k in np.unique(y)])
    return X[chosen], y[chosen], X[y == 7], X_test[y_test == 4]


def feature_net(kind, X, options, reference=None, layer="bn2"):
    """Return a feature net that is fitted on images, frozen."""
    features = PretrainedPatchFeatures(
        layers=(layer,),
        neighborhood=1,
        image_size=options.image_size,
        batch_size=32,
        weights="random" if kind == "random" else None,
        random_state=options.seed,
    )
    net = MetricFeatures(
        features,
        reference=cifar(options)[:2] if reference is None else reference,
        max_epochs=EPOCHS if kind == "trained" else 0,
        false_alarm_rate=None,
        random_state=options.seed,
    )
    return FrozenEstimator(net.fit(X))


def detector(net, options, **parameters):
    """Return an unfitted detector without a threshold."""
    common = {"batch_size": options.batch_size, "false_alarm_rate": None, "random_state": options.seed}
    return AnoUNet(net, Pixels(options.image_size), **common, **parameters)


def maps_of(fitted, X, options):
    """Return the maps of images and the mean losses L_R and L_C."""
    found = list(fitted.iter_explanations(X))
    size = (options.map_size, options.map_size)
    maps = [nearest(e.anomaly_map, size) for e in found]
    return maps, np.mean([(e.residual_loss, e.feature_loss) for e in found], axis=0)


def run_quality(options):
    """Print the rows of all data sets."""
    print(f"{'set':<8} {'setting':<10} {'net':<8} {'beta = 0':<22} {'beta':<22} {'gain':<24} L_R, L_C   s/image")
    for name in options.sets:
        X, X_test, y, masks = load(name, options)
        nets = {kind: feature_net(kind, X, options, layer=options.layer) for kind in options.nets}
        for setting in options.settings:
            control = None
            for kind, net in nets.items():
                fitted = detector(net, options, **SETTINGS[setting]).fit(X)
                if control is None:
                    control = maps_of(fitted.set_params(beta=0.0), X_test, options)
                    fitted.set_params(beta=detector(net, options, **SETTINGS[setting]).beta)
                start = time.perf_counter()
                found = maps_of(fitted, X_test, options)
                seconds = (time.perf_counter() - start) / len(masks)
                print_row(name, setting, kind, y, masks, control, found, seconds)


def print_row(name, setting, kind, y, masks, control, found, seconds):
    """Print the AUROCs of two lists of maps, and of their difference."""
    aurocs = [pixel_auroc(masks, maps) for maps, _ in (control, found)]
    values = [*aurocs, aurocs[1] - aurocs[0]]
    bounds = paired_pixel_aurocs(y, masks, control[0], found[0])
    cells = [f"{v:.3f} [{a:.3f}, {b:.3f}]" for v, (a, b) in zip(values, bounds, strict=True)]
    cells = f"{cells[0]:<22} {cells[1]:<22} {cells[2]:<24}"
    losses = ", ".join(f"{loss:.4f}" for loss in found[1])
    print(
        f"{name:<8} {setting:<10} {kind:<8} {cells} {losses} {seconds:8.2f}",
        flush=True,
    )


COLD = {"init": "cold", "optimizer": "adam", "lr": 1e-2}
SEARCHED = {  # layer of F, parameters, values of beta, numbers of steps
    "cold, published": ("bn2", {**PUBLISHED, "init": "cold"}, (0, 0.1, 5, 80), (200,)),
    "cold, Adam": ("bn2", COLD, (0, 0.1, 1), (20, 40, 80)),
    "cold, Adam, /16": ("/16", COLD, (0.1, 1), (20, 40, 80)),
    "cold, Adam, /8": ("/8", COLD, (0.1, 1), (20, 40, 80)),
    "normals, Adam": ("bn2", {"init": "normals", "optimizer": "adam", "lr": 1e-3}, (0, 0.1, 1), (20, 60)),
}


def run_search(options):
    """Print the pixel AUROC of each surface for each setting, and their mean."""
    sets = {name: load(name, options, options.search_seed) for name in SURFACES}
    print(f"{'setting':<18} {'beta':>6} {'steps':>6} " + " ".join(f"{name:>8}" for name in sets) + "     mean")
    for title, (layer, parameters, betas, n_steps) in SEARCHED.items():
        fitted = {
            name: detector(feature_net("frozen", X, options, layer=layer), options, **parameters).fit(X)
            for name, (X, *_) in sets.items()
        }
        for beta in betas:
            for n in n_steps:
                aurocs = []
                for name, (_, X_test, _, masks) in sets.items():
                    maps, _ = maps_of(fitted[name].set_params(beta=float(beta), n_steps=n), X_test, options)
                    aurocs.append(pixel_auroc(masks, maps))
                row = " ".join(f"{value:8.3f}" for value in (*aurocs, np.mean(aurocs)))
                print(f"{title:<18} {beta:>6} {n:>6} {row}", flush=True)


def operations(run):
    """Return the operations (multiplications and additions) of a call, in GFLOP."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


def cpu_seconds(run):
    """Return the seconds of CPU time of a call, the second time it is made."""
    run()
    start = time.process_time()
    run()
    return time.process_time() - start


def scaled(measure, few, more, n_steps):
    """Return a figure of `n_steps` steps, which is measured for fewer steps."""
    a, b = measure(few), measure(more)
    return a + (b - a) * (n_steps - few) / (more - few)


def run_cost(options):
    """Print operations and CPU seconds per image, scaled from few steps.

    Operations of Ano-Unet are counted for one image at a time, because torch miscounts grouped convolutions.
    """
    from skanomaly import AnoGAN
    from skanomaly.networks import DCGAN

    X, images, *_ = load("grid", options)
    net = feature_net("frozen", X[:8], options)
    default = detector(net, options)
    common = {"max_epochs": 0, "false_alarm_rate": None, "random_state": 0}
    rows = {  # detector, number of steps, images at once for seconds
        "AnoGAN, width 64": (AnoGAN(Pixels(64), DCGAN(width=64), **common), 500, 16, 16),
        "AnoGAN, default": (AnoGAN(Pixels(64), **common), 500, 16, 16),
        "Ano-Unet, published": (detector(net, options, **PUBLISHED, network=UNet(64, depth=4)), STEPS, 1, 1),
        "Ano-Unet, default": (default, default.n_steps, 1, options.batch_size),
    }
    print(f"{'':<20} {'steps':>6} {'GFLOP':>8} {'CPU s':>8}   per image")
    for name, (model, n_steps, n_counted, n_timed) in rows.items():

        def run(n, steps, model=model):
            size = "chunk_size" if name.startswith("AnoGAN") else "batch_size"  # noqa: B023
            model.set_params(**{size: n, "n_steps": steps}).anomaly_map(np.resize(images, (n, *images.shape[1:])))

        model.fit(X[:8])
        flops = scaled(lambda n, k=n_counted: operations(lambda: run(k, n)) / k, 1, 3, n_steps)
        seconds = scaled(lambda n, k=n_timed: cpu_seconds(lambda: run(k, n)) / k, 1, 6, n_steps)
        print(f"{name:<20} {n_steps:>6} {flops:8.1f} {seconds:8.2f}", flush=True)


def run_memory(options):
    """Print the peak memory of processes that make the maps of 20 and of 100 images."""
    peaks = []
    for n in (20, 100):
        command = [sys.executable, __file__, "--parts", "peak", "--n-images", str(n)]
        answer = subprocess.run([*command, "--data", str(options.data)], capture_output=True, text=True, check=True)
        peaks.append(float(answer.stdout.split()[-1]))
        print(f"maps of {n:>3} images: {peaks[-1]:7.1f} MB")
    print(f"ratio {peaks[1] / peaks[0]:.3f}")


def run_peak(options):
    """Print the peak memory of this process after making maps; the number of steps does not matter to it."""
    X, X_test, *_ = load("cloth", options)
    images = np.concatenate([X_test] * (1 + options.n_images // len(X_test)))[: options.n_images]
    detector(feature_net("frozen", X, options), options).set_params(n_steps=2).fit(X).anomaly_map(images)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def run_pictures(options):
    """Save pictures of deer explained toward horses, and of boots drawn by a decoder of the features of sneakers."""
    from skanomaly.plotting import ReconstructionDisplay

    images, labels, horses, deer = cifar(options)
    others = labels != 7
    net = feature_net("trained", horses[:1000], options, (images[others], labels[others]))
    shown = deer[:6]
    for name, parameters in (("deer", {}), ("deer_published", {**PUBLISHED, "beta": 50.0, "n_steps": STEPS})):
        fitted = detector(net, options, **parameters).fit(horses[:200])
        save(ReconstructionDisplay.from_estimator(fitted, shown), options, name)
    with np.load(options.data / "small" / "fashion_mnist.npz") as file:
        X, y, X_test, y_test = (file[key] for key in ("X_train", "y_train", "X_test", "y_test"))
    chosen = np.concatenate([np.flatnonzero(y == k)[: options.reference] for k in np.unique(y) if k != 7])
    options.image_size = 64
    net = feature_net("trained", X[y == 7][:1000], options, (X[chosen], y[chosen]))
    decoder = FeatureDecoder(net, Pixels(64), false_alarm_rate=None, random_state=options.seed).fit(X[y == 7][:1000])
    shown = np.concatenate([X_test[y_test == 7][:2], X_test[y_test == 9][:4]])
    save(ReconstructionDisplay.from_estimator(decoder, shown), options, "boots")


def save(display, options, name):
    """Save the figure of a display."""
    options.pictures.mkdir(parents=True, exist_ok=True)
    display.figure_.savefig(options.pictures / f"{name}.png", dpi=110)
    print(options.pictures / f"{name}.png")


def main():
    """Run the parts."""
    options = parser(__doc__)
    options.add_argument("--parts", nargs="+", choices=(*PARTS, "peak"), default=["quality", "cost", "memory"])
    options.add_argument("--sets", nargs="+", default=["tile", *SURFACES])
    options.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    options.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options.add_argument("--layer", default="bn2", help="layer of the feature net, in the part `quality`")
    options.add_argument("--image-size", type=int, default=96)
    options.add_argument("--map-size", type=int, default=96)
    options.add_argument("--tiles", type=int, default=40, help="number of test images of magnetic_tile")
    options.add_argument("--surfaces", type=int, default=12, help="number of test images of each surface")
    options.add_argument("--reference", type=int, default=100, help="images of each class of the reference")
    options.add_argument("--batch-size", type=int, default=8, help="networks that are trained side by side")
    options.add_argument("--n-images", type=int, default=20, help="number of images of the part `peak`")
    options.add_argument("--search-seed", type=int, default=100)
    options.add_argument("--pictures", type=Path, default=Path("pictures"))
    options.add_argument("--seed", type=int, default=0)
    options = options.parse_args()
    if "peak" not in options.parts:
        print_machine()
    for part in options.parts:
        globals()[f"run_{part}"](options)


if __name__ == "__main__":
    main()
