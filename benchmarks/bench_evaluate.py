"""Tables of `skanomaly evaluate`: every detector on the real folders, and eight reconstruction methods on five sets.

``everyone``: networks that are trained were given one or two epochs and small images, and slow maps few steps, so that
it ends within an hour on one core. SPADE sees tiles at 112 px. ``eight``: the models of Dehaene et al., each with and
without the projection, at 64 px and with two epochs; three of the five sets are synthetic surfaces, which are written
to folders. Results are kept in `--out`, from which an interrupted run goes on.
"""

from pathlib import Path

import numpy as np
from _common import parser, print_machine
from PIL import Image

from skanomaly.cli import main as skanomaly
from skanomaly.datasets import make_surfaces

METHODS = (
    "variation", "mahalanobis", "padim", "dictionary", "patchcore", "autoencoder", "vae", "skipganomaly", "anogan",
    "deep-one-class", "metric", "feature-decoder", "projection", "ano-unet", "mlfsc", "texture", "spade",
)  # fmt: skip
SHORT = {"max_epochs": 2, "features__image_size": 64}
LEARNED = {"max_epochs": 1, "features__image_size": 64}
EVERYONE = {  # parameters by method
    **dict.fromkeys(("autoencoder", "vae", "skipganomaly", "feature-decoder"), SHORT),
    **dict.fromkeys(("deep-one-class", "metric"), LEARNED),
    "anogan": {**SHORT, "inversion": "encoder"},
    "projection": {"n_steps": 3, "model__max_epochs": 2, "model__features__image_size": 64},
    "ano-unet": {"n_steps": 1, **LEARNED},
}
MODELS = {  # name: method, its own parameters
    "ae": ("Autoencoder", {}),
    "dsae": ("Autoencoder", {"loss": "SSIMLoss"}),
    "vae": ("VAE", {"decoder_variance": 0.01}),
    "gvae": ("VAE", {}),
}


def settings(parameters):
    """Return the options of the command for parameters by method."""
    named = [f"{name}:{key}={value}" for name, own in parameters.items() for key, value in own.items()]
    return [argument for setting in named for argument in ("--set", setting)]


def write_reference(options):
    """Write 100 photographs of each class of CIFAR-10 but deer, with their labels, and return their path."""
    with np.load(options.data / "small" / "cifar10_horse_deer.npz") as data:
        X, y = data["X_train"], data["y_train"]
    chosen = np.concatenate([np.flatnonzero(y == label)[:100] for label in np.unique(y)])
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez(options.out / "reference.npz", X=X[chosen], y=y[chosen])
    return options.out / "reference.npz"


def write_surface(name, root):
    """Write a synthetic surface in the layout of MVTec AD, and return its folder."""
    data, root = make_surfaces(name, random_state=0), root / name
    for i, image in enumerate(data.X_train):
        write(root / "train/good" / f"{i:03d}.png", image)
    for i, (image, label, mask) in enumerate(zip(data.X_test, data.y_test, data.masks_test, strict=True)):
        write(root / "test" / ("good" if label == 1 else "defect") / f"{i:03d}.png", image)
        if label == -1:
            write(root / "ground_truth/defect" / f"{i:03d}_mask.png", np.where(mask, 255, 0).astype(np.uint8))
    return root


def write(path, pixels):
    """Write an image, unless it is there, so that finished pairs are recognised."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def run_everyone(options):
    """Print the tables of all detectors."""
    given = {name: {**EVERYONE.get(name, {})} for name in METHODS}
    reference = write_reference(options)
    for name in ("deep-one-class", "metric"):
        given[name]["reference"] = reference
    for folders, methods, own in (
        (("mvtec_screw", "paper"), METHODS, {}),
        (("magnetic_tile",), METHODS, {"spade": {"features__image_size": 112}}),
    ):
        folders = [str(options.data / folder) for folder in folders]
        out = ["--size", "224", "--out", str(options.out / "everyone")]
        skanomaly(["evaluate", *folders, "--methods", *methods, *settings({**given, **own}), *out])


def run_eight(options):
    """Print the table of eight reconstruction methods."""
    folders = [write_surface(name, options.out / "surfaces") for name in ("cloth", "grid", "metal")]
    folders += [options.data / "paper" / name for name in ("PA_BDP01_TL", "PA_FLR01_TL")]
    methods, against, given = [], [], {}
    for name, (model, own) in MODELS.items():
        methods += [f"{name}={model.lower()}", f"{name}-grad=projection"]
        against.append(f"{name}-grad={name}")
        given[name] = {**SHORT, **own}
        inner = {"features": "Pixels", **SHORT, **own}
        given[f"{name}-grad"] = {"model": model, **{f"model__{key}": value for key, value in inner.items()}}
    command = ["evaluate", *map(str, folders), "--methods", *methods, "--against", *against, *settings(given)]
    skanomaly([*command, "--metrics", "pixel_auroc", "--size", "64", "--out", str(options.out / "eight")])


PARTS = {"everyone": run_everyone, "eight": run_eight}


def main():
    options = parser(__doc__)
    options.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    options.add_argument("--out", type=Path, default=Path("evaluated"))
    options = options.parse_args()
    print_machine()
    for part in options.parts:
        PARTS[part](options)


if __name__ == "__main__":
    main()
