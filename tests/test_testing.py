"""The common checks: every detector passes them, and broken ones do not."""

import sys

import numpy as np
import pytest
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skanomaly import (
    AnoGAN,
    Autoencoder,
    DeepOneClass,
    PaDiM,
    PatchCore,
    Pixels,
    PretrainedPatchFeatures,
    SkipGANomaly,
    TextureGMM,
    VariationModel,
)
from skanomaly._inputs.images import check_images
from skanomaly.networks import DCGAN, SkipGAN, StridedNetwork, Training
from skanomaly.testing import _other_process, check_image_detector, image_detector_checks, parametrize_with_image_checks
from skanomaly.thresholds import Calibration

FEATURES = PretrainedPatchFeatures(weights="random", image_size=64, random_state=0)
TINY = {
    "features": PretrainedPatchFeatures(
        "test_efficientnet", layers=("bn2",), weights="random", image_size=32, batch_size=8, random_state=0
    ),
    "reference": (np.random.default_rng(0).integers(0, 256, (6, 32, 32), np.uint8), [0, 1] * 3),
    "max_epochs": 1,
    "random_state": 0,
}
FAST = Training(lr=3e-3, batch_size=4)
DETECTORS = [
    PatchCore(FEATURES, random_state=0),
    PaDiM(FEATURES, n_channels=10, random_state=0),
    Autoencoder(Pixels(16), StridedNetwork(), training=FAST, max_epochs=3, random_state=0),
    AnoGAN(Pixels(32), DCGAN(8, width=4), n_steps=8, chunk_size=4, training=FAST, max_epochs=4, random_state=0),
    SkipGANomaly(Pixels(32), SkipGAN(4), training=FAST, max_epochs=3, random_state=0),
    DeepOneClass(**TINY),
    VariationModel(Pixels(32), random_state=0),
    TextureGMM(Pixels(32), n_levels=2, n_components=2, n_patches=500, random_state=0),
]


@parametrize_with_image_checks(DETECTORS, n_images=12)
def test_image_detector(detector, check):
    check(detector)


class MeanImage(OutlierMixin, BaseEstimator):
    """A user's detector, as plain as can be: distance to the mean gray image; no maps, no conformal threshold."""

    def fit(self, X, y=None):
        images = self._read(X)
        self.mean_ = images.mean(axis=0)
        self.offset_ = self.score_samples(X).min()
        return self

    def score_samples(self, X):
        check_is_fitted(self)
        return -np.abs(self._read(X) - self.mean_).reshape(-1, self.mean_.size).mean(axis=1)

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_

    def predict(self, X):
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _read(self, X):
        source = check_images(X)
        return np.stack([source.read(i).astype(float)[..., 1 % source.read(i).shape[2]] for i in range(len(source))])


class GrayMeanImage(MeanImage):
    def _read(self, X):
        source = check_images(X)
        return np.stack([np.sort(source.read(i).astype(float), axis=2).mean(axis=2) for i in range(len(source))])


def test_a_users_detector_passes():
    check_image_detector(GrayMeanImage(), expected_failed_checks={"check_new_process": "not in an importable module"})


def test_checks_of_maps_are_for_detectors_with_maps():
    names = {check.func.__name__ for _, check in image_detector_checks(MeanImage())}
    assert "check_sign" in names
    assert not names & {"check_maps", "check_masks"}


def test_a_class_that_cannot_be_imported_is_told_so():
    class Local(GrayMeanImage):
        pass

    with pytest.raises(AssertionError, match="check_new_process fails for Local"):
        run("check_new_process", Local())


def test_the_other_process_is_started_again_after_its_end(tmp_path):
    request = {"folder": str(tmp_path), "n_threads": 0, "trusted": [], "paths": sys.path}
    assert "FileNotFoundError" in _other_process.score_elsewhere(**request)["error"]
    _other_process._process().kill()
    _other_process._process().wait()
    assert "ended with exit status -9" in _other_process.score_elsewhere(**request)["error"]
    assert "FileNotFoundError" in _other_process.score_elsewhere(**request)["error"]


class WrongSign(PatchCore):
    def score_samples(self, X):
        return -super().score_samples(X)


class WrongMapSign(PatchCore):
    def _render(self, grid, sample, size=None):
        return -super()._render(grid, sample, size)


class CenteredOnBatch(PatchCore):
    def score_samples(self, X):
        scores = super().score_samples(X)
        return scores - scores.mean()


class WritesToInput(PatchCore):
    def score_samples(self, X):
        scores = super().score_samples(X)
        if isinstance(X, np.ndarray):
            X[0] = 0
        return scores


class CroppedMaps(PatchCore):
    def _render(self, grid, sample, size=None):
        return super()._render(grid, sample, size)[1:]


class DoubleMaps(PatchCore):
    def _render(self, grid, sample, size=None):
        return super()._render(grid, sample, size).astype(np.float64)


class TransposedMaps(PatchCore):
    def _render(self, grid, sample, size=None):
        return super()._render(grid, sample, (size or sample.size)[::-1])


class AcceptsNaN(PatchCore):
    def fit(self, X, y=None):
        return super().fit(np.nan_to_num(X, nan=0.5, posinf=2) if isinstance(X, np.ndarray) else X)


class HalfFitted(PatchCore):
    def fit(self, X, y=None):
        self.scorers_ = None
        return super().fit(X)


class FittedAfterError(PatchCore):
    def fit(self, X, y=None):
        try:
            return super().fit(X)
        except ValueError:
            self.features_ = self.features
            raise


class MovesThresholdOnError(PatchCore):
    def fit(self, X, y=None):
        try:
            return super().fit(X)
        except ValueError:
            if hasattr(self, "offset_"):
                self.calibration_ = Calibration([0.0])
            raise


class StopsAtTheFirstBadFile(PatchCore):
    def fit(self, X, y=None):
        for path in X if isinstance(X, list) else []:
            check_images([path])
        return super().fit(X)


class FitsItsParameter(PatchCore):
    def fit(self, X, y=None):
        self.features.fit(X)
        return super().fit(X)


class ReturnsNothing(PatchCore):
    def fit(self, X, y=None):
        super().fit(X)


class LearnsFromLabels(PatchCore):
    def fit(self, X, y=None):
        return super().fit(X if y is None else X[np.asarray(y) == 1])


class RemembersFirstFit(PatchCore):
    def _fit(self, Z):
        if not hasattr(self, "scorers_"):
            super()._fit(Z)


class UsesGlobalGenerator(PatchCore):
    def _fit(self, Z):
        np.random.seed(0)  # noqa: NPY002
        super()._fit(Z)


class Unseeded(PatchCore):
    def score_samples(self, X):
        scores = super().score_samples(X)
        return scores + np.random.default_rng().normal(size=scores.shape)


class RoundsFloats(PatchCore):
    def score_samples(self, X):
        return super().score_samples(X.astype(np.float16) if isinstance(X, np.ndarray) and X.dtype.kind == "f" else X)


class OffsetForgotten(PatchCore):
    def decision_function(self, X):
        return self.score_samples(X)


class ZeroPValues(PatchCore):
    def p_values(self, X):
        return super().p_values(X) - 1 / (1 + len(self.calibration_scores_))


class CheckedTooLate(PatchCore):
    def score_samples(self, X):
        return -self._score(self.features_.transform(X))[0]


class KeepsAFunction(PatchCore):
    def _fit(self, Z):
        super()._fit(Z)
        self.distance_ = lambda a, b: abs(a - b)


class MasksEverything(PatchCore):
    def anomaly_mask(self, X):
        return np.ones_like(super().anomaly_map(X), bool)


class MasksNothing(PatchCore):
    def anomaly_mask(self, X):
        return np.zeros_like(super().anomaly_map(X), bool)


class IgnoresMaxPixels(PatchCore):
    def fit(self, X, y=None):
        return super().fit(X if isinstance(X, np.ndarray) and X.dtype.kind == "O" else check_images(X))


BROKEN = [
    (WrongSign, "check_sign", "higher for normal images"),
    (WrongMapSign, "check_maps", "lower at an obvious defect"),
    (CenteredOnBatch, "check_batches", "depends on the other images"),
    (WritesToInput, "check_input_untouched", "score_samples writes to images of uint8"),
    (CroppedMaps, "check_maps", r"shape \(4, 31, 32\).*return shape \(4, 32, 32\)"),
    (DoubleMaps, "check_maps", "dtype float64"),
    (TransposedMaps, "check_maps", r"shape \(4, 12, 10\)"),
    (AcceptsNaN, "check_bad_arrays", "fit accepts NaN"),
    (HalfFitted, "check_bad_arrays", "NoneType"),
    (FittedAfterError, "check_bad_arrays", "NotFittedError"),
    (MovesThresholdOnError, "check_bad_arrays", "change a fitted detector"),
    (StopsAtTheFirstBadFile, "check_bad_files", r"does not mention \['text.png'\]"),
    (FitsItsParameter, "check_parameters", "fit changes parameters"),
    (ReturnsNothing, "check_parameters", "does not return self"),
    (LearnsFromLabels, "check_parameters", "learns from y"),
    (RemembersFirstFit, "check_refit", "start from scratch"),
    (UsesGlobalGenerator, "check_random_state", "global random generator"),
    (Unseeded, "check_random_state", "scores differ for the same random_state"),
    (RoundsFloats, "check_dtypes", "float64 images of value / 255 score differently"),
    (OffsetForgotten, "check_labels", "decision_function works with false_alarm_rate=None"),
    (ZeroPValues, "check_calibration", r"must be in \(0, 1\]"),
    (CheckedTooLate, "check_unfitted", "AttributeError before fit; raise sklearn's NotFittedError"),
    (KeepsAFunction, "check_new_process", "pickle"),
    (MasksEverything, "check_masks", "not above pixel_threshold_"),
    (MasksNothing, "check_masks", "are not exactly the pixels"),
    (IgnoresMaxPixels, "check_max_pixels", "accepts images over max_pixels"),
    (MeanImage, "check_channels", "is one channel ignored"),
]


@pytest.mark.parametrize(("broken", "check", "message"), BROKEN, ids=lambda value: getattr(value, "__name__", ""))
def test_broken_detectors_are_caught(broken, check, message, small_features):
    detector = MeanImage() if broken is MeanImage else broken(small_features, random_state=0)
    with pytest.raises(AssertionError, match=rf"(?s)^{check} fails for {broken.__name__}: .*{message}"):
        run(check, detector)


def test_the_paths_check_can_fail():
    class ReadsBGR(GrayMeanImage):
        def _read(self, X):
            images = super()._read(X)
            return images if isinstance(X, np.ndarray) else images[..., ::-1]

    with pytest.raises(AssertionError, match=r"^check_paths fails.*differently"):
        run("check_paths", ReadsBGR())


def test_expected_failures_are_marked():
    decorator = parametrize_with_image_checks(
        [MeanImage()], expected_failed_checks=lambda d: {"check_channels": "gray"}
    )
    marked = [parameters.id for parameters in decorator.args[1] if parameters.marks]
    assert marked == ["MeanImage-check_channels"]


def run(name, detector):
    """Run one check by its name."""
    checks = {check.func.__name__: check for _, check in image_detector_checks(detector, n_images=12)}
    checks[name](detector)
