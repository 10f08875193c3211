"""What is done with a detector as a whole works with every kind of threshold, and without one."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.pipeline import make_pipeline

from skanomaly import (
    ConformalDetector,
    FitOnNormal,
    GreedyCoreset,
    KNNScorer,
    MahalanobisAD,
    PatchCore,
    PretrainedPatchFeatures,
    save,
)
from skanomaly.evaluation import evaluate, score_files

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
ONE_LAYER = PretrainedPatchFeatures(layers=(2,), neighborhood=1, weights="random", image_size=64, random_state=0)
CHI2 = MahalanobisAD(ONE_LAYER, threshold="chi2", false_alarm_rate=0.01)


def pipeline(features):
    return make_pipeline(features, GreedyCoreset(0.2, random_state=0), KNNScorer())


@pytest.mark.parametrize(
    ("wrap", "expected"),  # share of normal images that should be flagged, of 12 training images
    [
        (lambda features: CHI2, 0.01),
        (lambda features: FitOnNormal(PatchCore(features, random_state=0)), 1 / 13),
        (lambda features: FitOnNormal(CHI2), 0.01),
        (lambda features: ConformalDetector(pipeline(features), calibration="cv", random_state=0), 1 / 13),
        (lambda features: FitOnNormal(pipeline(features)), np.nan),
        (lambda features: PatchCore(features, false_alarm_rate=None, random_state=0), np.nan),
    ],
    ids=["chi2", "FitOnNormal", "FitOnNormal chi2", "pipeline", "bare pipeline", "no threshold"],
)
def test_evaluate(wrap, expected, small_features, cloth):
    detector = wrap(small_features)
    report = evaluate(detector, cloth)
    assert report.expected_flagged_normal == pytest.approx(expected, nan_ok=True)
    np.testing.assert_array_equal(report.anomaly_score, -detector.score_samples(cloth.X_test))
    assert np.isnan(report.flagged_normal) == np.isnan(expected)
    assert np.isnan(report.aupro) == (not hasattr(detector, "anomaly_map"))


@pytest.fixture
def folder(cloth, tmp_path):
    for i, image in enumerate(cloth.X_test[:3]):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda features: CHI2,
        lambda features: PatchCore(features, random_state=0),
        lambda features: FitOnNormal(PatchCore(features, random_state=0)),
        lambda features: ConformalDetector(pipeline(features), random_state=0),
    ],
    ids=["chi2", "PatchCore", "FitOnNormal", "pipeline"],
)
def test_score_files_says_what_the_detector_says(wrap, small_features, cloth, folder):
    detector = wrap(small_features).fit(cloth.X_train)
    save(detector, folder / "model.skops")
    paths = sorted(folder.glob("*.png"))
    with open(score_files(folder / "model.skops", paths, folder / "out"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["score"]) for row in rows] == detector.score_samples(paths).tolist()
    assert [int(row["label"]) for row in rows] == detector.predict(paths).tolist()
    assert [float(row["p_value"]) for row in rows] == detector.p_values(paths).tolist()
    assert {row["largest_region"] == "" for row in rows} == {not hasattr(detector, "anomaly_map")}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda features: pipeline(features), "of type Pipeline; it must be a detector with a threshold"),
        (lambda features: PatchCore(features, false_alarm_rate=None), "of type PatchCore and has no threshold"),
    ],
)
def test_score_files_refuses_what_cannot_decide(model, message, small_features, cloth, folder):
    save(model(small_features).fit(cloth.X_train), folder / "model.skops")
    with pytest.raises(ValueError, match=message):
        score_files(folder / "model.skops", [folder / "0.png"], folder / "out")
    assert not (folder / "out").exists()
