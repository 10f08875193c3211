import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.utils.estimator_checks import parametrize_with_checks

from skanomaly import VAE, Columns, PatchFeatures, Pixels, load, save
from skanomaly.detectors._vae import divergence, posterior
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.networks import DenseNetwork, PooledNetwork, StridedNetwork, Training
from skanomaly.testing import parametrize_with_image_checks

FAST = Training(lr=3e-3, batch_size=4)
IMAGES = {"features": Pixels(16), "network": StridedNetwork(8)}
SMALL = {**IMAGES, "training": FAST, "max_epochs": 3, "random_state": 0}
SCORES = ("elbo", "reconstruction", "unregularized")


def dense(*hidden, training=None, activation="relu", **options):
    """Return a VAE of rows with layers of some widths."""
    network = DenseNetwork(hidden, activation=activation)
    return VAE(network=network, training=Training(**training or {}), **options)


def embedded(detector, X):
    """Return the fitted network, and x of samples."""
    model = detector.reconstructor()
    return model, model.to_tensor(detector.features_.transform(X))


@pytest.fixture(scope="module")
def curve():
    """Rows near a curved surface, and rows with the same columns, each shuffled by itself."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(1200, 2))
    X = np.column_stack([z, z.sum(axis=1), z.prod(axis=1), np.tanh(z[:, 0])]) * [1, 10, 100, 1, 0.1] + 5
    X += 0.1 * X.std(axis=0) * rng.normal(size=X.shape)
    return X[:1000], X[1000:], rng.permuted(X[1000:], axis=0)


def auroc(detector, normal, anomalous):
    anomalous_rows = np.repeat([False, True], [len(normal), len(anomalous)])
    return image_auroc(anomalous_rows, -detector.score_samples(np.concatenate([normal, anomalous])))


def anomaly_scores(detector, X):
    """Return the scores of X, higher is more anomalous, under each of the three rules."""
    return {rule: -detector.set_params(anomaly_score=rule).score_samples(X) for rule in SCORES}


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@parametrize_with_checks([VAE(network=DenseNetwork((4, 2)), max_epochs=2, anomaly_score="elbo")])
def test_sklearn_checks(estimator, check):
    check(estimator)


@parametrize_with_image_checks(
    [
        VAE(
            **{**SMALL, "max_epochs": 1, "network": StridedNetwork(8, patch_size=12, stride=4)},
            anomaly_score="elbo",
            image_score="mean",
        ),
        VAE(PatchFeatures(8, image_size=32), DenseNetwork((8, 4)), max_epochs=1, anomaly_score="elbo", random_state=0),
    ],
    n_images=12,
)
def test_image_detector(detector, check):
    check(detector)


# The terms of the bound


def test_divergence_is_that_of_torch(rng):
    mean, log_variance = (torch.from_numpy(rng.normal(size=(20, 6))) for _ in range(2))
    codes = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    assert_allclose(divergence(mean, log_variance), expected, rtol=1e-12)


@pytest.mark.parametrize("decoder_variance", [0.3, "learned"])
def test_scores_of_rows_by_hand(curve, decoder_variance):
    train, normal, _ = curve
    options = {"max_epochs": 5, "false_alarm_rate": None, "random_state": 0, "training": {"validation_share": 0}}
    detector = dense(8, 2, decoder_variance=decoder_variance, **options).fit(train)
    scores = anomaly_scores(detector, normal)
    Z, restored = ((X - train.mean(axis=0)) / train.std(axis=0) for X in (normal, detector.reconstruct(normal)))
    gamma = detector.decoder_variance_
    assert gamma == 0.3 or decoder_variance == "learned"
    assert_allclose(scores["reconstruction"], -norm.logpdf(Z, restored, np.sqrt(gamma)).sum(axis=1), rtol=1e-9)
    assert_allclose(scores["unregularized"], ((Z - restored) ** 2).sum(axis=1) / (2 * gamma), rtol=1e-9)
    code = detector.reconstructor().module.encode(torch.from_numpy(Z))
    codes = torch.distributions.Normal(code[:, :2], (code[:, 2:] / 2).exp())
    from_prior = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    assert_allclose(scores["elbo"] - scores["reconstruction"], from_prior, rtol=1e-9)
    assert_array_equal(scores["unregularized"].argsort(), scores["reconstruction"].argsort())
    assert (scores["elbo"].argsort() != scores["reconstruction"].argsort()).any()


@pytest.mark.parametrize("image_score", ["max", "mean"])
def test_scores_and_maps_of_images_by_hand(stripes, flower, image_score):
    """Images of the network's own size; the mean of the bound's map and share of KL is L per pixel."""
    images = np.stack([flower[16 * i : 16 * i + 16, :16] for i in range(6)])
    detector = VAE(**SMALL, decoder_variance=0.01, image_score=image_score, false_alarm_rate=None).fit(images)
    x = torch.from_numpy((images / np.float32(255)).transpose(0, 3, 1, 2))
    model = detector.reconstructor()
    terms = -norm.logpdf(x.numpy().astype(float), model.restore(x).numpy(), 0.1)
    scores = anomaly_scores(detector, images)
    smooth = np.stack([gaussian_filter(term.sum(axis=0), 4 * 16 / 224, mode="reflect") for term in terms])
    reduce = np.max if image_score == "max" else np.mean
    assert_allclose(scores["reconstruction"], reduce(smooth, axis=(1, 2)), rtol=1e-4)
    assert_allclose(model.losses(x), terms.sum(axis=(1, 2, 3)), rtol=1e-4)
    from_prior = divergence(*model.module.encode(x).chunk(2, dim=1))
    assert_allclose(scores["elbo"] - scores["reconstruction"], from_prior / 256, rtol=1e-5)
    normaliser = 3 * np.log(2 * np.pi * 0.01) / 2
    assert_allclose(scores["unregularized"], scores["reconstruction"] - normaliser, rtol=1e-4)
    for rule, shift in [("elbo", 0), ("reconstruction", 0), ("unregularized", normaliser)]:
        maps = detector.set_params(anomaly_score=rule).anomaly_map(images)
        assert_allclose(maps, smooth - shift, rtol=1e-4, atol=1e-4)


def test_patches_are_averaged(stripes):
    images = stripes[0][:6]
    options = {**SMALL, "network": StridedNetwork(8, patch_size=8, stride=8)}
    detector = VAE(**options, anomaly_score="elbo", image_score="mean", false_alarm_rate=None).fit(images)
    model, whole = embedded(detector, images)
    gamma, losses, divergences = detector.decoder_variance_, 0, 0
    for patch in [whole[:, :, i : i + 8, j : j + 8] for i in (0, 8) for j in (0, 8)]:
        mean, log_variance = posterior(model.module, patch)
        squares = (patch - model.module.decode(mean)).square().sum(dim=(1, 2, 3))
        losses = losses + (32 * np.log(2 * np.pi * gamma) + squares / (2 * gamma)) / 4
        divergences = divergences + divergence(mean, log_variance) / 4
    assert_allclose(model.losses(whole), losses, rtol=1e-4)
    assert_allclose(-detector.score_samples(images), (losses + divergences) / 64, rtol=1e-4)


def test_cells_have_the_bound_of_their_features(stripes):
    """The level of a cell is L of its standardised features."""
    features = PatchFeatures(4, stride=4, level=0, image_size=16)
    detector = VAE(features, DenseNetwork((8, 2)), max_epochs=2, anomaly_score="elbo", sigma=0, random_state=0)
    detector.set_params(false_alarm_rate=None, decoder_variance=0.5).fit(stripes[0][:20])
    model, x = embedded(detector, stripes[0][:3])
    cells = x.flatten(0, 2)
    mean, log_variance = posterior(model.module, cells)
    terms = -norm.logpdf(cells.numpy().astype(float), model.module.decode(mean).numpy(), 0.5**0.5).sum(axis=1)
    grids = (terms + divergence(mean, log_variance).numpy()).reshape(x.shape[:3]).astype(np.float32)
    expected = [detector.features_.map_to_image(grid, None, 0, size=(16, 16)) for grid in grids]
    assert_allclose(detector.anomaly_map(stripes[0][:3]), expected, rtol=1e-3)


def first_loss(X, beta, decoder_variance):
    """Return the training loss, mean over 20,000 draws, of a network that a fit starts from, and that network."""
    options = {"beta": beta, "decoder_variance": decoder_variance, "false_alarm_rate": None, "random_state": 0}
    rows = np.repeat(X, 20_000, axis=0)
    tiny = Training(lr=1e-30, batch_size=len(rows), validation_share=0)  # a step that changes nothing
    detector = VAE(Columns(scale=None), DenseNetwork((8, 2)), training=tiny, max_epochs=1, **options).fit(rows)
    return detector.history_["train_loss"][0], detector.reconstructor().module


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_loss_is_the_bound(beta):
    """Its mean over many draws, at a fixed variance, against integration by torch.distributions' own samples."""
    X = np.array([[0.5, -1.0, 2.0]])
    loss, module = first_loss(X, beta, 0.2)
    code = module.encode(torch.from_numpy(X))
    codes = torch.distributions.Normal(code[:, :2], (code[:, 2:] / 2).exp())
    torch_state = torch.get_rng_state()
    torch.manual_seed(0)
    draws = codes.sample((40_000,))[:, 0]
    torch.set_rng_state(torch_state)
    decoded = torch.distributions.Normal(module.decode(draws), 0.2**0.5)
    likelihood = decoded.log_prob(torch.from_numpy(X)).sum(dim=1).mean()
    from_prior = torch.distributions.kl_divergence(codes, torch.distributions.Normal(0.0, 1.0)).sum()
    assert_allclose(loss, -likelihood + beta * from_prior, rtol=0.02)


# What is learned


def test_the_linear_model_is_probabilistic_pca(rng):
    """At the optimum the bound is the likelihood, and gamma the mean of the eigenvalues left out."""
    X = rng.normal(size=(2000, 3)) @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(2000, 8))
    training = {"lr": 5e-3, "batch_size": 100, "validation_share": 0, "patience": None}
    detector = dense(3, training=training, max_epochs=80, random_state=0, anomaly_score="elbo", false_alarm_rate=None)
    detector.fit(X)
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    pca = PCA(3).fit(Z)
    gamma = detector.decoder_variance_
    assert_allclose(gamma, pca.noise_variance_, rtol=0.03)
    gap = -detector.score_samples(X) + pca.score_samples(Z)
    assert gap.std() < 0.1 * pca.score_samples(Z).std()
    scores = anomaly_scores(detector, X)
    bound = 4 * (np.log(2 * np.pi * gamma) + 1) + (scores["elbo"] - scores["reconstruction"]).mean()
    assert -pca.score(Z) < bound + 0.01
    assert_allclose(bound, -pca.score(Z), rtol=0.01)
    error = ((X - detector.reconstruct(X)) / X.std(axis=0)) ** 2
    assert ((Z - pca.inverse_transform(pca.transform(Z))) ** 2).mean() < error.mean() < gamma


@pytest.mark.parametrize("kind", ["rows", "images"])
def test_learned_variance_is_the_mean_squared_error(curve, stripes, kind):
    X, options = (curve[0], {"network": DenseNetwork((16, 2))}) if kind == "rows" else (stripes[0][:60], IMAGES)
    training = Training(lr=3e-3, batch_size=len(X) // 10, validation_share=0)
    detector = VAE(**options, training=training, max_epochs=3, random_state=0, false_alarm_rate=None).fit(X)
    model, x = embedded(detector, X)
    mean, log_variance = posterior(model.module, x)
    noise = torch.Generator().manual_seed(1)
    errors = []
    for _ in range(20):
        code = mean + (log_variance / 2).exp() * torch.randn(mean.shape, generator=noise)
        errors.append((x - model.module.decode(code)).square().mean())
    assert_allclose(detector.decoder_variance_, np.mean(errors), rtol=0.05 if kind == "rows" else 0.15)  # one draw each
    assert detector.decoder_variance_ > (x - model.restore(x)).square().mean()


def test_learned_variance_minimises_the_loss():
    """The loss of a batch with its own variance is the lowest over all fixed variances, for the same draws."""
    X = np.array([[0.5, -1.0, 2.0]])
    lowest = first_loss(X, 1.0, "learned")[0]
    fixed = [first_loss(X, 1.0, variance)[0] for variance in np.geomspace(0.5, 5, 30)]
    assert lowest <= min(fixed) + 1e-5
    assert_allclose(lowest, min(fixed), rtol=1e-3)


def test_the_variance_does_not_vanish(rng):
    """Constant rows are restored without any error."""
    detector = dense(4, 2, max_epochs=2, false_alarm_rate=None, anomaly_score="elbo", random_state=0)
    detector.fit(np.full((50, 3), 7.0))
    assert detector.decoder_variance_ >= 1e-6
    assert np.isfinite(detector.score_samples(rng.normal(size=(5, 3)) * 1e6)).all()


def test_beta_weighs_the_divergence(curve):
    options = {"max_epochs": 10, "random_state": 0, "false_alarm_rate": None, "training": {"lr": 5e-3}}
    sizes = []
    for beta in (0.1, 1, 100):
        scores = anomaly_scores(dense(8, 2, beta=beta, decoder_variance=0.1, **options).fit(curve[0]), curve[1])
        sizes.append((scores["elbo"] - scores["reconstruction"]).mean())
    assert sizes[0] > sizes[1] > 20 * sizes[2]


@pytest.mark.parametrize("decoder_variance", [0.05, "learned"])
def test_anomalous_rows_are_found_and_an_untrained_network_finds_fewer(curve, decoder_variance):
    train, normal, shuffled = curve
    detector = dense(
        32, 2, decoder_variance=decoder_variance, max_epochs=25, training={"lr": 1e-2}, random_state=0
    ).fit(train)
    for rule in SCORES:
        assert auroc(detector.set_params(anomaly_score=rule), normal, shuffled) > 0.9
    detector.set_params(anomaly_score="reconstruction")
    assert (detector.predict(normal) == 1).mean() > 0.85
    untrained = clone(detector).set_params(max_epochs=0).fit(train)
    assert auroc(untrained, normal, shuffled) < 0.8
    misled = clone(detector).fit(np.random.default_rng(1).permuted(train, axis=0))
    assert auroc(misled, normal, shuffled) < 0.8


@pytest.mark.parametrize("options", [{}, {"network": StridedNetwork(8, patch_size=12, stride=4), "max_epochs": 10}])
def test_defects_are_found_and_an_untrained_network_finds_none(stripes, options):
    images, masks = stripes
    training = Training(lr=3e-3, batch_size=10)
    setting = {**SMALL, "max_epochs": 20, "sigma": 8, "training": training, "false_alarm_rate": None, **options}
    detector = VAE(**setting).fit(images[:50])
    assert pixel_auroc(masks[60:], detector.anomaly_map(images[60:])) > 0.9
    assert image_auroc(masks[50:].any(axis=(1, 2)), -detector.score_samples(images[50:])) > 0.9
    untrained = VAE(**{**setting, "max_epochs": 0}).fit(images[:50])
    assert pixel_auroc(masks[60:], untrained.anomaly_map(images[60:])) < 0.5


# The usual


def test_same_seed_same_result(curve):
    train, normal, _ = curve
    state = torch.get_rng_state()
    first, again, other = (dense(8, 2, max_epochs=3, random_state=seed).fit(train) for seed in (0, 0, 1))
    assert_array_equal(first.score_samples(normal), again.score_samples(normal))
    assert not np.allclose(first.score_samples(normal), other.score_samples(normal))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rule", SCORES)
def test_batch_and_order_do_not_matter(curve, rule):
    X = np.concatenate(curve[1:])
    detector = VAE(max_epochs=2, anomaly_score=rule, random_state=0).fit(curve[0])
    scores = detector.score_samples(X)
    assert_array_equal(scores[::-1], detector.score_samples(X[::-1]))
    for i in (0, 7, 399):
        assert_array_equal(scores[i : i + 1], detector.score_samples(X[i : i + 1]))


def test_losses_are_differentiable(curve):
    detector = dense(8, 2, activation="tanh", max_epochs=2, random_state=0).fit(curve[0])
    model, x = embedded(detector, curve[1][:3])
    x = x.requires_grad_()
    assert torch.autograd.gradcheck(model.losses, x)
    assert torch.autograd.gradcheck(model.restore, x)
    assert_allclose(model.losses(x).detach(), -detector.score_samples(curve[1][:3]), rtol=1e-12)
    assert_allclose(model.loss_unit, 5 / (2 * detector.decoder_variance_))


def test_warm_start_goes_on(curve):
    detector = dense(8, 2, max_epochs=3, warm_start=True, random_state=0).fit(curve[0])
    before = detector.history_["train_loss"]
    detector.fit(curve[0])
    assert len(detector.history_["train_loss"]) == 6
    assert_array_equal(detector.history_["train_loss"][:3], before)
    assert detector.history_["train_loss"][3] < before[-1]


def test_saved_models_score_the_same(curve, tmp_path):
    detector = dense(8, 2, max_epochs=2, anomaly_score="elbo", random_state=0).fit(curve[0])
    scores = detector.score_samples(curve[1])
    assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(curve[1]), scores)
    save(detector, tmp_path / "model.skops")
    restored = load(tmp_path / "model.skops")
    assert_array_equal(restored.score_samples(curve[1]), scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": DenseNetwork(())}, "hidden=.. has no code"),
        ({"decoder_variance": 0}, "'decoder_variance' parameter"),
        ({"decoder_variance": "fixed"}, "'decoder_variance' parameter"),
        ({"anomaly_score": "likelihood"}, "'anomaly_score' parameter"),
        ({"beta": -1}, "'beta' parameter"),
        ({"calibration": "loo"}, "'calibration' parameter"),
    ],
)
def test_bad_parameters(options, message, curve):
    with pytest.raises(ValueError, match=message):
        VAE(**options).fit(curve[0])


def test_a_feature_map_is_no_code(stripes):
    with pytest.raises(ValueError, match="must be a StridedNetwork or a DenseNetwork"):
        VAE(Pixels(16), PooledNetwork()).fit(stripes[0])
