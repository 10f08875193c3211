"""PaDiM, SPADE and MLF-SC at 224 and 320 px, and with other image scores, metrics at 224 px.

The first 80 training images, in sorted order. The defaults of PatchCore are compared in `bench_patchcore.py`.
"""

from _common import RecalledFeatures, parser, print_machine
from bench_patchcore import SETS, load

from skanomaly import MLFSC, SPADE, PaDiM
from skanomaly.evaluation import evaluate

DETECTORS = {  # name: function of features that returns a detector
    "PaDiM": lambda features: PaDiM(features, random_state=0),
    "PaDiM, top 1 %": lambda features: PaDiM(features, image_score=0.01, random_state=0),
    "SPADE": lambda features: SPADE(features, random_state=0),
    "SPADE, max": lambda features: SPADE(features, image_score="max", random_state=0),
    "MLFSC": lambda features: MLFSC(features, random_state=0),
}
METRICS = ("image_auroc", "aupro", "pixel_auroc")


def main():
    options = parser(__doc__)
    options.add_argument("--detectors", nargs="+", default=list(DETECTORS), choices=DETECTORS)
    options.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    options.add_argument("--sizes", nargs="+", type=int, default=[224, 320])
    options = options.parse_args()
    print_machine()
    for set_name in options.sets:
        data = load(set_name, options.data)
        for size in options.sizes:
            for name in options.detectors:
                features = DETECTORS[name](None).default_features(data.X_train)
                own = {key: value for key, value in features.get_params().items() if key != "image_size"}
                report = evaluate(DETECTORS[name](RecalledFeatures(**own, image_size=size)), data, map_size=(224, 224))
                values = "  ".join(f"{metric} {report[metric]:.3f}" for metric in METRICS)
                print(f"{set_name:<10} {size} px  {name:<15} {values}", flush=True)
        RecalledFeatures._store.clear()


if __name__ == "__main__":
    main()
