import pickle

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from skanomaly import ConformalDetector, KNNScorer, PretrainedPatchFeatures, SubspaceScorer, anomaly_map, load, save
from skanomaly.datasets import make_surfaces
from skanomaly.exceptions import CalibrationWarning
from skanomaly.metrics import pixel_auroc

OF_PCA = ("mean_", "components_", "explained_variance_", "explained_variance_ratio_", "n_components_")


def plain(n_components=0.99, **parameters):
    return SubspaceScorer(n_components, false_alarm_rate=None, **parameters)


def near_a_plane(rng, n, d=6):
    """Return rows near a plane in d dimensions, far from the origin."""
    axes = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))[0]
    return (rng.normal(size=(n, d)) * np.array([9, 3, *[0.1] * (d - 2)])) @ axes + 50


@pytest.mark.parametrize("n_components", [1, 3, 0.5, 0.99, 0.9999])
def test_rows_equal_sklearns_pca(rng, n_components):
    X, new = near_a_plane(rng, 80), rng.normal(size=(7, 6)) + 50
    pca, scorer = PCA(n_components, svd_solver="full").fit(X), plain(n_components).fit(X)
    residuals = np.square(new - pca.inverse_transform(pca.transform(new))).sum(axis=1)
    np.testing.assert_allclose(-scorer.score_samples(new), residuals, rtol=1e-9)
    for name in OF_PCA:
        np.testing.assert_allclose(getattr(scorer, name), getattr(pca, name), rtol=1e-8, atol=1e-9, err_msg=name)


def test_score_by_hand():
    """The line through (1, 2): (2, -1) is at right angles to it, at the squared distance 5."""
    scorer = plain(1).fit([[-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(scorer.components_, [[1 / np.sqrt(5), 2 / np.sqrt(5)]])
    np.testing.assert_allclose(scorer.score_samples([[2.0, -1.0], [30.0, 60.0]]), [-5, 0], atol=1e-12)


def test_grids_are_pooled_over_positions(rng):
    X, new = near_a_plane(rng, 48).reshape(8, 2, 3, 6), near_a_plane(rng, 30).reshape(5, 2, 3, 6) + rng.normal(size=6)
    scorer, rows = plain(2).fit(X), plain(2).fit(X.reshape(-1, 6))
    residuals = -rows.score_samples(new.reshape(-1, 6)).reshape(5, 2, 3)
    np.testing.assert_allclose(scorer.anomaly_map(new), residuals, rtol=1e-6)
    np.testing.assert_array_equal(scorer.score_samples(new), -residuals.max(axis=(1, 2)))
    np.testing.assert_allclose(scorer.anomaly_map(new[:, :1, :2]), residuals[:, :1, :2], rtol=1e-6)


@pytest.mark.parametrize(
    ("image_score", "scores"),
    [
        ("max", [100, 16]),
        ("mean", [20, 16]),
        (0.01, [100, 16]),
        (0.4, [58, 16]),
        (0.5, [119 / 3, 16]),
        (0.99, [20, 16]),
    ],
)
def test_image_scores_by_hand(image_score, scores):
    """Cells beside a line have the scores 0, 1, 3, 16, 100 and 0, or six times 16; 0.4 of six cells are two."""
    line = np.zeros((2, 2, 3, 2))
    line[..., 0] = [[[-1], [1]]]
    new = np.zeros((2, 2, 3, 2))
    new[0, ..., 1] = [[0, 1, -np.sqrt(3)], [10, -4, 0]]
    new[1, ..., 1] = 4
    scorer = plain(1, image_score=image_score).fit(line)
    np.testing.assert_allclose(-scorer.score_samples(new), scores, atol=1e-12)
    np.testing.assert_allclose(scorer.anomaly_map(new)[0], [[0, 1, 3], [100, 16, 0]], rtol=1e-6)
    np.testing.assert_allclose(-scorer.score_samples(new[:, 1, 1]), [16, 16])


@pytest.mark.parametrize("image_score", ["mean", 0.3])
def test_image_scores_of_left_out_images(rng, image_score):
    X = near_a_plane(rng, 12 * 6).reshape(12, 2, 3, 6)
    scorer = SubspaceScorer(2, image_score=image_score, calibration="loo", false_alarm_rate=0.2).fit(X)
    refitted = [
        -plain(2, image_score=image_score).fit(np.delete(X, i, axis=0)).score_samples(X[[i]]) for i in range(12)
    ]
    np.testing.assert_allclose(scorer.calibration_scores_, np.concatenate(refitted), rtol=1e-7)
    assert (scorer.calibration_scores_ < scorer.calibration_peaks_).all()


@pytest.mark.parametrize("image_score", [0.0, 1.0, 1, "median", "contrast"])
def test_bad_image_scores(image_score, rng):
    with pytest.raises(ValueError, match="'image_score' parameter"):
        plain(image_score=image_score).fit(rng.normal(size=(9, 3)))


def test_small_residuals_of_rows_far_away_are_accurate():
    """A row 1e8 along the component and 1e-3 beside it: what is subtracted must not swallow the residual."""
    scorer = plain(1).fit([[-1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(scorer.score_samples([[1e8, 1e-3]]), [-1e-6], rtol=1e-6)


def test_partial_fit_and_merge_equal_one_fit(rng):
    X, new = near_a_plane(rng, 60), rng.normal(size=(5, 6))
    whole = plain().fit(X)
    parts = plain().partial_fit(X[:1]).partial_fit(X[1:40]).partial_fit(X[40:])
    other = plain().fit(X[30:])
    merged = plain().fit(X[:30]).merge(other)
    for scorer in (parts, merged, pickle.loads(pickle.dumps(merged))):
        np.testing.assert_allclose(scorer.score_samples(new), whole.score_samples(new), rtol=1e-9)
        np.testing.assert_allclose(scorer.components_, whole.components_, atol=1e-9)
        assert scorer.n_samples_seen_ == 60
        with pytest.raises(AttributeError, match="calibrate"):
            scorer.predict(new)
    np.testing.assert_allclose(other.score_samples(new), plain().fit(X[30:]).score_samples(new), rtol=0)
    with pytest.raises(ValueError, match="other was fitted on 3 features, but this SubspaceScorer on 6"):
        merged.merge(plain().fit(X[:, :3]))
    with pytest.raises(TypeError, match="other is of type KNNScorer"):
        merged.merge(KNNScorer().fit(X))


def test_files_hold_the_scatter_only(rng, tmp_path):
    scorer = plain().fit(near_a_plane(rng, 40))
    save(scorer, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops")
    assert "_axes" not in vars(loaded)
    np.testing.assert_array_equal(loaded.components_, scorer.components_)


@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_leaving_groups_out_is_refitting(rng, shape):
    X = near_a_plane(rng, 24 * max(1, np.prod(shape, dtype=int))).reshape(24, *shape, 6)
    groups = rng.permutation(np.repeat(np.arange(9), [1, 1, 1, 2, 2, 3, 4, 5, 5]))
    for given in (groups, None):
        scorer = SubspaceScorer(2, calibration="loo", false_alarm_rate=0.2).fit(X, groups=given)
        own = np.arange(24) if given is None else given
        for group in np.unique(own):
            refitted = -plain(2).fit(X[own != group]).score_samples(X[own == group])
            np.testing.assert_allclose(scorer.calibration_scores_[own == group], refitted, rtol=1e-7)


def test_an_outlier_that_is_left_out_takes_no_digits_along(rng):
    X = near_a_plane(rng, 30)
    X[5] += [1e9, 0, 0, 0, 0, 0]
    scorer = SubspaceScorer(2, calibration="loo", false_alarm_rate=0.2).fit(X)
    refitted = -plain(2).fit(np.delete(X, 5, axis=0)).score_samples(X[5:6])
    np.testing.assert_allclose(scorer.calibration_scores_[5:6], refitted, rtol=1e-9)


@pytest.mark.parametrize("calibration", ["loo", "cv", "split"])
def test_false_alarms_are_as_promised(calibration):
    """Mean over 20 draws; the tolerance is 4 standard errors of a beta-binomial mean."""
    rng, rates = np.random.default_rng(0), []
    n = 20 if calibration == "split" else 100
    for seed in range(20):
        X = near_a_plane(rng, 300)
        scorer = SubspaceScorer(false_alarm_rate=0.2, calibration=calibration, random_state=seed).fit(X[:100])
        rates.append((scorer.predict(X[100:]) == -1).mean())
    expected = 1 - np.ceil((n + 1) * 0.8) / (n + 1)
    assert abs(np.mean(rates) - expected) < 4 * np.sqrt(0.16 / (n + 2) + 0.16 / 200) / np.sqrt(20)


@pytest.mark.parametrize(("n_components", "shape", "kept"), [(9, (40, 3), 2), (0.99, (40, 1), 0), (7, (4, 9), 3)])
def test_components_leave_a_residual_and_have_variance(rng, n_components, shape, kept):
    """No more than d - 1, and none that the n - 1 deviations do not span."""
    scorer = plain(n_components).fit(rng.normal(size=shape))
    assert scorer.n_components_ == len(scorer.components_) == kept
    assert (scorer.score_samples(rng.normal(size=shape)) < 0).all()


def test_equal_rows_have_no_components():
    scorer = plain().fit(np.ones((5, 3)))
    assert scorer.components_.shape == (0, 3)
    assert scorer.explained_variance_ratio_.shape == (0,)
    np.testing.assert_array_equal(scorer.score_samples([[1.0, 1.0, 1.0], [1.0, 3.0, 1.0]]), [0, -4])


def test_bits_do_not_depend_on_the_batch(rng):
    X = near_a_plane(rng, 203, d=37)
    scorer = plain(5).fit(X)
    scores = scorer.score_samples(X)
    np.testing.assert_array_equal(scorer.score_samples(X[::-1]), scores[::-1])
    np.testing.assert_array_equal(np.concatenate([scorer.score_samples(X[i : i + 1]) for i in range(9)]), scores[:9])


@pytest.mark.parametrize("n_components", [0, 0.0, 1.0, -0.5, "mle"])
def test_bad_numbers_of_components(n_components, rng):
    with pytest.raises(ValueError, match="'n_components' parameter"):
        plain(n_components).fit(rng.normal(size=(9, 3)))


def test_unfitted_has_no_components():
    for name in OF_PCA:
        assert not hasattr(SubspaceScorer(), name)


@pytest.mark.weights
@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
def test_trained_weights_find_defects_and_an_untrained_network_does_not():
    """The pipeline makes maps by itself, and has labels within ConformalDetector."""
    data, auroc = make_surfaces("grid", n_train=8, n_good=4, n_anomalous=8, size=128, random_state=0), {}
    for weights in (None, "random"):
        features = PretrainedPatchFeatures(layers=(1, 2), image_size=128, weights=weights, random_state=0)
        pipeline = make_pipeline(features, SubspaceScorer(false_alarm_rate=None)).fit(data.X_train)
        auroc[weights] = pixel_auroc(data.masks_test, anomaly_map(pipeline, data.X_test))
    assert auroc[None] > 0.95
    assert auroc["random"] < auroc[None] - 0.1
    pipeline.set_params(pretrainedpatchfeatures__weights=None)
    detector = ConformalDetector(pipeline, calibration="cv", false_alarm_rate=0.2, random_state=0).fit(data.X_train)
    assert (detector.predict(data.X_test)[data.y_test == -1] == -1).mean() > 0.5


def test_contributions_are_the_squared_residual(rng):
    X, new = near_a_plane(rng, 80), rng.normal(size=(7, 6)) + 50
    pca, scorer = PCA(2).fit(X), plain(2).fit(X)
    found = scorer.contributions(new)
    np.testing.assert_allclose(found, (new - pca.inverse_transform(pca.transform(new))) ** 2, rtol=1e-8)
    np.testing.assert_allclose(found.sum(axis=1), -scorer.score_samples(new), rtol=1e-9)


def test_few_rows_warn(rng):
    with pytest.warns(CalibrationWarning):
        SubspaceScorer().fit(near_a_plane(rng, 12))
