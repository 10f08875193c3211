"""The command `skanomaly`."""

import argparse
import ast
import csv
import math
import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

_METHODS = {
    "patchcore": "PatchCore",
    "padim": "PaDiM",
    "spade": "SPADE",
    "mahalanobis": "MahalanobisAD",
    "mlfsc": "MLFSC",
    "dictionary": "FeatureDictionary",
    "texture": "TextureGMM",
    "variation": "VariationModel",
    "autoencoder": "Autoencoder",
    "vae": "VAE",
    "projection": "GradientProjection",
    "feature-decoder": "FeatureDecoder",
    "ano-unet": "AnoUNet",
    "deep-one-class": "DeepOneClass",
    "metric": "MetricFeatures",
    "anogan": "AnoGAN",
    "skipganomaly": "SkipGANomaly",
}
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
_PRESETS = (  # of skanomaly.evaluation.preset
    "patchcore-wrn50", "padim-resnet18", "padim-wrn50", "padim-efficientnet-b5", "spade-wrn50",
    "mahalanobis-efficientnet-b4", "mlfsc-vgg16",
)  # fmt: skip
_TABLES = (
    "image_auroc", "image_ap", "f1_max", "pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro", "rates", "region_rates",
)  # fmt: skip


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, default=None
        Arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0 for success, 1 if images could not be read, 2 for an error, 130 if interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            if options.quiet:
                warnings.simplefilter("ignore")
            return options.run(options) or 0
    except KeyboardInterrupt:
        print("skanomaly: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, AttributeError, ImportError) as error:
        print(f"skanomaly: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _print_warning(message, category, filename, lineno, file=None, line=None):
    print(f"skanomaly: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _parser():
    parser = argparse.ArgumentParser(prog="skanomaly", description="Anomaly detection on images.")
    parser.add_argument("--version", action="version", version=version("skanomaly"))
    commands = parser.add_subparsers(dest="command", required=True)
    demo, evaluate, fit = _demo_parser(commands), _evaluate_parser(commands), _fit_parser(commands)
    score, inpaint = _score_parser(commands), _inpaint_parser(commands)
    for command in (demo, evaluate):
        command.add_argument(
            "--out", metavar="DIR", default="demo_output",
            help="folder for the overlay sheet, or the results of --methods; an interrupted comparison is resumed",
        )  # fmt: skip
    for command in (demo, evaluate, fit):
        _add_detector_options(command)
    for command in (score, inpaint):
        command.add_argument(
            "--trust", metavar="TYPE", action="append", default=[], help="further type that the model file may hold"
        )
    for command in (demo, evaluate, fit, score, inpaint):
        command.add_argument("--quiet", action="store_true", help="print results and errors only, no warnings")
    return parser


def _rate(text):
    """Return the number that is written in a text, if it may be a false-alarm rate."""
    try:
        rate = float(text)
    except ValueError:
        rate = math.nan
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{text} is not accepted; it must be between 0 and 1, such as 0.05 for 5 %")
    return rate


def _add_detector_options(command):
    command.add_argument("--method", choices=sorted(_METHODS), default="patchcore", help="detector")
    command.add_argument(
        "--false-alarm-rate", metavar="RATE", type=_rate, default=0.05,
        help="share of normal images that may be flagged (default: 0.05)",
    )  # fmt: skip
    command.add_argument("--seed", type=int, default=0, help="random_state of the detector")
    command.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], dest="settings",
        help="parameter of the detector, e.g. coreset_ratio=0.05 or features__image_size=320; with --methods, "
        "METHOD:NAME=VALUE is a parameter of one of them",
    )  # fmt: skip


def _demo_parser(commands):
    demo = commands.add_parser("demo", help="fit and evaluate a detector on synthetic surfaces, or on a folder")
    demo.add_argument("--data", metavar="FOLDER", help="folder in MVTec layout to use instead of synthetic surfaces")
    demo.set_defaults(run=_demo)
    return demo


def _fit_parser(commands):
    fit = commands.add_parser("fit", help="fit a detector on normal images and save it to a file")
    fit.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or glob patterns of normal images")
    fit.add_argument("-o", "--output", metavar="FILE", required=True, help="model file to write, e.g. model.skops")
    fit.add_argument("--include-weights", action="store_true", help="store the network's weights in the model file")
    fit.set_defaults(run=_fit)
    return fit


def _score_parser(commands):
    score = commands.add_parser("score", help="score images with a model file")
    score.add_argument("model", metavar="MODEL", help="model file written by `skanomaly fit`")
    score.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or glob patterns of images")
    score.add_argument(
        "--out", metavar="DIR", required=True, help="folder for scores.csv; an interrupted run is resumed"
    )
    score.add_argument(
        "--false-alarm-rate", metavar="RATE", type=_rate,
        help="share of normal images that may be flagged (default: that of the model)",
    )  # fmt: skip
    score.add_argument(
        "--on-error", choices=["record", "raise"], default="record",
        help="what happens if an image cannot be read: write the error into the table and go on (the exit status is "
        "then 1), or stop",
    )  # fmt: skip
    score.add_argument("--overlays", action="store_true", help="also save every image with its anomaly map")
    score.add_argument(
        "--report", metavar="FILE", help="also write one HTML page of all images, the most anomalous first"
    )
    score.add_argument(
        "--watch", action="store_true", help="go on with new images as they arrive, until Ctrl-C is pressed"
    )
    score.add_argument(
        "--interval", metavar="SECONDS", type=float, default=2.0, help="time between two looks of --watch (default: 2)"
    )
    score.set_defaults(run=_score)
    return score


def _inpaint_parser(commands):
    inpaint = commands.add_parser("inpaint", help="replace the masked parts of images by what is normal")
    inpaint.add_argument("model", metavar="MODEL", help="model file written by `skanomaly fit --method projection`")
    inpaint.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or glob patterns of images")
    inpaint.add_argument(
        "--masks", metavar="MASKS", nargs="+", required=True,
        help="files, folders or glob patterns of masks: that of photo.png is called photo or photo_mask",
    )  # fmt: skip
    inpaint.add_argument("-o", "--out", metavar="DIR", required=True, help="folder for the inpainted images")
    inpaint.set_defaults(run=_inpaint)
    return inpaint


def _evaluate_parser(commands):
    evaluate = commands.add_parser("evaluate", help="fit and evaluate detectors on folders in MVTec layout")
    evaluate.add_argument(
        "data", metavar="FOLDER", nargs="+",
        help="folder with train/good, test/good, test/<defect> and ground_truth, or folder of such folders",
    )  # fmt: skip
    evaluate.add_argument(
        "--methods", metavar="METHOD", nargs="+",
        help="compare several detectors, with tables: those of --method, or with the networks of the papers, "
        f"{', '.join(_PRESETS)}; NAME=METHOD gives a detector a name of its own",
    )  # fmt: skip
    evaluate.add_argument(
        "--against", metavar="METHOD", nargs="+",
        help="method with which the others are compared (default: the first one), or METHOD=BASE for each",
    )  # fmt: skip
    evaluate.add_argument("--format", choices=["text", "markdown", "csv", "json"], help="of the tables (default: text)")
    evaluate.add_argument("--metrics", nargs="+", choices=_TABLES, help="tables to print (default: all)")
    evaluate.add_argument("--intervals", action="store_true", help="show 95 %% bootstrap intervals in the tables")
    evaluate.add_argument("--size", metavar="PIXELS", type=int, help="side of the maps that are compared with masks")
    evaluate.set_defaults(run=_evaluate_folders)
    return evaluate


def _demo(options):
    if options.data:
        _evaluate_folder(options.data, options)
        return
    from .datasets import make_surfaces
    from .datasets._surfaces import SURFACES

    for surface in SURFACES:
        _evaluate(surface, make_surfaces(surface, random_state=options.seed), options)


def _evaluate_folders(options):
    from .datasets import find_categories

    folders = find_categories(options.data)
    of_tables = options.methods, options.against, options.format, options.metrics, options.intervals, options.size
    if any(of_tables) or list(folders.values()) != options.data[:1]:
        return _compare(folders, options)
    return _evaluate_folder(options.data[0], options)


def _evaluate_folder(folder, options):
    from .datasets import load_category

    _evaluate(Path(folder).resolve().name, load_category(folder), options)


def _compare(folders, options):
    """Print the tables of several detectors or folders; the status is 1 if any failed."""
    from .evaluation import compare
    from .exceptions import EvaluationWarning

    named = [_named(text) for text in options.methods or [options.method]]
    methods = dict(named)
    if len(methods) < len(named):
        raise ValueError(f"--methods: names must differ, but are {', '.join(name for name, _ in named)}.")
    _check_methods(methods, options.settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvaluationWarning)  # failures are printed below the tables
        comparison = compare(
            {name: _variant(name, method, options) for name, method in methods.items()},
            folders,
            map_size=options.size and (options.size, options.size),
            baseline=_baseline(options.against),
            out=options.out,
            verbose=int(not options.quiet),
        )
    print(comparison.report(format=options.format or "text", metrics=options.metrics, intervals=options.intervals))
    return int(bool(comparison.failures))


def _named(text):
    name, _, method = text.partition("=")
    return name, method or name


def _check_methods(methods, settings):
    unknown = [method for method in methods.values() if method not in (*_METHODS, *_PRESETS)]
    if unknown:
        raise ValueError(f"--methods: {', '.join(unknown)} is not one of {', '.join((*sorted(_METHODS), *_PRESETS))}.")
    owners = {text.partition("=")[0].partition(":")[0] for text in settings if ":" in text.partition("=")[0]}
    if owners - set(methods):
        raise ValueError(f"--set: {', '.join(sorted(owners - set(methods)))} is not one of {', '.join(methods)}.")


def _variant(name, method, options):
    """Return the detector of one of several methods, with its own settings."""
    import numpy as np

    from .evaluation import preset

    own = dict(_setting(text.removeprefix(f"{name}:")) for text in options.settings if _belongs(text, name))
    if method in _PRESETS:
        return preset(method).set_params(**_common(options), **own)
    detector = _new(method, options)
    if any("__" in name for name in own):  # otherwise, defaults are left to each data set
        detector = _with_defaults(detector, np.zeros((1, 512, 512), np.uint8))
    return detector.set_params(**own)


def _belongs(text, name):
    owner, colon, _ = text.partition("=")[0].partition(":")
    return not colon or owner == name


def _baseline(against):
    if not against or against == [text for text in against if "=" not in text][:1]:
        return against and against[0]
    wrong = [text for text in against if "=" not in text]
    if wrong:
        raise ValueError(
            f"--against: {' '.join(against)} is not accepted; it must be one METHOD, or METHOD=BASE for each."
        )
    return dict(text.partition("=")[::2] for text in against)


def _evaluate(name, data, options):
    from . import plotting  # noqa: F401 (if matplotlib is missing, this is said before anything is fitted)
    from .evaluation import evaluate, save_overlay_sheet

    detector = _detector(options, data.X_train)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*normal test images are flagged")  # printed below
        report = evaluate(detector, data)
    sheet = Path(options.out) / f"{name}.png"
    has_sheet = report.anomaly_maps is not None and hasattr(detector, "offset_")
    if has_sheet:
        save_overlay_sheet(sheet, detector, data)
    print(f"{name}: {len(data.X_train)} training images, {len(data.X_test)} test images")
    for title, key in _METRICS:
        print(f"  {title:<16}{report[key]:8.3f}")
    if report.message:
        print(f"  note: {report.message}")
    print(f"  overlay sheet   {sheet if has_sheet else 'none: no maps, or no threshold'}", flush=True)


def _fit(options):
    from ._inputs.files import check_writable
    from .persistence import save

    paths = _files(options.images, options.quiet)
    check_writable(options.output, "-o ")
    detector = _detector(options, paths).fit(paths)
    save(_silent(detector), options.output, include_weights=options.include_weights)
    decision = "no threshold"
    if hasattr(detector, "offset_"):
        decision = f"flags scores below {detector.offset_:.4g} (false-alarm rate {detector.false_alarm_rate:g})"
    print(f"{options.output}: fitted on {len(paths)} images, {decision}")
    if not options.quiet:
        print(f"next: skanomaly score {options.output} IMAGES --out DIR --report DIR/report.html")


def _silent(detector):
    """Set verbose to 0 everywhere, because progress is for whoever fits, not for whoever loads the model."""
    from ._model_files.parts import parts_of

    for part in parts_of(detector):
        if "verbose" in getattr(part, "__dict__", ()):
            part.verbose = 0
    return detector


def _score(options):
    from .evaluation import score_files
    from .exceptions import ImageReadWarning

    settings = {
        "overlays": options.overlays, "report": options.report, "trusted": options.trust,
        "false_alarm_rate": options.false_alarm_rate, "on_error": options.on_error,
    }  # fmt: skip
    if options.watch:
        return _watch(options, settings)
    _check_model(options.model)
    paths = _files(options.images, options.quiet, may_be_gone=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ImageReadWarning)
        table = score_files(options.model, paths, options.out, verbose=not options.quiet, **settings)
    for warning in caught:
        print(f"skanomaly: {warning.message}", file=sys.stderr)
    _print_results(table, options)
    return int(any(issubclass(warning.category, ImageReadWarning) for warning in caught))


def _check_model(path):
    if not os.path.isfile(path):
        raise FileNotFoundError(f"MODEL: {path!r} does not exist; it must be a file that `skanomaly fit` wrote.")


def _print_results(table, options):
    with open(table, newline="", encoding="utf-8") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    n_unreadable = f", {labels.count('')} unreadable" if "" in labels else ""
    images = "1 image" if len(labels) == 1 else f"{len(labels)} images"
    print(f"{table}: {images}, {labels.count('-1')} flagged{n_unreadable}")
    _print_report(options)


def _print_report(options):
    if options.report and os.path.exists(options.report):
        print(f"{options.report}: report")


def _watch(options, settings):
    from .evaluation import watch_files

    if options.interval <= 0:
        raise ValueError(f"--interval {options.interval:g} is not accepted; it must be positive.")
    _check_model(options.model)
    looks = watch_files(options.model, options.images, options.out, interval=options.interval, **settings)
    n_wrong = 0
    if not options.quiet:
        print(f"watching {', '.join(options.images)}; press Ctrl-C to stop", file=sys.stderr)
    try:
        for n_images, n_errors in looks:
            n_wrong += n_errors
            if n_images and not options.quiet:
                print(f"{n_images} images, {n_errors} unreadable", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"{os.path.join(options.out, 'scores.csv')}: stopped")
        _print_report(options)
    return int(n_wrong > 0)


def _inpaint(options):
    from .evaluation import inpaint_files

    _check_model(options.model)
    paths = _files(options.images, options.quiet)
    masks = _files(options.masks, options.quiet, "--masks")
    verbose = not options.quiet
    inpaint_files(options.model, paths, masks, options.out, trusted=options.trust, verbose=verbose)
    print(f"{options.out}: {len(paths)} images")


def _files(patterns, quiet, name="IMAGES", *, may_be_gone=False):
    """Return the files that patterns stand for; if files `may_be_gone`, paths of missing images are taken as well."""
    from ._inputs.files import explain_no_match, find_images, is_image_path, name_files

    found = [find_images(pattern) for pattern in patterns]
    if may_be_gone:
        found = [
            ([Path(pattern)], []) if not (images or others) and is_image_path(pattern) else (images, others)
            for pattern, (images, others) in zip(patterns, found, strict=True)
        ]
    empty = [pattern for pattern, (images, _) in zip(patterns, found, strict=True) if not images]
    if empty:
        raise ValueError(f"{name}: {', '.join(map(explain_no_match, empty))}.")
    files = [path for images, _ in found for path in images]
    left_aside = [path for _, others in found for path in others]
    if left_aside and not quiet:
        print(f"left aside, not images: {name_files(left_aside)}", file=sys.stderr)
    return files


def _common(options):
    return {"random_state": options.seed, "false_alarm_rate": options.false_alarm_rate}


def _new(method, options):
    import skanomaly

    return getattr(skanomaly, _METHODS[method])().set_params(**_common(options))


def _detector(options, X):
    """Return the detector, with None replaced by the default objects so that --set can change their parameters."""
    detector = _new(options.method, options).set_params(verbose=int(not options.quiet))
    return _with_defaults(detector, X).set_params(**dict(map(_setting, options.settings)))


def _with_defaults(detector, X):
    for name in ("model", "feature_net"):
        if hasattr(detector, f"default_{name}"):
            inner = getattr(detector, f"default_{name}")().set_params(verbose=detector.verbose)
            detector.set_params(**{name: _with_defaults(inner, X)})
    if "features" in detector.get_params(deep=False):
        detector.set_params(features=detector.default_features(X))
    if hasattr(detector, "default_network"):
        detector.set_params(network=detector.default_network(detector.features))
    if hasattr(detector, "default_training"):
        detector.set_params(training=detector.default_training())
    return detector


def _setting(text):
    """Return (name, value) of NAME=VALUE; VALUE is a Python literal, the name of a class to create, or a string."""
    import skanomaly

    from . import networks

    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set {text!r} must have the form NAME=VALUE.")
    for home in (networks, skanomaly):
        if value in home.__all__ and isinstance(getattr(home, value), type):
            return name, getattr(home, value)()
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
