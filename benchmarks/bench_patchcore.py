"""PatchCore on MVTec's screw, metrics at 224 px: mean and range over seeds, for several settings."""

import numpy as np
from _common import RecalledFeatures, parser, print_machine

from skanomaly import PatchCore
from skanomaly.datasets import load_mvtec
from skanomaly.evaluation import evaluate

SETTINGS = {  # name: (training images, coreset ratio, seeds, features)
    "first 80, ratio 0.1": (80, 0.1, 5, {}),
    "all 320, ratio 0.05": (320, 0.05, 2, {}),
    "all 320, ratio 0.01": (320, 0.01, 2, {}),
    "all 320, ratio 0.01, 320 px": (320, 0.01, 1, {"image_size": 320}),
    "all 320, ratio 0.01, layers (2,)": (320, 0.01, 1, {"layers": (2,)}),
    "all 320, ratio 0.01, layers (3,)": (320, 0.01, 1, {"layers": (3,)}),
}


def main():
    options = parser(__doc__)
    options.add_argument("--settings", nargs="+", default=list(SETTINGS))
    options = options.parse_args()
    print_machine()
    data = load_mvtec(options.data / "mvtec_screw")
    paths = data.X_train
    for name in options.settings:
        n_train, ratio, n_seeds, parameters = SETTINGS[name]
        data.X_train = paths[:n_train]
        features = RecalledFeatures(**parameters)
        reports = []
        for seed in range(n_seeds):
            detector = PatchCore(features, coreset_ratio=ratio, random_state=seed)
            reports.append(evaluate(detector, data, map_size=(224, 224)))
        print(f"{name} ({n_seeds} seeds)")
        for metric in ("image_auroc", "pixel_auroc", "aupro", "flagged_normal", "flagged_anomalous", "fit_seconds"):
            values = [report[metric] for report in reports]
            print(f"  {metric:<18} {np.mean(values):8.4f}   [{min(values):.4f}, {max(values):.4f}]", flush=True)


if __name__ == "__main__":
    main()
