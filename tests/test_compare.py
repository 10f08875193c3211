"""Comparison of detectors on data sets: what is computed, kept and shown."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.pipeline import make_pipeline

from skanomaly import (
    FitOnNormal,
    GaussianScorer,
    GreedyCoreset,
    KNNScorer,
    MetricFeatures,
    PatchCore,
    PatchFeatures,
    Pixels,
    PretrainedPatchFeatures,
    Reference,
    VariationModel,
)
from skanomaly._kernels.localization import image_pixels
from skanomaly._kernels.score_counts import ScoreCountsByImage
from skanomaly.datasets import load_mvtec
from skanomaly.evaluation import compare, evaluate, preset
from skanomaly.evaluation._bootstrap import drawn_counts, image_metrics, pixel_metrics, rates
from skanomaly.evaluation._fingerprint import fingerprint
from skanomaly.evaluation._measure import with_memory
from skanomaly.exceptions import EvaluationWarning
from skanomaly.metrics import aupro, f1_max, pixel_ap, pixel_auroc, pixel_f1_max
from skanomaly.plotting import ComparisonDisplay
from skanomaly.thresholds import largest_region_levels

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
OF_PIXELS = {"pixel_auroc": pixel_auroc, "pixel_ap": pixel_ap, "pixel_f1_max": pixel_f1_max, "aupro": aupro}


def variation(**options):
    return VariationModel(Pixels(16), **{"false_alarm_rate": 0.2, "calibration": "cv", "random_state": 0} | options)


class Failing(BaseEstimator):
    """Detector that cannot be fitted."""

    def fit(self, X):
        raise RuntimeError("no\nluck")


@pytest.fixture(scope="module")
def comparison(cloth, tmp_path_factory):
    detectors = {"a": variation(sigma=20.0), "b": variation(min_defect_area=3), "c": variation(false_alarm_rate=None)}
    return compare(detectors, {"cloth": cloth, "again": cloth}, n_draws=50)


def test_rows_are_those_of_evaluate(comparison, cloth):
    for row, detector in zip(comparison.rows, (variation(sigma=20.0), variation(min_defect_area=3)), strict=False):
        report = evaluate(detector, cloth)
        assert (row["dataset"], row["n_train"], row["n_good"], row["n_anomalous"]) == ("cloth", 12, 6, 10)
        for name in ("image_auroc", "f1_max", "pixel_auroc", "aupro"):
            assert row[name] == pytest.approx(report[name], abs=1e-12)
            assert row[f"{name}_low"] <= row[name] + 0.05
        assert (row["tnr"], row["tpr"]) == pytest.approx((1 - report.flagged_normal, report.flagged_anomalous))
        assert row["expected_tnr"] == pytest.approx(1 - report.expected_flagged_normal)
        levels = largest_region_levels(report.anomaly_maps, min_defect_area=detector.min_defect_area)
        flagged = levels > detector.calibration_peaks_.max()
        assert row["region_tpr"] == flagged[cloth.y_test == -1].mean()
        assert row["region_tnr"] == (~flagged)[cloth.y_test == 1].mean()


def test_detectors_without_thresholds_and_maps(comparison, cloth):
    assert not {"tnr", "region_tpr"} & set(comparison.rows[2])
    found = compare({"mapless": make_pipeline(Flat(), KNNScorer())}, {"cloth": cloth}, n_draws=3)
    assert found.metrics == ["image_auroc", "image_ap", "f1_max"]


class Flat(BaseEstimator):
    """Transformer of images to rows."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.asarray(X).reshape(len(X), -1) / 255


# Bootstrap samples


@pytest.fixture
def measured(rng):
    """Return labels, scores, masks and maps of 9 images of 6 x 7 pixels, with ties."""
    anomalies = np.arange(9) >= 5
    masks = np.zeros((9, 6, 7), bool)
    masks[5:, 1:3, 2:5] = masks[7, 4, 0] = True
    maps = np.round(rng.normal(size=masks.shape) + masks, 1)
    return anomalies, np.round(rng.normal(size=9) + anomalies, 1), masks, maps


def test_metrics_of_bootstrap_samples_are_those_of_repeated_images(measured, rng):
    anomalies, scores, masks, maps = measured
    counts = drawn_counts(anomalies, 120, rng)  # more than one chunk
    assert (counts[:, anomalies].sum(axis=1) == 4).all()
    assert (counts.sum(axis=1) == 9).all()
    by_image, n_regions = ScoreCountsByImage(10_000), []
    for mask, score_map in zip(masks, maps, strict=True):
        values, weights, n = image_pixels(mask, score_map)
        by_image.add(values, weights)
        n_regions.append(n)
    found = image_metrics(anomalies, scores, counts) | pixel_metrics(by_image.histograms(), np.array(n_regions), counts)
    tnr, tpr = rates(anomalies, scores > 0.4, counts)
    for i in (0, 1, 101, 119):
        drawn = np.repeat(np.arange(9), counts[i].astype(int))
        y, s = anomalies[drawn], scores[drawn]
        assert found["image_auroc"][i] == pytest.approx(roc_auc_score(y, s))
        assert found["image_ap"][i] == pytest.approx(average_precision_score(y, s))
        assert found["f1_max"][i] == pytest.approx(f1_max(y, s))
        for name, metric in OF_PIXELS.items():
            assert found[name][i] == pytest.approx(metric(masks[drawn], maps[drawn]))
        assert (tnr[i], tpr[i]) == pytest.approx(((s[~y] <= 0.4).mean(), (s[y] > 0.4).mean()))


def test_draws_are_uniform_and_seeded():
    anomalies = np.arange(8) >= 5
    counts = drawn_counts(anomalies, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.07)
    np.testing.assert_array_equal(counts, drawn_counts(anomalies, 4000, np.random.default_rng(0)))


def test_differences_are_paired(comparison, cloth):
    """Equal detectors differ by nothing in every bootstrap sample; the mean is over the data sets."""
    twins = compare({"a": variation(), "b": variation(), "c": variation(sigma=20.0)}, {"cloth": cloth}, n_draws=40)
    by_detector = {d["detector"]: d for d in twins.differences("aupro") if d["dataset"] == "mean"}
    assert (by_detector["b"]["difference"], by_detector["b"]["low"], by_detector["b"]["high"]) == (0, 0, 0)
    (_, a), (_, c) = (twins.value("aupro", name, "cloth") for name in "ac")
    assert [by_detector["c"][end] for end in ("low", "high")] == pytest.approx(np.quantile(c - a, (0.025, 0.975)))
    assert [d["baseline"] for d in twins.differences("aupro", {"c": "b"})] == ["b", "b"]
    values = [comparison.value("aupro", "b", name)[0] for name in ("cloth", "again")]
    assert comparison.value("aupro", "b", None)[0] == pytest.approx(np.mean(values))
    assert list(comparison.to_frame()["aupro"]) == [row["aupro"] for row in comparison.rows]


# Failures and interruptions


def test_a_failing_pair_is_named_and_the_rest_goes_on(cloth, tmp_path):
    with pytest.warns(EvaluationWarning, match=r"3 of 4 pairs failed: broken on cloth: RuntimeError: no luck; .*gone"):
        found = compare(
            {"broken": Failing(), "fine": variation()}, {"cloth": cloth, "gone": tmp_path / "no"}, n_draws=2
        )
    assert [(row["dataset"], row["detector"]) for row in found.rows] == [("cloth", "fine")]
    assert [failure["error"][:17] for failure in found.failures[1:]] == ["FileNotFoundError"] * 2
    assert "failed: cloth, broken: RuntimeError: no luck" in found.report()
    assert np.isnan(found.differences("aupro")[0]["difference"])


KILLED = """
import os, signal, sys
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from skanomaly import GaussianScorer, PatchFeatures
from skanomaly.evaluation import compare

class Deadly(BaseEstimator):
    def fit(self, X, y=None):
        os.kill(os.getpid(), signal.SIGKILL)

first = make_pipeline(PatchFeatures(image_size=32), GaussianScorer(false_alarm_rate=None))
compare({"first": first, "second": Deadly()}, {"set": sys.argv[1]}, out=sys.argv[2], n_draws=5)
"""


@pytest.fixture
def folder(cloth, tmp_path):
    for name, images in (
        ("train/good", cloth.X_train),
        ("test/good", cloth.X_test[:3]),
        ("test/hole", cloth.X_test[8:10]),
        ("ground_truth/hole", cloth.masks_test[8:10]),
    ):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / "set" / name / f"{i}.png")
    return tmp_path


class Counted(VariationModel):
    """Variation model that counts its fits."""

    fits = 0

    def fit(self, X, y=None, groups=None):
        Counted.fits += 1
        return super().fit(X, y, groups)


def test_a_killed_run_is_resumed(folder):
    out = folder / "out"
    process = subprocess.run([sys.executable, "-c", KILLED, str(folder / "set"), str(out)], capture_output=True)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    (stored,) = out.glob("*.json")
    content = json.loads(stored.read_text())
    content["row"]["aupro"] = 0.125  # a mark that only the stored result has
    stored.write_text(json.dumps(content))
    first = make_pipeline(PatchFeatures(image_size=32), GaussianScorer(false_alarm_rate=None))
    detectors = {"first": first, "second": variation()}
    found = compare(detectors, {"set": folder / "set"}, out=out, n_draws=5)
    assert [row["aupro"] == 0.125 for row in found.rows] == [True, False]
    assert len(list(out.glob("*.json"))) == 2


def test_only_results_of_equal_settings_and_files_are_taken(folder):
    out, Counted.fits = folder / "out", 0

    def rows(sigma=1.0, n_draws=5):
        detector = Counted(Pixels(16), sigma=sigma, false_alarm_rate=None)
        return compare({"d": detector}, {"set": folder / "set"}, out=out, n_draws=n_draws).rows

    first = rows()
    assert (rows(), Counted.fits) == (first, 1)
    rows(sigma=2.0)
    rows(n_draws=6)
    assert (rows(), Counted.fits) == (first, 3)
    image = folder / "set/train/good/0.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(image)
    os.utime(image, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert rows()[0]["image_auroc"] <= 1
    assert Counted.fits == 4


def test_fingerprints_know_parameters_within_parameters(cloth, folder):
    data = load_mvtec(folder / "set")
    detectors = [
        FitOnNormal(make_pipeline(Pixels(16), GreedyCoreset(0.1), KNNScorer())),
        FitOnNormal(make_pipeline(Pixels(16), GreedyCoreset(0.2), KNNScorer())),
        FitOnNormal(make_pipeline(Pixels(8), GreedyCoreset(0.1), KNNScorer())),
    ]
    found = {fingerprint(detector, each, {}) for detector in detectors for each in (data, cloth)}
    assert len(found) == 6
    assert fingerprint(detectors[0], load_mvtec(folder / "set"), {}) == fingerprint(detectors[0], data, {})
    (folder / "set/ground_truth/hole/1.png").unlink()
    with pytest.warns(match="have no mask"):
        assert fingerprint(detectors[0], load_mvtec(folder / "set"), {}) not in found


def test_fingerprints_know_what_frozen_features_have_learnt_and_what_a_reference_holds(cloth):
    def frozen(side):
        return VariationModel(FrozenEstimator(Pixels(side).fit(cloth.X_train)))

    def against(images, labels):
        return MetricFeatures(reference=Reference(images, labels))

    images, labels = cloth.X_test[:4], [0, 0, 1, 1]
    detectors = (
        frozen(16),
        frozen(8),
        against(images, labels),
        against(images + 1, labels),
        against(images, [0, 1, 0, 1]),
    )
    assert len({fingerprint(detector, cloth, {}) for detector in detectors}) == 5
    assert fingerprint(frozen(16), cloth, {}) == fingerprint(detectors[0], cloth, {})
    assert fingerprint(against(images.copy(), labels), cloth, {}) == fingerprint(detectors[2], cloth, {})


def test_frozen_features_keep_their_memory(cloth, tmp_path):
    features = PretrainedPatchFeatures(weights="random", image_size=32, random_state=0).fit(cloth.X_train)
    for detector in (PatchCore(FrozenEstimator(features)), FitOnNormal(PatchCore(FrozenEstimator(features)))):
        with_memory(detector, cloth.X_train, tmp_path)
        assert features.memory is None


def test_differences_need_two_detectors(cloth):
    with pytest.raises(ValueError, match="at least two detectors"):
        ComparisonDisplay.from_comparison(
            compare({"a": variation()}, {"cloth": cloth}, n_draws=2), differences=True, ax=Figure().add_subplot()
        )


class CountingFeatures(PretrainedPatchFeatures):
    """Pretrained features that count the images passed through the network."""

    passed = 0

    def _compute(self, source, output, values):
        CountingFeatures.passed += len(source)
        super()._compute(source, output, values)


@pytest.mark.parametrize(("memory", "share"), [(None, 1), (False, 2)])
def test_each_image_passes_the_network_once_per_setting_of_the_features(cloth, memory, share):
    def features(size):
        return CountingFeatures("test_efficientnet", layers=("bn2",), weights="random", image_size=size, random_state=0)

    detectors = {
        f"{size} {n}": make_pipeline(features(size), KNNScorer(n_neighbors=n)) for size in (32, 48) for n in (1, 3)
    }
    CountingFeatures.passed = 0
    found = compare(detectors, {"cloth": cloth}, n_draws=2, memory=memory)
    assert CountingFeatures.passed == share * 2 * (12 + 16)
    assert len({row["image_auroc"] for row in found.rows}) > 1
    assert detectors["32 1"][0].memory is None


def test_default_features_are_cached(cloth, tmp_path):
    from skanomaly.evaluation._measure import with_memory

    for detector in (PatchCore(), FitOnNormal(PatchCore())):
        cached = with_memory(detector, cloth.X_train, tmp_path)
        inner = getattr(cached, "estimator", cached)
        assert inner.features.memory == tmp_path
        assert str(inner.features.set_params(memory=None)) == str(PatchCore().default_features(cloth.X_train))
    assert with_memory(variation(), cloth.X_train, tmp_path).get_params()["features__image_size"] == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detectors": {}}, "detectors={} is not accepted"),
        ({"datasets": []}, r"datasets=\[\] is not accepted"),
        ({"baseline": "b"}, "baseline='b' names others than the detectors, a."),
        ({"baseline": {"a": "b"}}, "names others than the detectors"),
        ({"n_draws": 0}, "n_draws=0 is not accepted"),
    ],
)
def test_bad_arguments_are_refused(cloth, changes, message):
    with pytest.raises(ValueError, match=message):
        compare(**{"detectors": {"a": variation()}, "datasets": {"cloth": cloth}} | changes)


def test_presets_are_valid_and_have_the_networks_of_the_papers():
    from skanomaly.cli import _PRESETS

    networks = {"wrn50": "wide_resnet50_2", "resnet18": "resnet18", "vgg16": "vgg16"}
    for name in _PRESETS:
        detector = preset(name)
        detector._validate_params()
        network = name.split("-", 1)[1]
        assert detector.features.backbone == networks.get(network, f"tf_{network.replace('-', '_')}")
        assert type(detector).__name__.lower().startswith(name.split("-")[0])
    paper = {"combine": "concatenated", "n_neighbors": 1, "image_score": "patch", "sigma": 4.0, "coreset_ratio": 0.1}
    assert paper.items() <= preset("patchcore-wrn50").get_params(deep=False).items()
    with pytest.raises(ValueError, match="name='wrn50' is not accepted; it must be one of patchcore-wrn50"):
        preset("wrn50")


# Tables and plots


def test_tables_mark_the_best_and_count_wins(comparison):
    text = comparison.report(metrics=["aupro", "rates"], intervals=False)
    lines = text.splitlines()
    header, first = lines[1].split(), lines[2].split()
    assert (lines[0], header, first[0]) == ("AU-PRO", ["a", "b", "c"], "cloth")
    values = [row["aupro"] for row in comparison.rows[:3]]
    for cell, value in zip(first[1:], values, strict=True):
        assert cell.startswith(f"{value:.3f}")
        assert ("*" in cell) == (value == max(values))
        assert ("+" in cell, "-" in cell) == (value > values[0], value < values[0])
    wins = next(line for line in lines if line.startswith("win / lose"))
    expected = "2 / 0" if values[1] > values[0] else "0 / 2"
    assert wins.split()[3:] == 2 * expected.split()
    rate = comparison.rows[1]
    assert f"{rate['tnr']:.3f} / {rate['tpr']:.3f}" in text


def test_markdown_and_intervals(comparison):
    rows = comparison.report(format="markdown", metrics=["image_auroc"], intervals=True).splitlines()
    assert rows[0] == "**image AUROC**"
    assert rows[3] == "| --- | ---: | ---: | ---: |"
    row = comparison.rows[0]
    assert f"{row['image_auroc']:.3f} [{row['image_auroc_low']:.3f}, {row['image_auroc_high']:.3f}]" in rows[4]


def test_csv_and_json_hold_all_figures(comparison):
    import csv
    import io

    rows = list(csv.DictReader(io.StringIO(comparison.report(format="csv"))))
    assert [float(row["aupro_high"]) for row in rows] == [row["aupro_high"] for row in comparison.rows]
    content = json.loads(comparison.report(format="json", metrics=["aupro"]))
    assert content["rows"][0]["aupro"] == comparison.rows[0]["aupro"]
    assert content["differences"] == comparison.differences("aupro")
    with pytest.raises(ValueError, match="metrics has nonsense; the known ones are image_auroc"):
        comparison.report(metrics=["nonsense"])
    with pytest.raises(ValueError, match="format='pdf' is not accepted; it must be one of text"):
        comparison.report(format="pdf")


@pytest.mark.parametrize("differences", [False, True])
def test_display(comparison, differences):
    ax = Figure().add_subplot()
    display = ComparisonDisplay.from_comparison(comparison, "aupro", differences=differences, ax=ax)
    assert display.ax_ is ax
    assert display.detectors == (["b", "c"] if differences else ["a", "b", "c"])
    expected = comparison.differences("aupro")[0]["difference"] if differences else comparison.rows[0]["aupro"]
    assert display.values[0, 0] == expected
    low, high = display.points_[0].lines[2][0].get_segments()[0][:, 0]
    assert (low, high) == pytest.approx(tuple(display.intervals[0, 0]))
    with pytest.raises(ValueError, match="metric='nonsense' is not one of those"):
        ComparisonDisplay.from_comparison(comparison, "nonsense")
