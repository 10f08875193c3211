"""Every detector on every data set: metrics with bootstrap intervals, seconds and memory.

Each pair of detector and data set runs in its own process. "Backbone" is the time to compute the features of the test
images, "head" the rest of scoring, both per image.
"""

import json
import resource
import subprocess
import sys
import time

import numpy as np
from _common import PAPER, parser, print_machine
from _intervals import intervals

import skanomaly
from skanomaly import PretrainedPatchFeatures
from skanomaly.datasets import load_mvtec, make_surfaces
from skanomaly.evaluation import evaluate

DETECTORS = {  # name: (class, parameters)
    "PatchCore": ("PatchCore", {}),
    "PatchCore, paper": ("PatchCore", {"features": PretrainedPatchFeatures(), **PAPER}),
    "PatchCore 1 %": ("PatchCore", {"features": PretrainedPatchFeatures(), **PAPER, "coreset_ratio": 0.01}),
    "PaDiM": ("PaDiM", {}),
    "SPADE": ("SPADE", {}),
    "SPADE, max": ("SPADE", {"image_score": "max"}),
    "MahalanobisAD": ("MahalanobisAD", {}),
    "MLFSC": ("MLFSC", {}),
    "FeatureDictionary": ("FeatureDictionary", {}),
    "1000 clusters": ("FeatureDictionary", {"n_clusters": 1000}),
}
SETS = {  # name: (folder or surface, training images)
    "screw 80": ("mvtec_screw", 80),
    "screw": ("mvtec_screw", None),
    "tile": ("magnetic_tile", None),
    "paper BDP": ("paper/PA_BDP01_TL", None),
    "paper FLR": ("paper/PA_FLR01_TL", None),
    "cloth": ("cloth", None),
    "metal": ("metal", None),
    "speckle": ("speckle", None),
    "grid": ("grid", None),
}
MAP_SIZE = (224, 224)


def load(name, folder):
    place, n_train = SETS[name]
    data = load_mvtec(folder / place) if (folder / place).is_dir() else make_surfaces(place, random_state=0)
    data.X_train = data.X_train[:n_train]
    return data


def run(detector_name, set_name, folder):
    """Print the figures of one detector on one data set as JSON."""
    class_name, parameters = DETECTORS[detector_name]
    data = load(set_name, folder)
    detector = getattr(skanomaly, class_name)(random_state=0, **parameters)
    report = evaluate(detector, data, map_size=MAP_SIZE)
    bounds = intervals(data.y_test, report.anomaly_score, report.masks, report.anomaly_maps)
    backbone, n_test = np.nan, len(data.X_test)
    if isinstance(getattr(detector, "features_", None), PretrainedPatchFeatures):
        few = data.X_test[: min(n_test, 32)]
        start = time.perf_counter()
        detector.features_.transform_layers(few)
        backbone = 1e3 * (time.perf_counter() - start) / len(few)
    figures = {name: (report[name], *bounds.get(name, (np.nan, np.nan))) for name in METRICS}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    score = 1e3 * report.score_seconds / n_test
    flagged = report.flagged_normal, report.flagged_anomalous
    print(json.dumps([figures, flagged, report.fit_seconds, backbone, score - backbone, peak]))


METRICS = "image_auroc", "pixel_auroc", "aupro"


def main():
    options = parser(__doc__)
    options.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--one", action="store_true", help="run one pair in this process and print JSON")
    options = options.parse_args()
    if options.one:
        run(options.detectors[0], options.sets[0], options.data)
        return
    print_machine()
    columns = ("image AUROC", "pixel AUROC", "AU-PRO")
    head = "".join(f"{name:^23}" for name in columns)
    print(f"{'':<29}{head}flagged good/bad  fit s  backbone + head ms  peak MiB")
    for set_name in options.sets:
        for name in options.detectors:
            command = [sys.executable, __file__, "--data", options.data, "--one", "--detectors", name]
            output = subprocess.check_output([*command, "--sets", set_name])
            figures, flagged, fit, backbone, head, peak = json.loads(output.splitlines()[-1])
            cells = "".join(f" {v:.3f} [{a:.3f}, {b:.3f}] ".ljust(23) for v, a, b in figures.values())
            times = f"{fit:8.1f} {backbone:9.1f} + {head:6.1f} {peak:10.0f}"
            print(f"{set_name:<10} {name:<18}{cells}  {flagged[0]:.3f} / {flagged[1]:.3f} {times}", flush=True)


if __name__ == "__main__":
    main()
