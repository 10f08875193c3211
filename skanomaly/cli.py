"""The command `skanomaly`."""

import argparse
import ast
import sys
from importlib.metadata import version

_METRICS = (
    ("image AUROC", "image_auroc"),
    ("pixel AUROC", "pixel_auroc"),
    ("AU-PRO", "aupro"),
    ("F1-max", "f1_max"),
    ("flagged normals", "flagged_normal"),
    ("expected", "expected_flagged_normal"),
    ("flagged defects", "flagged_anomalous"),
    ("fit s", "fit_seconds"),
    ("score s", "score_seconds"),
)


def main(arguments=None):
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("skanomaly: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, AttributeError) as error:
        print(f"skanomaly: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _parser():
    parser = argparse.ArgumentParser(prog="skanomaly", description="Anomaly detection on images.")
    parser.add_argument("--version", action="version", version=version("skanomaly"))
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="fit and test PatchCore on made-up surfaces, or on a folder")
    demo.add_argument("--data", metavar="FOLDER", help="a folder in MVTec layout instead")
    demo.set_defaults(run=_demo)
    evaluate = commands.add_parser("evaluate", help="fit and test PatchCore on a folder in MVTec layout")
    evaluate.add_argument("data", metavar="FOLDER", help="train/good, test/good, test/<defect>, ground_truth")
    evaluate.set_defaults(run=_evaluate_folder)
    for command in (demo, evaluate):
        command.add_argument("--out", metavar="DIR", default="demo_output", help="where the overlay sheet goes")
        command.add_argument("--seed", type=int, default=0, help="random_state of the detector")
        command.add_argument("--quiet", action="store_true", help="no progress bars")
        command.add_argument(
            "--set", metavar="NAME=VALUE", action="append", default=[], dest="settings",
            help="a parameter of PatchCore, e.g. coreset_ratio=0.05 or features__image_size=320",
        )  # fmt: skip
    return parser


def _demo(options):
    if options.data:
        _evaluate_folder(options)
        return
    from .datasets import make_surfaces
    from .datasets._surfaces import SURFACES

    for surface in SURFACES:
        _evaluate(surface, make_surfaces(surface, random_state=options.seed), options)


def _evaluate_folder(options):
    from pathlib import Path

    from .datasets import load_mvtec

    _evaluate(Path(options.data).resolve().name, load_mvtec(options.data), options)


def _evaluate(name, data, options):
    from pathlib import Path

    from .evaluation import evaluate, save_overlay_sheet

    detector = _detector(options)
    report = evaluate(detector, data)
    sheet = Path(options.out) / f"{name}.png"
    save_overlay_sheet(sheet, detector, data)
    print(f"{name}: {len(data.X_train)} training images, {len(data.X_test)} test images")
    for title, key in _METRICS:
        print(f"  {title:<16}{report[key]:8.3f}")
    print(f"  overlay sheet   {sheet}", flush=True)


def _detector(options):
    from . import PatchCore, PretrainedPatchFeatures

    verbose = int(not options.quiet)
    detector = PatchCore(PretrainedPatchFeatures(verbose=verbose), random_state=options.seed, verbose=verbose)
    return detector.set_params(**dict(map(_setting, options.settings)))


def _setting(text):
    """Return (name, value) of NAME=VALUE; the value is a Python literal, or else a string."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text!r}: accepted is NAME=VALUE.")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
