"""PatchCore with several settings on several data sets, metrics at 224 px: mean and range over seeds.

The first 80 training images, in sorted order. "paper" is the paper's combination of layers, the default of earlier
development versions: layers concatenated at 224 px, 10 % of the patches, re-weighted. The default was chosen on screw,
paper BDP, cloth and grid; the other sets are reported beside these.
"""

import numpy as np
from _common import PAPER, RecalledFeatures, parser, print_machine

from skanomaly import Augmented, PatchCore
from skanomaly.datasets import load_mvtec, make_surfaces
from skanomaly.evaluation import evaluate

SETTINGS = {  # name: (parameters of the features, views, parameters of the detector)
    "default": ({}, {}, {}),
    "paper": ({"image_size": 224}, {}, PAPER),
    "paper, 320 px": ({"image_size": 320}, {}, PAPER),
    "224 px": ({"image_size": 224}, {}, {}),
    "320 px": ({"image_size": 320}, {}, {}),
    "layers (1, 2, 3)": ({"layers": (1, 2, 3)}, {}, {}),
    "1,000 patches": ({}, {}, {"coreset_size": 1000}),
    "5,000 patches": ({}, {}, {"coreset_size": 5000}),
    "sigma 4": ({}, {}, {"sigma": 4.0}),
    "2,000, 320 px, sigma 4": ({"image_size": 320}, {}, {"coreset_size": 2000, "sigma": 4.0}),
    "10 %": ({}, {}, {"coreset_ratio": 0.1}),
    "patch": ({}, {}, {"image_score": "patch", "reweight": False}),
    "patch, weighted": ({}, {}, {"image_score": "patch"}),
    "top 0.3 %": ({}, {}, {"image_score": 0.003}),
    "top 1 %": ({}, {}, {"image_score": 0.01}),
    "4 rotations": ({}, {"rotations": 4}, {}),
    "4 rot., 10,000": ({}, {"rotations": 4}, {"coreset_size": 10_000}),
}
SETS = {  # name: folder, or None for a synthetic surface
    "screw": "mvtec_screw",
    "paper BDP": "paper/PA_BDP01_TL",
    "paper FLR": "paper/PA_FLR01_TL",
    "tile": "magnetic_tile",
    "cloth": None,
    "metal": None,
    "speckle": None,
    "grid": None,
}
METRICS = ("image_auroc", "aupro", "pixel_auroc", "flagged_normal", "flagged_anomalous", "fit_seconds")
N_TRAIN = 80


def load(name, folder):
    """Return a data set with its first training images."""
    place = SETS[name]
    data = make_surfaces(name, random_state=0) if place is None else load_mvtec(folder / place)
    data.X_train = data.X_train[:N_TRAIN]
    return data


def main():
    options = parser(__doc__)
    options.add_argument("--settings", nargs="+", default=["default", "paper"], choices=SETTINGS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--seeds", type=int, default=5)
    options = options.parse_args()
    print_machine()
    print(f"{'':<33}" + "".join(f"{name:^23}" for name in METRICS))
    for set_name in options.sets:
        data = load(set_name, options.data)
        for name in options.settings:
            of_features, views, parameters = SETTINGS[name]
            size = PatchCore().default_features(data.X_train).image_size
            features = RecalledFeatures(**{"image_size": size, **of_features})
            features = Augmented(features, **views) if views else features
            features.fit(data.X_train)
            reports = []
            for seed in range(options.seeds):
                detector = PatchCore(features, **parameters, random_state=seed)
                reports.append(evaluate(detector, data, map_size=(224, 224)))
            values = [[report[metric] for report in reports] for metric in METRICS]
            cells = (f"{np.mean(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for v in values)
            print(f"{set_name:<10} {name:<22}" + "".join(f"{cell:^23}" for cell in cells), flush=True)
        RecalledFeatures._store.clear()


if __name__ == "__main__":
    main()
