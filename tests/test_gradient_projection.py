import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from skanomaly import VAE, Autoencoder, Columns, GradientProjection, PatchFeatures, Pixels, load, save
from skanomaly._torch.descent import descend, with_gradient
from skanomaly.exceptions import CalibrationWarning
from skanomaly.metrics import image_auroc, pixel_auroc
from skanomaly.networks import DenseNetwork, SSIMLoss, StridedNetwork, Training
from skanomaly.testing import parametrize_with_image_checks

SMALL = {
    "features": Pixels(16),
    "training": Training(lr=3e-3, batch_size=4),
    "max_epochs": 3,
    "random_state": 0,
}
PLAIN = {"anchor": 0, "masked": False, "false_alarm_rate": None}


def dense(*hidden, **options):
    """Return an autoencoder of rows with layers of some widths."""
    return Autoencoder(network=DenseNetwork(hidden), **options)


def linear_model(encoder, decoder, lowest_loss=0.0, kind=Autoencoder, **options):
    """Return a model x -> decoder encoder x of rows, its weights set by hand, that does not scale rows."""
    d, k = decoder.shape
    network, training = DenseNetwork((k,), activation="linear"), Training(validation_share=0)
    model = kind(Columns(scale=None), network, training=training, max_epochs=0, false_alarm_rate=None, **options)
    model.fit(np.random.default_rng(1).normal(size=(20, d)))
    for part, weight in (("encoder", encoder), ("decoder", decoder)):
        model.network_state_[f"{part}.0.weight"] = weight.astype(np.float32)
        model.network_state_[f"{part}.0.bias"] = np.zeros(len(weight), np.float32)
    model.lowest_loss_ = lowest_loss
    return FrozenEstimator(pickle.loads(pickle.dumps(model)))  # builds the network again, from these weights


def matrix(model):
    state = model.estimator.network_state_
    return state["decoder.0.weight"].astype(float) @ state["encoder.0.weight"]


@pytest.fixture
def oblique(rng):
    """A map onto 2 of 5 dimensions that is not an orthogonal projection."""
    return linear_model(rng.normal(size=(2, 5)), 0.4 * rng.normal(size=(5, 2)))


@pytest.fixture(scope="module")
def stripes():
    """Shifted stripes (n, 16, 16) uint8, and where a square of another value is in the last 20 (n, 16, 16)."""
    rng = np.random.default_rng(0)
    waves = np.sin(2 * np.pi * (np.arange(16) + rng.integers(0, 8, (80, 1))) / 8)[:, None, :].repeat(16, axis=1)
    images = (120 + 60 * waves + rng.normal(0, 4, waves.shape)).astype(np.uint8)
    masks = np.zeros(images.shape, bool)
    for i in range(60, 80):
        top, left = rng.integers(1, 9, 2)
        masks[i, top : top + 6, left : left + 6] = True
        images[i][masks[i]] = 255 - images[i][masks[i]]
    return images, masks


@pytest.fixture(scope="module")
def striped(stripes):
    """An autoencoder of the stripes."""
    options = {**SMALL, "training": Training(lr=3e-3, batch_size=10), "max_epochs": 20, "false_alarm_rate": None}
    return FrozenEstimator(Autoencoder(**options).fit(stripes[0][:50]))


# By hand


@pytest.mark.parametrize("masked", [False, True])
def test_an_orthogonal_projection_is_reached(rng, masked):
    """f(x) = V V^T x, no anchor: E is least, and near x_0, at V V^T x_0."""
    V = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    model = linear_model(V.T, V)
    X = rng.normal(size=(7, 6))
    detector = GradientProjection(model, **{**PLAIN, "masked": masked}, n_steps=200 if masked else 20).fit(X)
    expected = X @ matrix(model).T
    ends = detector.project(X)
    if not masked:
        assert_allclose(ends, expected, atol=1e-6)
        assert_allclose(-detector.score_samples(X), np.linalg.norm(X - expected, axis=1), rtol=1e-5)
    residuals = np.linalg.norm(ends - ends @ matrix(model).T, axis=1)
    assert (residuals < 1e-2 * np.linalg.norm(X - expected, axis=1)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_a_fixed_step_goes_through_the_model(rng, oblique, masked):
    """L = r^T r / d with r = (I - A) x: the gradient of d L is 2 (I - A)^T r, not 2 r."""
    X = rng.normal(size=(4, 5))
    options = {**PLAIN, "masked": masked, "step": "fixed", "alpha": 0.1, "n_steps": 1}
    moved = GradientProjection(oblique, **options).fit(X).project(X)
    A = matrix(oblique)
    r = X - X @ A.T
    m = r**2 if masked else 1
    assert_allclose(moved, X - 0.1 * m * 2 * (r @ (np.eye(5) - A)), rtol=1e-9)
    assert not np.allclose(moved, X - 0.1 * m * 2 * r, rtol=0.1)


def test_fixed_steps_are_the_published_ones(rng, oblique):
    """x - alpha (grad of the summed energy) (x - f(x))^2, with the sub-gradient of the anchor, 0 at the start."""
    X = rng.normal(size=(4, 5))
    options = {"alpha": 0.1, "anchor": 0.5, "step": "fixed", "false_alarm_rate": None}
    A, x = matrix(oblique), X
    for n_steps in (1, 2, 3):
        r = x - x @ A.T
        gradient = 2 * (r @ (np.eye(5) - A)) + 0.5 * np.sign(x - X)
        x = x - 0.1 * gradient * r**2
        moved = GradientProjection(oblique, **options, n_steps=n_steps).fit(X).project(X)
        assert_allclose(moved, x, rtol=1e-9)


def test_fixed_steps_keep_images_in_their_range():
    """The anchor pulls by its sign, even where it is stronger than the loss."""
    start, target = torch.tensor([[0.9, 0.5]]), torch.tensor([[2.0, 0.4]])
    settings = {"alpha": 0.5, "anchor": 1.0, "n_steps": 2, "lowest_loss": 0.0, "line_search": False, "limits": (0, 1)}
    path = list(descend(start, pulled_to(target, []), torch.ones_like, real=torch.tensor([True]), **settings))
    assert_allclose(path[1][0], [[1.0, 0.4]], rtol=1e-6)  # 0.9 + 1.1 is cut off
    assert_allclose(path[2][0], [[1.0, 0.9]], rtol=1e-6)  # 1 + 1 - 0.5 is cut off; 0.4 + 0.5


def test_scores_by_hand(rng, oblique):
    X = rng.normal(size=(6, 5))
    for evidence in ("distance", "residual"):
        detector = GradientProjection(oblique, evidence=evidence, false_alarm_rate=None).fit(X)
        ends = detector.project(X)
        target = ends if evidence == "distance" else ends @ matrix(oblique).T
        assert_allclose(-detector.score_samples(X), np.linalg.norm(X - target, axis=1), rtol=1e-9)


def test_the_anchor_keeps_what_has_a_small_slope(rng):
    """f = 0: E is the sum of x^2 + lambda |x - x_0|, least at x_0 where |x_0| <= lambda / 2, else at lambda / 2."""
    model = linear_model(np.zeros((1, 4)), np.zeros((4, 1)))
    X = np.array([[0.1, -0.2, 1.0, -3.0]])
    detector = GradientProjection(model, anchor=0.6, masked=False, false_alarm_rate=None).fit(X)
    assert_allclose(detector.project(X), [[0.1, -0.2, 0.3, -0.3]], atol=1e-6)


def pulled_to(target, seen):
    """Return an evaluation of L, the mean of (x - target)^2, that notes where it was asked."""

    def evaluate(x):
        seen.append(x)
        r = x - target
        return r.square().mean(dim=1), 2 * r, r

    return evaluate


def test_images_stay_within_their_range():
    start, settings = torch.full((1, 3), 0.5), {"alpha": 0.5, "anchor": 0.0, "n_steps": 50, "lowest_loss": -1.0}
    settings |= {"weigh": torch.ones_like, "line_search": True, "real": torch.tensor([True])}
    for limits, expected in ((None, [-2.0, 0.25, 3.0]), ((0, 1), [0.0, 0.25, 1.0])):
        *_, (end, _) = descend(start, pulled_to(torch.tensor([-2.0, 0.25, 3.0]), []), limits=limits, **settings)
        assert_allclose(end[0], expected, atol=1e-3)


@pytest.mark.parametrize("weigh", [torch.ones_like, torch.square])
def test_the_first_trial_moves_no_value_further_than_alpha_residuals(weigh):
    seen, target = [], torch.tensor([0.0, 0.1, 40.0])
    settings = {"alpha": 0.3, "anchor": 0.0, "n_steps": 1, "lowest_loss": 0.0, "line_search": True, "limits": None}
    list(descend(torch.zeros(1, 3), pulled_to(target, seen), weigh, real=torch.tensor([True]), **settings))
    assert_allclose(seen[1].abs().max(), 0.3 * 40, rtol=1e-6)


def test_samples_stop_at_the_lowest_training_loss(rng):
    model = linear_model(np.zeros((1, 4)), np.zeros((4, 1)), lowest_loss=0.5)
    X = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 4.0]])
    options = {**PLAIN, "step": "fixed", "alpha": 0.05, "n_steps": 1000}
    moved = GradientProjection(model, **options).fit(X).project(X)
    assert_array_equal(moved[0], X[0])
    loss = (moved[1] ** 2).mean()
    assert 0.5 * 0.9**2 < loss <= 0.5  # each step leaves 0.9 of x


def test_the_line_search_asks_for_no_scale():
    target = torch.tensor([[0.5, 2.0, -1.0]])
    settings = {"alpha": 0.5, "anchor": 0.0, "n_steps": 9, "lowest_loss": 0.0, "line_search": True, "limits": None}
    ends = []
    for scale in (1, 1024):

        def losses_and_restored(x, scale=scale):
            return scale * (x - target).square().mean(dim=1), target

        evaluate = with_gradient(losses_and_restored)
        path = list(descend(torch.zeros(1, 3), evaluate, torch.square, real=torch.tensor([True]), **settings))
        ends.append(path[-1][0])
    assert_allclose(*ends, rtol=1e-6)
    assert ends[0].abs().sum() > 0.5


@pytest.mark.parametrize("options", [{}, {"masked": False}, {"anchor": 0.0}, {"anchor": 0.2, "alpha": 50.0}])
def test_the_energy_never_rises(stripes, striped, options):
    images, masks = stripes
    options = {"alpha": 0.5, "anchor": 0.05, "masked": True, **options}
    model = striped.estimator.reconstructor()
    start = model.to_tensor(striped.estimator.features_.transform(images[60:64]))
    hole = torch.from_numpy(masks[60:64, None].astype(np.float32))
    weigh = torch.square if options.pop("masked") else torch.ones_like
    settings = {"n_steps": 25, "lowest_loss": model.lowest_loss, "line_search": True, "limits": model.limits}
    for chosen, anchor in ((weigh, options["anchor"]), (lambda r: hole, 0.0)):
        settings |= {**options, "anchor": anchor, "real": torch.ones(4, dtype=bool)}
        path = list(descend(start, with_gradient(model.losses_and_restored), chosen, **settings))
        energies = torch.stack([energy for _, energy in path])
        assert (energies.diff(dim=0) <= 0).all()
        assert (energies[-1] < energies[0]).all()
        end = path[-1][0]
        by_hand = model.losses(end) + anchor * (end - start).abs().mean(dim=(1, 2, 3))
        assert_allclose(energies[-1], by_hand, rtol=1e-5)
        assert 0 <= end.min() <= end.max() <= 1


def test_a_vae_is_projected_as_its_mean_decoder_is(rng, oblique):
    """L_r is a constant plus d / (2 gamma) times the mean squared residual: no variance changes the projection."""
    X = rng.normal(size=(6, 5))
    expected = GradientProjection(oblique, anchor=0.1, false_alarm_rate=None).fit(X)
    encoder, decoder = (oblique.estimator.network_state_[f"{part}.0.weight"] for part in ("encoder", "decoder"))
    for variance in (0.01, 4.0):
        least = 5 / 2 * np.log(2 * np.pi * variance)  # of residual 0
        doubled = np.concatenate([encoder, np.zeros((2, 5))])
        model = linear_model(doubled, decoder, least, kind=VAE, decoder_variance=variance)
        detector = GradientProjection(model, anchor=0.1, false_alarm_rate=None).fit(X)
        assert_allclose(detector.project(X), expected.project(X), rtol=1e-6)
        assert_allclose(detector.score_samples(X), expected.score_samples(X), rtol=1e-6)


def test_a_vae_of_images(stripes):
    """Defects move most, but not with an untrained network; the code is its mean, which does not depend on chance."""
    images, masks = stripes
    found = {}
    for n_epochs in (0, 30):
        options = {**SMALL, "max_epochs": n_epochs, "training": Training(lr=3e-3, batch_size=10)}
        model = VAE(**options, false_alarm_rate=None).fit(images[:50])
        detector = GradientProjection(FrozenEstimator(model), sigma=8, false_alarm_rate=None).fit(images[:50])
        maps = detector.anomaly_map(images[60:])
        assert_array_equal(detector.anomaly_map(images[60:]), maps)
        found[n_epochs] = pixel_auroc(masks[60:], maps)
    assert found[30] > 0.85 > found[0] + 0.1, found


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("kind", [Autoencoder, VAE])
def test_a_defect_moves_as_far_in_a_corner_as_in_the_centre(kind, masked):
    """f is gray: only the weights of pixels are left, of which one in the corner is in one patch, others in four."""
    gray = np.full((6, 16, 16), 0.5, np.float32)
    network = StridedNetwork(2, patch_size=8, stride=4)
    model = kind(Pixels(16), network, max_epochs=0, random_state=0, false_alarm_rate=None).fit(gray)
    weights = {name: array for name, array in model.network_state_.items() if name not in ("mean", "std")}
    model.network_state_ |= {name: np.zeros_like(array) for name, array in weights.items()}
    model.lowest_loss_ = -np.inf
    frozen = FrozenEstimator(pickle.loads(pickle.dumps(model)))
    detector = GradientProjection(frozen, masked=masked, n_steps=3, false_alarm_rate=None).fit(gray)
    moved = []
    for top, left in ((0, 0), (0, 6), (6, 6), (12, 12)):
        X = gray[:1].copy()
        X[:, top : top + 4, left : left + 4] += 0.4
        moved.append(np.abs(detector.project(X) - X)[0, top : top + 4, left : left + 4].mean())
    assert moved[0] > 0.05
    assert_allclose(moved, moved[0], rtol=1e-4)


def test_deep_features_are_moved(stripes):
    """Cells of a feature grid move, and there is no way back to an image."""
    images, masks = stripes
    features = PatchFeatures(6, stride=2, level=0, normalization=None, image_size=16)
    model = Autoencoder(features, DenseNetwork((32, 4)), max_epochs=10, training=Training(lr=3e-3), random_state=0)
    detector = GradientProjection(model, n_steps=5, sigma=8, false_alarm_rate=None).fit(images[:50])
    assert pixel_auroc(masks[60:], detector.anomaly_map(images[60:])) > 0.8
    assert detector.features_ is detector.model_.features_
    for method in ("project", "inpaint"):
        with pytest.raises(AttributeError) as error:
            getattr(detector, method)
        assert "PatchFeatures has no inverse_transform" in str(error.value.__cause__)


# Inpainting


def test_rows_outside_the_hole_are_untouched(rng):
    V = np.linalg.qr(rng.normal(size=(6, 2)))[0]
    model = linear_model(V.T, V)
    truth = rng.normal(size=(5, 2)) @ V.T
    mask = np.zeros((5, 6), bool)
    mask[np.arange(5), np.arange(5)] = True
    X = np.where(mask, 9.0, truth)
    detector = GradientProjection(model, n_steps=50, false_alarm_rate=None).fit(X)
    filled = detector.inpaint(X, mask)
    assert_array_equal(filled[~mask], X[~mask])
    assert_allclose(filled, truth, atol=1e-3)


@pytest.mark.parametrize("n_steps", [0, 1, 7])
def test_pixels_outside_the_hole_are_untouched(stripes, striped, n_steps):
    images, masks = stripes
    detector = GradientProjection(striped, n_steps=n_steps, false_alarm_rate=None).fit(images[:50])
    filled = detector.inpaint(images[60:], masks[60:])
    pixels = images[60:] / np.float32(255)
    assert filled.dtype == np.float32
    assert_array_equal(filled[~masks[60:]], pixels[~masks[60:]])
    assert (n_steps > 0) == (np.abs(filled - pixels)[masks[60:]].mean() > 0.02)


def test_other_sizes_and_channels(stripes, striped, flower):
    detector = GradientProjection(striped, n_steps=2, false_alarm_rate=None).fit(stripes[0][:50])
    images = [flower[:40, :50], flower[:33, :20]]
    masks = [np.zeros(image.shape[:2], bool) for image in images]
    masks[0][10:20, 5:9] = masks[1][0, 0] = True
    filled = detector.inpaint(images, masks)
    for image, mask, result in zip(images, masks, filled, strict=True):
        assert result.shape == image.shape
        assert_array_equal(result[~mask], (image / np.float32(255))[~mask])
    assert (filled[0][masks[0]] != (images[0] / np.float32(255))[masks[0]]).any()
    assert [moved.shape for moved in detector.project(images)] == [(40, 50), (33, 20)]


def test_inpainting_takes_defects_out(stripes, striped):
    """Closer to the sound stripes, by which the defect was made, than the defect is."""
    images, masks = stripes
    detector = GradientProjection(striped, n_steps=25, false_alarm_rate=None).fit(images[:50])
    filled, inside = detector.inpaint(images[60:], masks[60:]), masks[60:]
    defect = images[60:][inside] / 255
    error = np.abs(filled[inside] - (1 - defect)).mean()
    assert error < 0.4 * np.abs(defect - (1 - defect)).mean()


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((1, 16, 16), bool), "mask has length 1, but X has 2 samples"),
        (np.zeros((2, 16, 16)), r"mask.0. is float64 of shape \(16, 16\); it must be bool"),
        (np.zeros((2, 16, 17), bool), r"mask.0. is bool of shape \(16, 17\)"),
    ],
)
def test_bad_masks(stripes, striped, mask, message):
    detector = GradientProjection(striped, false_alarm_rate=None).fit(stripes[0][:50])
    with pytest.raises(ValueError, match=message):
        detector.inpaint(stripes[0][:2], mask)


# Batches


@pytest.mark.parametrize("step", ["line_search", "fixed"])
def test_batches_do_not_matter(stripes, striped, step):
    images = stripes[0][16:]
    detector = GradientProjection(striped, step=step, n_steps=3, false_alarm_rate=None).fit(images)
    ends = detector.project(images)
    for n, last in ((1, 6), (16, 64)):
        parts = [detector.project(images[i : i + n]) for i in range(0, last, n)]
        assert_array_equal(np.concatenate(parts), ends[:last])
    assert_array_equal(detector.project(images[::-1]), ends[::-1])


def test_batches_of_rows_do_not_matter(rng):
    X = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 6))
    detector = GradientProjection(dense(8, 2, max_epochs=3, random_state=0), random_state=0).fit(X)
    scores = detector.score_samples(X)
    for n in (1, 16, 64):
        parts = [detector.score_samples(X[i : i + n]) for i in range(0, 128, n)]
        assert_array_equal(np.concatenate(parts), scores[:128])


# What finds anomalies


@pytest.mark.parametrize("options", [{}, {"evidence": "residual"}, {"masked": False}])
def test_defects_are_found_and_with_an_untrained_network_are_not(stripes, striped, options):
    images, masks = stripes
    test, masks = images[52:68], masks[52:68]
    setting = {"sigma": 8, "n_steps": 8, "false_alarm_rate": None, **options}
    scores, maps = zip(*GradientProjection(striped, **setting).fit(images[:8]).iter_scores_and_maps(test), strict=True)
    assert pixel_auroc(masks, np.stack(maps)) > 0.9
    assert image_auroc(masks.any(axis=(1, 2)), -np.array(scores)) > 0.9
    untrained = clone(striped.estimator).set_params(max_epochs=0)
    detector = GradientProjection(untrained, **{**setting, "n_steps": 2}).fit(images[:8])
    assert pixel_auroc(masks, detector.anomaly_map(test)) < 0.7


@pytest.mark.parametrize("loss", ["l2", SSIMLoss(7)], ids=str)
def test_other_losses_and_patches(stripes, loss):
    images = stripes[0]
    model = Autoencoder(**SMALL, network=StridedNetwork(patch_size=12, stride=4), loss=loss)
    detector = GradientProjection(model, n_steps=3, random_state=0, false_alarm_rate=None).fit(images[:20])
    start = images[60:] / np.float32(255)
    moved = np.abs(detector.project(images[60:]) - start)
    assert 1e-3 < moved.mean() < 0.3
    still = GradientProjection(FrozenEstimator(detector.model_), n_steps=0, false_alarm_rate=None).fit(images)
    assert_array_equal(still.project(images[60:]), start)


# The model


def test_the_model_is_cloned_or_used_as_it_is(stripes, striped):
    images = stripes[0]
    model = Autoencoder(**SMALL)
    detector = GradientProjection(model, n_steps=1, random_state=0, false_alarm_rate=0.2).fit(images[:40])
    assert not hasattr(model, "network_state_")
    assert not hasattr(detector.model_, "offset_")
    assert len(detector.calibration_scores_) == 8
    state = striped.estimator.network_state_
    frozen = GradientProjection(striped, n_steps=1, random_state=0, calibration="cv").fit(images[50:])
    assert frozen.model_ is striped.estimator
    assert frozen.model_.network_state_ is state
    assert_array_equal(frozen.calibration_scores_, -frozen.score_samples(images[50:]))


@pytest.mark.parametrize("calibration", ["split", "cv"])
def test_a_frozen_model_does_not_judge_what_it_was_fitted_on(stripes, striped, calibration):
    images = stripes[0]
    options = {"n_steps": 1, "calibration": calibration, "false_alarm_rate": 0.3, "random_state": 0}
    with pytest.warns(CalibrationWarning, match="(100|7[0-9]|8[0-9]|9[0-9])% of the samples were in the data"):
        GradientProjection(striped, **options).fit(images[10:50])
    detector = GradientProjection(striped, **options).fit(images[50:])  # no warning
    with pytest.warns(CalibrationWarning, match="100% of the samples were in the data"):
        detector.calibrate(images[:50])
    detector.calibrate(images[50:])


def test_a_model_that_is_fitted_here_has_seen_the_samples(stripes):
    model = Autoencoder(**{**SMALL, "max_epochs": 1})
    detector = GradientProjection(model, n_steps=1, random_state=0, false_alarm_rate=0.3).fit(stripes[0][:40])
    with pytest.warns(CalibrationWarning, match="100% of the samples were in the data"):
        detector.calibrate(stripes[0][:40])
    detector.calibrate(stripes[0][40:60])


def test_refused_models(rng):
    X = rng.normal(size=(30, 3))
    with pytest.raises(TypeError, match="model is of type IsolationForest, which has no loss to differentiate"):
        GradientProjection(IsolationForest()).fit(X)
    with pytest.raises(TypeError, match="model is of type IsolationForest"):
        GradientProjection(FrozenEstimator(IsolationForest(n_estimators=2).fit(X))).fit(X)
    with pytest.raises(NotFittedError):
        GradientProjection(FrozenEstimator(Autoencoder())).fit(X)
    with pytest.raises(ValueError, match="'network' parameter"):
        GradientProjection(Autoencoder(network="wide")).fit(X)


def test_an_error_leaves_the_old_fit(rng):
    X = rng.normal(size=(60, 3))
    model = dense(4, 2, max_epochs=1)
    detector = GradientProjection(model, false_alarm_rate=0.2, random_state=0).fit(X)
    before, scores = detector.model_, detector.score_samples(X)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        detector.fit(X * np.nan)
    assert detector.model_ is before
    assert_array_equal(detector.score_samples(X), scores)
    assert not hasattr(detector, "anomaly_map")


def test_saved_detectors_score_the_same(rng, tmp_path, oblique):
    X = rng.normal(size=(60, 5))
    for model in (dense(4, 2, max_epochs=1, random_state=0), oblique):
        detector = GradientProjection(model, n_steps=3, random_state=0, calibration="cv", false_alarm_rate=0.2).fit(X)
        assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(X), detector.score_samples(X))
        save(detector, tmp_path / "model.skops")
        restored = load(tmp_path / "model.skops")
        assert_array_equal(restored.predict(X), detector.predict(X))


@pytest.mark.filterwarnings("ignore::skanomaly.exceptions.CalibrationWarning")
@parametrize_with_checks(
    [
        GradientProjection(dense(4, 2, max_epochs=2), evidence="residual", step="fixed", n_steps=3),
    ]
)
def test_sklearn_checks(estimator, check):
    check(estimator)


@parametrize_with_image_checks([GradientProjection(Autoencoder(**SMALL), n_steps=3)], n_images=12)
def test_image_detector(detector, check):
    check(detector)
