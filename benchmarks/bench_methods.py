"""Every detector with its defaults on the sets of bench_detectors.py: quality, time and memory, as markdown.

Each pair runs in its own process, which gives its peak memory; features are not cached. Metrics are at 224 px, with
bootstrap intervals of the test images. With `--out`, finished pairs are kept, and an interrupted run is resumed.
`--settings NAME:PARAMETER=VALUE` changes a detector, such as VAE:max_epochs=2 for a quick look.
"""

import ast
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
from _common import parser, print_machine
from bench_detectors import MAP_SIZE, SETS, load

import skanomaly
from skanomaly import Reference
from skanomaly.evaluation import compare
from skanomaly.evaluation._table import write_atomically

NETWORK, TRAINED = "pretrained network", "training, torch"
NEEDS = {  # name: what the detector needs
    "PatchCore": NETWORK,
    "PaDiM": NETWORK,
    "SPADE": NETWORK,
    "MahalanobisAD": NETWORK,
    "MLFSC": NETWORK,
    "FeatureDictionary": NETWORK,
    "TextureGMM": "texture",
    "VariationModel": "aligned parts",
    "Autoencoder": TRAINED,
    "VAE": TRAINED,
    "GradientProjection": f"{TRAINED}, slow scoring",
    "FeatureDecoder": f"{NETWORK}, {TRAINED}",
    "AnoUNet": f"{NETWORK}, very slow maps",
    "AnoGAN": f"{TRAINED}, slow scoring",
    "SkipGANomaly": TRAINED,
    "DeepOneClass": f"{NETWORK}, reference, {TRAINED}",
    "MetricFeatures": f"{NETWORK}, reference, {TRAINED}",
}
COLUMNS = "image AUROC", "AU-PRO", "fit s", "ms / image", "peak MiB", "needs"


def reference(folder):
    """Return 2,000 labelled photographs of other things, for the detectors that learn against a reference."""
    with np.load(folder / "small" / "cifar10_horse_deer.npz") as data:
        step = len(data["X_train"]) // 2000
        return Reference(data["X_train"][::step], data["y_train"][::step])


def detector_of(name, settings, options):
    """Return a detector with its defaults, apart from settings."""
    detector = getattr(skanomaly, name)(random_state=0)
    if "reference" in detector.get_params():
        detector.set_params(reference=reference(options.data))
    if any(setting.startswith("features__") for setting in settings) and detector.features is None:
        detector.set_params(features=detector.default_features(np.zeros((1, 64, 64), np.uint8)))
    return detector.set_params(**settings)


def run(name, set_name, options):
    """Print the row of a pair, with the peak memory of this process, as JSON."""
    settings = dict(text.split(":", 1)[1].split("=", 1) for text in options.settings if text.startswith(f"{name}:"))
    settings = {key: ast.literal_eval(value) for key, value in settings.items()}
    data = load(set_name, options.data)
    data.X_train, tested = data.X_train[: options.train], np.arange(len(data.X_test))
    if options.test:
        tested = np.random.default_rng(0).permutation(tested)[: options.test]
        data.X_test, data.y_test = data.X_test[tested], data.y_test[tested]
        data.masks_test = [data.masks_test[i] for i in tested]
    detector = detector_of(name, settings, options)
    comparison = compare({name: detector}, {set_name: data}, map_size=MAP_SIZE, memory=False)
    row = comparison.rows[0] if comparison.rows else comparison.failures[0]
    print(json.dumps(row | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def result(name, set_name, options):
    """Return the row of a pair, from its file or from a new process."""
    path = options.out and options.out / f"{name}-{set_name}.json".replace(" ", "_")
    if path and path.is_file():
        return json.loads(path.read_text())
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name, set_name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    row = {"error": f"exit status {done.returncode}"} if done.returncode else json.loads(done.stdout.splitlines()[-1])
    if path and "error" not in row:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(row))
    return row


def cells_of(name, row):
    """Return the cells of a row of the table."""
    if "error" in row:
        return [name, *["failed"] * 5, NEEDS[name]]
    cells = [name]
    for metric in ("image_auroc", "aupro"):
        known = metric in row and row[metric] == row[metric]
        cells.append(f"{row[metric]:.3f} [{row[f'{metric}_low']:.3f}, {row[f'{metric}_high']:.3f}]" if known else "-")
    per_image = 1e3 * row["score_seconds"] / (row["n_good"] + row["n_anomalous"])
    return [*cells, f"{row['fit_seconds']:.1f}", f"{per_image:.0f}", f"{row['peak']:.0f}", NEEDS[name]]


def main():
    options = parser(__doc__)
    options.add_argument("--detectors", nargs="+", default=list(NEEDS), choices=NEEDS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--settings", nargs="+", default=[], help="parameters, as NAME:PARAMETER=VALUE")
    options.add_argument("--train", type=int, help="number of training images (default: all)")
    options.add_argument("--test", type=int, help="number of test images (default: all)")
    options.add_argument("--out", type=Path, help="folder for the results of finished pairs")
    options.add_argument("--one", nargs=2, metavar=("DETECTOR", "SET"), help="run one pair in this process")
    options = options.parse_args()
    if options.one:
        run(*options.one, options)
        return
    print_machine()
    for set_name in options.sets:
        print(f"\n**{set_name}**\n\n| detector | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
        for name in options.detectors:
            row = result(name, set_name, options)
            print(f"| {' | '.join(cells_of(name, row))} |", flush=True)
            if "error" in row:
                print(f"{name} on {set_name}: {row['error']}", file=sys.stderr)


if __name__ == "__main__":
    main()
