"""PatchCore with several settings on several data sets, metrics at 224 px: mean and range over seeds.

The first 80 training images, in sorted order. "paper" is the paper's combination of layers: layers concatenated at
224 px, 10 % of the patches, one neighbour, re-weighted. The default was chosen on screw, paper BDP, cloth and grid; the
other sets are reported beside these. With `--draws`, synthetic surfaces are drawn several times, and figures are means
over draws and seeds.
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
    "averaged, 1 neighbor": ({}, {}, {"combine": "averaged", "n_neighbors": 1}),
    "averaged": ({}, {}, {"combine": "averaged"}),
    "1 neighbor": ({}, {}, {"n_neighbors": 1}),
    "3 neighbors": ({}, {}, {"n_neighbors": 3}),
    "layer 2": ({"layers": (2,)}, {}, {}),
    "layer 3": ({"layers": (3,)}, {}, {}),
    "layers (1, 2, 3)": ({"layers": (1, 2, 3)}, {}, {}),
    "1,000 patches": ({}, {}, {"coreset_size": 1000}),
    "5,000 patches": ({}, {}, {"coreset_size": 5000}),
    "sigma 4": ({}, {}, {"sigma": 4.0}),
    "10 %": ({}, {}, {"coreset_ratio": 0.1}),
    "patch": ({}, {}, {"image_score": "patch", "reweight": False}),
    "patch, weighted": ({}, {}, {"image_score": "patch"}),
    "top 0.3 %": ({}, {}, {"image_score": 0.003}),
    "top 1 %": ({}, {}, {"image_score": 0.01}),
    "contrast": ({}, {}, {"image_score": "contrast"}),
    "4 rotations": ({}, {"rotations": 4}, {}),
    "4 rot., 10,000": ({}, {"rotations": 4}, {"coreset_size": 10_000}),
    "4 rot., 10,000, contrast": ({}, {"rotations": 4}, {"coreset_size": 10_000, "image_score": "contrast"}),
    "the same, averaged, 1": (
        {},
        {"rotations": 4},
        {"coreset_size": 10_000, "image_score": "contrast", "combine": "averaged", "n_neighbors": 1},
    ),
    "8 rotations": ({}, {"rotations": 8}, {}),
    "8 rot., 10,000": ({}, {"rotations": 8}, {"coreset_size": 10_000}),
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


def load(name, folder, draw=0):
    """Return a data set with its first training images."""
    place = SETS[name]
    data = make_surfaces(name, random_state=draw) if place is None else load_mvtec(folder / place)
    data.X_train = data.X_train[:N_TRAIN]
    return data


def main():
    options = parser(__doc__)
    options.add_argument("--settings", nargs="+", default=["default", "paper"], choices=SETTINGS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--draws", type=int, default=1)
    options = options.parse_args()
    print_machine()
    print(f"{'':<36}" + "".join(f"{name:^23}" for name in METRICS))
    for set_name in options.sets:
        n_draws = options.draws if SETS[set_name] is None else 1
        draws = [load(set_name, options.data, draw) for draw in range(n_draws)]
        for name in options.settings:
            reports = [report for data in draws for report in reports_of(SETTINGS[name], data, options.seeds)]
            values = [[report[metric] for report in reports] for metric in METRICS]
            cells = (f"{np.mean(v):.3f} [{min(v):.3f}, {max(v):.3f}]" for v in values)
            print(f"{set_name:<10} {name:<25}" + "".join(f"{cell:^23}" for cell in cells), flush=True)
        RecalledFeatures._store.clear()


def reports_of(setting, data, n_seeds):
    """Return the reports of detectors with different seeds."""
    of_features, views, parameters = setting
    size = PatchCore().default_features(data.X_train).image_size
    features = RecalledFeatures(**{"image_size": size, **of_features})
    features = (Augmented(features, **views) if views else features).fit(data.X_train)
    detectors = (PatchCore(features, **parameters, random_state=seed) for seed in range(n_seeds))
    return [evaluate(detector, data, map_size=(224, 224)) for detector in detectors]


if __name__ == "__main__":
    main()
