"""One colour scale for all maps of a model, in displays and overlays; coverage of coresets; recipes of the docs."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay, average_precision_score
from sklearn.pipeline import make_pipeline

from skanomaly import (
    Autoencoder,
    FitOnNormal,
    GreedyCoreset,
    KNNScorer,
    PatchCore,
    PatchFeatures,
    Pixels,
    anomaly_map,
    plotting,
)
from skanomaly._kernels.evidence import evidence, pooled_max, span_of, values_of
from skanomaly.datasets._folders import Mask
from skanomaly.evaluation._rows import COLUMNS
from skanomaly.maps import scale_of_maps
from skanomaly.metrics import aupro, image_auroc
from skanomaly.plotting import (
    AnomalyMapDisplay,
    AnomalyMapsDisplay,
    CoresetCoverageDisplay,
    PROCurveDisplay,
    ReconstructionDisplay,
    SSIMDisplay,
)
from skanomaly.thresholds import Region

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")


@pytest.fixture(autouse=True)
def no_window(monkeypatch):
    matplotlib.use("agg")


def test_evidence_by_hand():
    assert_allclose(evidence(np.array([0, 1, 2, 6, np.inf]), 2.0, 2.0), [0, 1 / 3, 1 / 2, 3 / 4, 1])
    assert_allclose(evidence(np.array([-9.0, -5.0, -3.0, -1.0]), -3.0, 4.0), [0, 1 / 3, 1 / 2, 3 / 5])
    assert np.isnan(evidence(np.array([np.nan]), 1.0, 1.0))
    shares = np.array([0, 0.2, 0.5, 0.9])
    assert_allclose(evidence(values_of(shares, -3.0, 4.0), -3.0, 4.0), shares)


def test_span_of_models_whose_threshold_is_not_positive():
    assert [span_of(t, np.array(peaks)) for t, peaks in ((2, [1, 9]), (-2, [-7, -3]), (-2, [-2]), (0, [0]))] == [
        2.0,
        4.0,
        2.0,
        1.0,
    ]


@pytest.mark.parametrize("shape", [(7, 5), (97, 40), (96, 96), (250, 30), (1, 1)])
def test_pooling_keeps_every_peak(shape, rng):
    score_map = rng.normal(size=shape)
    score_map[rng.random(shape) < 0.1] = np.nan
    small = pooled_max(score_map, 96)
    assert max(small.shape) <= 96
    assert (max(shape) > 96) == (small.shape != shape)
    assert small.max() == np.nanmax(score_map)
    counted = np.sort(small[np.isfinite(small)])
    assert set(counted) <= set(score_map[np.isfinite(score_map)])


def drawn(display, value):
    """Return the colour of a value on a display, without its opacity."""
    return display.im_.get_cmap()(display.im_.norm(value))[:3]


def test_the_same_value_has_the_same_colour_on_every_image():
    low, high = np.full((6, 6), 0.5), np.linspace(0, 30, 36).reshape(6, 6)
    options = {"level": 2.0, "span": 2.0}
    displays = [
        AnomalyMapDisplay.from_predictions(np.zeros((6, 6)), score_map, ax=Figure().add_subplot(), **options)
        for score_map in (low, high)
    ]
    inferno = matplotlib.colormaps["inferno"]
    for value in (0.0, 1.0, 2.0, 6.0):
        colours = [drawn(display, value) for display in displays]
        assert colours[0] == colours[1]
        assert_allclose(colours[0], inferno(value / (value + 2))[:3], atol=0.02)
    assert drawn(displays[0], 18.0) == drawn(displays[0], 1000.0)
    alpha = displays[1].im_.get_alpha()
    assert alpha[high < 1].max() == 0
    assert_allclose(alpha[high > 5], 0.55)


def test_the_mask_of_the_detector_is_outlined_in_place_of_the_level():
    score_map = np.zeros((8, 8))
    score_map[1, 1], score_map[4:7, 4:7] = 3, 3  # the single pixel is too small for the mask
    mask = score_map > 1
    mask[1, 1] = False
    ax, other = Figure().add_subplot(), Figure().add_subplot()
    display = AnomalyMapDisplay.from_predictions(mask * 1.0, score_map, level=1.0, predicted_mask=mask, ax=ax)
    AnomalyMapDisplay.from_predictions(mask * 1.0, score_map, level=1.0, ax=other)
    (outline,), (both,) = ax.collections, other.collections
    assert outline.get_paths()[0].vertices.min() > 3
    assert both.get_paths()[0].vertices.min() < 2
    display.plot(ax=ax, colorbar=True)
    assert len(ax.figure.axes) == 2
    with pytest.raises(ValueError, match=r"predicted_mask has shape \(2, 2\)"):
        AnomalyMapDisplay.from_predictions(mask * 1.0, score_map, predicted_mask=np.eye(2), ax=ax)
    with pytest.raises(ValueError, match="span=2 is given without a level"):
        AnomalyMapDisplay.from_predictions(mask * 1.0, score_map, span=2, ax=ax)


def test_colour_bars_name_the_threshold():
    score_map = np.linspace(0, 10, 36).reshape(6, 6)
    display = AnomalyMapDisplay.from_predictions(np.zeros((6, 6)), score_map, level=2.0, span=2.0, colorbar=True)
    bar = display.figure_.axes[1]
    assert [text.get_text() for text in bar.get_yticklabels()] == ["0", "1", "2 threshold", "4", "8"]
    display.figure_.canvas.draw()


def test_several_maps_of_a_detector_and_of_a_pipeline(small_features, cloth):
    detector = PatchCore(small_features, false_alarm_rate=0.2, random_state=0).fit(cloth.X_train)
    X = [cloth.X_test[0], cloth.X_test[8][:50], cloth.X_test[9]]
    display = AnomalyMapsDisplay.from_estimator(detector, X, titles=["a", "b", "c"], n_columns=2)
    assert display.axes_.shape == (2, 2)
    assert [ax.get_title() for ax in display.axes_.flat] == ["a", "b", "c", ""]
    level = detector.pixel_threshold_
    assert scale_of_maps(detector) == {"level": level, "span": level}
    for shown, score_map in zip(display.displays, detector.anomaly_map(X), strict=True):
        assert_array_equal(shown.anomaly_map, score_map)
        assert (shown.level, shown.span) == (level, level)
    assert len(display.figure_.axes) == 5  # one colour bar
    pipeline = make_pipeline(small_features, GreedyCoreset(0.1, random_state=0), KNNScorer()).fit(cloth.X_train)
    axes = Figure().subplots(1, 3)
    display = AnomalyMapsDisplay.from_estimator(pipeline, cloth.X_test[:3], axes=axes)
    maps = anomaly_map(pipeline, cloth.X_test[:3])
    assert {ax.images[-1].get_clim() for ax in axes} == {(maps.min(), maps.max())}
    single = AnomalyMapDisplay.from_estimator(pipeline, cloth.X_test[1], ax=Figure().add_subplot())
    assert_array_equal(single.anomaly_map, maps[1])


def test_several_maps_refuse_what_does_not_fit():
    images = np.zeros((2, 4, 4))
    with pytest.raises(ValueError, match=r"The numbers of images \(2\) and anomaly_maps \(2\) and titles \(1\) differ"):
        AnomalyMapsDisplay.from_predictions(images, images, titles=["a"])
    with pytest.raises(ValueError, match=r"anomaly_map has shape \(3, 4\), but the image has shape \(4, 4\)"):
        AnomalyMapsDisplay.from_predictions(images, images[:, 1:])
    with pytest.raises(ValueError, match="axes has 1 axes; it must have at least one for each of the 2 images"):
        AnomalyMapsDisplay.from_predictions(images, images, axes=Figure().subplots(1, 1, squeeze=False))


def test_coverage_ends_at_the_radius(rng):
    X = rng.normal(size=(5, 4, 4, 3)).astype(np.float32)
    coreset = GreedyCoreset(n_samples=9, random_state=0).fit(X)
    display = CoresetCoverageDisplay.from_estimator(coreset, X, name="bank", ax=Figure().add_subplot())
    rows = X.reshape(-1, 3)
    nearest = np.linalg.norm(rows[:, None] - rows[coreset.indices_], axis=2).min(axis=1)
    assert_allclose(display.distances, np.sort(nearest), atol=1e-6)
    assert display.distances[-1] == pytest.approx(coreset.coverage_radius_, rel=1e-5)
    assert display.line_.get_label() == "bank (9 of 80 kept)"
    assert_allclose(display.line_.get_ydata(), np.arange(1, 81) / 80)
    with pytest.raises(ValueError, match="X has 64 patches, but the coreset was selected from 80"):
        CoresetCoverageDisplay.from_estimator(coreset, X[:4])


def test_curves_of_scikit_learn(rng):
    """The recipe of docs/report.md: anomalies are the positive class, and scores are turned round."""
    y, scores = np.repeat([1, -1], [40, 10]), rng.normal(size=50)
    scores[40:] -= 1  # of normality, as score_samples returns them
    roc = RocCurveDisplay.from_predictions(y, -scores, pos_label=-1)
    assert roc.roc_auc == pytest.approx(image_auroc(y, -scores))
    curve = PrecisionRecallDisplay.from_predictions(y, -scores, pos_label=-1)
    assert curve.average_precision == pytest.approx(average_precision_score(y == -1, -scores))


@pytest.mark.weights
def test_the_examples_of_the_page_on_reports_run(cloth, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, images in (("parts/good", cloth.X_train), ("new", cloth.X_test[[0, 8]])):
        (tmp_path / name).mkdir(parents=True)
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{i}.png")
    names = {}
    text = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(compile(block, "report.md", "exec"), names)
    assert (tmp_path / "report.html").exists()
    assert list(names["shares"].columns) == list(names["table"].columns)
    assert_allclose(names["shares"].sum(axis=1), -names["scorer"].score_samples(names["table"]))
    columns = {column for line in re.findall(r"^\| (`.*?) \|", text, re.M) for column in re.findall(r"`(\w+)`", line)}
    assert set(COLUMNS) <= columns
    assert set(Region._fields) <= columns
    assert set(plotting.__all__) <= columns


def test_images_are_shown_as_the_detector_sees_them(rng):
    """In its range of values and order of channels, in every display."""
    images = rng.integers(1000, 3000, (20, 20, 20)).astype(np.uint16)
    detector = Autoencoder(Pixels(16, data_range=4095), max_epochs=1, false_alarm_rate=None, random_state=0).fit(images)
    seen = images[0][..., None] / 4095
    pipeline = make_pipeline(PatchFeatures(4, data_range=4095), KNNScorer()).fit(images)
    for shown in (
        AnomalyMapDisplay.from_estimator(detector, images[0], ax=Figure().add_subplot()).image,
        AnomalyMapDisplay.from_estimator(FitOnNormal(detector).fit(images), images[0], ax=Figure().add_subplot()).image,
        AnomalyMapsDisplay.from_estimator(pipeline, images[:1], axes=Figure().subplots(1, 1, squeeze=False))
        .displays[0]
        .image,
        ReconstructionDisplay.from_estimator(detector, images[:1]).images[0],
        SSIMDisplay.from_estimator(detector, images[:1]).images[0],
    ):
        np.testing.assert_allclose(shown, seen, atol=1e-6)


def test_the_curve_leaves_out_unknown_masks(rng):
    maps = list(rng.random((3, 8, 8)))
    maps[2] += np.eye(8)
    known = [np.zeros((8, 8)), np.eye(8)]
    display = PROCurveDisplay.from_predictions(
        [known[0], Mask(-1, "unknown.png"), known[1]], maps, ax=Figure().add_subplot()
    )
    assert display.aupro == aupro(known, [maps[0], maps[2]])
