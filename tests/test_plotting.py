import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

from skanomaly import KNNScorer
from skanomaly.metrics import aupro
from skanomaly.plotting import AnomalyMapDisplay, PROCurveDisplay, ScoreDisplay, plot_overlay_sheet

SCORES = np.array([0.1, 0.25, 0.2, 0.8, 0.3, 1.1])
LABELS = np.array([1, 1, 1, -1, 1, -1])


@pytest.fixture
def ax():
    return Figure().add_subplot()


@pytest.fixture
def no_pyplot(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails


@pytest.fixture
def maps_and_masks(rng):
    masks = np.zeros((3, 12, 15), bool)
    masks[0, 2:5, 3:7] = masks[0, 9, 9:12] = masks[1, 6:11, 1:4] = True
    return np.round(rng.normal(size=masks.shape) + 1.2 * masks, 1), masks


@pytest.fixture
def image(rng):
    return rng.random((12, 15, 3))


def frozen(*arrays):
    """Return read-only copies, which a display must not try to write."""
    copies = [np.array(array) for array in arrays]
    for copy in copies:
        copy.flags.writeable = False
    return copies


def heights(bars):
    return np.array([bar.get_height() for bar in bars])


def edges(bars):
    return np.array([bar.get_x() for bar in bars])


def legend_texts(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


# Any display


def draw_scores(ax):
    return ScoreDisplay.from_predictions(*frozen(SCORES, LABELS), threshold=0.5, ax=ax)


def draw_pro(ax):
    mask = np.eye(6, dtype=bool)[None]
    return PROCurveDisplay.from_predictions(*frozen(mask, mask + 0.5), ax=ax)


def draw_map(ax):
    score_map, mask = frozen(np.eye(6), np.eye(6, dtype=bool))
    return AnomalyMapDisplay.from_predictions(*frozen(np.zeros((6, 6))), score_map, mask=mask, level=0.5, ax=ax)


every_display = pytest.mark.parametrize("draw", [draw_scores, draw_pro, draw_map])


@every_display
def test_given_axes_are_used_without_pyplot(draw, ax, no_pyplot):
    display = draw(ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert ax.has_data()


@every_display
def test_plot_returns_the_display_and_may_be_called_again(draw, ax):
    display, other = draw(ax), Figure().add_subplot()
    assert display.plot(ax=other) is display
    assert display.ax_ is other
    assert len(other.get_children()) == len(ax.get_children())


@every_display
def test_without_axes_a_pyplot_figure_is_made(draw):
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    before = plt.get_fignums()
    display = draw(None)
    try:
        assert display.figure_.number not in before
        assert plt.get_fignums() == [*before, display.figure_.number]
    finally:
        plt.close(display.figure_)


@every_display
def test_displays_can_be_rendered(draw, ax, tmp_path):
    draw(ax).figure_.savefig(tmp_path / "display.png", dpi=40)
    assert (tmp_path / "display.png").stat().st_size > 500


# ScoreDisplay


def test_score_display_holds_its_data(ax):
    display = ScoreDisplay.from_predictions(SCORES.tolist(), LABELS.tolist(), threshold=0.5, ax=ax)
    assert_array_equal(display.anomaly_score, SCORES)
    assert_array_equal(display.anomalous, LABELS == -1)
    assert display.threshold == 0.5
    assert set(display.threshold_line_.get_xdata()) == {0.5}
    assert legend_texts(display) == ["normal", "anomaly", "threshold"]


def test_both_kinds_share_the_bins(ax):
    display = ScoreDisplay.from_predictions(SCORES, LABELS, ax=ax, bins=4)
    normal, anomaly = display.bars_["normal"], display.bars_["anomaly"]
    assert_allclose(edges(normal), [0.1, 0.35, 0.6, 0.85])
    assert_array_equal(edges(anomaly), edges(normal))
    assert_array_equal(heights(normal), [4, 0, 0, 0])
    assert_array_equal(heights(anomaly), [0, 0, 1, 1])


def test_density_gives_each_kind_the_area_one(ax):
    display = ScoreDisplay.from_predictions(SCORES, LABELS, ax=ax, bins=4, density=True)
    assert [heights(bars).sum() * 0.25 for bars in display.bars_.values()] == pytest.approx([1, 1])
    assert ax.get_ylabel() == "density"


def test_labels_may_be_booleans_missing_or_of_one_kind(ax):
    booleans = ScoreDisplay.from_predictions(SCORES, LABELS == -1, ax=ax)
    assert_array_equal(booleans.anomalous, LABELS == -1)
    unlabelled = ScoreDisplay.from_predictions(SCORES, ax=Figure().add_subplot())
    assert (unlabelled.anomalous, unlabelled.threshold_line_) == (None, None)
    assert heights(unlabelled.bars_["all samples"]).sum() == len(SCORES)
    assert legend_texts(unlabelled) == ["all samples"]
    assert list(ScoreDisplay.from_predictions(SCORES, abs(LABELS), ax=ax).bars_) == ["normal"]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        (SCORES[:-1], LABELS, r"inconsistent numbers of samples: \[5, 6\]"),
        (SCORES[:, None], LABELS, r"anomaly_score must be 1-dimensional, got shape \(6, 1\)"),
        (SCORES * np.nan, LABELS, "anomaly_score contains NaN"),
        (SCORES, np.maximum(LABELS, 0), "y_true has the labels 0, 1"),
    ],
)
def test_score_display_refuses_what_does_not_fit(scores, labels, message, ax):
    with pytest.raises(ValueError, match=message):
        ScoreDisplay.from_predictions(scores, labels, ax=ax)


@pytest.mark.parametrize("estimator", [IsolationForest(random_state=0), OneClassSVM(nu=0.2)])
def test_samples_right_of_the_line_are_those_predicted_anomalous(estimator, rng, ax):
    X = rng.normal(size=(60, 2))
    y = np.where(np.arange(60) < 50, 1, -1)
    X[50:] += 4
    display = ScoreDisplay.from_estimator(estimator.fit(X[:40]), X, y, ax=ax)
    flagged = estimator.predict(X) == -1
    assert 10 <= flagged.sum() < 60
    assert isinstance(display.threshold, float)
    assert_array_equal(display.anomaly_score > display.threshold, flagged)
    assert_array_equal(display.anomalous, y == -1)


def test_a_hand_picked_threshold_takes_the_place_of_the_offset(rng, ax):
    estimator = KNNScorer().fit(rng.normal(size=(50, 2)))
    X = rng.normal(size=(20, 2))
    assert ScoreDisplay.from_estimator(estimator, X, ax=ax).threshold == -estimator.offset_
    display = ScoreDisplay.from_estimator(estimator, X, threshold=0.7, ax=ax)
    assert_array_equal(display.threshold_line_.get_xdata(), 0.7)
    assert ScoreDisplay.from_estimator(estimator, X, threshold=None, ax=ax).threshold_line_ is None


def test_logarithmic_axes_have_logarithmic_bins(ax):
    display = ScoreDisplay.from_predictions([1e-3, 5e-3, 5e-2, 1.0], ax=ax, bins=3, log_score=True, log_count=True)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert_allclose(edges(display.bars_["all samples"]), [1e-3, 1e-2, 1e-1])
    assert_array_equal(heights(display.bars_["all samples"]), [2, 1, 1])
    display.plot(ax=ax, bins=[0.001, 0.5, 2], log_score=True)
    assert_allclose(edges(display.bars_["all samples"]), [0.001, 0.5])
    with pytest.raises(ValueError, match="log_score=True needs positive scores, but the lowest is -1"):
        ScoreDisplay.from_predictions([-1.0, 2.0], ax=ax, log_score=True)


def test_score_display_of_an_estimator_without_threshold(ax):
    estimator = SimpleNamespace(score_samples=lambda X: -X)
    display = ScoreDisplay.from_estimator(estimator, SCORES, ax=ax, bins=3)
    assert_array_equal(display.anomaly_score, SCORES)
    assert (display.threshold, display.anomalous) == (None, None)
    assert len(display.bars_["all samples"]) == 3


# PROCurveDisplay


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
def test_pro_curve_ends_at_the_limit_and_has_the_area_aupro(maps_and_masks, max_fpr, ax):
    maps, masks = frozen(*maps_and_masks)
    display = PROCurveDisplay.from_predictions(masks, maps, max_fpr=max_fpr, ax=ax)
    assert display.aupro == aupro(masks, maps, max_fpr=max_fpr)
    assert (display.fpr[0], display.pro[0], display.fpr[-1]) == (0, 0, max_fpr)
    assert (np.diff(display.fpr) >= 0).all()
    assert (np.diff(display.pro) >= 0).all()
    assert np.trapezoid(display.pro, display.fpr) / max_fpr == pytest.approx(display.aupro)
    assert_array_equal(display.line_.get_xydata(), np.column_stack([display.fpr, display.pro]))
    assert ax.get_xlim() == (0, max_fpr)


def test_pro_curve_by_hand(ax):
    mask = np.array([[[1, 0, 1, 1, 0, 0, 0]]])  # regions of 1 and 2 pixels
    score_map = np.array([[[5.0, 4, 6, 3, 2, np.nan, 1]]])
    display = PROCurveDisplay.from_predictions(mask, score_map, max_fpr=0.5, ax=ax)
    assert_allclose(display.fpr, [0, 0, 0, 1 / 3, 1 / 3, 0.5])
    assert_allclose(display.pro, [0, 1 / 4, 3 / 4, 3 / 4, 1, 1])


def test_pro_curve_is_interpolated_at_the_limit(ax):
    mask = np.array([[[1, 0, 0]]])
    display = PROCurveDisplay.from_predictions(mask, np.zeros(mask.shape), ax=ax)  # one tie: the diagonal
    assert_allclose([display.fpr, display.pro], [[0, 0.3], [0, 0.3]])


def test_pro_curves_of_several_displays_share_axes(maps_and_masks, ax):
    maps, masks = maps_and_masks
    first = PROCurveDisplay.from_predictions(masks, maps, name="first", ax=ax)
    PROCurveDisplay.from_predictions(masks, -maps, max_fpr=0.5, ax=ax, color="red", linestyle=":")
    PROCurveDisplay(first.fpr, first.pro, name="third").plot(ax=ax)
    display = PROCurveDisplay(first.fpr, first.pro).plot(ax=ax)
    reversed_area = aupro(masks, -maps, max_fpr=0.5)
    assert legend_texts(display) == [f"first (AU-PRO = {first.aupro:.3f})", f"AU-PRO = {reversed_area:.3f}", "third"]
    assert ax.lines[1].get_color() == "red"
    assert ax.get_xlim() == (0, 0.5)


def test_pro_curve_of_an_estimator(maps_and_masks, ax):
    maps, masks = maps_and_masks
    images = np.zeros(masks.shape)

    class Detector:
        def iter_anomaly_maps(self, X, size=None):
            assert X is images
            return iter(maps)

    display = PROCurveDisplay.from_estimator(Detector(), images, masks, max_fpr=0.2, ax=ax)
    assert display.aupro == pytest.approx(aupro(masks, maps, max_fpr=0.2), abs=1e-12)
    assert display.name == "Detector"
    assert PROCurveDisplay.from_estimator(Detector(), images, masks, name="mine", ax=ax).name == "mine"
    with pytest.raises(TypeError, match="IsolationForest has no anomaly maps"):
        PROCurveDisplay.from_estimator(IsolationForest(), images, masks, ax=ax)


def test_pro_curve_refuses_what_does_not_fit(maps_and_masks, ax):
    maps, masks = maps_and_masks
    with pytest.raises(ValueError, match="masks has 2 images, but anomaly_maps has 3"):
        PROCurveDisplay.from_predictions(masks[:2], maps, ax=ax)
    with pytest.raises(ValueError, match=r"image 0: the mask has shape \(12, 15\), but the map has shape \(12, 14\)"):
        PROCurveDisplay.from_predictions(masks, maps[:, :, 1:], ax=ax)
    with pytest.raises(ValueError, match="masks mark 0 of 180 pixels"):
        PROCurveDisplay.from_predictions(masks[2:], maps[2:], ax=ax)
    with pytest.raises(ValueError, match="max_fpr=0 is not accepted"):
        PROCurveDisplay.from_predictions(masks, maps, max_fpr=0, ax=ax)
    assert not ax.has_data()


# AnomalyMapDisplay and the sheet


def contours(ax):
    return [artist for artist in ax.collections if artist.get_paths()[0].vertices.size]


def test_map_display_holds_its_data(image, maps_and_masks, ax):
    image, score_map, mask = frozen(image, maps_and_masks[0][0], maps_and_masks[1][0])
    display = AnomalyMapDisplay.from_predictions(image, score_map, mask=mask, level=1.0, ax=ax, vmin=-1, vmax=2)
    assert_allclose(display.image, image, atol=1e-6)
    assert_array_equal(display.anomaly_map, score_map)
    assert_array_equal(display.mask, mask)
    assert display.level == 1.0
    assert_array_equal(display.im_.get_array(), score_map)
    assert display.im_.get_clim() == (-1, 2)
    assert len(contours(ax)) == 2


def test_map_display_leaves_out_outlines_that_enclose_nothing(image, ax):
    score_map = np.linspace(0, 1, 180).reshape(12, 15)
    AnomalyMapDisplay.from_predictions(image, score_map, mask=np.zeros((12, 15)), level=1.5, ax=ax)
    AnomalyMapDisplay.from_predictions(image, score_map, ax=ax)
    assert contours(ax) == []


def test_map_display_takes_gray_images_and_unseen_pixels(ax):
    score_map = np.full((6, 6), np.nan)
    score_map[1:5, 1:5] = np.arange(16).reshape(4, 4)
    display = AnomalyMapDisplay.from_predictions(np.full((6, 6), 128, np.uint8), score_map, level=9.5, ax=ax)
    assert display.image.shape == (6, 6, 1)
    assert display.im_.get_clim() == (0, 15)
    assert len(contours(ax)) == 1
    ax.figure.canvas.draw()


def test_map_display_of_an_estimator(image, maps_and_masks, ax):
    maps, masks = maps_and_masks
    detector = SimpleNamespace(iter_anomaly_maps=lambda X, size=None: iter(maps[: len(X)]), pixel_threshold_=1.0)
    display = AnomalyMapDisplay.from_estimator(detector, image, mask=masks[0], ax=ax, cmap="gray")
    assert_array_equal(display.anomaly_map, maps[0])
    assert_array_equal(display.mask, masks[0])
    assert display.level == 1.0
    assert display.im_.get_cmap().name == "gray"


def test_map_display_refuses_a_map_of_another_size(image, ax):
    with pytest.raises(ValueError, match=r"anomaly_map has shape \(15, 12\), but the image has shape \(12, 15\)"):
        AnomalyMapDisplay.from_predictions(image, np.zeros((15, 12)), ax=ax)


def test_overlay_sheet_has_one_colour_range(rng, maps_and_masks, no_pyplot):
    maps, masks, images = frozen(*maps_and_masks, rng.random((3, 12, 15)))
    figure = plot_overlay_sheet(images, maps, masks=masks, titles=["a", "b", "c"], n_columns=2)
    axes = np.reshape(figure.axes, (4, 2))
    tops, bottoms = axes[::2].ravel(), axes[1::2].ravel()
    assert [ax.get_title() for ax in tops] == ["a", "b", "c", ""]
    for i in range(3):
        assert_allclose(tops[i].images[0].get_array(), images[i], atol=1e-6)
        assert_array_equal(bottoms[i].images[-1].get_array(), maps[i])
        assert bottoms[i].images[-1].get_clim() == (maps.min(), maps.max())
    assert [len(contours(ax)) for ax in bottoms] == [1, 1, 0, 0]  # the third mask is empty, the last axes too
    assert not tops[3].has_data()


def test_overlay_sheet_never_saturates_below_the_level(image):
    maps = np.arange(10.0)[:, None, None] + np.zeros((10, 12, 15))
    maps[-1, 0, 0] = 1000  # one peak takes no part in the range
    figure = plot_overlay_sheet([image] * 10, maps, level=3.5, n_columns=5)
    assert figure.axes[5].images[-1].get_clim() == pytest.approx((0, np.quantile([*range(9), 1000], 0.9)))
    figure = plot_overlay_sheet([image] * 10, maps, level=500, n_columns=5)
    assert figure.axes[5].images[-1].get_clim() == (0, 500)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"mask has shape \(5, 5\), but the image has shape \(8, 8\)"):
        AnomalyMapDisplay.from_predictions(np.zeros((8, 8)), np.zeros((8, 8)), mask=np.ones((5, 5)))
