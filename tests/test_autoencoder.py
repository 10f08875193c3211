import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.covariance import ledoit_wolf
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from skanomaly import PretrainedPatchFeatures
from skanomaly._torch.ssim import ssim_map
from skanomaly.datasets import load_creditcard
from skanomaly.detectors import Autoencoder
from skanomaly.detectors._reconstruction import kind_of
from skanomaly.exceptions import CalibrationWarning
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.persistence import load, save
from skanomaly.testing import parametrize_with_image_checks

LINEAR = {"activation": "linear", "noise": 0}
SMALL = {"image_size": 16, "max_epochs": 3, "lr": 3e-3, "batch_size": 4, "random_state": 0}


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
        Autoencoder((4, 2), max_epochs=2),
        Autoencoder((4, 2), max_epochs=2, residual="mahalanobis"),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_a_linear_network_reaches_pca(rng):
    X = rng.normal(size=(1500, 8)) @ rng.normal(size=(8, 8))
    detector = Autoencoder((3,), **LINEAR, max_epochs=150, lr=1e-2, batch_size=100, false_alarm_rate=None)
    detector.set_params(validation_share=0, patience=None, random_state=0).fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    pca = PCA(3).fit(Z)
    least = ((Z - pca.inverse_transform(pca.transform(Z))) ** 2).mean()
    error = -detector.score_samples(X).mean()
    assert least <= error < 1.03 * least
    by_hand = ((X - detector.reconstruct(X)) / X.std(axis=0)) ** 2
    assert_allclose(detector.score_samples(X), -by_hand.mean(axis=1), rtol=1e-9)


def test_anomalies_are_found_and_an_untrained_network_finds_fewer(plane):
    train, normal, shuffled = plane
    detector = Autoencoder((32, 2), noise=0.1, max_epochs=60, lr=5e-3, random_state=0).fit(train)
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
    detector = Autoencoder((6, 2), residual=residual, validation_share=0, **options).fit(train)
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


@pytest.mark.parametrize(("share", "n"), [(0.05, 50), (0.04, 960)])
def test_statistics_of_residuals_are_of_held_out_rows_where_enough(plane, share, n):
    """5 columns ask for 50 rows."""
    options = {"max_epochs": 1, "random_state": 0, "false_alarm_rate": None}
    detector = Autoencoder((4, 2), validation_share=share, **options)
    train, seen = plane[0], []
    detector._run = lambda function, Z: (seen.append(Z), Autoencoder._run(detector, function, Z))[1]
    detector.fit(train)
    assert len(seen[-1]) == n
    assert_allclose(
        detector.mean_, (train.sum(axis=0) - seen[-1].sum(axis=0)) / 950 if n == 50 else seen[-1].mean(axis=0)
    )


def test_covariance_of_few_rows_is_shrunk(plane):
    train = plane[0][:45]
    detector = Autoencoder((4, 2), max_epochs=1, random_state=0, validation_share=0, false_alarm_rate=None).fit(train)
    residuals = (train - detector.reconstruct(train)) / detector.scale_
    assert_allclose(detector.residual_covariance_, ledoit_wolf(residuals)[0] + 1e-6 * np.eye(5), rtol=1e-6)


def test_the_largest_contribution_names_the_column(rng):
    """8 nearly equal columns: projecting on their mean leaves 7/8 of a spike in its column, 1/8 in the others."""
    X = rng.normal(size=(500, 1)) + 0.3 * rng.normal(size=(500, 8))
    odd = X.mean(axis=0) + 5 * np.eye(8)
    detector = Autoencoder((1,), **LINEAR, lr=1e-2, max_epochs=60, random_state=0).fit(X)
    contributions = detector.contributions(odd)
    assert_array_equal(contributions.argmax(axis=1), np.arange(8))
    expected = (5 / X.std() * (np.eye(8) - 1 / 8)) ** 2 / 8
    assert_allclose(contributions, expected, atol=0.15 * expected.max())


def test_rows_are_standardised_inside(plane):
    """Units do not matter, nor do the rows that are scored or held out count for the statistics."""
    train, normal, _ = plane
    detector = Autoencoder((8, 2), max_epochs=5, random_state=0).fit(train)
    a, b = np.array([1e3, 1e-3, 7, 1, 1]), np.array([0, 5, -1e3, 0, 1])
    other = clone(detector).fit(train * a + b)
    assert_allclose(other.score_samples(normal * a + b), detector.score_samples(normal), rtol=1e-3)


def test_constant_columns_do_no_harm(rng):
    X = np.column_stack([rng.normal(size=(100, 2)), np.full(100, 0.1)])
    detector = Autoencoder((4, 2), max_epochs=2, random_state=0).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    X[0, 2] = 99
    assert detector.score_samples(X).argmin() == 0


def test_noise_is_only_added_in_training(plane):
    train, normal, _ = plane
    detector = Autoencoder((8, 2), max_epochs=2, random_state=0).fit(train)
    assert_array_equal(detector.score_samples(normal), detector.score_samples(normal))
    plain = clone(detector).set_params(noise=0).fit(train)
    assert plain.history_["train_loss"][-1] < detector.history_["train_loss"][-1]


def test_the_tutorial_network():
    detector = Autoencoder((14, 7), decoder_hidden=(7,), activation=("tanh", "relu", "tanh"), output_activation="relu")
    detector.set_params(activity_penalty=1e-7, noise=0, max_epochs=1, random_state=0)
    X = np.random.default_rng(0).normal(size=(200, 30))
    detector.fit(X)
    shapes = [array.shape for name, array in detector.network_state_.items() if name.endswith("weight")]
    assert shapes == [(14, 30), (7, 14), (7, 7), (30, 7)]
    assert (detector.reconstruct(X) >= detector.mean_ - 1e-9).all()
    kinds = [type(layer).__name__ for part in detector._module().children() for layer in list(part)[1::2]]
    assert kinds == ["Tanh", "ReLU", "Tanh", "ReLU"]


def test_the_activity_penalty_counts(plane):
    train, *_ = plane
    options = {"max_epochs": 10, "random_state": 0, "false_alarm_rate": None}
    norms = []
    for penalty in (0.0, 1.0):
        detector = Autoencoder((8, 2), activity_penalty=penalty, **options).fit(train)
        hidden = detector._module().encoder[:2](detector._to_tensor(train))
        norms.append(hidden.abs().sum(dim=1).mean().item())
    assert norms[1] < 0.2 * norms[0]


def test_same_seed_same_result(plane):
    train, normal, _ = plane
    state = torch.get_rng_state()
    first, again, other = (Autoencoder((8, 2), max_epochs=3, random_state=s).fit(train) for s in (0, 0, 1))
    assert_array_equal(first.score_samples(normal), again.score_samples(normal))
    assert not np.allclose(first.score_samples(normal), other.score_samples(normal))
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_and_order_do_not_matter(plane):
    _, normal, shuffled = plane
    X = np.concatenate([normal, shuffled])
    detector = Autoencoder((64, 32), max_epochs=2, random_state=0, residual="mahalanobis").fit(normal)
    scores = detector.score_samples(X)
    assert_array_equal(scores[::-1], detector.score_samples(X[::-1]))
    for i in (0, 7, 399):
        assert_array_equal(scores[i : i + 1], detector.score_samples(X[i : i + 1]))


def test_warm_start_goes_on(plane):
    train, *_ = plane
    detector = Autoencoder((8, 2), max_epochs=5, warm_start=True, random_state=0).fit(train)
    before = detector.history_["train_loss"]
    mean, scale = detector.mean_, detector.scale_
    detector.fit(train * 2)
    assert len(detector.history_["train_loss"]) == 10
    assert_array_equal(detector.history_["train_loss"][:5], before)
    assert detector.mean_ is mean
    assert detector.scale_ is scale
    stopped = detector.set_params(max_epochs=0).network_state_
    again = detector.fit(train).network_state_
    assert all(np.array_equal(stopped[name], again[name]) for name in stopped)
    with pytest.raises(ValueError, match=r"warm_start=True continues a network for inputs of shape \(5,\), not \(4,\)"):
        detector.fit(train[:, :4])
    with pytest.raises(ValueError, match="calibration='cv'"):
        detector.set_params(calibration="cv").fit(train)


def test_an_error_leaves_the_old_fit(plane):
    train, normal, _ = plane
    detector = Autoencoder((8, 2), max_epochs=2, random_state=0).fit(train)
    before, scores = vars(detector).copy(), detector.score_samples(normal)
    with pytest.raises(ValueError, match="diverged in epoch .* Lower lr"):
        detector.set_params(lr=1e38).fit(train)
    detector.set_params(lr=1e-3)
    assert {k: v for k, v in vars(detector).items() if k != "lr"} == {k: v for k, v in before.items() if k != "lr"}
    assert_array_equal(detector.score_samples(normal), scores)


def test_few_rows():
    with pytest.warns(CalibrationWarning):
        detector = Autoencoder(max_epochs=3, random_state=0).fit([[0.0, 1.0], [1.0, 0.0], [0.5, 0.2]])
    assert np.isfinite(detector.score_samples([[0.0, 1.0]])).all()
    assert "valid_loss" not in detector.history_  # a tenth of two rows is none


def test_early_stopping(plane):
    detector = Autoencoder((8, 2), lr=0.1, noise=0, max_epochs=200, patience=3, random_state=0).fit(plane[0])
    losses = detector.history_["valid_loss"]
    assert len(losses) < 200
    assert len(losses) - 1 - losses.argmin() == 3


def test_cross_validated_thresholds(plane):
    detector = Autoencoder((4, 2), max_epochs=1, calibration="cv", random_state=0).fit(plane[0][:100])
    assert len(detector.calibration_scores_) == 100


def test_reconstruction_and_loss_are_differentiable(plane):
    train, normal, _ = plane
    detector = Autoencoder((8, 2), activation="tanh", max_epochs=2, random_state=0).fit(train)
    x = detector._to_tensor(normal[:3]).requires_grad_()
    assert torch.autograd.gradcheck(detector._losses, x)
    assert torch.autograd.gradcheck(detector._reconstruct, x)
    assert not any(p.requires_grad for p in detector._module().parameters())
    assert_allclose(detector._losses(x).detach(), -detector.score_samples(normal[:3]), rtol=1e-12)
    assert detector.lowest_loss_ > 0


def test_saved_models_score_the_same(plane, tmp_path):
    train, normal, _ = plane
    detector = Autoencoder((8, 2), max_epochs=2, residual="standardized", random_state=0).fit(train)
    assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(normal), detector.score_samples(normal))
    save(detector, tmp_path / "model.skops")
    names = ["skanomaly.detectors._autoencoder.Autoencoder"]
    restored = load(tmp_path / "model.skops", trusted=names)
    assert_array_equal(restored.score_samples(normal), detector.score_samples(normal))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "ssim"}, "loss='ssim' is for images"),
        ({"hidden": ()}, "hidden=.. has no code"),
        ({"hidden": (8, 0)}, "hidden=.8, 0.; accepted are numbers of units"),
        ({"decoder_hidden": (2.5,)}, "decoder_hidden="),
        ({"activation": "relux"}, "'activation' parameter"),
        ({"activation": ("relu",)}, "one for each of the 3 hidden layers"),
        ({"activation": ("relu", "relu", "softmax")}, "activation="),
        ({"residual": "huber"}, "'residual' parameter"),
        ({"calibration": "loo"}, "'calibration' parameter"),
        ({"lr": 0}, "'lr' parameter"),
    ],
)
def test_bad_parameters(options, message, plane):
    with pytest.raises(ValueError, match=message):
        Autoencoder(**options).fit(plane[0])


# What the input is


@pytest.mark.parametrize(
    ("X", "kind"),
    [
        (np.zeros((4, 3)), "rows"),
        (np.zeros((4, 3), int), "rows"),
        ([[0.0, 1.0], [1.0, 2.0]], "rows"),
        ([np.zeros(3), np.zeros(3)], "rows"),
        (np.zeros(3), "rows"),
        (np.array([["a", 1]], dtype=object), "rows"),
        (np.zeros((4, 3), np.uint8), "images"),
        (np.zeros((4, 3), bool), "images"),
        (np.zeros((4, 3, 3)), "images"),
        ([np.zeros((3, 3)), np.zeros((4, 4))], "images"),
        ("images/*.png", "images"),
        (["a.png"], "images"),
        (np.array(["a.png", "b.png"]), "images"),
        ([], "images"),
    ],
)
def test_kind_of(X, kind):
    assert kind_of(X) == kind


def test_data_frames_and_paths_in_frames(plane):
    pd = pytest.importorskip("pandas")
    assert kind_of(pd.DataFrame(plane[0])) == "rows"
    assert kind_of(pd.Series(["a.png", "b.png"], index=[5, 6])) == "images"


def test_the_other_kind_is_refused(plane, cloth):
    rows = Autoencoder((4, 2), max_epochs=1).fit(plane[0])
    with pytest.raises(ValueError, match=r"X holds images of shape \(12, 64, 64\), but this Autoencoder was fitted on"):
        rows.score_samples(cloth.X_train)
    with pytest.raises(AttributeError, match="anomaly_map"):
        rows.anomaly_map(plane[0])
    images = Autoencoder(**SMALL, false_alarm_rate=None).fit(cloth.X_train)
    with pytest.raises(ValueError, match=r"shape \(1000, 5\)"):
        images.score_samples(plane[0])
    with pytest.raises(ValueError, match="X holds rows, but this Autoencoder was fitted on images"):
        images.score_samples([[0.0, 1.0]])
    with pytest.raises(AttributeError, match="contributions"):
        images.contributions(cloth.X_train)


# Images


@parametrize_with_image_checks(
    [
        Autoencoder(**SMALL),
        Autoencoder(**{**SMALL, "max_epochs": 1}, loss="ssim", patch_size=12, stride=4, image_score="mean"),
    ],
    n_images=12,
)
def test_image_detector(detector, check):
    check(detector)


@pytest.fixture(scope="module")
def stripes():
    """Shifted stripes (n, 16, 16) uint8, and where a square of their mean is in the last 20 (n, 16, 16)."""
    rng = np.random.default_rng(0)
    waves = np.sin(2 * np.pi * (np.arange(16) + rng.integers(0, 8, (80, 1))) / 8)[:, None, :].repeat(16, axis=1)
    images = (120 + 60 * waves + rng.normal(0, 4, waves.shape)).astype(np.uint8)
    masks = np.zeros(images.shape, bool)
    for i in range(60, 80):
        top, left = rng.integers(1, 9, 2)
        masks[i, top : top + 6, left : left + 6] = True
        images[i][masks[i]] = images[i][masks[i]].mean()
    return images, masks


@pytest.mark.parametrize(
    "options",
    [
        {"max_epochs": 20},
        {"max_epochs": 20, "loss": "ssim", "ssim_window": 7},
        {"max_epochs": 6, "patch_size": 12, "stride": 2},
    ],
    ids=["l2", "ssim", "patches"],
)
def test_defects_are_found_and_an_untrained_network_finds_none(stripes, options):
    images, masks = stripes
    setting = {"image_size": 16, "lr": 3e-3, "sigma": 8, "batch_size": 10, "false_alarm_rate": None, "random_state": 0}
    detector = Autoencoder(**setting, **options).fit(images[:50])
    assert pixel_auroc(masks[60:], detector.anomaly_map(images[60:])) > 0.9
    assert image_auroc(masks[50:].any(axis=(1, 2)), -detector.score_samples(images[50:])) > 0.9
    untrained = Autoencoder(**setting, **{**options, "max_epochs": 0}).fit(images[:50])
    assert pixel_auroc(masks[60:], untrained.anomaly_map(images[60:])) < 0.5


@pytest.mark.parametrize("loss", ["l2", "ssim"])
@pytest.mark.parametrize("image_score", ["max", "mean"])
def test_maps_and_scores_by_hand(stripes, loss, image_score):
    """Images of the network's own size: residual of the reconstruction, smoothed; its maximum or mean."""
    images = stripes[0][:6]
    detector = Autoencoder(**SMALL, loss=loss, image_score=image_score, false_alarm_rate=None).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255))
    y = detector._reconstruct(x)
    residual = ((x - y) ** 2 if loss == "l2" else 1 - ssim_map(x, y))[:, 0].numpy()
    smooth = [gaussian_filter(r.astype(float), 4 * 16 / 224, mode="reflect") for r in residual]
    assert_allclose(detector.anomaly_map(images), smooth, atol=1e-5)
    expected = np.max(smooth, axis=(1, 2)) if image_score == "max" else residual.mean(axis=(1, 2))
    assert_allclose(-detector.score_samples(images), expected, atol=1e-5)
    assert_allclose(detector._losses(x), residual.mean(axis=(1, 2)), rtol=1e-5)
    assert_allclose(detector.reconstruct(images), y[:, 0].clip(0, 1), atol=1e-6)
    assert detector.lowest_loss_ >= 0


def test_patches_are_averaged(stripes):
    images = stripes[0][:6]
    detector = Autoencoder(**SMALL, patch_size=8, stride=8, false_alarm_rate=None).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255))
    restored = detector._reconstruct(x)
    for rows in (slice(0, 8), slice(8, 16)):
        alone = detector._module()(x[:, :, rows, :8])
        assert_allclose(restored[:, :, rows, :8], alone, atol=1e-5)
    assert_allclose(detector._residuals(x), (x - restored)[:, 0] ** 2, atol=1e-5)
    assert_allclose(detector._losses(x), ((x - restored) ** 2).mean(dim=(1, 2, 3)), rtol=1e-4)


def test_colours_and_sizes(stripes, flower):
    images = [flower[: 40 + i, :50] for i in range(6)]
    detector = Autoencoder(**SMALL, false_alarm_rate=None).fit(images)
    restored = detector.reconstruct(images)
    assert [r.shape for r in restored] == [image.shape for image in images]
    assert detector.n_channels_ == 3
    gray = Autoencoder(**SMALL, gray=True, false_alarm_rate=None).fit(images)
    assert gray.n_channels_ == 1
    assert gray.reconstruct(images[:1]).shape == (1, 40, 50)


def test_the_pooled_network(stripes):
    detector = Autoencoder(**SMALL, architecture="pooled", false_alarm_rate=None).fit(stripes[0][:20])
    widths = [a.shape[0] for name, a in detector.network_state_.items() if name.endswith("weight")]
    assert widths == [16, 8, 8, 8, 8, 16, 1]
    assert detector.anomaly_map(stripes[0][:2]).shape == (2, 16, 16)


def test_feature_loss_by_hand(stripes, tmp_path):
    images = stripes[0][:8]
    features = PretrainedPatchFeatures(weights="random", layers=(0, 1), image_size=16, device="cpu", random_state=0)
    options = {**SMALL, "max_epochs": 2, "device": "cpu", "false_alarm_rate": None}
    detector = Autoencoder(**options, loss="feature", features=features, feature_weight=3.0).fit(images)
    x = torch.from_numpy(images[:, None] / np.float32(255)).requires_grad_()
    y, backbone = detector._reconstruct(x), detector.features_._load()
    normalised = [(part.expand(-1, 3, -1, -1) - 0.5) / 0.5 for part in (x, y)]
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    expected = ((x - y) ** 2).mean(dim=(1, 2, 3))
    for a, b in zip(*map(backbone, normalised), strict=True):
        expected = expected + 3 * ((a - b) ** 2).mean(dim=(1, 2, 3))
    losses = detector._losses(x)
    assert_allclose(losses.detach(), expected.detach(), rtol=1e-4)
    losses.sum().backward()
    assert x.grad.abs().sum() > 0
    save(detector, tmp_path / "model.skops")
    restored = load(tmp_path / "model.skops", trusted=["skanomaly.detectors._autoencoder.Autoencoder"])
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
        ({"image_size": (32, 4)}, "image_size=.32, 4. must be one side"),
        ({"patch_size": 64}, "patch_size=64 is larger than image_size=16"),
        ({"patch_size": 8, "stride": 9}, "stride=9 leaves gaps"),
        ({"loss": "ssim", "ssim_window": 10}, "ssim_window=10; accepted are odd"),
        ({"loss": "ssim", "patch_size": 8}, "ssim_window=11; accepted are odd numbers from 3 to 8"),
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
