"""What is done with a detector as a whole works with every kind of threshold, and without one."""

import csv
import json
import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from matplotlib.image import imread
from PIL import Image
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skanomaly import (
    ConformalDetector,
    FitOnNormal,
    GreedyCoreset,
    KNNScorer,
    MahalanobisAD,
    PatchCore,
    Pixels,
    PretrainedPatchFeatures,
    VariationModel,
    load,
    save,
)
from skanomaly.base import Verdict
from skanomaly.evaluation import evaluate, score_files, watch_files
from skanomaly.evaluation._rows import COLUMNS, row_of
from skanomaly.evaluation._table import RunLock
from skanomaly.exceptions import CalibrationWarning, DataWarning, ImageReadError, MissingWeightsError
from skanomaly.metrics import aupro, image_auroc, pixel_auroc
from skanomaly.thresholds import Region

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
    assert {float(row["threshold"]) for row in rows} == {detector.offset_}
    assert {row["largest_area"] == "" for row in rows} == {not hasattr(detector, "anomaly_map")}
    found = detector.anomaly_regions(paths) if hasattr(detector, "anomaly_map") else []
    for row, regions in zip(rows, found, strict=False):
        assert int(row["n_regions"]) == len(regions)
        for region in regions[:1]:
            sides = ("top", "left", "bottom", "right")
            assert tuple(int(row[f"largest_{side}"]) for side in sides) == region.box
            assert int(row["largest_area"]) == region.area == max(region.area for region in regions)
            assert float(row["largest_peak"]) == region.peak
            assert float(row["largest_p_value"]) == region.p_value
            center = [float(row["largest_row"]), float(row["largest_column"])]
            assert center == pytest.approx(region.center, abs=0.006)


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


REGION = Region((2, 0, 5, 4), (2.5, 1.125), 6, 1.5, (3, 1), 0.25)


@pytest.mark.parametrize(
    ("label", "regions", "note"),
    [
        (1, [], ""),
        (-1, [REGION], ""),
        (1, [REGION], "regions above the threshold of maps, score within its own"),
        (-1, [], "score beyond its threshold, no region above that of maps"),
        (-1, None, ""),
    ],
)
def test_rows_by_hand(label, regions, note):
    row = row_of("a.png", Verdict(-3.5, label, 0.5, None, None, regions), -2.0, ("7", "8"))
    assert len(row) == len(COLUMNS)
    largest = [6, 2, 0, 5, 4, "2.50", "1.12", "1.5", "0.25"] if regions else [0 if regions == [] else "", *[""] * 8]
    numbers = ["-3.5", "-2.0", label, "0.5", "" if regions is None else len(regions)]
    assert row == ["a.png", *numbers, *largest, note, "", "7", "8"]


def test_a_table_of_older_columns_is_refused(small_features, cloth, folder):
    save(detector_of(small_features).fit(cloth.X_train), folder / "model.skops")
    (folder / "out").mkdir()
    (folder / "out" / "scores.csv").write_text("path,score,label,p_value,largest_area,error,bytes,modified_ns\r\n")
    with pytest.raises(ValueError, match="has the columns path, score, label, .* of another version; choose another"):
        score_files(folder / "model.skops", [folder / "0.png"], folder / "out")


def test_models_of_tables_and_missing_weights_are_no_matter_of_images(folder, cloth, rng):
    save(KNNScorer().fit(rng.normal(size=(30, 4))), folder / "model.skops")
    with pytest.raises(ValueError, match="KNNScorer fitted on the rows of a table, with 4 columns; it must be one"):
        score_files(folder / "model.skops", [folder / "0.png"], folder / "out")
    pipe = make_pipeline(ONE_LAYER, KNNScorer())
    save(ConformalDetector(pipe).fit(cloth.X_train), folder / "model.skops")
    assert len(read_rows(score_files(folder / "model.skops", [folder / "0.png"], folder / "out"))) == 1
    weights = folder / "w.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), weights)
    features = clone(ONE_LAYER).set_params(weights=str(weights))
    save(detector_of(features).fit(cloth.X_train), folder / "other.skops")
    with pytest.raises(MissingWeightsError, match="skanomaly fit --include-weights"):
        score_files(folder / "other.skops", [folder / "0.png"], folder / "others")


# What can be computed is; the rest is NaN


def part_of(data, test):
    return Bunch(
        X_train=data.X_train, X_test=data.X_test[test], y_test=data.y_test[test], masks_test=data.masks_test[test]
    )


def detector_of(features):
    return PatchCore(features, combine="concatenated", coreset_ratio=0.2, random_state=0)


def test_evaluate_without_anomalies_or_without_normal_images(small_features, cloth):
    for label, known in ((1, "flagged_normal"), (-1, "flagged_anomalous")):
        report = evaluate(detector_of(small_features), part_of(cloth, cloth.y_test == label))
        assert 0 <= report[known] <= 1
        other = {"flagged_normal", "flagged_anomalous"} - {known}
        assert all(np.isnan(report[name]) for name in ("image_auroc", "f1_max", *other))
        assert np.isnan(report.pixel_auroc) == (label == 1)


def test_images_with_unknown_masks_do_not_count(small_features, cloth):
    anomalies, normal = np.flatnonzero(cloth.y_test == -1), np.flatnonzero(cloth.y_test == 1)
    test = np.concatenate([normal[:4], anomalies[:4]])
    data, known = part_of(cloth, test), part_of(cloth, test[:6])
    data.masks_test = [KnownMask(mask, i < 6) for i, mask in enumerate(data.masks_test)]
    report, expected = (evaluate(detector_of(small_features), each) for each in (data, known))
    assert (report.pixel_auroc, report.aupro) == (expected.pixel_auroc, expected.aupro)
    for metric in (pixel_auroc, aupro):
        assert metric(data.masks_test, report.anomaly_maps) == metric(known.masks_test, expected.anomaly_maps)
    assert report.image_auroc == image_auroc(data.y_test, report.anomaly_score)
    data.masks_test = [KnownMask(np.asarray(mask), False) for mask in data.masks_test]
    assert np.isnan(evaluate(detector_of(small_features), data).aupro)


class KnownMask:
    def __init__(self, mask, known):
        self.mask, self.known = mask, known

    def __array__(self, dtype=None, copy=None):
        return self.mask


def test_misfit_and_inverted_masks_are_found_before_fitting(cloth):
    class Unfit:
        def fit(self, X):
            raise AssertionError("fitted")

    data = part_of(cloth, np.arange(len(cloth.y_test)))
    data.masks_test = [*data.masks_test[:-1], np.zeros((7, 9), bool)]
    with pytest.raises(ValueError, match=r"1 masks do not have the size of their image: \(7, 9\) for image \d+, \("):
        evaluate(Unfit(), data)
    data.masks_test = ~cloth.masks_test
    with pytest.raises(ValueError, match=r"mark more than 9\d% of their image, so they are probably inverted"):
        evaluate(Unfit(), data)


@pytest.mark.parametrize(("shift", "warns"), [(0, False), (120, True)])
def test_evaluate_says_when_good_images_are_not_like_the_training_images(shift, warns):
    """Gray images: darker ones at the test are all flagged, which chance does not explain."""
    rng = np.random.default_rng(0)
    images = rng.normal(150, 20, size=(70, 1, 1)) + rng.normal(0, 3, size=(70, 8, 8))
    images[50:68] -= shift
    images[68:] -= 140
    images = images.clip(0, 255).astype(np.uint8)
    data = Bunch(X_train=images[:50], X_test=images[50:], y_test=np.repeat([1, -1], [18, 2]))
    data.masks_test = np.zeros((20, 8, 8), bool)
    detector = VariationModel(Pixels(8), sigma=0, false_alarm_rate=0.1, calibration="cv", random_state=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = evaluate(detector, data)
    assert (report.message is not None) == warns == (report.flagged_normal > 0.5)
    assert [str(w.message) for w in caught if w.category is CalibrationWarning] == ([report.message] if warns else [])
    if warns:
        assert re.search(
            "18 of 18 normal test images are flagged, although a share of 0.0.* is expected", report.message
        )
        assert "they are not drawn like the training images. Call `calibrate`" in report.message


# Watched folders


def test_files_are_scored_once_they_are_complete(model, folder, cloth):
    (folder / "in").mkdir()
    target, whole = folder / "in" / "a.png", (folder / "0.png").read_bytes()
    looks = watch_files(model, [str(folder / "in")], folder / "out", interval=0.001, report=folder / "r.html")
    assert next(looks) == (0, 0)
    for length in (100, 2000, len(whole)):  # still being written
        target.write_bytes(whole[:length])
        assert next(looks) == (0, 0)
    assert next(looks) == (1, 0)
    assert next(looks) == (0, 0)
    (row,) = read_rows(folder / "out" / "scores.csv")
    assert float(row["score"]) == load(model).score_samples([target])[0]
    assert str(target) in (folder / "r.html").read_text()
    Image.fromarray(cloth.X_test[-1]).save(target)
    (folder / "in" / "b.png").write_bytes(whole[:2000])
    assert [next(looks) for _ in range(3)] == [(0, 0), (2, 1), (0, 0)]  # the broken one is not tried again and again
    with pytest.raises(ValueError, match="is being written by another run"):
        score_files(model, [target], folder / "out")
    looks.close()
    (folder / "in" / "b.png").write_bytes(whole)
    score_files(model, sorted((folder / "in").iterdir()), folder / "out")
    rows = {Path(row["path"]).name: float(row["score"]) for row in read_rows(folder / "out" / "scores.csv")}
    expected = load(model).score_samples(str(folder / "in" / "*"))
    assert rows == dict(zip(["a.png", "b.png"], expected, strict=True))


def test_a_folder_that_does_not_exist_is_not_watched(model, folder):
    with pytest.raises(FileNotFoundError, match="there is no file or folder 'gone'; create what is to be watched"):
        next(watch_files(model, ["gone", str(folder / "*.png")], folder / "out"))
    assert not (folder / "out").exists()


def test_overlays_have_names_that_no_other_run_uses(model, folder):
    paths = sorted(folder.glob("*.png"))
    for path in paths[:2]:
        score_files(model, [path], folder / "out", overlays=True)
    pictures = sorted((folder / "out" / "overlays").iterdir())
    assert [picture.name[:2] for picture in pictures] == ["0_", "1_"]
    shown = [np.asarray(imread(picture)) for picture in pictures]
    assert shown[0].shape == shown[1].shape > (300, 300)
    assert np.abs(shown[0] - shown[1]).max() > 0.1
    pictures[0].unlink()
    score_files(model, paths[:2], folder / "out", overlays=True)
    assert pictures[0].exists()


# Night runs


@pytest.fixture
def model(small_features, cloth, tmp_path):
    save(detector_of(small_features).fit(cloth.X_train), tmp_path / "model.skops")
    return tmp_path / "model.skops"


def read_rows(table):
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_bad_image_is_a_row_with_an_error(model, folder):
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:3000])
    paths = [*sorted(folder.glob("*.png")), folder / "gone.png"]
    with pytest.warns(
        DataWarning, match=r"2 of 4 images could not be read: .1.png., .gone.png.; .*scores\.csv says why"
    ):
        table = score_files(model, paths, folder / "out")
    rows = read_rows(table)
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert [row["score"] == "" for row in rows] == [bool(row["error"]) for row in rows] == [False, True, False, True]
    assert "gone.png (no such file)" in rows[3]["error"]
    with pytest.raises(ImageReadError, match="1.png"):
        score_files(model, paths[:3], folder / "other", on_error="raise")
    (folder / "1.png").write_bytes(whole)
    score_files(model, paths[:3], folder / "out")
    expected = load(model).score_samples(paths[:3])
    found = {row["path"]: row for row in read_rows(table)}
    assert [float(found[str(path)]["score"]) for path in paths[:3]] == expected.tolist()


def test_a_changed_image_is_scored_again(model, folder, cloth):
    path = folder / "0.png"
    table = score_files(model, [path], folder / "out")
    before = read_rows(table)
    score_files(model, [path], folder / "out")
    assert read_rows(table) == before
    Image.fromarray(cloth.X_test[-1]).save(path)
    score_files(model, [path], folder / "out")
    (row,) = read_rows(table)
    assert float(row["score"]) == load(model).score_samples([path])[0] != float(before[0]["score"])


def test_odd_names_survive_and_are_scored_once(model, folder):
    names = [b"\xb2\xfa_1.png", "Prüfung 検査.png", "a\nb.png", "a\u2028b.png", 'a"b,c.png', "=1+1.png", "a\rb.png"]
    for name in names:
        shutil.copy(folder / "0.png", os.path.join(os.fsencode(folder), os.fsencode(name)))
    paths = [Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name)))) for name in names]
    table = score_files(model, paths, folder / "out")
    text = table.read_bytes()
    assert len(text.decode("utf-8").splitlines()) == len(read_rows(table)) + 1 == len(names) + 1
    score_files(model, paths, folder / "out", overlays=True)
    assert table.read_bytes() == text
    assert [json.loads(row["path"]) if row["path"][0] == '"' else row["path"] for row in read_rows(table)] == [
        str(path) for path in paths
    ]


def test_paths_are_no_formulas(model, folder, monkeypatch):
    monkeypatch.chdir(folder)
    for name in ("=1+1.png", "+1.png", "-1.png", "@sum.png"):
        shutil.copy("0.png", name)
        (row,) = read_rows(score_files(model, [name], f"out {name[1]}{name[0]}"))
        assert row["path"] == f"./{name}"


def test_two_runs_into_one_folder_refuse_each_other(model, folder):
    (folder / "out").mkdir()
    with (
        RunLock(folder / "out" / ".lock"),
        pytest.raises(ValueError, match=r"out='.*out' is being written by another run"),
    ):
        score_files(model, [folder / "0.png"], folder / "out")
    score_files(model, [folder / "0.png"], folder / "out")


def test_a_row_that_was_cut_off_is_written_again(model, folder):
    paths = sorted(folder.glob("*.png"))
    table = score_files(model, paths, folder / "out")
    whole = table.read_bytes()
    for cut in (len(whole) - 1, len(whole) - 30, whole.index(b"\n") + 5, 10, 0):
        table.write_bytes(whole[:cut])
        score_files(model, paths, folder / "out")
        assert table.read_bytes() == whole


def test_another_rate_needs_another_folder(model, folder):
    paths = sorted(folder.glob("*.png"))
    rows = read_rows(score_files(model, paths, folder / "out", false_alarm_rate=0.5))
    detector = load(model).set_params(false_alarm_rate=0.5)
    assert [int(row["label"]) for row in rows] == detector.predict(paths).tolist()
    with pytest.raises(ValueError, match="with false_alarm_rate=0.5, not 0.05; choose another folder"):
        score_files(model, paths, folder / "out")


def test_scores_of_unreadable_images_are_nan_if_asked_for(model, folder):
    paths = sorted(folder.glob("*.png"))
    detector = load(model)
    expected = detector.score_samples(paths)
    (folder / "3.png").write_bytes(paths[0].read_bytes()[:3000])
    mixed = [*paths[:2], folder / "3.png", paths[2], folder / "gone.png"]
    found = detector.score_samples(mixed, on_error="nan")
    np.testing.assert_array_equal(found, [*expected[:2], np.nan, expected[2], np.nan])
    np.testing.assert_array_equal(detector.score_samples(str(folder / "*.png"), on_error="nan")[:3], expected)
    with pytest.raises(ValueError, match="on_error='skip' is not accepted; it must be 'raise' or 'nan'"):
        detector.score_samples(paths, on_error="skip")


def test_paths_may_be_a_folder_or_a_generator(model, folder):
    rows = read_rows(score_files(model, str(folder), folder / "out"))
    assert [row["path"] for row in rows] == sorted(map(str, folder.glob("*.png")))
    again = read_rows(score_files(model, (path for path in sorted(folder.glob("*.png"))), folder / "again"))
    assert again == rows


def test_another_rate_of_a_detector_that_drops_anomalies(small_features, cloth, folder):
    detector = FitOnNormal(detector_of(small_features)).fit(cloth.X_train, np.ones(len(cloth.X_train), int))
    save(detector, folder / "m.skops")
    rows = read_rows(score_files(folder / "m.skops", str(folder), folder / "out", false_alarm_rate=0.25))
    assert float(rows[0]["threshold"]) == detector.estimator_.set_params(false_alarm_rate=0.25).offset_


def test_defects_that_no_map_covers_and_masks_of_0_and_255(cloth):
    """The first leave the metrics of pixels unknown; shares of the second are shares."""

    class Blind(VariationModel):
        def iter_scores_and_maps(self, X, size=None):
            for score, score_map in super().iter_scores_and_maps(X, size=size):
                yield score, np.full_like(score_map, np.nan)

    report = evaluate(Blind(Pixels(16), false_alarm_rate=None), cloth)
    assert np.isnan([report.pixel_auroc, report.aupro]).all()
    inverted = Bunch(**cloth) | {"masks_test": 255 * (1 - np.asarray(cloth.masks_test, np.uint8))}
    with pytest.raises(ValueError, match=r"mark more than \d\d% of their image"):
        evaluate(VariationModel(Pixels(16)), Bunch(**inverted))


def test_masks_may_hold_class_ids(cloth):
    expected = evaluate(VariationModel(Pixels(16), false_alarm_rate=None), cloth)
    classes = Bunch(**cloth | {"masks_test": 2 * np.asarray(cloth.masks_test, np.uint8)})
    report = evaluate(VariationModel(Pixels(16), false_alarm_rate=None), classes)
    assert (report.aupro, report.pixel_auroc) == (expected.aupro, expected.pixel_auroc)
    assert report.aupro > 0
