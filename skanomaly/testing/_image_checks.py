"""The promises that every image detector has to keep, checked by one small function each.

A check takes an unfitted detector, which it clones, and normal gray images of shape (n, H, W), uint8, and fits on all
but the last third of them. It raises an AssertionError that says what to fix.
"""

import functools
import os
import pickle
import random
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import skops.io
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ..exceptions import CalibrationWarning, DataWarning
from ..persistence import save
from ._other_process import score_elsewhere

_CHECKS = []
_MAP_CHECKS = []
_METHODS = ("score_samples", "decision_function", "predict")
_OPTIONAL_METHODS = (
    "p_values",
    "select",
    "calibrate",
    "iter_verdicts",
    "anomaly_map",
    "anomaly_mask",
    "anomaly_regions",
    "iter_anomaly_maps",
    "iter_scores_and_maps",
)


# --------------------------------------------------------------------------------------------- public functions


def check_image_detector(detector, *, size=32, n_images=24, expected_failed_checks=None):
    """Check that a detector keeps the promises made by all image detectors of skanomaly.

    The detector is cloned and fitted about 30 times, so choose parameters for which fitting is fast.

    Parameters
    ----------
    detector : estimator
        Unfitted detector of images. Without an `anomaly_map` method, the checks of maps and masks are skipped.
        Parameters called `random_state` are set to 0 in the clones if they are None.
    size : int, default=32
        Side of the images, in pixels.
    n_images : int, default=24
        Number of images, of which two thirds are used to fit.
    expected_failed_checks : dict of str to str, default=None
        Names of checks to skip, each with the reason.

    Raises
    ------
    AssertionError
        If a check fails; the message names the check and says what to fix.

    See Also
    --------
    image_detector_checks : Iterate over the checks.
    parametrize_with_image_checks : Turn each check into a pytest test.
    sklearn.utils.estimator_checks.check_estimator : Checks for estimators of rows.
    """
    for candidate, check in image_detector_checks(detector, size=size, n_images=n_images):
        if check.func.__name__ not in (expected_failed_checks or {}):
            check(candidate)


def image_detector_checks(detector, *, size=32, n_images=24):
    """Iterate over the checks of a detector, each to be called as ``check(detector)``.

    Parameters
    ----------
    detector : estimator
        Unfitted detector of images. Without an `anomaly_map` method, the checks of maps and masks are skipped.
        Parameters called `random_state` are set to 0 in the clones if they are None.
    size : int, default=32
        Side of the images, in pixels.
    n_images : int, default=24
        Number of images, of which two thirds are used to fit.

    Yields
    ------
    detector : estimator
        The detector passed in.
    check : functools.partial
        Check, whose name is ``check.func.__name__``.

    See Also
    --------
    check_image_detector : Run all checks.
    parametrize_with_image_checks : Turn each check into a pytest test.

    Examples
    --------
    >>> from skanomaly import PatchCore, PretrainedPatchFeatures
    >>> from skanomaly.testing import image_detector_checks
    >>> features = PretrainedPatchFeatures(weights="random", image_size=32, random_state=0)
    >>> checks = {check.func.__name__: check for _, check in image_detector_checks(PatchCore(features))}
    >>> checks["check_unfitted"](PatchCore(features))
    """
    images = _make_images(n_images, size)
    for check in _CHECKS + (_MAP_CHECKS if hasattr(detector, "anomaly_map") else []):
        yield detector, functools.partial(check, images=images)


def parametrize_with_image_checks(detectors, *, size=32, n_images=24, expected_failed_checks=None):
    """Create a pytest decorator that runs a test for every detector and check.

    Parameters
    ----------
    detectors : sequence of estimators
        Unfitted detectors of images. Without an `anomaly_map` method, the checks of maps and masks are skipped.
        Parameters called `random_state` are set to 0 in the clones if they are None.
    size : int, default=32
        Side of the images, in pixels.
    n_images : int, default=24
        Number of images, of which two thirds are used to fit.
    expected_failed_checks : callable, default=None
        Function of a detector that returns a dict of the names of checks that are expected to fail, each with the
        reason.

    Returns
    -------
    pytest.MarkDecorator
        Decorator for a test function of `detector` and `check` that calls ``check(detector)``.

    See Also
    --------
    check_image_detector : Run all checks.
    image_detector_checks : Iterate over the checks.
    sklearn.utils.estimator_checks.parametrize_with_checks : The same for estimators of rows.
    """
    import pytest

    def as_parameters(detector):
        reasons = expected_failed_checks(detector) if expected_failed_checks else {}
        for candidate, check in image_detector_checks(detector, size=size, n_images=n_images):
            name = check.func.__name__
            marks = [pytest.mark.xfail(reason=reasons[name])] if name in reasons else []
            yield pytest.param(candidate, check, marks=marks, id=f"{type(detector).__name__}-{name}")

    return pytest.mark.parametrize(
        ("detector", "check"), [parameters for detector in detectors for parameters in as_parameters(detector)]
    )


# --------------------------------------------------------------------------------------------- helpers of the checks


def _register(checks):
    """Return a decorator that adds a check to a list and turns its errors into AssertionErrors with its name."""

    def decorate(check):
        @functools.wraps(check)
        def named(detector, images):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", CalibrationWarning)  # the checks deliberately use few images
                    check(detector, images)
            except Exception as error:
                said = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
                raise AssertionError(f"{check.__name__} fails for {type(detector).__name__}: {said}") from error

        checks.append(named)
        return named

    return decorate


def _make_images(n_images, size):
    """Return normal images (n, size, size), uint8: gray waves of low contrast, slightly shifted, with noise."""
    rng = np.random.default_rng(0)
    y, x = np.indices((size, size)) / size
    shift = rng.uniform(-0.3, 0.3, (2, n_images, 1, 1))
    waves = np.sin(6 * np.pi * x + shift[0]) + np.sin(4 * np.pi * y + shift[1])
    return (128 + 12 * waves + rng.normal(0, 4, waves.shape)).round().astype(np.uint8)


def _split(images):
    """Split the images into those to fit on and those to test on."""
    n_train = 2 * len(images) // 3
    return images[:n_train], images[n_train:]


def _fresh(detector):
    """Return an unfitted clone in which every `random_state` is set."""
    detector = clone(detector)
    unset = [name for name, value in detector.get_params().items() if _last(name) == "random_state" and value is None]
    return detector.set_params(**dict.fromkeys(unset, 0))


def _last(name):
    return name.rpartition("__")[2]


def _tint(images):
    """Turn gray images into colour images (n, H, W, 3) with three different channels."""
    return np.stack([images, images // 2, 255 - images], axis=-1)


def _paste_square(images):
    """Return the images with a large square of black and white stripes, and its mask (H, W), bool."""
    height, width = images.shape[1:]
    rows, columns = slice(height // 4, height // 4 + height // 3), slice(width // 3, width // 3 + width // 3)
    where = np.zeros((height, width), bool)
    where[rows, columns] = True
    y, x = np.indices(where.shape)
    stripes = np.where((x + y) // 3 % 2, 255, 0).astype(np.uint8)
    return np.where(where, stripes, images), where


@contextmanager
def _image_files(images):
    """Write the images to a temporary folder as PNG files; yield the folder and the paths."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i:04d}.png" for i in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            Image.fromarray(image).save(path)
        yield Path(folder), paths


def _has_threshold(detector):
    return detector.get_params().get("false_alarm_rate", "no such parameter") is not None


def _call(detector, method, X):
    """Return the result of a method, a generator as a list."""
    result = getattr(detector, method)(X)
    return list(result) if method.startswith("iter_") else result


def _require(condition, message):
    if not condition:
        raise AssertionError(message)


def _require_equal(actual, expected, message):
    """Require that arrays, or lists of arrays, are equal bit for bit (NaN equals NaN)."""
    _require(len(actual) == len(expected), f"{message} (lengths {len(actual)} and {len(expected)})")
    for a, b in zip(actual, expected, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        same_shape = a.shape == b.shape
        _require(same_shape, f"{message} (shapes {a.shape} and {b.shape})")
        if not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            raise AssertionError(f"{message} (they differ by up to {np.abs(a.astype(float) - b).max():.3g})")


def _require_shape(array, shape, dtype, what):
    kind = "a list" if isinstance(array, list) else f"{type(array).__name__}"
    _require(isinstance(array, np.ndarray), f"{what} is {kind}; return an array of shape {shape}.")
    _require(
        array.shape == shape and array.dtype == dtype,
        f"{what} has shape {array.shape} and dtype {array.dtype}; return shape {shape} and dtype {np.dtype(dtype)}.",
    )


def _require_refusal(call, X, wrong, words):
    """Require that ``call(X)`` raises a ValueError or TypeError that explains the problem."""
    accepted = "raise a ValueError or TypeError that says what was passed and what is accepted"
    try:
        call(X)
    except (ValueError, TypeError) as error:
        message = str(error)
    except Exception as error:
        kind = type(error).__name__
        raise AssertionError(f"{call.__name__} raises {kind} for {wrong}; {accepted}.") from error
    else:
        raise AssertionError(f"{call.__name__} accepts {wrong}; {accepted}.")
    missing = [word for word in words if word.lower() not in message.lower()]
    _require(not missing, f"{call.__name__} rejects {wrong}, but the message does not mention {missing}: {message}")


def _require_intact_after(detector, images, bad_inputs):
    """Require that every bad input is rejected, and leaves fitted and unfitted detectors unchanged."""
    train, test = _split(images)
    unfitted, fitted = _fresh(detector), _fresh(detector).fit(train)
    methods = ["fit", *(m for m in _available(fitted) if m in ("score_samples", "calibrate", "anomaly_map"))]
    judge = fitted.decision_function if _has_threshold(fitted) else fitted.score_samples
    before = judge(test[:2])
    for wrong, X, words in bad_inputs:
        for method in methods:
            _require_refusal(getattr(fitted, method), X, wrong, words)
        _require_equal(
            judge(test[:2]),
            before,
            f"{', '.join(methods)} change a fitted detector when given {wrong}; raise before any change.",
        )
        _require_refusal(unfitted.fit, X, wrong, words)
        _require_not_fitted(unfitted, "score_samples", test, f"after fit with {wrong}")


def _require_not_fitted(detector, method, X, when):
    try:
        _call(detector, method, X)
    except NotFittedError:
        return
    except Exception as error:
        raise AssertionError(
            f"{method} raises {type(error).__name__} {when}; raise sklearn's NotFittedError (check_is_fitted)."
        ) from error
    raise AssertionError(f"{method} works {when}; raise sklearn's NotFittedError (check_is_fitted).")


# --------------------------------------------------------------------------------------------- the checks


@_register(_CHECKS)
def check_parameters(detector, images):
    """Check that clone, get_params and set_params agree, and that fit returns self and ignores y."""
    train, test = _split(images)
    twin = clone(detector)
    own = detector.get_params(deep=False)
    _require(
        joblib.hash(twin.get_params()) == joblib.hash(clone(twin).get_params()),
        "a clone has different parameters; __init__ must assign its parameters and do nothing else.",
    )
    twin.set_params(**own)
    changed = [name for name, value in twin.get_params(deep=False).items() if value is not own[name]]
    _require(not changed, f"get_params does not return the values set for {changed}; assign parameters as given.")
    fitted = _fresh(detector)
    before = joblib.hash(fitted.get_params())
    _require(fitted.fit(train) is fitted, "fit does not return self.")
    _require(
        joblib.hash(fitted.get_params()) == before,
        "fit changes parameters; write to attributes with a trailing underscore, and fit clones of nested estimators.",
    )
    labels = np.where(np.arange(len(train)) % 2, 1, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # that y is ignored
        labelled = _fresh(detector).fit(train, labels)
    _require_equal(
        labelled.score_samples(test),
        fitted.score_samples(test),
        "fit(X, y) learns from y; ignore y, and use FitOnNormal for labelled data.",
    )


@_register(_CHECKS)
def check_unfitted(detector, images):
    """Check that every method of an unfitted detector raises NotFittedError."""
    unfitted = _fresh(detector)
    for method in _METHODS:
        _require(hasattr(unfitted, method), f"the method {method} is missing.")
    for method in (*_METHODS, *_OPTIONAL_METHODS):
        if hasattr(unfitted, method):
            _require_not_fitted(unfitted, method, images, "before fit")


@_register(_CHECKS)
def check_refit(detector, images):
    """Check that fit starts from scratch."""
    train, test = _split(images)
    refitted = _fresh(detector).fit(train[::-1] // 2).fit(train)
    _require_equal(
        refitted.score_samples(test),
        _fresh(detector).fit(train).score_samples(test),
        "a second fit depends on the first; fit must start from scratch.",
    )


@_register(_CHECKS)
def check_random_state(detector, images):
    """Check that equal random states give equal scores, and that no global generator is used or seeded."""
    train, test = _split(images)
    states = _global_states()
    first = _fresh(detector).fit(train).score_samples(test)
    _require(
        _global_states() == states,
        "fit or score_samples uses or seeds a global random generator; use check_random_state(self.random_state).",
    )
    _require_equal(_fresh(detector).fit(train).score_samples(test), first, "scores differ for the same random_state.")


def _global_states():
    states = [random.getstate(), *(np.asarray(part).tolist() for part in np.random.get_state())]  # noqa: NPY002
    if "torch" in sys.modules:
        states.append(sys.modules["torch"].get_rng_state().tolist())
    return states


@_register(_CHECKS)
def check_dtypes(detector, images):
    """Check that images of the same values score the same as uint8, uint16, float or, for 0 and 255, bool."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    expected = fitted.score_samples(test)
    for name, same in (
        ("float64 images of value / 255", test / 255),
        ("float32 images of value / 255", test.astype(np.float32) / np.float32(255)),
        ("uint16 images of value * 257", test.astype(np.uint16) * np.uint16(257)),
    ):
        _require_equal(fitted.score_samples(same), expected, f"{name} score differently from uint8 images.")
    binary = test > 128
    _require_equal(
        fitted.score_samples(binary),
        fitted.score_samples(binary * np.uint8(255)),
        "bool images score differently from uint8 images of 0 and 255.",
    )
    _require_equal(
        _fresh(detector).fit(train / 255).score_samples(test),
        expected,
        "fit on images of value / 255 learns differently from fit on uint8 images.",
    )


@_register(_CHECKS)
def check_channels(detector, images):
    """Check that gray equals repeated gray, also mixed, that what alpha hides does not count, and that colour works.

    A detector may be blind to colour, but then to any order of the channels: if BGR scores like RGB, so must GBR.
    """
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    expected = fitted.score_samples(test)
    gray = test[..., None]
    _require_equal(fitted.score_samples(gray), expected, "(n, H, W, 1) and (n, H, W) score differently.")
    _require_equal(
        fitted.score_samples(np.repeat(gray, 3, axis=3)), expected, "gray repeated to 3 channels scores differently."
    )
    colors = _fresh(detector).fit(_tint(train))
    X = _tint(test)
    expected = colors.score_samples(X)
    _require_shape(expected, (len(test),), np.float64, "score_samples of colour images")
    _require(np.isfinite(expected).all(), "score_samples of colour images returns non-finite values.")
    mixed = [image if i % 2 else gray[i] for i, image in enumerate(np.repeat(gray, 3, axis=3))]
    _require_equal(
        colors.score_samples(mixed),
        colors.score_samples(np.repeat(gray, 3, axis=3)),
        "gray and colour images in one list score differently from those of one kind.",
    )
    opaque = np.concatenate([X, np.full_like(X[..., :1], 255)], axis=3)
    _require_equal(colors.score_samples(opaque), expected, "an opaque alpha channel changes the scores.")
    opaque[:, : X.shape[1] // 2, :, 3] = 0
    hidden = opaque.copy()
    hidden[:, : X.shape[1] // 2, :, :3] = 7
    _require_equal(
        colors.score_samples(hidden),
        colors.score_samples(opaque),
        "what lies under transparent pixels changes the scores; show them on white.",
    )
    blind = [np.array_equal(colors.score_samples(X[..., order]), expected) for order in ([2, 1, 0], [1, 2, 0])]
    _require(blind[0] == blind[1], "some orders of the channels matter, others do not; is one channel ignored?")


@_register(_CHECKS)
def check_paths(detector, images):
    """Check that paths and globs equal arrays, for gray and for colour images."""
    for pictures in (images, _tint(images)):
        train, test = _split(pictures)
        fitted = _fresh(detector).fit(train)
        expected = fitted.score_samples(test)
        with _image_files(train) as (folder, _):
            _require_equal(
                _fresh(detector).fit(f"{folder}/*.png").score_samples(test),
                expected,
                "fit on a glob string learns differently from fit on arrays.",
            )
        with _image_files(test) as (folder, paths):
            for form, X in (
                ("a list of Path", paths),
                ("a list of str", [str(path) for path in paths]),
                ("a glob string", f"{folder}/*.png"),
            ):
                _require_equal(fitted.score_samples(X), expected, f"{form} scores differently from arrays.")


@_register(_CHECKS)
def check_batches(detector, images):
    """Check that the scores of an image depend neither on the other images nor on their order."""
    train, test = _split(images)
    test = np.concatenate([test[:3], _paste_square(test[:2])[0]])
    fitted = _fresh(detector).fit(train)
    fix = "do not use statistics of the batch, and score in padded batches of a fixed size."
    for method in ("score_samples", *(["anomaly_map"] if hasattr(fitted, "anomaly_map") else [])):
        together = _call(fitted, method, test)
        _require_equal(_call(fitted, method, test), together, f"{method} returns different values when called again.")
        alone = [_call(fitted, method, image[None])[0] for image in test]
        _require_equal(alone, together, f"{method} depends on the other images; {fix}")
        backwards = _call(fitted, method, test[::-1])
        _require_equal(backwards[::-1], together, f"{method} depends on the order of the images; {fix}")
    _require_shape(fitted.score_samples(test[:1]), (1,), np.float64, "score_samples of one image")


@_register(_CHECKS)
def check_input_untouched(detector, images):
    """Check that no method writes to the images, so that read-only arrays are accepted."""
    for pictures in (images, (images / 255).astype(np.float32)):
        train, test = (part.copy() for part in _split(pictures))
        test = test[:2]
        kept = train.copy(), test.copy()
        fitted = _fresh(detector).fit(train)
        _require_equal(train, kept[0], f"fit writes to images of {train.dtype}; copy before writing.")
        for method in _available(fitted):
            _call(fitted, method, test)
            _require_equal(test, kept[1], f"{method} writes to images of {test.dtype}; copy before writing.")
    train.flags.writeable = test.flags.writeable = False
    _fresh(detector).fit(train).score_samples(test)  # raises if a method writes to them


def _available(fitted):
    """Return the names of the methods that a fitted detector supports."""
    methods = [name for name in (*_METHODS, *_OPTIONAL_METHODS) if hasattr(fitted, name)]
    return methods if _has_threshold(fitted) else [m for m in methods if m in ("score_samples", "anomaly_map")]


@_register(_CHECKS)
def check_labels(detector, images):
    """Check the relation of scores, offset, decisions and labels; without a threshold, deciding must raise."""
    train, test = _split(images)
    test = np.concatenate([test, _paste_square(test)[0]])
    fitted = _fresh(detector).fit(train)
    scores = fitted.score_samples(test)
    _require_shape(scores, (len(test),), np.float64, "score_samples")
    _require(np.isfinite(scores).all(), "score_samples returns non-finite values.")
    if "false_alarm_rate" in fitted.get_params():
        without = _fresh(detector).set_params(false_alarm_rate=None).fit(train)
        without.score_samples(test)
        for method in ("decision_function", "predict"):
            _require_no_threshold(without, method, test)
    if not _has_threshold(fitted):
        return
    decision, labels = fitted.decision_function(test), fitted.predict(test)
    _require_equal(decision, scores - fitted.offset_, "decision_function is not score_samples - offset_.")
    _require(labels.dtype.kind == "i", f"predict returns {labels.dtype}; return integers: +1 normal, -1 anomaly.")
    _require_equal(labels, np.where(decision < 0, -1, 1), "predict disagrees with the sign of decision_function.")


def _require_no_threshold(detector, method, X):
    try:
        _call(detector, method, X)
    except AttributeError:
        return
    raise AssertionError(f"{method} works with false_alarm_rate=None; raise an AttributeError that names calibrate.")


@_register(_CHECKS)
def check_calibration(detector, images):
    """Check that p-values are in (0, 1] and increase with the scores, and that calibrate only sets thresholds."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    if not _has_threshold(fitted):
        return
    X = np.concatenate([test, _paste_square(test)[0]])
    scores = fitted.score_samples(X)
    if hasattr(fitted, "p_values"):
        p = fitted.p_values(X)
        _require_shape(p, (len(X),), np.float64, "p_values")
        _require(((p > 0) & (p <= 1)).all(), f"p_values are in [{p.min():g}, {p.max():g}]; they must be in (0, 1].")
        _require((np.diff(p[np.argsort(scores)]) >= 0).all(), "p_values do not increase with score_samples.")
    if hasattr(fitted, "calibrate"):
        _require(fitted.calibrate(test) is fitted, "calibrate does not return self.")
        _require_equal(fitted.score_samples(X), scores, "calibrate changes the scores; it may only set thresholds.")
        _require_equal(fitted.decision_function(X), scores - fitted.offset_, "calibrate sets a wrong offset_.")
        _require(
            (fitted.predict(test) == 1).mean() >= 0.5,
            "predict calls most of the images passed to calibrate anomalies; does calibrate keep the sign?",
        )


@_register(_CHECKS)
def check_verdicts(detector, images):
    """iter_verdicts says what the other methods say, and another false_alarm_rate acts at once."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    if not (hasattr(fitted, "iter_verdicts") and _has_threshold(fitted)):
        return
    X = np.concatenate([test, _paste_square(test)[0]])
    verdicts = list(fitted.iter_verdicts(X))
    for part, method in (("score", "score_samples"), ("label", "predict"), ("p_value", "p_values")):
        said = [getattr(verdict, part) for verdict in verdicts]
        _require_equal(said, getattr(fitted, method)(X), f"{part} of iter_verdicts is not what {method} returns.")
    has_maps = hasattr(fitted, "anomaly_map")
    for part, method in (("anomaly_map", "anomaly_map"), ("mask", "anomaly_mask")) if has_maps else ():
        said = [getattr(verdict, part) for verdict in verdicts]
        _require_equal(said, getattr(fitted, method)(X), f"{part} of iter_verdicts is not what {method} returns.")
    if hasattr(fitted, "pixel_threshold_"):
        _require_regions(fitted, verdicts, X)
    if "false_alarm_rate" in fitted.get_params():
        offset = fitted.offset_
        fitted.set_params(false_alarm_rate=0.9)
        _require(fitted.offset_ > offset, "offset_ stays where it was when false_alarm_rate is raised after fit.")


def _require_regions(fitted, verdicts, X):
    _require(
        [v.regions for v in verdicts] == fitted.anomaly_regions(X), "regions are not what anomaly_regions returns."
    )
    for verdict in verdicts:
        areas = sum(region.area for region in verdict.regions)
        _require(areas == verdict.mask.sum(), "the areas of the regions do not sum to that of the mask.")


@_register(_CHECKS)
def check_copies(detector, images):
    """Images that are all there twice are flagged no more often when fresh than the rate promises, by far."""
    train, test = _split(images)
    fitted = _fresh(detector)
    names = [name for name in fitted.get_params() if _last(name) == "false_alarm_rate"]
    if len(names) != 1 or fitted.get_params()[names[0]] is None:
        return
    fitted.set_params(**{names[0]: 1 / (len(train) // 5 + 1)}).fit(np.repeat(train, 2, axis=0))
    flagged = (fitted.predict(test) == -1).mean()
    _require(
        flagged <= 0.75,
        f"{flagged:.0%} of fresh normal images are flagged when every training image was given twice; keep copies "
        "together when learning and calibrating (groups).",
    )


@_register(_CHECKS)
def check_sign(detector, images):
    """Check that an image with an obvious defect scores lower than the average normal image."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    normal, defective = fitted.score_samples(test).mean(), fitted.score_samples(_paste_square(test)[0])
    _require(
        (defective < normal).all(),
        f"images with an obvious defect score up to {defective.max():.4g}, normal images {normal:.4g} on average; "
        "score_samples must be higher for normal images, and tell the two apart.",
    )


@_register(_CHECKS)
def check_new_process(detector, images):
    """Check that pickle, joblib and skanomaly.save preserve the scores in another process with as many threads."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    n_threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 0
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.pkl").write_bytes(pickle.dumps(fitted))
        joblib.dump(fitted, f"{folder}/model.joblib")
        foreign = _foreign_types(fitted)
        save(fitted, f"{folder}/model.skops", trusted=foreign)
        np.save(f"{folder}/X.npy", test)
        answer = score_elsewhere(
            folder=folder,
            n_threads=n_threads,
            trusted=foreign,
            paths=[str(Path(__file__).parents[2]), *(path or os.getcwd() for path in sys.path)],
        )
        _require(
            "error" not in answer,
            "another process cannot load or use the detector; define its class in an importable module, and keep only "
            f"what can be stored, such as numpy arrays, in fitted attributes. Its error is:\n{answer.get('error')}",
        )
        _require(
            answer["n_threads"] == n_threads,
            f"torch had {n_threads} threads in another process, but {answer['n_threads']} after score_samples was "
            "called; this number determines the last bits of the scores, so do not change it, or restore it.",
        )
        with np.load(f"{folder}/scores.npz") as restored:
            for way, scores in restored.items():
                _require_equal(scores, fitted.score_samples(test), f"scores differ after {way} in another process.")


def _foreign_types(detector):
    """Return the types of a model file that have to be trusted: none for the detectors of skanomaly."""
    if type(detector).__module__.startswith("skanomaly."):
        return []
    return skops.io.get_untrusted_types(data=skops.io.dumps(detector))


@_register(_CHECKS)
def check_bad_arrays(detector, images):
    """Check that arrays that are not images are rejected and leave the detector unchanged."""
    unit = images / 255
    broken = {value: unit.copy() for value in (np.nan, np.inf)}
    for value, X in broken.items():
        X[1, 2, 3] = value
    _require_intact_after(
        detector,
        images,
        [
            ("NaN", broken[np.nan], ["nan"]),
            ("infinity", broken[np.inf], ["inf"]),
            ("float images above 1", images.astype(float), ["[0, 1]"]),
            ("float images below 0", -unit, ["[0, 1]"]),
            ("a single 2-D image", images[0], [str(images[0].shape)]),
            ("a single colour image", _tint(images[:1])[0], ["[image]"]),
            ("a 5-D array", images[..., None, None], ["shape"]),
            ("images of 2 channels", np.stack([images, images], axis=-1), ["shape"]),
            ("0 images", images[:0], ["0 "]),
            ("int64 images", images.astype(np.int64), ["int64"]),
        ],
    )


@_register(_CHECKS)
def check_bad_files(detector, images):
    """Check that missing files and files that are not images are rejected, all of them named in one error."""
    with _image_files(images) as (folder, paths):
        (folder / "text.png").write_text("This is not an image.")
        complete = paths[0].read_bytes()
        (folder / "cut.png").write_bytes(complete[: len(complete) // 2])
        _require_intact_after(
            detector,
            images,
            [
                ("a glob that matches nothing", f"{folder}/nothing*.png", ["nothing*.png"]),
                (
                    "a missing file and a text file among images",
                    [paths[0], folder / "missing.png", folder / "text.png"],
                    ["missing.png", "text.png"],
                ),
                ("a truncated file", [*paths[:2], folder / "cut.png"], ["cut.png"]),
            ],
        )


@_register(_CHECKS)
def check_max_pixels(detector, images):
    """Check that images larger than `max_pixels`, where there is such a parameter, are rejected."""
    names = [name for name in detector.get_params() if _last(name) == "max_pixels"]
    if not names:
        return
    train, _ = _split(images)
    n_pixels = train[0].size
    _fresh(detector).set_params(**dict.fromkeys(names, n_pixels)).fit(train)
    strict = _fresh(detector).set_params(**dict.fromkeys(names, n_pixels - 1))
    with _image_files(train) as (_, paths):
        for X in (train, paths):
            _require_refusal(strict.fit, X, "images over max_pixels", ["max_pixels"])


@_register(_MAP_CHECKS)
def check_maps(detector, images):
    """Check that maps are float32, have the requested size, and are higher at a defect."""
    train, test = _split(images)
    n, height, width = test.shape
    fitted = _fresh(detector).fit(train)
    defective, where = _paste_square(test)
    maps = fitted.anomaly_map(defective)
    _require_shape(maps, (n, height, width), np.float32, "anomaly_map")
    _require_finite_somewhere(maps)
    _require(
        np.nanmean(maps[:, where]) > np.nanmean(maps[:, ~where]),
        "maps are lower at an obvious defect than around it; anomaly_map must be higher for anomalies.",
    )
    _require_shape(fitted.anomaly_map(test, size=(10, 12)), (n, 10, 12), np.float32, "anomaly_map with size=(10, 12)")
    if hasattr(fitted, "iter_anomaly_maps"):
        _require_equal(list(fitted.iter_anomaly_maps(defective)), maps, "iter_anomaly_maps yields different maps.")
    uneven = [test[0][: height - 8], test[1][:, : width - 5]]
    shapes = [image.shape for image in uneven]
    _require_shapes(fitted.anomaly_map(uneven), shapes, np.float32, "anomaly_map of images of two sizes")
    _require_shape(
        fitted.anomaly_map(uneven, size=(9, 7)), (2, 9, 7), np.float32, "anomaly_map of two sizes with size=(9, 7)"
    )
    _require_shape(fitted.anomaly_map(uneven[:1]), (1, *shapes[0]), np.float32, "anomaly_map of one image")


@_register(_MAP_CHECKS)
def check_masks(detector, images):
    """Check that masks are bool, and True only where the map is above the threshold."""
    train, test = _split(images)
    fitted = _fresh(detector).fit(train)
    if not (hasattr(fitted, "anomaly_mask") and _has_threshold(fitted)):
        return
    defective, _ = _paste_square(test)
    X = np.concatenate([test, defective])
    masks, maps = fitted.anomaly_mask(X), fitted.anomaly_map(X)
    _require_shape(masks, X.shape, bool, "anomaly_mask")
    if hasattr(fitted, "pixel_threshold_"):
        above = maps > fitted.pixel_threshold_  # False where the map is NaN
        _require(not (masks & ~above).any(), "masks are True where the map is not above pixel_threshold_.")
        if fitted.get_params().get("min_defect_area", 1) == 1:
            _require_equal(masks, above, "masks are not exactly the pixels where the map is above pixel_threshold_.")
    uneven = [defective[0][:-8], defective[1][:, :-5]]
    _require_shapes(
        fitted.anomaly_mask(uneven), [image.shape for image in uneven], bool, "anomaly_mask of images of two sizes"
    )


def _require_shapes(arrays, shapes, dtype, what):
    _require(isinstance(arrays, list), f"{what} is {type(arrays).__name__}; return a list where sizes differ.")
    _require(len(arrays) == len(shapes), f"{what} contains {len(arrays)} arrays; return {len(shapes)}.")
    for array, shape in zip(arrays, shapes, strict=True):
        _require_shape(array, shape, dtype, f"an item of {what}")


def _require_finite_somewhere(maps):
    finite = np.isfinite(maps)
    _require((finite | np.isnan(maps)).all(), "maps contain infinite values.")
    _require(finite.any(axis=(1, 2)).all(), "some maps are NaN everywhere.")
