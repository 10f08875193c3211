import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from skanomaly import Autoencoder, Columns, PatchFeatures, Pixels, PretrainedPatchFeatures, load, save
from skanomaly._torch.ssim import ssim_map
from skanomaly.datasets import load_creditcard
from skanomaly.exceptions import CalibrationWarning
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.networks import DenseNetwork, FeatureLoss, PooledNetwork, SSIMLoss, StridedNetwork, Training
from skanomaly.testing import parametrize_with_image_checks

FAST = Training(lr=3e-3, batch_size=4)
SMALL = {"features": Pixels(16), "training": FAST, "max_epochs": 3, "random_state": 0}


def dense(*hidden, training=None, activation="relu", **options):
    """Return an autoencoder of rows with layers of some widths."""
    network = DenseNetwork(hidden, activation=activation)
    return Autoencoder(network=network, training=Training(**training or {}), **options)


@pytest.fixture(scope="module")
def plane():
    """Rows near a curved surface, and rows with the same columns, each shuffled by itself."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 2))
    X = np.column_stack([z, z[:, 0] + z[:, 1], z[:, 0] * z[:, 1], np.tanh(z[:, 0])]) * [1, 10, 100, 1, 0.1] + 5
    X += 0.05 * X.std(axis=0) * rng.normal(size=X.shape)
    return X[:1000], X[1000:], rng.permuted(X[1000:], axis=0)


def auroc(detector, normal, anomalous):
    y = np.repeat([1, -1], [len(normal), len(anomalous)])
    return image_auroc(y == -1, -detector.score_samples(np.concatenate([normal, anomalous])))


# Rows


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@parametrize_with_checks(
    [
        Autoencoder(network=DenseNetwork((4, 2)), max_epochs=2, residual="mahalanobis"),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_a_linear_network_reaches_pca(rng):
    X = rng.normal(size=(1500, 8)) @ rng.normal(size=(8, 8))
    training = {"lr": 1e-2, "batch_size": 100, "validation_share": 0, "patience": None}
    detector = dense(3, activation="linear", training=training, noise=0, max_epochs=150, random_state=0)
    detector.set_params(false_alarm_rate=None).fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    pca = PCA(3).fit(Z)
    least = ((Z - pca.inverse_transform(pca.transform(Z))) ** 2).mean()
    error = -detector.score_samples(X).mean()
    assert least <= error < 1.03 * least
    by_hand = ((X - detector.reconstruct(X)) / X.std(axis=0)) ** 2
    assert_allclose(detector.score_samples(X), -by_hand.mean(axis=1), rtol=1e-9)


def test_anomalies_are_found_and_an_untrained_network_finds_fewer(plane):
    train, normal, shuffled = plane
    detector = dense(32, 2, training={"lr": 5e-3}, noise=0.1, max_epochs=60, random_state=0).fit(train)
    assert auroc(detector, normal, shuffled) > 0.9
    assert detector.score_samples(shuffled).mean() < detector.score_samples(normal).mean()
    untrained = clone(detector).set_params(max_epochs=0).fit(train)
    assert auroc(untrained, normal, shuffled) < 0.8
    misled = clone(detector).fit(np.random.default_rng(1).permuted(train, axis=0))
    assert auroc(misled, normal, shuffled) < 0.8


def test_default_settings_find_anomalies(plane):
    train, normal, shuffled = plane
    detector = Autoencoder(max_epochs=30, random_state=0).fit(train)
    assert auroc(detector, normal, shuffled) > 0.85
    assert (detector.predict(normal) == 1).mean() > 0.85


@pytest.mark.parametrize("residual", ["mse", "standardized", "mahalanobis"])
def test_scores_by_hand(plane, residual):
    """The definition, with m and S of the held-out rows' residuals computed here."""
    train, normal, _ = plane
    options = {"max_epochs": 3, "random_state": 0, "false_alarm_rate": None}
    detector = dense(6, 2, training={"validation_share": 0}, residual=residual, **options).fit(train)
    r_train, r = ((X - detector.reconstruct(X)) / train.std(axis=0) for X in (train, normal))
    m, S = r_train.mean(axis=0), np.cov(r_train.T, bias=True)
    expected = {
        "mse": (r**2).mean(axis=1),
        "standardized": ((r - m) ** 2 / np.diag(S)).mean(axis=1),
        "mahalanobis": np.einsum("ni,ij,nj->n", r - m, np.linalg.inv(S), r - m) / 5,
    }[residual]
    assert_allclose(-detector.score_samples(normal), expected, rtol=1e-3)
    assert_allclose(detector.residual_mean_, m, rtol=1e-6)
    assert_allclose(detector.contributions(normal).sum(axis=1), -detector.score_samples(normal), rtol=1e-9)


@pytest.mark.parametrize(("share", "enough"), [(0.05, True), (0.04, False)])
def test_statistics_of_residuals_are_of_held_out_rows_where_enough(plane, share, enough):
    """5 columns ask for 50 rows, which is what columns are not scaled by."""
    options = {"max_epochs": 1, "random_state": 0, "false_alarm_rate": None}
    detector, train = dense(4, 2, training={"validation_share": share}, **options), plane[0]
    chosen, held_out = detector.training.hold_out(1000, first_draws(0))
    residuals = train - detector.fit(train).reconstruct(train)
    rows = held_out if enough else chosen
    assert len(rows) == (50 if enough else 960)
    assert_allclose(detector.residual_mean_, (residuals[rows] / detector.features_.scale_).mean(axis=0), atol=1e-9)
    assert_allclose(detector.features_.mean_, train[chosen].mean(axis=0))


def first_draws(seed):
    """Return the generator that a fit with a seed and without calibration draws from."""
    return torch.Generator().manual_seed(int(np.random.RandomState(seed).randint(2**31)))


def test_covariance_of_few_rows_is_shrunk(plane):
    train = plane[0][:45]
    detector = dense(4, 2, training={"validation_share": 0}, max_epochs=1, random_state=0, false_alarm_rate=None)
    residuals = (train - detector.fit(train).reconstruct(train)) / detector.features_.scale_
    assert_allclose(detector.residual_covariance_, ledoit_wolf(residuals)[0] + 1e-6 * np.eye(5), rtol=1e-6)


def test_the_largest_contribution_names_the_column(rng):
    """8 nearly equal columns: projecting on their mean leaves 7/8 of a spike in its column, 1/8 in the others."""
    X = rng.normal(size=(500, 1)) + 0.3 * rng.normal(size=(500, 8))
    odd = X.mean(axis=0) + 5 * np.eye(8)
    detector = dense(1, activation="linear", training={"lr": 1e-2}, noise=0, max_epochs=60, random_state=0).fit(X)
    contributions = detector.contributions(odd)
    assert_array_equal(contributions.argmax(axis=1), np.arange(8))
    expected = (5 / X.std() * (np.eye(8) - 1 / 8)) ** 2 / 8
    assert_allclose(contributions, expected, atol=0.15 * expected.max())


def test_rows_are_standardised_inside(plane):
    """Units do not matter, nor do the rows that are scored or held out count for the statistics."""
    train, normal, _ = plane
    detector = dense(8, 2, max_epochs=5, random_state=0).fit(train)
    a, b = np.array([1e3, 1e-3, 7, 1, 1]), np.array([0, 5, -1e3, 0, 1])
    other = clone(detector).fit(train * a + b)
    assert_allclose(other.score_samples(normal * a + b), detector.score_samples(normal), rtol=1e-3)


def test_constant_columns_do_no_harm(rng):
    X = np.column_stack([rng.normal(size=(100, 2)), np.full(100, 0.1)])
    detector = dense(4, 2, max_epochs=2, random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    X[0, 2] = 99
    assert detector.score_samples(X).argmin() == 0


def test_noise_is_only_added_in_training(plane):
    train, normal, _ = plane
    detector = dense(8, 2, max_epochs=2, random_state=0).fit(train)
    assert_array_equal(detector.score_samples(normal), detector.score_samples(normal))
    plain = clone(detector).set_params(noise=0).fit(train)
    assert plain.history_["train_loss"][-1] < detector.history_["train_loss"][-1]


def test_the_tutorial_network():
    network = DenseNetwork(
        (14, 7),
        decoder=(7,),
        activation=("tanh", "relu", "tanh"),
        output_activation="relu",
        activity_penalty=1e-7,
    )
    X = np.random.default_rng(0).normal(size=(200, 30))
    detector = Autoencoder(network=network, noise=0, max_epochs=1, random_state=0).fit(X)
    shapes = [array.shape for name, array in detector.network_state_.items() if name.endswith("weight")]
    assert shapes == [(14, 30), (7, 14), (7, 7), (30, 7)]
    assert (detector.reconstruct(X) >= detector.features_.mean_ - 1e-9).all()


def test_the_activity_penalty_counts(plane):
    train, *_ = plane
    options = {"max_epochs": 10, "random_state": 0, "false_alarm_rate": None}
    norms = []
    for penalty in (0.0, 1.0):
        detector = dense(8, 2, **options).set_params(network__activity_penalty=penalty).fit(train)
        weight, bias = (detector.network_state_[f"encoder.0.{name}"] for name in ("weight", "bias"))
        hidden = np.maximum(detector.features_.transform(train) @ weight.T + bias, 0)
        norms.append(hidden.sum(axis=1).mean())
    assert norms[1] < 0.2 * norms[0]


def test_same_seed_same_result(plane):
    train, normal, _ = plane
    state = torch.get_rng_state()
    first, again, other = (dense(8, 2, max_epochs=3, random_state=s).fit(train) for s in (0, 0, 1))
    assert_array_equal(first.score_samples(normal), again.score_samples(normal))
    assert not np.allclose(first.score_samples(normal), other.score_samples(normal))
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_and_order_do_not_matter(plane):
    _, normal, shuffled = plane
    X = np.concatenate([normal, shuffled])
    detector = dense(64, 32, max_epochs=2, random_state=0, residual="mahalanobis").fit(normal)
    scores = detector.score_samples(X)
    assert_array_equal(scores[::-1], detector.score_samples(X[::-1]))
    for i in (0, 7, 399):
        assert_array_equal(scores[i : i + 1], detector.score_samples(X[i : i + 1]))


def test_warm_start_goes_on(plane):
    train, *_ = plane
    detector = dense(8, 2, max_epochs=5, warm_start=True, random_state=0, false_alarm_rate=None).fit(train)
    before, features, network = detector.history_["train_loss"], detector.features_, detector.network_
    mean, scale = features.mean_, features.scale_
    detector.fit(train * 2)
    assert len(detector.history_["train_loss"]) == 10
    assert_array_equal(detector.history_["train_loss"][:5], before)
    assert (detector.features_, detector.network_) == (features, network)
    assert features.mean_ is mean
    assert features.scale_ is scale
    stopped = detector.set_params(max_epochs=0).network_state_
    again = detector.fit(train).network_state_
    assert all(np.array_equal(stopped[name], again[name]) for name in stopped)
    with pytest.raises(ValueError, match="X has 4 features, but .* is expecting 5 features"):
        detector.fit(train[:, :4])


@pytest.mark.parametrize("calibration", ["split", "cv"])
def test_a_warm_start_sets_no_thresholds(plane, calibration):
    """Its samples may have been learnt from before, whatever is held out now."""
    train, normal, _ = plane
    detector = dense(8, 2, max_epochs=1, warm_start=True, calibration=calibration, random_state=0).fit(train[:500])
    assert detector.offset_ < 0
    detector.fit(train[500:])
    assert not hasattr(detector, "offset_")
    with pytest.raises(AttributeError, match=r"no threshold, which .* needs: .* call calibrate\(X_normal\)"):
        detector.predict(normal)
    for seen in (train[:500], train[500:]):
        with pytest.warns(CalibrationWarning, match="100% of the samples were in the data"):
            detector.calibrate(seen)
    assert (detector.calibrate(normal).predict(normal) == 1).mean() > 0.9


def test_early_stopping_holds_out_whole_groups(plane):
    """The features do not learn from what is held out either."""
    train, groups = plane[0][:400], np.repeat(np.arange(40), 10)
    detector = dense(4, 2, training={"validation_share": 0.25}, max_epochs=1, random_state=0, false_alarm_rate=None)
    detector.fit(train, groups=groups)
    chosen, held_out = detector.training.hold_out(400, first_draws(0), groups)
    assert len(set(groups[held_out])) == 10
    assert not set(groups[held_out]) & set(groups[chosen])
    assert_allclose(detector.features_.mean_, train[chosen].mean(axis=0))


def test_an_error_leaves_the_old_fit(plane):
    train, normal, _ = plane
    detector = dense(8, 2, max_epochs=2, random_state=0).fit(train)
    before, scores = vars(detector).copy(), detector.score_samples(normal)
    with pytest.raises(ValueError, match="diverged in epoch .* Lower lr"):
        detector.set_params(training__lr=1e38).fit(train)
    detector.set_params(training__lr=1e-3)
    assert vars(detector) == before
    assert_array_equal(detector.score_samples(normal), scores)


def test_few_rows():
    with pytest.warns(CalibrationWarning):
        detector = Autoencoder(max_epochs=3, random_state=0).fit([[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]])
    assert np.isfinite(detector.score_samples([[0.0, 1.0]])).all()
    assert "valid_loss" not in detector.history_  # a tenth of two rows is none


def test_early_stopping(plane):
    detector = dense(8, 2, training={"lr": 0.1, "patience": 3}, noise=0, max_epochs=200, random_state=0).fit(plane[0])
    losses = detector.history_["valid_loss"]
    assert len(losses) < 200
    assert len(losses) - 1 - losses.argmin() == 3


def test_cross_validated_thresholds(plane):
    detector = dense(4, 2, max_epochs=1, calibration="cv", random_state=0).fit(plane[0][:100])
    assert len(detector.calibration_scores_) == 100


def test_reconstruction_and_loss_are_differentiable(plane):
    train, normal, _ = plane
    detector = dense(8, 2, activation="tanh", max_epochs=2, random_state=0).fit(train)
    model = detector.reconstructor()
    x = model.to_tensor(detector.features_.transform(normal[:3])).requires_grad_()
    assert torch.autograd.gradcheck(model.losses, x)
    assert torch.autograd.gradcheck(model.restore, x)
    assert not any(p.requires_grad for p in model.module.parameters())
    assert_allclose(model.losses(x).detach(), -detector.score_samples(normal[:3]), rtol=1e-12)
    assert detector.lowest_loss_ == model.lowest_loss > 0
    assert (model.loss_unit, model.limits) == (1, None)


def test_saved_models_score_the_same(plane, tmp_path):
    train, normal, _ = plane
    detector = dense(8, 2, max_epochs=2, residual="standardized", random_state=0).fit(train)
    assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(normal), detector.score_samples(normal))
    save(detector, tmp_path / "model.skops")
    restored = load(tmp_path / "model.skops")
    assert_array_equal(restored.score_samples(normal), detector.score_samples(normal))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ssim"}, "'loss' parameter"),
        ({"loss": SSIMLoss()}, r"loss=SSIMLoss\(\) compares images, but the network sees vectors"),
        ({"network": DenseNetwork(())}, "hidden=.. has no code"),
        ({"network": StridedNetwork()}, r"network=StridedNetwork\(\) sees images, but the samples are rows"),
        ({"network": "dense"}, "'network' parameter"),
        ({"features": Pixels()}, "X has shape"),
        ({"residual": "huber"}, "'residual' parameter"),
        ({"calibration": "loo"}, "'calibration' parameter"),
        ({"training": Training(lr=0)}, "'lr' parameter"),
    ],
)
def test_bad_parameters(options, message, plane):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**options).fit(plane[0])


# What None stands for, and what may be passed


def test_what_none_stands_for(plane, cloth):
    rows = Autoencoder(max_epochs=1, random_state=0).fit(plane[0])
    assert (str(rows.features_), str(rows.network_)) == ("Columns()", "DenseNetwork()")
    images = Autoencoder(max_epochs=0, false_alarm_rate=None).fit(cloth.X_train)
    assert (str(images.features_), str(images.network_)) == ("Pixels()", "StridedNetwork()")
    assert str(images.training_) == "Training()"
    assert images.features is images.network is images.training is None
    features = PatchFeatures()
    assert str(Autoencoder().default_network(features)) == "DenseNetwork()"
    assert str(Autoencoder().default_features(cloth.X_train)) == "Pixels()"


def test_rows_after_images(plane, stripes):
    """A fit begins anew, whatever the last one was on."""
    detector = Autoencoder(max_epochs=1, training=FAST, random_state=0, false_alarm_rate=None)
    fresh = clone(detector).fit(plane[0])
    detector.fit(stripes[0][:20])
    assert_array_equal(detector.fit(plane[0]).score_samples(plane[1]), fresh.score_samples(plane[1]))
    assert not hasattr(detector, "anomaly_map")
    assert detector.n_features_in_ == 5


@pytest.mark.parametrize("name", ["network__hidden", "features__scale", "training__lr", "loss__window"])
def test_parameters_of_what_was_not_passed(name):
    head = name.split("__")[0]
    with pytest.raises(ValueError, match=rf"{name}=1 .*; pass the object first: Autoencoder\({head}=.*\(\)\)"):
        Autoencoder().set_params(**{name: 1})
    assert Autoencoder().set_params(network=DenseNetwork(), network__hidden=(3,)).network.hidden == (3,)


def test_a_search_over_nested_parameters(plane):
    search = GridSearchCV(
        Autoencoder(network=DenseNetwork((4, 2)), training=Training(), max_epochs=1, random_state=0),
        {"network__hidden": [(4, 2), (3,)], "training__lr": [1e-3, 1e-2]},
        scoring=lambda detector, X, y=None: detector.score_samples(X).mean(),
        cv=2,
    ).fit(plane[0][:200])
    assert set(search.best_params_) == {"network__hidden", "training__lr"}


def test_other_scales_of_columns(plane):
    train, normal, shuffled = plane
    given = Autoencoder(Columns(scale=None), DenseNetwork((8, 2)), max_epochs=3, random_state=0)
    Z, Z_test = (Columns().fit(train).transform(X) for X in (train, normal))
    assert_allclose(given.fit(Z).reconstruct(Z_test), given.reconstruct(Z_test))
    assert not hasattr(given.features_, "mean_")
    for scale in ("quantile", "robust"):
        detector = Autoencoder(Columns(scale=scale), DenseNetwork((32, 2)), noise=0.1, training=Training(lr=5e-3))
        assert auroc(detector.set_params(max_epochs=40, random_state=0).fit(train), normal, shuffled) > 0.8


def test_tables_of_bytes(rng):
    X = rng.integers(0, 256, (60, 4), dtype=np.uint8)
    options = {"max_epochs": 2, "random_state": 0, "false_alarm_rate": None}
    scores = Autoencoder(**options).fit(X).score_samples(X)
    assert_array_equal(scores, Autoencoder(**options).fit(X.astype(float)).score_samples(X))


def test_the_other_kind_is_refused(plane, cloth):
    rows = dense(4, 2, max_epochs=1).fit(plane[0])
    with pytest.raises(ValueError, match="dim 3"):
        rows.score_samples(cloth.X_train)
    assert "has no anomaly maps because Columns does not make any" in reason_for_missing(rows, "anomaly_map")
    images = Autoencoder(**SMALL, false_alarm_rate=None).fit(cloth.X_train)
    with pytest.raises(ValueError, match=r"shape \(1000, 5\)"):
        images.score_samples(plane[0])
    reason = reason_for_missing(images, "contributions")
    assert "no contributions of columns because Pixels looks at images; anomaly_map shows" in reason


def reason_for_missing(detector, method):
    with pytest.raises(AttributeError) as error:
        getattr(detector, method)
    return str(error.value.__cause__)


def test_deep_features_are_reconstructed_cell_by_cell(cloth, small_features, tmp_path):
    """The level of a cell is its mean squared residual, of features standardised by the training cells."""
    detector = Autoencoder(small_features, DenseNetwork((16, 4)), max_epochs=2, random_state=0, false_alarm_rate=None)
    detector.fit(cloth.X_train)
    Z = detector.features_.transform(cloth.X_test)
    statistics = detector.input_statistics_
    model = detector.reconstructor()
    cells = (Z - statistics["location"]) / statistics["scale"]
    with torch.no_grad():
        restored = model.module(torch.from_numpy(cells.reshape(-1, Z.shape[-1]))).numpy().reshape(Z.shape)
    grids = ((cells - restored) ** 2).mean(axis=-1)
    features = detector.features_
    expected = [features.map_to_image(grid, None, detector.sigma_, size=(64, 64)) for grid in grids]
    assert_allclose(detector.anomaly_map(cloth.X_test), expected, rtol=1e-3)
    assert_allclose(-detector.score_samples(cloth.X_test), np.max(expected, axis=(1, 2)), rtol=1e-3)
    assert_allclose(model.losses(model.to_tensor(Z)), grids.mean(axis=(1, 2)), rtol=1e-3)
    reason = reason_for_missing(detector, "reconstruct")
    assert "cannot turn its output into samples because PretrainedPatchFeatures has no inverse_transform" in reason
    save(detector, tmp_path / "model.skops")
    restored = load(tmp_path / "model.skops")
    assert_array_equal(restored.score_samples(cloth.X_test), detector.score_samples(cloth.X_test))


def test_cells_find_defects_and_an_untrained_network_finds_none(stripes):
    images, masks = stripes
    features = PatchFeatures(6, stride=1, level=0, normalization=None, image_size=16)
    found = {}
    for n_epochs in (0, 12):
        detector = Autoencoder(features, DenseNetwork((32, 4)), max_epochs=n_epochs, training=Training(lr=3e-3))
        detector.set_params(random_state=0, false_alarm_rate=None, sigma=8).fit(images[:50])
        found[n_epochs] = pixel_auroc(masks[60:], detector.anomaly_map(images[60:]))
    assert found[12] > 0.85
    assert found[0] < 0.5


def test_dense_networks_see_whole_images(stripes):
    images, masks = stripes
    options = {"max_epochs": 60, "training": Training(lr=3e-3, batch_size=10), "sigma": 8, "false_alarm_rate": None}
    detector = Autoencoder(Pixels(16), DenseNetwork((64, 8)), random_state=0, **options).fit(images[:50])
    assert detector.reconstruct(images[:3]).shape == (3, 16, 16)
    assert pixel_auroc(masks[60:], detector.anomaly_map(images[60:])) > 0.9


# Images


@parametrize_with_image_checks(
    [
        Autoencoder(**SMALL),
        Autoencoder(
            **{**SMALL, "max_epochs": 1},
            network=StridedNetwork(patch_size=12, stride=4),
            loss=SSIMLoss(),
            image_score="mean",
        ),
        Autoencoder(PatchFeatures(8, image_size=32), DenseNetwork((8, 4)), max_epochs=1, random_state=0),
    ],
    n_images=12,
)
def test_image_detector(detector, check):
    check(detector)


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 20},
        {"max_epochs": 20, "loss": SSIMLoss(7)},
        {"max_epochs": 6, "network": StridedNetwork(patch_size=12, stride=2)},
    ],
    ids=["l2", "ssim", "patches"],
)
def test_defects_are_found_and_an_untrained_network_finds_none(stripes, options):
    images, masks = stripes
    setting = {**SMALL, "training": Training(lr=3e-3, batch_size=10), "sigma": 8, "false_alarm_rate": None}
    detector = Autoencoder(**{**setting, **options}).fit(images[:50])
    assert pixel_auroc(masks[60:], detector.anomaly_map(images[60:])) > 0.9
    assert image_auroc(masks[50:].any(axis=(1, 2)), -detector.score_samples(images[50:])) > 0.9
    untrained = Autoencoder(**{**setting, **options, "max_epochs": 0}).fit(images[:50])
    assert pixel_auroc(masks[60:], untrained.anomaly_map(images[60:])) < 0.5


@pytest.mark.parametrize("loss", ["l2", SSIMLoss()], ids=str)
@pytest.mark.parametrize("image_score", ["max", "mean"])
def test_maps_and_scores_by_hand(stripes, loss, image_score):
    """Images of the network's own size: residual of the reconstruction, smoothed; its maximum or mean."""
    images = stripes[0][:6]
    detector = Autoencoder(**SMALL, loss=loss, image_score=image_score, false_alarm_rate=None).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255))
    model = detector.reconstructor()
    y = model.restore(x)
    residual = ((x - y) ** 2 if loss == "l2" else 1 - ssim_map(x, y))[:, 0].numpy()
    smooth = [gaussian_filter(r.astype(float), 4 * 16 / 224, mode="reflect") for r in residual]
    assert_allclose(detector.anomaly_map(images), smooth, atol=1e-5)
    expected = np.max(smooth, axis=(1, 2)) if image_score == "max" else residual.mean(axis=(1, 2))
    assert_allclose(-detector.score_samples(images), expected, atol=1e-5)
    assert_allclose(model.losses(x), residual.mean(axis=(1, 2)), rtol=1e-5)
    assert_allclose(detector.reconstruct(images), y[:, 0].clip(0, 1), atol=1e-6)
    assert detector.lowest_loss_ >= 0


def test_patches_are_averaged(stripes):
    images = stripes[0][:6]
    network = StridedNetwork(patch_size=8, stride=8)
    detector = Autoencoder(**SMALL, network=network, sigma=0, false_alarm_rate=None).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255))
    model = detector.reconstructor()
    restored = model.restore(x)
    for rows in (slice(0, 8), slice(8, 16)):
        alone = model.module(x[:, :, rows, :8])
        assert_allclose(restored[:, :, rows, :8], alone, atol=1e-5)
    assert_allclose(detector.anomaly_map(images), (x - restored)[:, 0] ** 2, atol=1e-5)
    assert_allclose(model.losses(x), ((x - restored) ** 2).mean(dim=(1, 2, 3)), rtol=1e-4)


def test_colours_and_sizes(stripes, flower):
    images = [flower[: 40 + i, :50] for i in range(6)]
    detector = Autoencoder(**SMALL, false_alarm_rate=None).fit(images)
    restored = detector.reconstruct(images)
    assert [r.shape for r in restored] == [image.shape for image in images]
    assert detector.features_.n_channels_ == 3
    gray = Autoencoder(**{**SMALL, "features": Pixels(16, gray=True)}, false_alarm_rate=None).fit(images)
    assert gray.features_.n_channels_ == 1
    assert gray.reconstruct(images[:1]).shape == (1, 40, 50)


def test_the_pooled_network(stripes):
    detector = Autoencoder(**SMALL, network=PooledNetwork(), false_alarm_rate=None).fit(stripes[0][:20])
    widths = [a.shape[0] for name, a in detector.network_state_.items() if name.endswith("weight")]
    assert widths == [16, 8, 8, 8, 8, 16, 1]
    assert detector.anomaly_map(stripes[0][:2]).shape == (2, 16, 16)


def test_feature_loss_by_hand(stripes, tmp_path):
    images = stripes[0][:8]
    features = PretrainedPatchFeatures(weights="random", layers=(0, 1), image_size=16, device="cpu", random_state=0)
    options = {**SMALL, "max_epochs": 2, "device": "cpu", "false_alarm_rate": None}
    detector = Autoencoder(**options, loss=FeatureLoss(features, weight=3.0)).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255)).requires_grad_()
    model, network = detector.reconstructor(), detector.loss_.features_.network_
    y = model.restore(x)
    expected = ((x - y) ** 2).mean(dim=(1, 2, 3))
    for a, b in zip(*(network.layer_maps(part.expand(-1, 3, -1, -1)) for part in (x, y)), strict=True):
        expected = expected + 3 * ((a - b) ** 2).mean(dim=(1, 2, 3))
    losses = model.losses(x)
    assert_allclose(losses.detach(), expected.detach(), rtol=1e-4)
    losses.sum().backward()
    assert x.grad.abs().sum() > 0
    save(detector, tmp_path / "model.skops")
    restored = load(tmp_path / "model.skops")
    assert_array_equal(restored.score_samples(images), detector.score_samples(images))


def test_warm_start_of_images(stripes):
    images = stripes[0][:20]
    detector = Autoencoder(**SMALL, warm_start=True, false_alarm_rate=None).fit(images)
    mean = detector.network_state_["mean"]
    detector.fit(255 - images)
    assert_array_equal(detector.network_state_["mean"], mean)
    assert len(detector.history_["train_loss"]) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": Pixels((32, 4))}, "at least 8 x 8 pixels; the features return 32 x 4"),
        ({"network": StridedNetwork(patch_size=64)}, "patch_size=64 is larger than the images, 16 x 16"),
        ({"network": StridedNetwork(patch_size=8, stride=9)}, "stride=9 leaves gaps"),
        ({"loss": SSIMLoss(10)}, "window=10 of SSIMLoss is not accepted; it must be an odd"),
        ({"loss": SSIMLoss(), "network": PooledNetwork(patch_size=8)}, "window=11 of SSIMLoss.*from 3 to 8"),
        ({"residual": "mahalanobis"}, "residual='mahalanobis' is for vectors, but network=StridedNetwork"),
    ],
)
def test_bad_image_parameters(options, message, stripes):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**{**SMALL, **options}).fit(stripes[0])


# Credit cards


def test_load_creditcard_reads_both_forms(tmp_path):
    names = ["Time", *(f"V{i}" for i in range(1, 29)), "Amount"]
    X = np.arange(90.0).reshape(3, 30)
    lines = [",".join(f'"{name}"' for name in [*names, "Class"])]
    lines += [",".join([*map(str, row), f'"{label}"']) for row, label in zip(X, (0, 1, 0), strict=True)]
    (tmp_path / "creditcard.csv").write_text("\n".join(lines))
    np.savez(tmp_path / "creditcard.npz", X=X, y=np.array([0, 1, 0]), columns=names)
    for name in ("creditcard.csv", "creditcard.npz"):
        data = load_creditcard(tmp_path / name)
        assert_array_equal(data.X, X)
        assert_array_equal(data.y, [1, -1, 1])
        assert data.feature_names == names
    with pytest.raises(FileNotFoundError, match="fetch_openml"):
        load_creditcard(tmp_path / "nothing.npz")
    np.savez(tmp_path / "other.npz", X=X, y=np.array([0, 1, 0]), columns=["a"] * 30)
    (tmp_path / "other.csv").write_text("a,b\n1,2")
    for name in ("other.npz", "other.csv"):
        with pytest.raises(ValueError, match="path=.*other"):
            load_creditcard(tmp_path / name)


@pytest.mark.shared_data
def test_the_real_table(shared_data):
    data = load_creditcard(shared_data / "tables" / "creditcard.npz")
    assert data.X.shape == (284_807, 30)
    assert (data.y == -1).sum() == 492


def test_another_residual_acts_at_once(plane):
    """The network is the same, so the scores are those of a fit with that residual."""
    train, normal, _ = plane
    options = {"max_epochs": 2, "random_state": 0, "false_alarm_rate": None}
    changed = dense(6, 2, **options).fit(train)
    for residual in ("mahalanobis", "standardized", "mse"):
        expected = dense(6, 2, residual=residual, **options).fit(train).score_samples(normal)
        assert_array_equal(changed.set_params(residual=residual).score_samples(normal), expected)
